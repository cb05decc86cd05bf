"""What every import does: check all of the file, then write all of it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Callable

from synadb._core.arrow import Writer
from synadb.errors import CorruptionError
from synadb.interchange.exporting import module_of
from synadb.interchange.rows import Progress, ProgressArgument, Record

if TYPE_CHECKING:
    from synadb.db import SynaDB

#: Records of a file are one commit up to this many bytes, and commits of this size beyond.
COMMIT_BYTES = 32 << 20
REPORT_EVERY = 4096


def import_file(
    db: SynaDB,
    path: str | os.PathLike[str],
    format: str,
    key_prefix: str = "",
    *,
    progress: ProgressArgument = None,
    stacklevel: int = 2,
) -> int:
    """Read the records of a file into a database; how many. `SynaDB.import_json` says the rest."""
    module = module_of(format)
    if format == "pickle":
        warnings.warn(
            "a pickle is a program that runs when it is read; this reader lets it make plain "
            "values only, but import pickles of people you trust",
            UserWarning,
            stacklevel=stacklevel,
        )
    report = Progress(progress)
    try:
        with open(path, "rb") as source:
            records = _Import(db, source, module, format, key_prefix, report)
            return records.run()
    except CorruptionError as error:
        raise CorruptionError(-4, f"{os.fsdecode(path)}: {error.message}") from None
    finally:
        report.close()


class _Import:
    def __init__(
        self,
        db: SynaDB,
        source: IO[bytes],
        module: Any,
        format: str,
        prefix: str,
        progress: Progress,
    ) -> None:
        self._db = db
        self._source = source
        self._read: Callable[[IO[bytes], str], Iterator[Record]] = module.read
        self._format = format
        self._prefix = prefix
        self._progress = progress
        self._size = os.fstat(source.fileno()).st_size

    def run(self) -> int:
        writer = Writer(self._db)
        try:
            count, stored = self._check(writer)
            return count if stored else self._store(writer)
        finally:
            writer.close()

    def _records(self, base: int) -> Iterator[Record]:
        self._source.seek(0)
        for number, record in enumerate(self._read(self._source, self._format)):
            if number % REPORT_EVERY == 0:
                at = min(self._source.tell(), self._size)
                self._progress(base + at // 2, self._size)
            yield record

    def _check(self, writer: Writer) -> tuple[int, bool]:
        """Put every record as if to store it; what fits into one commit is stored."""
        count = 0
        small = True
        for record in self._records(0):
            writer.put(
                self._prefix + record.key, record.type, record.value, record.time, record.expires
            )
            count += 1
            small &= record.type != "blob"
            if writer.bytes >= COMMIT_BYTES:
                small = False
                writer.discard()
        if small:
            writer.commit()
        else:
            writer.discard()
        return count, small

    def _store(self, writer: Writer) -> int:
        """Write what was checked, commit by commit; a blob is one of its own."""
        count = 0
        blobs = 0  # bytes of them since memory was last given back
        for record in self._records(self._size // 2):
            key = self._prefix + record.key
            if record.type == "blob":
                writer.commit()
                with self._db.open_blob(key, "wb") as out:
                    out.write(record.value)
                blobs += len(record.value)
            else:
                writer.put(key, record.type, record.value, record.time, record.expires)
            if writer.bytes + blobs >= COMMIT_BYTES:
                writer.commit()
                writer.let_go()
                blobs = 0
            count += 1
        writer.commit()
        return count
