import os
from collections.abc import Iterable
from typing import Any

from synadb.types import Finding

_Path = str | bytes | os.PathLike[Any]

def copy_log(
    path: _Path, to: _Path, leave_out: Iterable[str], progress: object
) -> tuple[dict[str, Any], list[Finding]]: ...
