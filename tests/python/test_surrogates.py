"""Half of a surrogate pair is no text that UTF-8 can hold: wherever a store takes texts it is
refused as an argument, before anything is changed."""

import numpy as np
import pytest
from vector_stores import CLASSES, opened

from synadb import HybridRetriever, SparseVectorStore, TextIndex
from synadb.errors import ArgumentError

HALF = "half\udc80"
ROW = np.ones(4, np.float32)

FILTERS = {
    "value": {"f": HALF},
    "name": {HALF: 1},
    "list": {"f": {"$in": ["whole", HALF]}},
    "deep": {"$and": [{"n": 1}, {"$not": {"f": {"$ne": HALF}}}]},
}


class Words(TextIndex):
    """With the names that the stores of vectors have."""

    def __init__(self, path):
        super().__init__(path)

    def insert(self, key, _row, metadata=None):
        self.add(key, "some words", metadata)

    def insert_batch(self, keys, _rows, metadata=None):
        self.add_batch(keys, ["some words"], metadata)

    def search(self, _row, k, **options):
        return super().search("words", k, **options)

    def search_batch(self, _rows, k, **options):
        return super().search_batch(["words"], k, **options)

    def explain(self, _row, k, **options):
        return super().explain("words", k, **options)


class Terms(SparseVectorStore):
    def insert(self, key, _row, metadata=None):
        self.index(key, {1: 1.0}, metadata=metadata)

    def insert_batch(self, keys, _rows, metadata=None):
        self.index_batch({key: {1: 1.0} for key in keys}, metadata=metadata)

    def search(self, _row, k, **options):
        return super().search({1: 1.0}, k=k, **options)

    def search_batch(self, _rows, k, **options):
        return super().search_batch([{1: 1.0}], k, **options)

    def explain(self, _row, k, **options):
        return super().explain({1: 1.0}, k=k, **options)


@pytest.fixture(params=[*(kind for kind in CLASSES if kind != "mmap"), "hybrid", "text", "sparse"])
def store(request, tmp_path):
    path = str(tmp_path / "store")
    own = {"text": Words, "sparse": Terms}.get(request.param)
    with own(path) if own else opened(request.param, path, 4) as store:
        store.insert("a", ROW, {"f": "whole", "n": 1})
        yield store


@pytest.mark.parametrize("call", ["search", "search_batch", "explain"])
@pytest.mark.parametrize("filter", FILTERS.values(), ids=FILTERS)
def test_a_filter_with_half_a_surrogate_pair_is_refused(store, call, filter):
    rows = ROW[None] if call == "search_batch" else ROW
    with pytest.raises(ArgumentError, match=r"filter.*surrogates"):
        getattr(store, call)(rows, 3, filter=filter)
    assert [hit.key for hit in store.search(ROW, 3, filter={"f": "whole"})] == ["a"]


def test_metadata_with_half_a_surrogate_pair_is_refused(store):
    with pytest.raises(ArgumentError, match=r"metadata.*surrogates"):
        store.insert("b", ROW, {"f": HALF})
    with pytest.raises(ArgumentError, match=r"metadata of row 0.*surrogates"):
        store.insert_batch(["b"], ROW[None], metadata=[{HALF: 1}])
    if hasattr(store, "update_metadata"):
        with pytest.raises(ArgumentError, match=r"metadata.*surrogates"):
            store.update_metadata("a", {"f": HALF})
    assert len(store) == 1 and "b" not in store
    assert [hit.metadata for hit in store.search(ROW, 3)] == [{"f": "whole", "n": 1}]


def test_a_key_with_half_a_surrogate_pair_is_refused(store):
    with pytest.raises(ArgumentError):
        store.insert(HALF, ROW)
    with pytest.raises(ArgumentError):
        store.insert_batch([HALF], ROW[None])
    with pytest.raises(ArgumentError):
        store.delete(HALF)
    assert len(store) == 1


def test_whole_characters_of_any_plane_are_taken(store):
    store.insert("b", ROW, {"f": "\U0001f600", "ключ": "ß"})
    for filter in ({"f": "\U0001f600"}, {"ключ": "ß"}):
        hits = store.search(ROW, 3, filter=filter)
        assert [hit.key for hit in hits] == ["b"]
        assert hits[0].metadata == {"f": "\U0001f600", "ключ": "ß"}


def test_a_retriever_refuses_it_in_filters_and_queries(tmp_path):
    with opened("vector", str(tmp_path / "v"), 4) as dense, TextIndex(tmp_path / "t") as texts:
        dense.insert("a", ROW, {"f": "whole"})
        texts.add("a", "some words", {"f": "whole"})
        both = HybridRetriever(dense, texts)
        for filter in FILTERS.values():
            with pytest.raises(ArgumentError, match=r"filter.*surrogates"):
                both.search(ROW, "words", filter=filter)
        with pytest.raises(ArgumentError, match="a query"):
            both.search(ROW, HALF)
        assert [hit.key for hit in both.search(ROW, "words")] == ["a"]
