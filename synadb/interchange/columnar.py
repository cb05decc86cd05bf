"""Parquet and Arrow files, through pyarrow; batches come from the core as Arrow arrays.

The columns are ``key``, ``type`` and ``value``; in histories ``key``, ``type``, ``time``,
``expires`` and ``value``. When all records are of one type, ``value`` has it: double, int64,
string, binary, list<float>. Otherwise it is a struct with a nullable field per type, ``float int
text bytes vector packed``, of which the one that ``type`` names is set (blobs are in ``bytes``).
Packed values are their stored bytes. A value of 2 GiB or more does not fit; the export fails and
names its key.

A reader takes the columns in any order. Files of other programs need ``key`` and ``value``; without
``type``, the column's own type says what the values are.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from synadb._core.arrow import Rows, Selection, unpack
from synadb.errors import CorruptionError, TypeMismatchError
from synadb.interchange.exporting import total_of
from synadb.interchange.rows import Progress, Record

if TYPE_CHECKING:
    from synadb.db import SynaDB

GROUP_ROWS = 1 << 20
GROUP_BYTES = 32 << 20
READ_ROWS = 1 << 16
READ_BYTES = 4 << 20
NEWEST = ("key", "type", "value")
HISTORY = ("key", "type", "time", "expires", "value")
MOMENTS = ("time", "expires")
_FIELD = {"blob": "bytes"}  # of the struct, where it is not called like the type


def need(name: str) -> Any:
    """A module of pyarrow."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Parquet and Arrow files need pyarrow: pip install 'synadb[arrow]' ({error})"
        ) from None


class _Pull:
    """A stream of the core as pyarrow takes it."""

    def __init__(self, db: SynaDB, selection: Selection) -> None:
        self._db, self._selection = db, selection

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._selection.stream(self._db)


def write(
    db: SynaDB, out: IO[bytes], format: str, selected: dict[str, Any], progress: Progress
) -> int:
    """Write the records; how many."""
    pa = need("pyarrow")
    columns = HISTORY if selected["history"] else NEWEST
    first = selected["type"] or _first_type(db, selected)
    if first is not None:
        strict = selected["type"] is None
        one = Selection(**{**selected, "type": first}, columns=columns, strict=strict)
        try:
            return _write(pa, db, out, format, one, progress, total_of(db, selected))
        except TypeMismatchError:
            if not strict:
                raise
            out.seek(0)  # of several types after all
            out.truncate()
    mixed = Selection(**selected, columns=columns)
    return _write(pa, db, out, format, mixed, progress, total_of(db, selected))


def _first_type(db: SynaDB, selected: dict[str, Any]) -> str | None:
    rows = Rows(db, Selection(**selected))
    try:
        found = rows.take(1, 1)
    finally:
        rows.close()
    return found[0][1] if found and found[0][1] != "deleted" else None


def _write(
    pa: Any,
    db: SynaDB,
    out: IO[bytes],
    format: str,
    selection: Selection,
    progress: Progress,
    total: int,
) -> int:
    count = 0
    try:
        reader = pa.RecordBatchReader.from_stream(_Pull(db, selection))
        with _writer(pa, out, format, reader.schema) as save:
            for group in _groups(reader):
                save(group)
                count += sum(batch.num_rows for batch in group)
                progress(count, total)
    except (pa.ArrowException, OSError) as error:
        if selection.error is not None:  # ours, of which pyarrow shows the text only
            raise selection.error from None
        raise error
    return count


def _groups(reader: Any) -> Iterator[list[Any]]:
    """Batches in groups that are worth being compressed together."""
    group: list[Any] = []
    rows = size = 0
    for batch in reader:
        group.append(batch)
        rows += batch.num_rows
        size += batch.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


class _writer:
    """``with _writer(...) as save: save(batches)``."""

    def __init__(self, pa: Any, out: IO[bytes], format: str, schema: Any) -> None:
        self._pa, self._schema = pa, schema
        self._parquet = format == "parquet"
        if self._parquet:
            # Values are written as they are: a dictionary could take one NaN for another.
            moments = {name: "DELTA_BINARY_PACKED" for name in schema.names if name in MOMENTS}
            self._file = need("pyarrow.parquet").ParquetWriter(
                out,
                schema,
                use_dictionary=["key", "type"],
                column_encoding=moments or None,
                write_statistics=["key", "type", "time"],
            )
        else:
            compression = "lz4" if pa.Codec.is_available("lz4") else None
            options = pa.ipc.IpcWriteOptions(compression=compression)
            self._file = pa.ipc.new_file(out, schema, options=options)

    def __enter__(self) -> Any:
        return self.save

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def save(self, group: list[Any]) -> None:
        table = self._pa.Table.from_batches(group, self._schema)
        if self._parquet:
            self._file.write_table(table, row_group_size=max(table.num_rows, 1))
        else:
            for batch in group:
                self._file.write_batch(batch)


# ------------------------------------------------------------------------------------- reading


def read(source: IO[bytes], format: str) -> Iterator[Record]:
    """The records of a file."""
    pa = need("pyarrow")
    number = 0
    try:
        for batch in _batches(pa, source, format):
            for record in _records(pa, batch):
                number += 1
                yield record
    except (pa.ArrowException, ValueError, TypeError, CorruptionError) as error:
        raise CorruptionError(-4, f"record {number + 1}: {error}") from None


def _batches(pa: Any, source: IO[bytes], format: str) -> Iterator[Any]:
    if format == "parquet":
        yield from _parquet_batches(source)
        return
    start = source.tell()
    magic = source.read(6)
    source.seek(start)
    if magic == b"ARROW1":
        file = pa.ipc.open_file(source)
        for i in range(file.num_record_batches):
            yield file.get_batch(i)
    else:
        yield from pa.ipc.open_stream(source)


def _parquet_batches(source: IO[bytes]) -> Iterator[Any]:
    """Batches of about `READ_BYTES`, whatever a row takes."""
    file = need("pyarrow.parquet").ParquetFile(source)
    for i in range(file.num_row_groups):
        group = file.metadata.row_group(i)
        row_bytes = group.total_byte_size // max(group.num_rows, 1) + 1
        rows = min(max(READ_BYTES // row_bytes, 1), READ_ROWS)
        yield from file.iter_batches(batch_size=rows, row_groups=[i])


def _records(pa: Any, batch: Any) -> Iterator[Record]:
    names = set(batch.schema.names)
    if not {"key", "value"} <= names or names - set(HISTORY):
        found = ", ".join(batch.schema.names)
        raise ValueError(f"the columns {found}; expected {', '.join(NEWEST)}")
    keys = _listed(pa, batch.column("key"))
    value = batch.column("value")
    kinds = _listed(pa, batch.column("type")) if "type" in names else [_kind(pa, value)] * len(keys)
    times = _moments(pa, batch, "time")
    expiries = _moments(pa, batch, "expires")
    values = _values(pa, value, kinds)
    for key, kind, time, expires, content in zip(keys, kinds, times, expiries, values):
        if type(key) is not str:
            raise ValueError(f"a key is {key!r:.80}; expected a text")
        if kind == "packed":
            content = unpack(content)
        yield Record(key, kind, content, time, expires)


def _moments(pa: Any, batch: Any, name: str) -> Any:
    if name not in batch.schema.names:
        return [0] * batch.num_rows
    column = batch.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64())
    return [moment or 0 for moment in column.to_pylist()]


def _listed(pa: Any, column: Any) -> list[Any]:
    plain = pa.types.is_float64(column.type) or pa.types.is_int64(column.type)
    if plain and column.null_count == 0:
        found: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        return found
    listed: list[Any] = column.to_pylist()
    return listed


def _kind(pa: Any, column: Any) -> str | None:
    """The type that the values of a column have when no other column says it."""
    kinds = pa.types
    if kinds.is_floating(column.type):
        return "float"
    if kinds.is_string(column.type) or kinds.is_large_string(column.type):
        return "text"
    if kinds.is_binary(column.type) or kinds.is_large_binary(column.type):
        return "bytes"
    return None


def _values(pa: Any, column: Any, kinds: list[Any]) -> Iterator[Any]:
    if not pa.types.is_struct(column.type) or column.type.get_field_index("packed") < 0:
        yield from _listed(pa, column)
        return
    fields = {
        column.type.field(i).name: _listed(pa, column.field(i))
        for i in range(column.type.num_fields)
    }
    for i, kind in enumerate(kinds):
        found = fields.get(_FIELD.get(kind, kind))
        yield None if found is None else found[i]
