"""Exports and imports hold a part of the records at a time, however many there are."""

from __future__ import annotations

import random

import numpy as np
import pytest

from synadb import SynaDB

FORMATS = ["json", "jsonl", "csv", "pickle", "msgpack", "parquet", "arrow"]


def need(format):
    if format in ("parquet", "arrow"):
        pytest.importorskip("pyarrow", reason="Parquet and Arrow files are written by pyarrow")


GROWTH = """
    import sys, warnings
    from synadb import SynaDB
    from synadb.interchange import columnar, importing, rows
    warnings.simplefilter("ignore")
    # As much smaller than usual as the database is: what is held at once is a part of it all.
    importing.COMMIT_BYTES = columnar.GROUP_BYTES = rows.BYTES = 1 << 19
    columnar.READ_BYTES = 1 << 19
    what, format, path, file = sys.argv[1:]
    db = SynaDB(path, sync_on_write=False)
    if format in ("parquet", "arrow"):
        import pyarrow.parquet
    def now():
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    before, most = now(), 0
    def look(done, total):
        global most
        most = max(most, now())
    if what == "import":
        getattr(db, f"import_{format}")(file, progress=look)
    else:
        getattr(db, f"export_{format}")(file, history=what == "history", progress=look)
    look(0, 0)
    print(most - before)
    db.close()
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A database of 20 MB."""
    path = tmp_path_factory.mktemp("large") / "a.db"
    with SynaDB(path, sync_on_write=False, compression=False) as db:
        noise = random.Random(1)
        for n in range(20):
            db.put_many({f"k{n}-{m}": noise.randbytes(500).hex() for m in range(1000)})
    return path


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_database(tmp_path, python, large, format):
    need(format)
    limit_kib = 80_000 if format in ("parquet", "arrow") else 12_000
    assert int(python(GROWTH, "export", format, large, tmp_path / "x")) < limit_kib
    assert (tmp_path / "x").stat().st_size > 20_000_000 / (2 if format == "parquet" else 1)
    assert int(python(GROWTH, "import", format, tmp_path / "b.db", tmp_path / "x")) < limit_kib


def test_a_long_history_goes_out_without_being_held(tmp_path, python):
    with SynaDB(tmp_path / "a.db", sync_on_write=False) as db:
        db.append_floats("h", np.random.default_rng(0).random(300_000))
    assert int(python(GROWTH, "history", "jsonl", tmp_path / "a.db", tmp_path / "x")) < 12_000
    with open(tmp_path / "x", "rb") as lines:
        assert sum(1 for _ in lines) == 300_000


PEAK = """
    import sys
    from synadb import SynaDB
    what, format, path, file = sys.argv[1:]
    if format == "parquet":
        import pyarrow.parquet
    def peak():
        lines = open("/proc/self/status").read().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    db = SynaDB(path, sync_on_write=False)
    before = peak()
    if what == "import":
        getattr(db, f"import_{format}")(file)
    else:
        getattr(db, f"export_{format}")(file, history=what == "history")
    print(peak() - before)
    db.close()
"""


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A database of 240 MB, in which neighbours by key lie far from each other."""
    path = tmp_path_factory.mktemp("larger") / "a.db"
    noise = random.Random(1)
    texts = [noise.randbytes(2000).hex() for _ in range(64)]
    numbers = noise.sample(range(60_000), 60_000)
    with SynaDB(path, sync_on_write=False, compression=False) as db:
        for at in range(0, len(numbers), 4000):
            some = numbers[at : at + 4000]
            db.put_many({f"key-{n:08d}": texts[n % len(texts)] for n in some})
    assert path.stat().st_size > 240_000_000
    return path


def test_mapped_pages_of_the_file_are_not_kept(tmp_path, python, larger):
    """The peak of all that counts as the process's memory, pages of the database included."""
    file = tmp_path / "x"
    assert int(python(PEAK, "export", "jsonl", larger, file)) < 120_000
    assert int(python(PEAK, "import", "jsonl", tmp_path / "b.db", file)) < 160_000
    file.unlink()
    assert int(python(PEAK, "history", "jsonl", larger, file)) < 120_000
    (tmp_path / "b.db").unlink()


def test_nor_by_an_arrow_stream(tmp_path, python, larger):
    need("parquet")
    assert int(python(PEAK, "export", "parquet", larger, tmp_path / "x")) < 200_000
