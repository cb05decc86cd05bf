"""The methods of `SynaDB` that take records out and in: exports, imports, tables, data frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, Union, cast

from synadb._core.arrow import Selection
from synadb._core.kv import Database

if TYPE_CHECKING:
    from synadb.db import SynaDB
    from synadb.interchange.tables import Table

Progress = Union[bool, Callable[[int, int], object], None]
Path = Union[str, "os.PathLike[str]"]


class Interchange(Database):
    """A base of `SynaDB`, and of nothing else."""

    # --------------------------------------------------------------------------------- exports

    def export_json(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to a JSON file: one object ``{key: value}``.

        Parameters
        ----------
        path : str or os.PathLike
            The file; one that exists is replaced, once the new one is complete and on disk.
        key_pattern : str, optional
            Only keys that match this glob: ``*``, ``?``, ``[a-z]``; a ``*`` crosses ``/``, so that
            ``"sensor/*"`` is everything with that prefix. Default: all.
        history : bool, default False
            False: the newest value of every live key, without times and expiries. True: every
            record ever written with its time and expiry, deletions included.
        type : str, optional
            Only values of this type: "float", "int", "text", "bytes", "vector", "packed", "null" or
            "blob".
        progress : bool or callable, optional
            True draws a bar on standard error; a callable gets ``(records, total)``, total 0 when
            it is not known, about every 50 ms, and stops the export by raising.

        Returns
        -------
        int
            How many records were written.

        Raises
        ------
        TypeMismatchError
            A tensor of `TensorEngine` is among the keys: no file of these formats can hold it.
        CorruptionError
            Damage was met; there is no file.

        Notes
        -----
        Reads record by record: memory does not grow with the database. What is written to the
        database meanwhile may be in the file or not. Text, numbers, lists and dicts are JSON's own;
        everything else has a tag such as ``{"$bytes": "00ff"}`` (synadb/interchange/values.py), and
        NaN is no exception: the file is JSON for any reader.

        Examples
        --------
        >>> _ = db.put_many({"a": 1.5, "b": b"raw"})
        >>> db.export_json(tmp / "all.json")
        2
        >>> print((tmp / "all.json").read_text().strip())
        {
        "a": 1.5,
        "b": {"$bytes": "726177"}
        }
        """
        return _write(self, path, "json", key_pattern, history, type, progress)

    def export_jsonl(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to a JSON Lines file: an object ``{"key", "type", "value"}`` a line.

        Bytes are hexadecimal text and vectors lists, as ``type`` says; histories have ``time`` and
        ``expires`` in microseconds since 1970. Otherwise as `export_json`.
        """
        return _write(self, path, "jsonl", key_pattern, history, type, progress)

    def export_csv(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to a CSV file with the columns ``key,type,value``.

        Histories have the columns ``key,type,time,expires,value``. Otherwise as `export_json`.
        """
        return _write(self, path, "csv", key_pattern, history, type, progress)

    def export_pickle(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to a pickle: a list of dicts with ``key``, ``type`` and ``value``.

        For Python only; `pickle.load` reads it. Otherwise as `export_json`.
        """
        return _write(self, path, "pickle", key_pattern, history, type, progress)

    def export_msgpack(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to a MessagePack file: an array of maps with ``key``, ``type`` and
        ``value``.

        Needs no other package. Vectors and values that MessagePack has no type for are extension
        types (synadb/interchange/msgpack.py). Otherwise as `export_json`."""
        return _write(self, path, "msgpack", key_pattern, history, type, progress)

    def export_parquet(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to a Parquet file with the columns ``key``, ``type`` and ``value``.

        ``value`` has the type of the values when they are all of one type (double, int64, string,
        binary, list of float); otherwise it is a struct with a field for each type. Histories also
        have ``time`` and ``expires``, timestamps in UTC. Needs pyarrow (``synadb[arrow]``).
        Otherwise as `export_json`."""
        return _write(self, path, "parquet", key_pattern, history, type, progress)

    def export_arrow(
        self,
        path: Path,
        key_pattern: str | None = None,
        *,
        history: bool = False,
        type: str | None = None,
        progress: Progress = None,
    ) -> int:
        """Write records to an Arrow IPC file (Feather), with the columns of `export_parquet`."""
        return _write(self, path, "arrow", key_pattern, history, type, progress)

    # --------------------------------------------------------------------------------- imports

    def import_json(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of a JSON file: those of `export_json`, or any object ``{key: value}``.

        Parameters
        ----------
        path : str or os.PathLike
        key_prefix : str, default ""
            Put before each key.
        progress : bool or callable, optional
            As in `export_json`, but in bytes of the file.

        Returns
        -------
        int
            How many records were stored.

        Raises
        ------
        CorruptionError
            The file is not what it should be; the message says where. Nothing was stored.
        InvalidKeyError, TypeMismatchError, ArgumentError
            A record cannot be stored. Nothing was.

        Notes
        -----
        Records are appended: a key that exists gets another value, and keeps its history. The whole
        file is checked before anything is stored. A file with up to 32 MiB of records and no blobs
        is one commit, all of it or nothing whatever happens; a larger one is several. Times and
        expiries of histories are kept, those of blobs are not: they count as written now. Numbers
        of a history are records of their own; ``compact(keep_history=True)`` folds them into
        blocks.

        Examples
        --------
        >>> _ = (tmp / "more.json").write_text('{"a": 2.0, "b": [1, "x"]}')
        >>> db.import_json(tmp / "more.json", key_prefix="new/")
        2
        >>> db["new/a"], db["new/b"]
        (2.0, [1, 'x'])
        """
        return _read(self, path, "json", key_prefix, progress)

    def import_jsonl(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of a JSON Lines file: those of `export_jsonl`; lines need ``key`` and
        ``value``. Otherwise as `import_json`."""
        return _read(self, path, "jsonl", key_prefix, progress)

    def import_csv(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of a CSV file: those of `export_csv`, or one with the columns ``key``
        and ``value``, whose values are texts. Otherwise as `import_json`."""
        return _read(self, path, "csv", key_prefix, progress)

    def import_pickle(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of a pickle: those of `export_pickle`, or any list of such dicts.

        A pickle is a program that runs when it is read. This reader lets it make plain values only
        and refuses everything else by name; still it warns (UserWarning): import pickles of people
        you trust. No other import reads pickles. Otherwise as `import_json`."""
        return _read(self, path, "pickle", key_prefix, progress)

    def import_msgpack(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of a MessagePack file: those of `export_msgpack`, or any array of maps
        with ``key`` and ``value``. Otherwise as `import_json`."""
        return _read(self, path, "msgpack", key_prefix, progress)

    def import_parquet(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of a Parquet file: those of `export_parquet`, or one with the columns
        ``key`` and ``value``. Needs pyarrow (``synadb[arrow]``). Otherwise as `import_json`."""
        return _read(self, path, "parquet", key_prefix, progress)

    def import_arrow(self, path: Path, key_prefix: str = "", *, progress: Progress = None) -> int:
        """Store the records of an Arrow IPC file or stream, otherwise as `import_parquet`."""
        return _read(self, path, "arrow", key_prefix, progress)

    # ---------------------------------------------------------------------------------- tables

    def table(
        self,
        key_pattern: str | None = None,
        *,
        key: str | None = None,
        type: str | None = None,
        history: bool = False,
        columns: Iterable[str] | None = None,
        dimensions: int = 0,
        batch_rows: int = 0,
    ) -> Table:
        """Records as a table that pandas, polars, DuckDB and pyarrow read, without copying it
        first.

        Parameters
        ----------
        key_pattern : str, optional
            Only keys that match this glob, as in `export_json`.
        key : str, optional
            Only this key.
        type : str, optional
            Only values of this type. The column ``value`` then has it: float64, int64, string,
            binary or list of float32. Default: all, and ``value`` is a struct with the fields
            ``float``, ``int``, ``text``, ``bytes``, ``vector`` and ``packed``, of which the one
            that ``type`` names is set (a blob is in ``bytes``).
        history : bool, default False
            Every record ever written instead of the newest value of every live key.
        columns : iterable of str, optional
            Some of "key", "type", "time", "expires" and "value"; they come in this order. Default:
            all.
        dimensions : int, optional
            With type "vector": the vectors' length, as which they are a fixed-size list. One of
            another length is an error.
        batch_rows : int, optional
            Rows a batch at most; default 65,536.

        Returns
        -------
        Table
            Reads the database each time that somebody reads it, batch by batch.

        Notes
        -----
        The database itself is a table, too: `SynaDB` and `Table` have ``__arrow_c_stream__``, and
        ``duckdb.sql("select key, value.float from db where type = 'float'")`` finds them by the
        name of the variable. Filters are not pushed down: select here what is needed. polars takes
        the database itself for a mapping; give it a table.

        Every reading decodes the records again. For many queries over one history take
        `SynaDB.get_history`, which is a table as well: it holds the values, and readers get them
        without a copy.

        Examples
        --------
        >>> db.append_floats("load", [0.5, 0.75])
        2
        >>> load = db.table(key="load", type="float", history=True, columns=["time", "value"])
        >>> import pyarrow as pa                                    # doctest: +SKIP
        >>> pa.table(load)["value"].to_pylist()                     # doctest: +SKIP
        [0.5, 0.75]
        """
        from synadb.interchange.tables import Table

        selection = Selection(
            type=type,
            key=key,
            pattern=key_pattern,
            history=history,
            columns=columns,
            dimensions=dimensions,
            batch_rows=batch_rows,
        )
        return Table(_whole(self), selection)

    def __arrow_c_schema__(self) -> object:
        return Selection().schema()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return Selection().stream(self)

    # ----------------------------------------------------------------------------- data frames

    def to_dataframe(self, key_pattern: str | None = None) -> Any:
        """Float histories as a pandas DataFrame: a column per key, row `n` the n-th value of each.

        Shorter columns are padded with NaN at the end. Columns are the live keys that match the
        glob `key_pattern` and whose newest value is a float, in order. Needs pandas
        (``synadb[pandas]``)."""
        from synadb import frames

        return frames.to_dataframe(_whole(self), key_pattern)

    def from_dataframe(self, df: Any, key_prefix: str = "") -> int:
        """Append each column of a DataFrame to the history of the key `key_prefix` + its name.

        Floats, ints, booleans and texts keep their types; NaN, None and NaT are left out. A
        DatetimeIndex becomes the times of the values (without a zone: UTC), if it does not
        decrease. All columns are checked before anything is written; each is one commit.

        Returns
        -------
        int
            How many values were written.
        """
        from synadb import frames

        return frames.from_dataframe(_whole(self), df, key_prefix)

    def to_timeseries_dataframe(self, key: str) -> Any:
        """The float history of a key as a DataFrame with the column ``value``.

        The index, named ``time``, is a DatetimeIndex in UTC with the times of the values. Values of
        other types and deletions are left out. Needs pandas (``synadb[pandas]``)."""
        from synadb import frames

        return frames.to_timeseries_dataframe(_whole(self), key)


def _whole(self: Interchange) -> SynaDB:
    return cast("SynaDB", self)


def _write(
    db: Interchange,
    path: Path,
    format: str,
    key_pattern: str | None,
    history: bool,
    type: str | None,
    progress: Progress,
) -> int:
    from synadb.interchange.exporting import export_file

    return export_file(
        _whole(db), path, format, key_pattern, history=history, type=type, progress=progress
    )


def _read(db: Interchange, path: Path, format: str, key_prefix: str, progress: Progress) -> int:
    from synadb.interchange.importing import import_file

    return import_file(_whole(db), path, format, key_prefix, progress=progress, stacklevel=4)
