"""Rows as JAX arrays, for Grain, and for TPUs by way of whatever device there is."""

import pickle

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs JAX: pip install 'synadb[jax]'")

import synadb  # noqa: E402
from synadb import tpu  # noqa: E402
from synadb.jax import (  # noqa: E402
    SynaBatches,
    SynaSource,
    get_tensor_jax,
    grain_dataset,
    is_jax_available,
)
from synadb.tensor import TensorEngine  # noqa: E402

X = np.arange(101 * 3, dtype=np.float32).reshape(101, 3)
Y = np.arange(101, dtype=np.int32)


@pytest.fixture
def filled(path):
    with TensorEngine(path) as engine:
        engine.put_tensor("x/", X)
        engine.put_tensor("y/", Y)
    return path


def flat(batches):
    return [int(label) for batch in batches for label in batch]


# ------------------------------------------------------------------------------------ whole


def test_a_whole_tensor(filled):
    got = get_tensor_jax(filled, "x/*")
    assert is_jax_available() and isinstance(got, jax.Array)
    assert got.dtype == np.float32 and np.array_equal(np.asarray(got), X)
    device = jax.devices()[0]
    got = get_tensor_jax(filled, "y/*", device, "float16")
    assert got.dtype == np.float16 and got.devices() == {device}


def test_a_tensor_is_not_the_file(filled):
    got = get_tensor_jax(filled, "x/*")
    with TensorEngine(filled) as engine:
        engine.put_tensor("x/", X + 1)
    assert np.array_equal(np.asarray(got), X)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint32", "float16", "complex64", "bfloat16"])
def test_dtypes(path, dtype):
    values = (np.arange(6).reshape(3, 2) % 2).astype(jax.numpy.dtype(dtype))
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", values)
    got = get_tensor_jax(path, "t/*")
    assert got.dtype == values.dtype and np.array_equal(np.asarray(got), values)


# ---------------------------------------------------------------------------------- batches


def test_batches(filled):
    batches = SynaBatches(filled, "x/*", targets="y/*", batch_size=16, shuffle=True, seed=1)
    orders = []
    for _ in range(2):
        seen = []
        for rows, labels in batches:
            assert np.array_equal(np.asarray(rows), X[np.asarray(labels)])
            seen += labels.tolist()
        assert sorted(seen) == Y.tolist()
        orders.append(seen)
    assert orders[0] != orders[1] and len(batches) == 7
    whole = SynaBatches(filled, "x/*", batch_size=16, drop_last=True, dtype="bfloat16")
    assert [batch.shape for batch in whole] == [(16, 3)] * 6
    assert next(iter(whole)).dtype == jax.numpy.bfloat16


def test_batches_resume(filled):
    def made():
        return SynaBatches(filled, "y/*", batch_size=16, shuffle=True)

    batches = made()
    list(batches)
    loop = iter(batches)
    next(loop)
    state = pickle.loads(pickle.dumps(batches.state_dict()))
    rest, following = flat(loop), flat(batches)
    again = made()
    again.load_state_dict(state)
    assert flat(again) == rest and flat(again) == following and len(rest) == 85


def test_processes_share(filled):
    seen = []
    for rank in range(3):
        seen += flat(
            SynaBatches(filled, "y/*", batch_size=8, shuffle=True, rank=rank, num_replicas=3)
        )
    assert sorted(seen) == Y.tolist()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"seed": -1}, {"rank": 1}])
def test_bad_arguments(filled, options):
    with pytest.raises(synadb.ArgumentError):
        SynaBatches(filled, "y/*", **options)


# ------------------------------------------------------------------------------------- Grain


def test_a_source(filled):
    source = SynaSource(filled, "x/*", targets="y/*")
    assert len(source) == 101
    row, label = source[-1]
    assert np.array_equal(row, X[-1]) and label == 100
    rows, labels = source.batch([5, 2])
    assert np.array_equal(rows, X[[5, 2]]) and labels.tolist() == [5, 2]
    assert [int(label) for _, label in source.__getitems__([7, 7])] == [7, 7]
    assert len(pickle.dumps(source)) < 2000 and pickle.loads(pickle.dumps(source))[3][1] == 3
    with pytest.raises(IndexError):
        source[101]
    source.close()


def test_grain(filled):
    grain = pytest.importorskip("grain", reason="needs Grain: pip install 'synadb[jax]'")
    dataset = grain_dataset(filled, "x/*", targets="y/*").shuffle(seed=2).batch(16)
    rows, labels = dataset[0]
    assert np.array_equal(rows, X[labels]) and len(dataset) == 7
    batches = iter(dataset.to_iter_dataset())
    seen = next(batches)[1].tolist()
    state = batches.get_state()
    rest = [labels.tolist() for _, labels in batches]
    assert sorted(sum(rest, seen)) == Y.tolist()
    again = iter(dataset.to_iter_dataset())
    again.set_state(state)
    assert [labels.tolist() for _, labels in again] == rest
    assert isinstance(SynaSource(filled, "y/*"), grain.sources.RandomAccessDataSource)


# --------------------------------------------------------------------------------------- TPUs


def test_facts():
    here = any(device.platform == "tpu" for device in jax.devices())
    assert tpu.is_tpu_available() is here and (tpu.get_tpu_count() > 0) is here
    assert (tpu.get_tpu_info() is not None) is here


def test_batches_of_one_shape(filled):
    batches = list(tpu.iter_batches_for_tpu(filled, "x/*", batch_size=16))
    assert [batch.shape for batch in batches] == [(16, 3)] * 7
    whole = np.concatenate([np.asarray(batch) for batch in batches])
    assert np.array_equal(whole[:101], X) and not whole[101:].any()
    assert tpu.get_tensor_jax is get_tensor_jax


def test_processes_get_equally_many_batches(filled, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    seen, counts = [], []
    for rank in range(4):
        monkeypatch.setattr(jax, "process_index", lambda rank=rank: rank)
        batches = list(tpu.iter_batches_for_tpu(filled, "y/*", global_batch_size=20, dtype="int8"))
        counts.append([len(batch) for batch in batches])
        seen += flat(batches)
    assert counts == [[5] * 6] * 4
    assert sorted(seen) == sorted([0] * (4 * 30 - 101) + Y.tolist())
    with pytest.raises(synadb.ArgumentError, match="cannot share"):
        tpu.iter_batches_for_tpu(filled, "y/*", global_batch_size=10)
