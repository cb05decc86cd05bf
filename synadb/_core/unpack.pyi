from typing import Any

from _typeshed import ReadableBuffer

def unpack(data: ReadableBuffer) -> Any: ...
