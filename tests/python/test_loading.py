"""What all loaders share, and how they behave without their frameworks."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synadb
from synadb import _order
from synadb._loading import Rows
from synadb._optional import need
from synadb._order import Epoch
from synadb.tensor import TensorEngine

FRAMEWORKS = ["torch", "tensorflow", "jax", "grain", "datasets", "pyarrow"]
small = st.integers(0, 60)


@pytest.fixture
def filled(path):
    """A file with 10 rows of 3 floats and as many labels."""
    with TensorEngine(path) as engine:
        engine.put_tensor("x/", np.arange(30, dtype=np.float32).reshape(10, 3))
        engine.put_tensor("y/", np.arange(10))
    return path


# ---------------------------------------------------------------------------------- the order


@given(small, st.booleans(), st.integers(0, 2**64), st.integers(0, 9), st.integers(1, 7))
def test_every_row_is_in_one_share(count, shuffle, seed, epoch, world):
    shares = [Epoch(count, shuffle, seed, epoch, rank, world) for rank in range(world)]
    rows = np.concatenate([share.rows(0, len(share)) for share in shares])
    assert sorted(rows.tolist()) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(1, 60), st.booleans(), st.integers(1, 7))
def test_uneven_shares_are_filled_up_or_cut(count, shuffle, world):
    for uneven in ("repeat", "drop"):
        shares = [Epoch(count, shuffle, 1, 2, rank, world, uneven) for rank in range(world)]
        rows = [share.rows(0, count).tolist() for share in shares]
        length = count // world if uneven == "drop" else -(-count // world)
        assert [len(share) for share in rows] == [length] * world
        seen = {row for share in rows for row in share}
        assert seen <= set(range(count))
        if uneven == "repeat":
            assert seen == set(range(count))
        else:
            assert len(seen) == length * world


@given(small, st.integers(1, 9), st.integers(0, 20), st.booleans())
def test_batches_from_anywhere_are_the_rest_of_all_batches(count, size, start, drop_last):
    order = Epoch(count, True, 5)
    batches = [batch.tolist() for batch in order.batches(size, drop_last=drop_last)]
    assert len(batches) == order.batch_count(size, drop_last=drop_last)
    assert all(len(batch) == size for batch in batches[:-1])
    late = [batch.tolist() for batch in order.batches(size, start=start, drop_last=drop_last)]
    assert late == batches[start:]


@settings(max_examples=60)
@given(st.integers(1, 5000), st.integers(0, 2**64))
def test_the_computed_permutation_is_one(count, seed):
    keys = np.random.SeedSequence(seed).generate_state(_order._ROUNDS, np.uint64)
    sent = _order._permute(np.arange(count), count, keys)
    assert np.array_equal(np.sort(sent), np.arange(count))


def test_many_rows_are_permuted_without_a_table(monkeypatch):
    order = Epoch(10**12, True, 3)
    rows = order.rows(10**11, 10**11 + 50_000)
    assert len(set(rows.tolist())) == 50_000 and rows.min() >= 0 and rows.max() < 10**12
    # As evenly spread as they should be: 10 parts of 5,000, standard deviation 67.
    parts = np.bincount(rows // 10**11, minlength=10)
    assert abs(parts - 5000).max() < 5 * 67
    assert np.array_equal(Epoch(10**12, True, 3).rows(10**11, 10**11 + 9), rows[:9])
    assert not np.array_equal(Epoch(10**12, True, 3, 1).rows(10**11, 10**11 + 9), rows[:9])


def test_orders_depend_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return Epoch(50, True, seed, epoch).rows(0, 50).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(5) for epoch in range(5)}) == 25


@pytest.mark.parametrize(
    "fields", [{"rank": 2, "world": 2}, {"rank": -1}, {"world": 0}, {"seed": -1}, {"epoch": -1},
               {"uneven": "some"}]
)  # fmt: skip
def test_impossible_shares_are_refused(fields):
    with pytest.raises(synadb.ArgumentError):
        Epoch(10, **fields)


# ----------------------------------------------------------------------------------- the rows


def test_rows_are_fetched_in_any_order(filled):
    with Rows(filled, "x/*") as rows:
        assert (len(rows), rows.shape, rows.dtype) == (10, (3,), np.dtype(np.float32))
        assert rows.fetch([9, 0, 9]).tolist() == [[27, 28, 29], [0, 1, 2], [27, 28, 29]]
        assert rows.fetch(slice(1, 3)).tolist() == [[3, 4, 5], [6, 7, 8]]
        assert rows.fetch([]).shape == (0, 3)
        out = np.zeros((2, 3), np.float32)
        rows.fetch_into(np.array([4, 2]), out)
        assert out.tolist() == [[12, 13, 14], [6, 7, 8]]


@pytest.mark.parametrize("indices", [[10], [-1], [0, 3, 99]])
def test_rows_that_are_not_there(filled, indices):
    with Rows(filled, "x/*") as rows, pytest.raises(IndexError, match="of 10"):
        rows.fetch(indices)


def test_a_pattern_that_matches_nothing(filled):
    with pytest.raises(synadb.KeyNotFoundError, match="nothing/"):
        Rows(filled, "nothing/*")


def test_a_missing_file_is_not_made(path):
    with pytest.raises(synadb.FileMissingError):
        Rows(path)
    assert not path.exists()


def test_targets_are_as_many_as_rows(filled):
    with TensorEngine(filled) as engine:
        engine.put_tensor("few/", np.arange(3))
    rows = Rows(filled, "x/*")
    assert len(rows.beside("y/*")) == 10
    with pytest.raises(synadb.ArgumentError, match=r"3 rows match 'few/.*', 10 match"):
        rows.beside("few/*")


def test_a_pickle_is_the_path(filled, python):
    rows = Rows(filled, "x/*")
    rows.fetch([0])
    copy = pickle.loads(pickle.dumps(rows))
    assert copy._opened is None and copy.fetch([1]).tolist() == [[3, 4, 5]]
    assert len(pickle.dumps(rows)) < 1000


def test_a_relative_path_is_good_in_another_folder(filled, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    rows = Rows(filled.name, "x/*")
    monkeypatch.chdir("/")
    assert rows.fetch([0]).tolist() == [[0, 1, 2]]


def test_rows_are_read_beside_the_writer(filled):
    rows = Rows(filled, "y/*")
    with TensorEngine(filled) as engine:
        assert rows.fetch([3]).tolist() == [3]
        engine.put_tensor("z/", np.arange(5))
    assert rows.fetch([4]).tolist() == [4]


def test_rows_that_became_others_are_not_returned(filled):
    rows = Rows(filled, "y/*")
    with TensorEngine(filled) as engine:
        engine.put_tensor("y/", np.arange(4.0))
    with pytest.raises(synadb.ArgumentError, match=r"matches 4 rows .* it was 10"):
        rows.fetch([0])


# -------------------------------------------------------------------------- without frameworks

WITHOUT = """
import sys
for name in {names!r}:
    sys.modules[name] = None
"""


@pytest.fixture
def bare(python):
    """python(code, *arguments) where none of the frameworks is installed."""
    return lambda code, *arguments: python(WITHOUT.format(names=FRAMEWORKS) + code, *arguments)


def test_every_module_can_be_imported_without_its_framework(bare):
    bare(
        """
import synadb.torch, synadb.tensorflow, synadb.gpu, synadb.jax, synadb.tpu, synadb.datasets
assert not synadb.torch.is_torch_available()
assert not synadb.tensorflow.is_tensorflow_available()
assert not synadb.jax.is_jax_available()
assert not synadb.datasets.is_datasets_available()
assert synadb.gpu.is_gpu_available() is False and synadb.tpu.is_tpu_available() is False
assert synadb.gpu.get_gpu_count() == 0 and synadb.tpu.get_tpu_count() == 0
assert synadb.gpu.get_gpu_info() is None and synadb.tpu.get_tpu_info() is None
"""
    )


CALLS = [
    ("torch", "synadb.torch.SynaDataset(path)"),
    ("torch", "synadb.torch.SynaIterableDataset(path)"),
    ("torch", "synadb.torch.SynaDataLoader([1])"),
    ("torch", "synadb.torch.create_distributed_loader([1])"),
    ("torch", "synadb.torch.get_distributed_sampler([1])"),
    ("torch", "synadb.gpu.get_tensor_cuda(path, '*')"),
    ("torch", "synadb.gpu.prefetch_to_gpu(path, '*')"),
    ("tensorflow", "synadb.tensorflow.syna_dataset(path)"),
    ("tensorflow", "synadb.tensorflow.SynaDataset(path)"),
    ("tensorflow", "synadb.tensorflow.create_distributed_dataset(path)"),
    ("tensorflow", "synadb.tpu.get_tensor_dataset(path)"),
    ("jax", "synadb.jax.get_tensor_jax(path)"),
    ("jax", "synadb.jax.SynaBatches(path)"),
    ("jax", "synadb.jax.grain_dataset(path)"),
    ("jax", "synadb.tpu.iter_batches_for_tpu(path)"),
    ("datasets", "synadb.datasets.tensor_dataset(path)"),
    ("datasets", "synadb.datasets.stream_dataset(path)"),
    ("datasets", "synadb.datasets.save_dataset(None, path)"),
    ("datasets", "synadb.datasets.load_dataset(path)"),
]


def test_the_error_names_what_to_install(filled, bare):
    tries = "".join(
        f"""
try:
    {call}
except ImportError as error:
    print(error)
else:
    print("no error")
"""
        for _, call in CALLS
    )
    out = bare(
        "import synadb.torch, synadb.tensorflow, synadb.gpu, synadb.jax, synadb.tpu, "
        "synadb.datasets\npath = sys.argv[1]\n" + tries,
        filled,
    )
    for (extra, call), line in zip(CALLS, out.splitlines()):
        assert f"pip install 'synadb[{extra}]'" in line, call


def test_a_package_that_is_broken_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import not_there_either\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_either"):
        need("broken_package", "torch")


def test_our_modules_do_not_shadow_the_packages(python):
    """The real package is meant wherever one of ours has its name."""
    out = python(
        """
        import importlib.util, os, synadb
        import synadb.torch, synadb.tensorflow, synadb.jax, synadb.datasets
        ours = os.path.dirname(synadb.__file__)
        for name in ("torch", "tensorflow", "jax", "datasets"):
            found = importlib.util.find_spec(name)
            print(found is None or not found.origin.startswith(ours))
        """
    )
    assert out.split() == ["True"] * 4


def test_importing_synadb_loads_none_of_them(python):
    out = python("import sys, synadb; print(*sys.modules)").split()
    assert not {"torch", "tensorflow", "jax", "datasets", "synadb._loading"} & set(out)
    assert sys.modules["synadb"].__name__ == "synadb"
