"""What a result of the vector stores is: the documented dataclass, made past its constructor."""

import copy
import dataclasses
import gc
import pickle
import weakref

import numpy as np
import pytest
from vector_stores import opened

from synadb import SearchResult


@pytest.fixture(params=["vector", "mmap", "gwi", "cascade"])
def found(request, tmp_path):
    """Results with all they can carry, and the same ones without."""
    row = np.arange(1, 5, dtype=np.float32)
    with opened(request.param, str(tmp_path / "store"), 4) as store:
        facts = None if request.param == "mmap" else {"n": [1, 2]}
        store.insert("ä", row, *([facts] if facts else []))
        bare = {"metadata": False} if facts else {}
        (whole,), (part,) = store.search(row, k=1), store.search(row, k=1, vectors=False, **bare)
        yield whole, part, row, facts


def test_results_are_the_dataclass_that_is_documented(found):
    whole, part, row, facts = found
    made = SearchResult("ä", whole.score, row, facts)
    assert type(whole) is SearchResult and whole == made == part
    assert repr(whole) == repr(made) and hash(whole) == hash(made) == hash(part)
    assert np.array_equal(whole.vector, row) and whole.metadata == facts
    assert (part.vector, part.metadata) == (None, None)
    fields = {"key": "ä", "score": part.score, "vector": None, "metadata": None}
    assert dataclasses.asdict(part) == fields
    assert [field.name for field in dataclasses.fields(part)] == list(fields)
    assert dataclasses.replace(part, key="b") == SearchResult("b", part.score)


def test_results_are_copied_and_pickled_whole(found):
    whole, part, row, facts = found
    for one in (pickle.loads(pickle.dumps(whole)), copy.deepcopy(whole), copy.copy(whole)):
        assert one == whole and np.array_equal(one.vector, row) and one.metadata == facts
    assert pickle.loads(pickle.dumps(part)).vector is None


def test_results_take_no_other_values(found):
    _, part, _, _ = found
    for name in ("score", "vector", "more"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        del part.key
    assert not hasattr(part, "more") and SearchResult("x", 1.0).metadata is None


def test_results_are_freed(found):
    """Those that the collector sees, in a circle, and those that it does not."""
    whole, part, _, facts = found
    looks = [weakref.ref(copy.copy(one)) for one in (whole, part)]
    if facts is not None:
        whole.metadata["itself"] = whole
        looks.append(weakref.ref(whole))
    del whole, found
    gc.collect()
    assert looks[0]() is None and looks[1]() is None and part.key == "ä"
