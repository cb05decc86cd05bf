"""Databases, histories, search results and runs as Arrow tables, without pyarrow and with it."""

from __future__ import annotations

import ctypes
import gc
import pickle
import sys
import threading

import numpy as np
import pytest

from synadb import ArgumentError, Experiment, History, SearchResult, SynaDB, TypeMismatchError
from synadb._core.arrow import Column, Columns, Selection
from synadb.interchange import hits_table, runs_table
from synadb.interchange.tables import blobs, optional_numbers, text_lists, texts, vectors


@pytest.fixture
def mixed(db):
    db.put_many({"a": 1.5, "b": 2, "c": "text", "d": b"by\0te", "e": [1, 2], "f": None})
    db.put_vector("v", [1, 2, 3])
    db.append_floats("h", np.arange(2000.0), times=1_700_000_000_000_000 + np.arange(2000))
    db.put("gone", 1)
    db.delete("gone")
    return db


def arrow():
    return pytest.importorskip("pyarrow", reason="reads Arrow streams in this test")


# --------------------------------------------------------------------- without another package

Schema = type("Schema", (ctypes.Structure,), {})
Array = type("Array", (ctypes.Structure,), {})
Schema._fields_ = [
    ("format", ctypes.c_char_p), ("name", ctypes.c_char_p), ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64), ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(Schema))), ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(Schema))), ("private", ctypes.c_void_p),
]  # fmt: skip
Array._fields_ = [
    ("length", ctypes.c_int64), ("null_count", ctypes.c_int64), ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64), ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(Array))),
    ("dictionary", ctypes.c_void_p), ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(Array))),
    ("private", ctypes.c_void_p),
]  # fmt: skip


class Stream(ctypes.Structure):
    _fields_ = [
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Schema))),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Array))),
        ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)),
        ("release", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
        ("private", ctypes.c_void_p),
    ]


pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
pointer_of.restype = ctypes.c_void_p
pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


def columns_of(table):
    """Names and formats, out of the schema's capsule."""
    capsule = table.__arrow_c_schema__()
    schema = Schema.from_address(pointer_of(capsule, b"arrow_schema"))
    found = [schema.children[i].contents for i in range(schema.n_children)]
    return [(child.name.decode(), child.format.decode()) for child in found]


def doubles_of(table, column):
    """The numbers of a column of doubles, batch by batch, out of the stream's capsule."""
    capsule = table.__arrow_c_stream__()
    stream = Stream.from_address(pointer_of(capsule, b"arrow_array_stream"))
    batches = []
    while True:
        batch = Array()
        assert stream.get_next(ctypes.addressof(stream), batch) == 0
        if not batch.release:
            return batches
        child = batch.children[column].contents
        first = child.buffers[1] + 8 * child.offset
        numbers = (ctypes.c_double * batch.length).from_address(first)
        batches.append(np.array(numbers))
        batch.release(batch)


def test_the_capsules_are_those_of_the_interface(mixed):
    floats = mixed.table(key="h", type="float", history=True, columns=["time", "value"])
    assert columns_of(floats) == [("time", "tsu:UTC"), ("value", "g")]
    assert columns_of(mixed)[0] == ("key", "u") and columns_of(mixed)[-1] == ("value", "+s")
    for table in (floats, mixed.get_history("h")):
        for _ in range(2):
            assert np.array_equal(np.concatenate(doubles_of(table, 1)), np.arange(2000.0))
    short = mixed.table(key="h", type="float", history=True, columns=["value"], batch_rows=300)
    assert [len(batch) for batch in doubles_of(short, 0)] == [300] * 6 + [200]


def test_nothing_is_read_before_it_is_pulled_and_nothing_held_after_release(path):
    with SynaDB(path, sync_on_write=False) as db:
        table = db.table(type="float")
        capsules = [table.__arrow_c_stream__() for _ in range(50)]
        capsules += [table.__arrow_c_schema__() for _ in range(50)]
        db["late"] = 1.5  # seen by whoever reads later
        assert np.concatenate(doubles_of(table, 4)).tolist() == [1.5]
        del capsules
    assert "Table" in repr(table)


def test_arrays_live_as_long_as_somebody_reads_them():
    values = np.arange(5.0)
    references = sys.getrefcount(values)
    history = History(values, np.zeros(5, "M8[us]"), np.zeros(0, "M8[us]"))
    capsule = history.__arrow_c_stream__()
    del history
    gc.collect()
    assert sys.getrefcount(values) > references
    del capsule
    gc.collect()
    assert sys.getrefcount(values) == references


# ---------------------------------------------------------------------------------- its readers


def test_pyarrow_reads_a_database(mixed):
    pa = arrow()
    table = pa.table(mixed)
    assert table.schema.names == ["key", "type", "time", "expires", "value"]
    rows = {row["key"]: row for row in table.to_pylist()}
    assert list(rows) == mixed.keys()
    assert rows["d"]["value"]["bytes"] == b"by\0te" and rows["c"]["value"]["text"] == "text"
    assert rows["v"]["value"]["vector"] == [1, 2, 3]
    assert rows["f"]["type"] == "null" and set(rows["f"]["value"].values()) == {None}
    table.validate(full=True)
    history = pa.table(mixed.table(history=True))
    history.validate(full=True)
    assert history.num_rows == 7 + 2000 + 2 and history["type"].to_pylist()[-1] == "deleted"
    fixed = pa.table(mixed.table(type="vector", dimensions=3))
    assert fixed.schema.field("value").type == pa.list_(pa.float32(), 3)
    for name in ("float", "int", "text", "bytes", "vector", "packed", "null", "blob"):
        table = pa.table(mixed.table(type=name))
        table.validate(full=True)
        assert set(table["type"].to_pylist()) <= {name}


def test_polars_and_pandas_read_without_pyarrow(mixed):
    pl = pytest.importorskip("polars", reason="reads Arrow streams in this test")
    pd = pytest.importorskip("pandas", minversion="3", reason="reads Arrow streams in this test")
    frame = pl.DataFrame(mixed.table())  # of a mapping polars would make columns
    assert frame.filter(pl.col("type") == "int")["value"].struct.field("int").to_list() == [2]
    assert pl.DataFrame(mixed.get_history("h"))["value"].sum() == 1999000
    frame = pl.DataFrame(mixed.table("[ab]", columns=["key"]))
    assert frame["key"].to_list() == ["a", "b"]
    if hasattr(pd.DataFrame, "from_arrow"):
        frame = pd.DataFrame.from_arrow(mixed.table(key="h", type="float", history=True))
        assert frame["value"].tolist() == list(range(2000))
        assert str(frame["time"].iloc[0]) == "2023-11-14 22:13:20+00:00"


def test_duckdb_reads_a_database_by_its_name(mixed):
    duckdb = pytest.importorskip("duckdb", reason="reads Arrow streams in this test")
    db = mixed  # noqa: F841
    history = mixed.get_history("h")  # noqa: F841
    lazy = mixed.table(key="h", type="float", history=True)
    one = duckdb.connect()
    found = one.sql("select key, value.int from db where type = 'int'").fetchall()
    assert found == [("b", 2)]
    for name in ("history", "lazy"):
        query = f"select count(*), avg(value), min(time) is not null from {name}"
        assert one.sql(query).fetchall() == [(2000, 999.5, True)]
    assert one.sql("select count(*) from lazy a join lazy b using (value)").fetchall() == [(2000,)]
    one.register("again", lazy)
    for _ in range(2):
        assert one.sql("select sum(value) from again").fetchall() == [(1999000,)]
    mixed.put_vector("v2", [3, 2, 1])
    fixed = mixed.table(type="vector", dimensions=3)  # noqa: F841
    query = "select key, array_distance(value, [1, 2, 3]::float[3]) from fixed order by 2"
    assert [key for key, _ in one.sql(query).fetchall()] == ["v", "v2"]


def test_readers_on_many_threads(mixed):
    pa = arrow()
    table = mixed.table(history=True)
    sums = []

    def read():
        sums.append(pa.table(table).num_rows)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [2009] * 8


# --------------------------------------------------------------------------------- what ends it


def test_a_stream_ends_with_its_database_and_batches_stay(path):
    pa = arrow()
    with SynaDB(path, sync_on_write=False) as db:
        db.append_floats("h", np.arange(5000.0))
        table = db.table(key="h", type="float", history=True, batch_rows=1000)
        reader = pa.RecordBatchReader.from_stream(table)
        batch = reader.read_next_batch()
    with pytest.raises((pa.ArrowException, OSError), match="closed"):
        reader.read_next_batch()
    assert batch.column(4).to_pylist()[:2] == [0.0, 1.0]
    with pytest.raises(Exception, match="closed"):
        pa.table(table)
    del reader, batch
    gc.collect()


def test_errors_go_through_with_their_text(mixed):
    pa = arrow()
    mixed.put_vector("w", [1, 2])
    with pytest.raises((pa.ArrowException, OSError), match="'w' holds a vector of 2 dimensions"):
        pa.table(mixed.table(type="vector", dimensions=3))
    selection = Selection(type="int", strict=True)

    class Strict:
        def __arrow_c_stream__(self, requested_schema=None):
            return selection.stream(mixed)

    with pytest.raises((pa.ArrowException, OSError), match="'a' holds a record of type 1"):
        pa.table(Strict())
    assert isinstance(selection.error, TypeMismatchError)


def test_wrong_selections_are_refused_where_they_are_made(mixed):
    for wrong in (
        {"type": "double"}, {"columns": ["nothing"]}, {"columns": []}, {"key": ""},
        {"key": "a", "key_pattern": "b"}, {"type": "text", "columns": ["value", "x"]},
    ):  # fmt: skip
        with pytest.raises(ArgumentError):
            mixed.table(**wrong)
    with pytest.raises(TypeError):
        mixed.table(3)
    with pytest.raises(ArgumentError, match="dimensions"):
        mixed.table(dimensions=3).__arrow_c_schema__()


# -------------------------------------------------------------------------------- what history is


def test_a_history_is_an_array_without_a_copy(mixed):
    history = mixed.get_history("h")
    assert np.shares_memory(np.asarray(history), history.values)
    assert np.shares_memory(history.__array__(), history.values)
    assert not np.shares_memory(history.__array__(copy=True), history.values)
    assert np.asarray(history, dtype=np.float32).dtype == np.float32
    assert memoryview(history).format == "d" and len(memoryview(history)) == 2000
    shared = np.from_dlpack(history)
    assert np.shares_memory(shared, history.values)
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert not np.shares_memory(np.array(history, copy=True), history.values)
    again = pickle.loads(pickle.dumps(history))
    assert np.array_equal(again.values, history.values)
    assert np.array_equal(again.timestamps, history.timestamps)
    texts = mixed.get_history("c")
    for wrong in (memoryview, np.from_dlpack):
        with pytest.raises((BufferError, TypeError)):
            wrong(texts)
    assert np.asarray(mixed.get_history("absent")).shape == (0,)


def test_histories_of_every_kind_are_tables(mixed):
    pa = arrow()
    assert pa.table(mixed.get_history("b")).schema.field("value").type == pa.int64()
    assert pa.table(mixed.get_history("c"))["value"].to_pylist() == ["text"]
    assert pa.table(mixed.get_history("d"))["value"].to_pylist() == [b"by\0te"]
    assert pa.table(mixed.get_history("e")).schema.names == ["time", "packed"]
    assert pa.table(mixed.get_history("absent")).num_rows == 0
    for key in ("a", "b", "c", "d", "e", "absent"):
        pa.table(mixed.get_history(key)).validate(full=True)


# ------------------------------------------------------------------------- results and columns


def test_search_results_are_a_table():
    pa = arrow()
    rows = [SearchResult("a", 0.1, np.array([1, 2], np.float32)), SearchResult("b", 0.5)]
    table = pa.table(hits_table(rows))
    table.validate(full=True)
    assert table.to_pylist() == [
        {"key": "a", "score": 0.1, "vector": [1.0, 2.0]},
        {"key": "b", "score": 0.5, "vector": None},
    ]
    assert pa.table(hits_table([])).num_rows == 0
    assert pa.table(hits_table([rows[1]])).schema.names == ["key", "score"]


def test_runs_are_a_table(tmp_path):
    pa = arrow()
    with Experiment("mnist", tmp_path / "runs.db") as experiment:
        with experiment.start_run(tags=["x", "y"]) as one:
            one.log_params({"lr": 0.1, "layers": 3})
        two = experiment.start_run()
        two.log_param("lr", 0.2)
        table = pa.table(runs_table(experiment.list_runs()))
    table.validate(full=True)
    rows = {row["id"]: row for row in table.to_pylist()}
    assert rows[one.id]["tags"] == ["x", "y"] and rows[one.id]["params.layers"] == "3"
    assert rows[two.id]["params.layers"] is None and rows[two.id]["ended_at"] is None
    assert rows[one.id]["status"] == "completed" and rows[two.id]["status"] == "running"
    assert rows[one.id]["ended_at"] >= rows[one.id]["started_at"]
    assert pa.table(runs_table([])).num_rows == 0


def test_columns_of_every_kind_come_in_batches():
    pa = arrow()
    n = 130_000
    items = [None if i % 7 == 0 else i for i in range(n)]
    columns = Columns([
        texts("t", [None if i is None else str(i) for i in items]),
        blobs("b", [None if i is None else b"%d" % i for i in items]),
        optional_numbers("n", "i8", items),
        vectors("v", [None if i is None else np.full(2, i, np.float32) for i in items]),
        text_lists("l", [[] if i is None else ["x", str(i)] for i in items]),
    ])  # fmt: skip
    reader = pa.RecordBatchReader.from_stream(columns)
    batches = list(reader)
    assert [batch.num_rows for batch in batches] == [122_880, 7_120]
    for batch in batches:
        batch.validate(full=True)
    for i in (0, 1, 122_879, 122_880, 122_881, n - 1):
        batch, row = batches[i // 122_880], i % 122_880
        want = items[i]
        assert batch["n"][row].as_py() == want
        assert batch["t"][row].as_py() == (None if want is None else str(want))
        assert batch["b"][row].as_py() == (None if want is None else b"%d" % want)
        assert batch["v"][row].as_py() == (None if want is None else [want, want])
        assert batch["l"][row].as_py() == ([] if want is None else ["x", str(want)])
    with pytest.raises(ValueError, match="rows"):
        Columns([texts("a", ["x"]), texts("b", [])])
    with pytest.raises(ValueError, match="buffers"):
        Column("a", "g", 1, (None, b"", b"", b""))
    with pytest.raises(TypeError):
        Column("a", "g", 1, (3,))
