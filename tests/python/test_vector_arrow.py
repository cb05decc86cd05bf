"""Vector stores and search results as tables: pyarrow, polars and pandas read them as they are."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from synadb import VectorStore

DIMS = 4
KEYS = ["a", "\u00e4\U0001f600", "c", 'with "quotes"', "e"]
METADATA = [{"lang": "en", "n": 1}, None, {}, {"tags": ["x", "y"], "deep": {"a": None}}, None]


@pytest.fixture
def store(path):
    with VectorStore(path, DIMS, metric="euclidean", sync_on_write=False) as store:
        store.insert_batch(KEYS, np.arange(20, dtype=np.float32).reshape(5, DIMS), METADATA)
        yield store


def pa():
    return pytest.importorskip("pyarrow", reason="tables are read with pyarrow here")


def read(hits):
    """A list is rows to `pyarrow.table`, so its stream is read here."""
    return pa().RecordBatchReader.from_stream(hits).read_all()


def check_rows(table, keys, vectors, metadata) -> None:
    assert table["key"].to_pylist() == keys
    np.testing.assert_array_equal(np.array(table["vector"].to_pylist(), np.float32), vectors)
    texts = table["metadata"].to_pylist()
    assert [None if text is None else json.loads(text) for text in texts] == metadata
    table.validate(full=True)


def test_a_store_is_a_table(store):
    table = pa().table(store)
    assert table.column_names == ["key", "vector", "metadata"]
    assert table.schema.field("vector").type.list_size == DIMS
    check_rows(table, KEYS, np.arange(20).reshape(5, 4), METADATA)
    store.delete("c")
    assert pa().table(store)["key"].to_pylist() == [key for key in KEYS if key != "c"]


def test_a_large_store_comes_in_batches_and_every_row_once(path):
    rows = np.random.default_rng(0).normal(size=(150_000, DIMS)).astype(np.float32)
    with VectorStore(path, DIMS, sync_on_write=False, backend="flat") as store:
        store.insert_batch([f"k{i}" for i in range(len(rows))], rows)
        table = pa().table(store)
    assert table["key"].num_chunks > 1  # readers of streams need no more than one at a time
    assert table["key"].to_pylist() == [f"k{i}" for i in range(len(rows))]
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in table["vector"].chunks])
    np.testing.assert_array_equal(flat.reshape(-1, DIMS), rows)
    assert table["metadata"].null_count == len(rows)


def test_results_are_tables(store):
    hits = store.search([0, 1, 2, 3], k=3)
    assert isinstance(hits, list) and len(hits) == 3
    table = read(hits)
    assert table.column_names == ["key", "score", "vector", "metadata"]
    check_rows(table, [h.key for h in hits], [h.vector for h in hits], [h.metadata for h in hits])
    assert table["score"].to_pylist() == [hit.score for hit in hits]
    bare = read(store.search([0, 1, 2, 3], k=3, vectors=False, metadata=False))
    assert bare.column_names == ["key", "score"]
    assert read(store.rows()).num_rows == 5


def test_results_of_a_batch_are_one_table(store):
    found = store.search_batch(np.zeros((3, DIMS)), k=2)
    table = read(found)
    assert table["query"].to_pylist() == [0, 0, 1, 1, 2, 2]
    check_rows(
        table,
        [hit.key for hits in found for hit in hits],
        [hit.vector for hits in found for hit in hits],
        [hit.metadata for hits in found for hit in hits],
    )
    assert pa().table(found[1].table())["key"].to_pylist() == [hit.key for hit in found[1]]


def test_a_batch_is_a_sequence_of_lists_that_are_made_once(store):
    queries = np.arange(12, dtype=np.float32).reshape(3, DIMS)
    found = store.search_batch(queries, k=2)
    want = [store.search(query, k=2) for query in queries]
    assert found == want and want == found and found == store.search_batch(queries, k=2)
    assert found != want[:2] and found != want[::-1] and found != tuple(want)
    assert len(found) == 3 and list(found) == want and repr(found) == repr(want)
    assert found[-1] == want[2] and found[np.int64(1)] == want[1] and found[1:] == want[1:]
    assert found[0] is found[0] is found[-3] is next(iter(found)) and want[1] in found
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            found[wrong]
    with pytest.raises(TypeError):
        found["0"]
    with pytest.raises(TypeError):
        hash(found)


def test_the_table_of_a_batch_is_the_same_before_and_after_its_lists_are_made(store):
    queries = np.arange(12, dtype=np.float32).reshape(3, DIMS)
    for form in ({}, {"vectors": False}, {"metadata": False}, {"radius": 3.0, "k": None}):
        found = store.search_batch(queries, **form)
        before = read(found)
        assert [len(hits) for hits in found] == [
            before["query"].to_pylist().count(query) for query in range(3)
        ]
        assert read(found).equals(before)
    found = store.search_batch(queries, k=2)
    del found[0][1]  # a list may be changed: then that is what there is
    assert read(found)["query"].to_pylist() == [0, 1, 1, 2, 2]


def test_nothing_is_a_table_too(store, path):
    assert read(store.search([0, 0, 0, 0], radius=0.0)).num_rows == 0
    assert read(store.search_batch(np.empty((0, DIMS)))).num_rows == 0
    with VectorStore(path.with_name("empty.db"), 7) as empty:
        table = pa().table(empty)
        assert table.num_rows == 0 and table.schema.field("vector").type.list_size == 7


def test_polars_and_pandas_read_them(store):
    polars = pytest.importorskip("polars", reason="tables are read with polars here")
    pandas = pytest.importorskip("pandas", reason="tables are read with pandas here")
    hits = store.search([0, 1, 2, 3], k=2)
    assert polars.DataFrame(hits.table())["key"].to_list() == [hit.key for hit in hits]
    assert polars.DataFrame(store).shape == (5, 3)
    assert pandas.DataFrame.from_arrow(hits.table())["score"].tolist() == [
        hit.score for hit in hits
    ]
    frame = pandas.DataFrame.from_arrow(store)
    assert frame["key"].tolist() == KEYS
    np.testing.assert_array_equal(np.stack(frame["vector"]), np.arange(20).reshape(5, 4))


def test_a_table_outlives_its_store_and_lists_stay_lists(path):
    with VectorStore(path, DIMS, sync_on_write=False) as store:
        store.insert("a", [1, 2, 3, 4], {"n": 1})
        table, hits = pa().table(store), store.search([1, 2, 3, 4])
        batch = store.search_batch(np.ones((2, DIMS)))
    assert table["vector"].to_pylist() == [[1, 2, 3, 4]]
    again = pickle.loads(pickle.dumps(hits))
    assert [hit.key for hit in again] == ["a"] and read(again).num_rows == 1
    assert read(pickle.loads(pickle.dumps(batch)))["query"].to_pylist() == [0, 1]
    assert hits == list(hits) and hits[:1] == [hits[0]]
    with pytest.raises(Exception, match="closed"):
        pa().table(store)
