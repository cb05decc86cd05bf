"""`update_metadata` of every store that has metadata: the vector stays, the fields change."""

import threading

import numpy as np
import pytest
from vector_stores import keep, names, opened

from synadb.errors import ReadOnlyError

ROWS, DIMS = 3000, 16


@pytest.fixture(params=["vector", "gwi", "cascade", "hybrid", "sparse"])
def kind(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


def filled(kind, path):
    rows = np.random.default_rng(0).normal(size=(ROWS, DIMS)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)  # nearest by any measure: itself
    store = opened(kind, path, DIMS)
    store.insert_batch(names(ROWS), rows, [{"n": i, "tag": "old"} for i in range(ROWS)])
    return store, rows


def test_fields_are_added_replaced_and_taken_away(kind, path):
    store, rows = filled(kind, path)
    with store:
        assert store.update_metadata("7", {"tag": "new", "more": [1]}) is True
        assert store.get_metadata("7") == {"n": 7, "tag": "new", "more": [1]}
        assert store.update_metadata("8", {"tag": "new"}, replace=True) is True
        assert store.get_metadata("8") == {"tag": "new"}
        assert store.update_metadata("9", None) is True
        assert store.get_metadata("9") is None
        assert store.update_metadata("9", {"tag": "new"}) is True  # there was none
        assert store.update_metadata("missing", {"tag": "new"}) is False
        assert "missing" not in store and len(store) == ROWS
        for i in (7, 8, 9):
            assert np.array_equal(store.get(str(i)), rows[i])
            assert store.search(rows[i], k=1)[0].key == str(i)
        hits = store.search(rows[0], k=10, filter={"tag": "new"})
        assert {hit.key for hit in hits} == {"7", "8", "9"}
        keep(store)
    with opened(kind, path, DIMS, read_only=True) as reader:
        assert reader.get_metadata("7") == {"n": 7, "tag": "new", "more": [1]}
        with pytest.raises(ReadOnlyError):
            reader.update_metadata("7", {"n": 1})
    with opened(kind, path, DIMS) as store:
        if hasattr(store, "compact"):
            store.compact()
        assert store.get_metadata("8") == {"tag": "new"} and len(store) == ROWS
        assert np.array_equal(store.get("9"), rows[9])


@pytest.mark.parametrize(("key", "fields"), [("7", {"n": object()}), ("", {"n": 1}), ("7", [1])])
def test_what_is_refused_changes_nothing(kind, path, key, fields):
    store, _ = filled(kind, path)
    with store:
        with pytest.raises((TypeError, ValueError)):
            store.update_metadata(key, fields)
        assert store.get_metadata("7") == {"n": 7, "tag": "old"} and len(store) == ROWS


def test_threads_lose_nothing_of_each_other(kind, path):
    with opened(kind, path, 2) as store:
        store.insert("a", [0.0, 1.0], {"start": True})

        def work(thread):
            for i in range(20):
                assert store.update_metadata("a", {f"{thread}_{i}": i})

        threads = [threading.Thread(target=work, args=(t,)) for t in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.get_metadata("a")) == 81 and len(store) == 1
