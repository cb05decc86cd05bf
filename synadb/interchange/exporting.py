"""What every export does: select, stream, replace the file when it is whole."""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
from typing import IO, TYPE_CHECKING, Any

from synadb._core.arrow import Selection
from synadb.errors import ArgumentError, Reason, TypeMismatchError
from synadb.interchange.files import refuse_own_file, replaced
from synadb.interchange.rows import Progress, ProgressArgument

if TYPE_CHECKING:
    from synadb.db import SynaDB

#: Formats by every name they go by, and the module of each.
FORMATS = {
    "json": "json_files",
    "jsonl": "jsonl_files",
    "jsonlines": "jsonl_files",
    "ndjson": "jsonl_files",
    "csv": "csv_files",
    "pickle": "pickle_files",
    "parquet": "columnar",
    "arrow": "columnar",
    "feather": "columnar",
    "msgpack": "msgpack_files",
    "messagepack": "msgpack_files",
    "mp": "msgpack_files",
}
_TENSOR = b"TENS"  # what a tensor's header begins with
#: Formats whose files can be written to a pipe.
STREAMED = ("json_files", "jsonl_files", "csv_files", "pickle_files")


def module_of(format: str) -> Any:
    """The module that writes and reads `format`."""
    if format not in FORMATS:
        raise ArgumentError(
            0,
            f"format is {format!r}; expected one of {', '.join(FORMATS)}",
            reason=Reason.ARGUMENT,
        )
    return importlib.import_module(f"synadb.interchange.{FORMATS[format]}")


def export_file(
    db: SynaDB,
    path: str | os.PathLike[str],
    format: str,
    key_pattern: str | None = None,
    *,
    history: bool = False,
    type: str | None = None,
    progress: ProgressArgument = None,
) -> int:
    """Write records to a file in one of the `FORMATS`; how many. `SynaDB.export_json` says the
    rest."""
    module = module_of(format)
    refuse_own_file(db.path, path)
    selected = _select(db, key_pattern, history, type)
    report = Progress(progress)
    try:
        with replaced(path) as out:
            return int(module.write(db, out, format, selected, report))
    finally:
        report.close()


def export_stream(
    db: SynaDB,
    out: IO[bytes],
    format: str,
    key_pattern: str | None = None,
    *,
    history: bool = False,
    type: str | None = None,
) -> int:
    """Write records to an open binary file, a pipe say; how many. Not for Parquet, Arrow and
    MessagePack, whose files are not written from front to back."""
    module = module_of(format)
    if FORMATS[format] not in STREAMED:
        raise ArgumentError(
            0, f"{format} cannot be written to a pipe; name a file", reason=Reason.ARGUMENT
        )
    selection = _select(db, key_pattern, history, type)
    return int(module.write(db, out, format, selection, Progress(None)))


def _select(db: SynaDB, key_pattern: str | None, history: bool, type: str | None) -> dict[str, Any]:
    """The arguments of `Selection`; what is wrong with them is said before a file is made."""
    selected: dict[str, Any] = {"pattern": key_pattern, "history": history, "type": type}
    Selection(**selected)
    if type is None or type == "blob":
        _refuse_tensors(db, key_pattern)
    return selected


def _refuse_tensors(db: SynaDB, key_pattern: str | None) -> None:
    """A stored tensor is a blob that knows where its pieces lie, which no other file can."""
    wanted = re.compile(fnmatch.translate(key_pattern or "*")).match
    for prefix in ("tensor/", "tensor-chunks/"):
        for key in db.scan(prefix, keys_only=True):
            if not wanted(key) or db.type_of(key) != "blob":
                continue
            with db.open_blob(key) as source:
                if source.read(len(_TENSOR)) == _TENSOR:
                    raise TypeMismatchError(
                        -6,
                        f"{db.path}: key {key!r:.200} holds a tensor, which belongs to "
                        "TensorEngine; select other keys or types",
                        path=db.path,
                    )


def total_of(db: SynaDB, selected: dict[str, Any]) -> int:
    """How many records there will be, for progress; 0 when that is not known."""
    plain = not selected["history"] and selected["pattern"] is None and selected["type"] is None
    return len(db) if plain else 0
