"""Rows of the stores without a filter of their own for that: as results, and as a table."""

import json

import numpy as np
import pytest
from vector_stores import names, opened

ROWS, DIMS = 500, 8


@pytest.fixture(params=["mmap", "gwi", "cascade", "hybrid"])
def kind(request):
    return request.param


@pytest.fixture
def filled(kind, tmp_path):
    """A store, what it should list, and its metadata; the row "3" is written last."""
    rows = np.random.default_rng(0).normal(size=(ROWS, DIMS)).astype(np.float32)
    facts = [None if kind == "mmap" or i % 3 == 0 else {"n": i, "ä": "ö"} for i in range(ROWS)]
    with opened(kind, str(tmp_path / "store"), DIMS) as store:
        if kind == "mmap":
            store.insert_batch(names(ROWS), rows)
        else:
            store.insert_batch(names(ROWS), rows, facts)
        store.insert("3", rows[3])
        store.delete("5")
        order = [i for i in range(ROWS) if i not in (3, 5)] + [3]
        facts[3] = None
        yield store, [str(i) for i in order], rows[order], [facts[i] for i in order]


def test_rows_are_listed_in_the_order_written(filled):
    store, keys, rows, facts = filled
    listed = store.rows()
    assert [row.key for row in listed] == keys == store.keys()
    assert np.array_equal(np.stack([row.vector for row in listed]), rows)
    assert [row.metadata for row in listed] == facts
    assert {row.score for row in listed} == {0.0}
    assert all(row.vector is None for row in store.rows(vectors=False))


def test_a_store_is_a_table(kind, filled):
    pa = pytest.importorskip("pyarrow", reason="tables are read with pyarrow here")
    store, keys, rows, facts = filled
    for table in (pa.table(store), pa.table(store.rows().table()).drop(["score"])):
        table.validate(full=True)
        assert table.column_names == ["key", "vector"] + ["metadata"] * (kind != "mmap")
        assert table["key"].to_pylist() == keys
        assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), rows)
        if kind != "mmap":
            texts = table["metadata"].to_pylist()
            assert [None if text is None else json.loads(text) for text in texts] == facts


def test_a_store_without_rows_is_an_empty_table(kind, tmp_path):
    pa = pytest.importorskip("pyarrow", reason="tables are read with pyarrow here")
    with opened(kind, str(tmp_path / "store"), DIMS) as store:
        assert store.rows() == [] and pa.table(store).num_rows == 0
        assert pa.table(store).schema.field("vector").type.list_size == DIMS
