"""TensorEngine: what it refuses rather than loses, and arguments at the ends of their ranges."""

import numpy as np
import pytest

from synadb import TensorEngine


@pytest.fixture
def engine(path):
    with TensorEngine(path, sync_on_write=False) as engine:
        yield engine


def test_a_mask_is_not_lost_silently(engine):
    engine.put_tensor("m/", [7.0])
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    for store in (engine.put_tensor, engine.put_tensor_chunked, engine.append_rows):
        with pytest.raises(TypeError, match="masked"):
            store("m/", masked)
    assert engine.get_tensor("m/*").tolist() == [7.0]


@pytest.mark.parametrize("size", [2**63 - 1, 2**63, 2**70])
def test_a_chunk_size_beyond_every_array_means_one_chunk(engine, size):
    assert engine.put_tensor_chunked("c/", np.arange(10), chunk_size=size) == 1
    assert engine.keys() == ["c/chunk_0000"]
    assert engine.get_tensor_chunked("c/*", dtype=None).tolist() == list(range(10))


def test_a_prefix_of_the_greatest_length(engine):
    prefix = "x" * 65_520
    assert engine.put_tensor(prefix, np.arange(12_000)) == 12_000
    assert engine.get_tensor(prefix + "1199[89]").tolist() == [11_998.0, 11_999.0]
    with pytest.raises(ValueError, match="65521 bytes"):
        engine.put_tensor(prefix + "x", [1.0])


@pytest.mark.parametrize("prefix", ["a*b/", "a?b/", "a[bc]/", "a]b[/", "[!a]/", "\\*/"])
def test_glob_characters_in_a_prefix_are_characters(engine, prefix):
    engine.put_tensor("aXb/", [1.0])
    engine.put_tensor("ab/", [2.0])
    engine.put_tensor(prefix, [3.0, 4.0])
    literal = "".join(f"[{c}]" if c in "*?[" else c for c in prefix)
    assert engine.get_tensor(literal + "*").tolist() == [3.0, 4.0]
    assert engine.info(prefix).elements == 2
    assert engine.append_rows(prefix, [5.0]) == 3
    assert engine.delete(literal + "*") == 3
    assert engine.names() == ["aXb/", "ab/"]
