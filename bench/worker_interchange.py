"""Exports and Arrow streams in a process of its own.

    worker_interchange.py CONTESTANT DIR FLOATS SEED

CONTESTANT is synadb, or python: pyarrow writing the same table from numpy arrays, the standard
library's json writing the same rows, DuckDB over the same Arrow table. One line of JSON each for
    parquet, arrow   a history of FLOATS floats to a file, until it is on disk
    jsonl            a tenth as many keys of one float each
    duckdb           select count(*), avg(value) over the history
"operations" are records. What is written is read back and compared.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker import timed

OURS = ("synadb.interchange.columnar", "synadb.interchange.jsonl_files")
KEY = "sensor/temperature"
QUERY = "select count(*), avg(value) from readings"
FIRST_US = 1_700_000_000_000_000


def data(floats: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    values = np.round(np.random.default_rng(seed).normal(20, 3, floats), 2)
    return values, (FIRST_US + 1000 * np.arange(floats)).astype("M8[us]")


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def query(readings: Any, floats: int) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        connection.register("readings", readings)
        connection.sql(QUERY).fetchall()
        found: list[Any] = []
        timed(lambda: found.extend(connection.sql(QUERY).fetchall()), floats)
        if found[0][0] != floats:
            raise SystemExit(f"DuckDB counted {found[0][0]} rows of {floats}")


def synadb(folder: Path, values: np.ndarray, times: np.ndarray) -> None:
    from synadb import SynaDB

    # What is loaded once is no part of a file's time, nor is it of the other's.
    for name in ("pyarrow.feather", "pyarrow.parquet", *OURS):
        importlib.import_module(name)
    few = len(values) // 10
    with SynaDB(folder / "rows.db", sync_on_write=False) as rows:
        rows.put_many({f"{KEY}/{n:09d}": float(values[n]) for n in range(few)})
    with SynaDB(folder / "history.db", sync_on_write=False) as db:
        db.append_floats(KEY, values, times=times)
        timed(lambda: db.export_parquet(folder / "x.parquet", history=True), len(values))
        timed(lambda: db.export_arrow(folder / "x.arrow", history=True), len(values))
        with SynaDB(folder / "rows.db", read_only=True) as rows:
            timed(lambda: rows.export_jsonl(folder / "x.jsonl"), few)
        query(db.get_history(KEY), len(values))
    check(folder, values)


def python(folder: Path, values: np.ndarray, times: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.feather
    import pyarrow.parquet

    few = len(values) // 10
    keys, types = pa.array([KEY] * len(values)), pa.array(["float"] * len(values))
    rows = [
        {"key": f"{KEY}/{n:09d}", "type": "float", "value": float(values[n])} for n in range(few)
    ]

    def table() -> pa.Table:
        when = pa.array(times, pa.timestamp("us", "UTC"))
        return pa.table({"key": keys, "type": types, "time": when, "value": pa.array(values)})

    def parquet() -> None:
        pyarrow.parquet.write_table(table(), folder / "x.parquet")
        sync(folder / "x.parquet")

    def arrow() -> None:
        pyarrow.feather.write_feather(table(), folder / "x.arrow")
        sync(folder / "x.arrow")

    def jsonl() -> None:
        with open(folder / "x.jsonl", "w") as out:
            for row in rows:
                out.write(json.dumps(row) + "\n")
        sync(folder / "x.jsonl")

    timed(parquet, len(values))
    timed(arrow, len(values))
    timed(jsonl, few)
    query(table(), len(values))
    check(folder, values)


def check(folder: Path, values: np.ndarray) -> None:
    import pyarrow.feather
    import pyarrow.parquet

    for read, name in (
        (pyarrow.parquet.read_table, "x.parquet"),
        (pyarrow.feather.read_table, "x.arrow"),
    ):
        if not np.array_equal(read(folder / name)["value"].to_numpy(), values):
            raise SystemExit(f"{name} holds other values")
    with open(folder / "x.jsonl", encoding="utf-8") as lines:
        for n, line in enumerate(lines):
            if json.loads(line)["value"] != values[n]:
                raise SystemExit(f"x.jsonl: line {n + 1} holds another value")


if __name__ == "__main__":
    contestant, place, count, seed = sys.argv[1:]
    {"synadb": synadb, "python": python}[contestant](Path(place), *data(int(count), int(seed)))
