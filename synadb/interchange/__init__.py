"""Records in and out of a database: seven file formats, and Arrow tables for other programs.

========  ==========================================================  ==============================
format    what the file holds                                         needs
========  ==========================================================  ==============================
json      one object ``{key: value}``
jsonl     an object ``{"key", "type", "value"}`` a line
csv       the columns ``key,type,value`` under a header
pickle    a list of dicts like the lines of jsonl
msgpack   the same in MessagePack
parquet   the columns key, type and value                             pyarrow (``synadb[arrow]``)
arrow     the same as an Arrow IPC file (Feather)                     pyarrow
========  ==========================================================  ==============================

`SynaDB.export_json` and its sisters write, `SynaDB.import_json` and its sisters read; here is what
they share. Every value of every type comes back equal, bit for bit, with its type, from each of the
formats. Without `history` an export holds the newest value of each live key: no times, no expiries.
With it, it holds every record, deletions included, with ``time`` and ``expires`` in microseconds
since 1970 (in Parquet and Arrow: timestamps).

Files are written beside their place and moved there when they are complete and on disk: a failure
leaves what was there before. Memory does not grow with the file, nor do the pages of the database
that stay mapped: an export reads record by record; an import checks the whole file first, then
writes it, in one commit if it is small (32 MiB of records, no blobs).

How JSON, JSON Lines and CSV write what JSON has no type for: values.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synadb.interchange.exporting import FORMATS, export_file, export_stream
    from synadb.interchange.importing import import_file
    from synadb.interchange.tables import Table, hits_table, runs_table

# Imported when first used: `import synadb` needs none of it.
_PLACES = {
    "FORMATS": "exporting",
    "Table": "tables",
    "export_file": "exporting",
    "export_stream": "exporting",
    "hits_table": "tables",
    "import_file": "importing",
    "runs_table": "tables",
}

__all__ = [
    "FORMATS",
    "Table",
    "export_file",
    "export_stream",
    "hits_table",
    "import_file",
    "runs_table",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
