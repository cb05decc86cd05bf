"""`tf.data` datasets of the rows of a file."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow: pip install 'synadb[tensorflow]'")

import synadb  # noqa: E402
from synadb.tensor import TensorEngine  # noqa: E402
from synadb.tensorflow import (  # noqa: E402
    SynaDataset,
    create_distributed_dataset,
    distributed_dataset_fn,
    is_tensorflow_available,
    syna_dataset,
)

X = np.arange(101 * 3, dtype=np.float32).reshape(101, 3)
Y = np.arange(101)


@pytest.fixture
def filled(path):
    with TensorEngine(path) as engine:
        engine.put_tensor("x/", X)
        engine.put_tensor("y/", Y)
    return path


def flat(batches):
    return [int(label) for batch in batches for label in np.asarray(batch)]


def test_batches_in_order(filled):
    assert is_tensorflow_available()
    dataset = syna_dataset(filled, "x/*", batch_size=16)
    batches = list(dataset)
    assert dataset.cardinality() == len(batches) == 7
    assert dataset.element_spec == tf.TensorSpec((None, 3), tf.float32)
    assert np.array_equal(np.concatenate(batches), X) and len(batches[-1]) == 5


def test_whole_batches_only_have_a_fixed_shape(filled):
    dataset = syna_dataset(filled, "x/*", batch_size=16, drop_remainder=True)
    assert dataset.element_spec.shape == (16, 3)
    assert np.array_equal(np.concatenate(list(dataset)), X[:96])


@pytest.mark.parametrize("dtype", [tf.float64, "float16", np.int32])
def test_conversion(filled, dtype):
    (batch,) = syna_dataset(filled, "y/*", 200, dtype)
    assert batch.dtype == tf.as_dtype(dtype) and np.array_equal(batch.numpy(), Y)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "float16", "float64", "complex64"])
def test_dtypes(path, dtype):
    values = (np.arange(6).reshape(3, 2) % 2).astype(dtype)
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", values)
    (batch,) = syna_dataset(path, "t/*")
    assert batch.dtype == tf.as_dtype(dtype) and np.array_equal(batch.numpy(), values)


def test_every_iteration_has_its_own_order(filled):
    def orders():
        dataset = syna_dataset(filled, "y/*", 16, shuffle=True, seed=3)
        return [flat(dataset) for _ in range(2)]

    first, second = orders()
    assert sorted(first) == sorted(second) == Y.tolist()
    assert first != second != Y.tolist() and orders() == [first, second]


def test_pairs(filled):
    dataset = syna_dataset(filled, "x/*", 16, targets="y/*", shuffle=True)
    seen = []
    for rows, labels in dataset:
        assert np.array_equal(rows.numpy(), X[labels.numpy()])
        seen += labels.numpy().tolist()
    assert sorted(seen) == Y.tolist()


@pytest.mark.parametrize("uneven, lengths", [("exact", [34, 34, 33]), ("drop", [33] * 3)])
def test_shards(filled, uneven, lengths):
    with SynaDataset(filled, "y/*") as dataset:
        shares = [
            flat(dataset.to_tf_dataset(8, shuffle=True, num_shards=3, index=index, uneven=uneven))
            for index in range(3)
        ]
    assert [len(share) for share in shares] == lengths
    assert len({row for share in shares for row in share}) == sum(lengths)


def test_the_dataset_object(filled):
    dataset = SynaDataset(filled, "x/*")
    assert len(dataset) == 101 and len(dataset.keys()) == 303
    made = dataset.to_tf_dataset(batch_size=50, dtype=None, shuffle=True, buffer_size=1000)
    dataset.close()
    assert sum(len(batch) for batch in made) == 101  # a read opens the file again
    dataset.close()
    for options in ({"batch_size": 0}, {"buffer_size": 0}, {"num_shards": 2, "index": 2}):
        with pytest.raises(synadb.ArgumentError):
            dataset.to_tf_dataset(**options)


def test_errors_of_the_store(filled, path):
    with pytest.raises(synadb.KeyNotFoundError):
        syna_dataset(filled, "nothing/*")
    with pytest.raises(synadb.FileMissingError):
        syna_dataset(path.with_name("missing.db"))
    assert len(SynaDataset(filled, "x/*")) == 101


@pytest.mark.parametrize("make", [create_distributed_dataset, distributed_dataset_fn])
def test_a_strategy_gets_every_row(filled, make):
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    made = make(filled, "y/*", 16, shuffle=True)
    if make is distributed_dataset_fn:
        distributed = strategy.distribute_datasets_from_function(made)
    else:
        distributed = strategy.experimental_distribute_dataset(made)
    assert sorted(flat(distributed)) == Y.tolist()


def test_each_pipeline_reads_its_share(filled):
    make = distributed_dataset_fn(filled, "y/*", 16)
    seen = []
    for pipeline in range(3):
        context = tf.distribute.InputContext(
            num_input_pipelines=3, input_pipeline_id=pipeline, num_replicas_in_sync=4
        )
        batches = list(make(context))
        assert len(batches[0]) == 4
        seen += flat(batches)
    assert sorted(seen) == Y.tolist()


SEED = """
from synadb.tensorflow import syna_dataset, SynaDataset
import tensorflow as tf

# Create tf.data.Dataset from SynaDB
dataset = syna_dataset(
    path="data.db",
    pattern="train/*",
    batch_size=32
).prefetch(tf.data.AUTOTUNE)

# Use in training
for batch in dataset:
    pass
"""
SEED_DISTRIBUTED = """
from synadb.tensorflow import create_distributed_dataset
import tensorflow as tf

strategy = tf.distribute.MirroredStrategy()

with strategy.scope():
    dataset = create_distributed_dataset(
        path="data.db",
        pattern="train/*",
        batch_size=32
    )
    dist_dataset = strategy.experimental_distribute_dataset(dataset)
    model.fit(dist_dataset, epochs=10)
"""


class Model:
    """What the example trains, counting what it is given."""

    rows = 0

    def fit(self, batches, epochs):
        for _ in range(epochs):
            self.rows += sum(len(batch) for batch in batches)


def test_the_seeds_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TensorEngine("data.db") as engine:
        engine.put_tensor("train/", X)
    names = {"model": Model()}
    exec(SEED, names)
    assert names["batch"].shape == (5, 3)
    exec(SEED_DISTRIBUTED, names)
    assert names["model"].rows == 10 * 101
