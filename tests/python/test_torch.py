"""PyTorch datasets and loaders: coverage, order, workers, resuming."""

import copy
import os
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'synadb[torch]'")

import torch.utils.data as torch_data  # noqa: E402

import synadb.torch  # noqa: E402
from synadb.tensor import TensorEngine  # noqa: E402
from synadb.torch import (  # noqa: E402
    SynaDataLoader,
    SynaDataset,
    SynaIterableDataset,
    SynaSampler,
    collate,
    create_distributed_loader,
    get_distributed_sampler,
    is_torch_available,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]

ROWS = 101
X = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
Y = np.arange(ROWS)
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def filled(path):
    with TensorEngine(path) as engine:
        engine.put_tensor("x/", X)
        engine.put_tensor("y/", Y)
    return path


@pytest.fixture
def pairs(filled):
    return SynaDataset(filled, "x/*", targets="y/*")


def labels(batches):
    """The labels of batches of pairs; every row must be the one of its label."""
    seen = []
    for rows, targets in batches:
        assert np.array_equal(rows.numpy(), X[targets.numpy()])
        seen.append(targets.tolist())
    return seen


def flat(lists):
    return [item for part in lists for item in part]


# ------------------------------------------------------------------------------- the dataset


def test_items_are_tensors_of_what_was_stored(filled):
    dataset = SynaDataset(filled, "x/*")
    assert is_torch_available() and len(dataset) == ROWS
    assert torch.equal(dataset[7], torch.from_numpy(X[7])) and dataset[7].dtype == torch.float32
    assert torch.equal(dataset[-1], torch.from_numpy(X[-1]))
    label = SynaDataset(filled, "y/*")[5]
    assert label.shape == () and label.dtype == torch.int64 and label.item() == 5
    assert len(list(dataset)) == ROWS  # by index, to the IndexError


@pytest.mark.parametrize("index", [ROWS, -ROWS - 1, 10**12])
def test_an_index_outside(pairs, index):
    with pytest.raises(IndexError):
        pairs[index]
    with pytest.raises(IndexError):
        pairs.__getitems__([0, index])


def test_an_index_of_another_type(pairs):
    with pytest.raises(TypeError):
        pairs["0"]
    with pytest.raises(TypeError):
        pairs[1.0]


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64",
              "complex64", "complex128", "uint16", "uint32", "uint64"]
)  # fmt: skip
def test_every_dtype(path, dtype):
    values = np.arange(12).reshape(4, 3).astype(dtype)
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", values)
    dataset = SynaDataset(path, "t/*")
    got = torch.stack([*dataset.__getitems__([2, 0])])
    assert got.dtype == getattr(torch, dtype) and np.array_equal(got.numpy(), values[[2, 0]])


def test_transforms_are_applied_to_each_item(filled):
    dataset = SynaDataset(
        filled, "x/*", lambda row: row.sum(), lambda label: f"label {label}", targets="y/*"
    )
    assert dataset[2] == (torch.tensor(21.0), "label 2")
    batch = collate(dataset.__getitems__([0, 1]))
    assert batch[0].tolist() == [3.0, 12.0] and batch[1] == ("label 0", "label 1")


def test_a_target_transform_needs_targets(filled):
    with pytest.raises(synadb.ArgumentError, match="targets"):
        SynaDataset(filled, "x/*", target_transform=str)


def test_one_read_for_a_batch(pairs, monkeypatch):
    reads = []
    real = TensorEngine.get_rows

    def counted(self, pattern, indices, **options):
        reads.append((pattern, len(indices)))
        return real(self, pattern, indices, **options)

    monkeypatch.setattr(TensorEngine, "get_rows", counted)
    loader = SynaDataLoader(pairs, batch_size=50, shuffle=True)
    list(loader)
    reads = [read for read in reads if read[1]]
    assert reads == [("x/*", 50), ("y/*", 50), ("x/*", 50), ("y/*", 50), ("x/*", 1), ("y/*", 1)]


def test_a_batch_is_the_callers_own(pairs):
    first = next(iter(SynaDataLoader(pairs, batch_size=4)))
    first[0].zero_()
    assert torch.equal(next(iter(SynaDataLoader(pairs, batch_size=4)))[0], torch.tensor(X[:4]))


def test_a_pickle_opens_the_file_again(pairs, filled):
    pairs[0]
    other = pickle.loads(pickle.dumps(pairs))
    assert other[3][1] == 3 and copy.copy(pairs)[3][1] == 3
    pairs.close()
    assert pairs[4][1] == 4


def test_rows_appended_later_belong_to_the_next_dataset(filled):
    dataset = SynaDataset(filled, "y/*")
    with TensorEngine(filled) as engine:
        engine.append_rows("y/", np.arange(5))
    assert len(dataset) == ROWS and len(SynaDataset(filled, "y/*")) == ROWS + 5


# --------------------------------------------------------------------------------- the loader

LOADERS = [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}]
NAMES = ["none", "two", "persistent"]


def sources(path):
    return [kind(path, "x/*", targets="y/*") for kind in (SynaDataset, SynaIterableDataset)]


@pytest.mark.parametrize("workers", LOADERS, ids=NAMES)
def test_each_row_comes_once_an_epoch_in_the_order_of_the_seed(filled, workers):
    for dataset in sources(filled):
        expected = SynaDataLoader(SynaDataset(filled, "x/*", targets="y/*"), 16, True, seed=5)
        loader = SynaDataLoader(dataset, 16, True, seed=5, **workers)
        orders = []
        for _ in range(2):
            batches = labels(loader)
            assert [len(batch) for batch in batches] == [16] * 6 + [5] and len(loader) == 7
            assert sorted(flat(batches)) == list(range(ROWS))
            assert batches == labels(expected)
            orders.append(flat(batches))
        assert orders[0] != orders[1]


@pytest.mark.parametrize("workers", LOADERS, ids=NAMES)
def test_an_epoch_goes_on_in_the_middle(filled, workers):
    for dataset in sources(filled):
        loader = SynaDataLoader(dataset, 10, True, **workers)
        list(loader)
        batches = iter(loader)
        labels(next(batches) for _ in range(4))
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        rest, following = labels(batches), labels(loader)
        again = SynaDataLoader(dataset, 10, True, **workers)
        again.load_state_dict(state)
        assert labels(again) == rest and len(rest) == 7
        assert labels(again) == following and sorted(flat(following)) == list(range(ROWS))


def test_every_place_can_be_resumed(pairs):
    loader = SynaDataLoader(pairs, 30, True, seed=1)
    whole = labels(loader) + labels(loader)
    loader.set_epoch(0)
    states = [loader.state_dict()]
    for _ in range(2):
        for _batch in loader:
            states.append(loader.state_dict())
    for number, state in enumerate(states):
        again = SynaDataLoader(pairs, 30, True)
        again.load_state_dict(state)
        rest = labels(again)
        if not rest:  # saved between the last batch and the end of its loop
            rest = labels(again)
        assert rest == whole[number : number // 4 * 4 + 4] or number == 8


def test_a_state_of_something_else_is_refused(pairs):
    state = SynaDataLoader(pairs, 10, True).state_dict()
    for other in (SynaDataLoader(pairs, 20, True), SynaDataLoader(pairs, 10),
                  SynaDataLoader(range(5), 10, True)):  # fmt: skip
        with pytest.raises(synadb.ArgumentError, match="the state was saved with"):
            other.load_state_dict(state)


def test_a_loop_that_was_left_is_over(pairs):
    loader = SynaDataLoader(pairs, 10, True, seed=2)
    whole = [labels(loader) for _ in range(2)]
    loader.set_epoch(0)
    for _ in loader:
        break
    assert labels(loader) == whole[1]


def test_drop_last(filled):
    for dataset in sources(filled):
        loader = SynaDataLoader(dataset, 10, drop_last=True)
        assert flat(labels(loader)) == list(range(100)) and len(loader) == 10


def test_without_batches(filled):
    loader = SynaDataLoader(SynaDataset(filled, "y/*"), None, True, seed=3)
    rows = [row.item() for row in loader]
    assert sorted(rows) == list(range(ROWS)) and rows != sorted(rows)
    loader.load_state_dict({"epoch": 0, "batch": 100, "seed": 3})
    assert [row.item() for row in loader] == rows[100:]


def test_torchs_own_seed_decides_unless_one_is_given(pairs):
    def order(**options):
        torch.manual_seed(7)
        return labels(SynaDataLoader(pairs, 10, True, **options))

    assert order() == order() != order(seed=1)
    generator = torch.Generator().manual_seed(1)
    assert order(generator=generator) != order()


def test_somebody_elses_sampler_and_dataset(pairs):
    sampler = torch_data.SequentialSampler(pairs)
    for loader in (
        SynaDataLoader(pairs, 10, sampler=sampler),
        SynaDataLoader(pairs, batch_sampler=torch_data.BatchSampler(sampler, 10, False)),
        SynaDataLoader(torch_data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), 10),
    ):
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        assert flat(labels(batches)) == list(range(10, ROWS))
        loader.load_state_dict(state)
        assert flat(labels(loader)) == list(range(10, ROWS))
    with pytest.raises(ValueError, match="mutually exclusive"):
        SynaDataLoader(pairs, 10, True, sampler=sampler)


def test_somebody_elses_stream():
    class Numbers(torch_data.IterableDataset):
        def __iter__(self):
            return iter(range(10))

    loader = SynaDataLoader(Numbers(), 3)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    loader.load_state_dict(state)
    assert [batch.tolist() for batch in loader] == [[3, 4, 5], [6, 7, 8], [9]]


@pytest.mark.parametrize("method", METHODS)
def test_plain_torch_loaders_work_with_every_start_method(pairs, filled, method):
    pairs[0]  # open here, and not to be used there
    stream = SynaIterableDataset(filled, "y/*", shuffle=True, batch_size=16)
    both = torch_data.StackDataset(pairs)  # somebody else's dataset around ours
    workers = 2 if method == "fork" else 1  # a new process imports PyTorch for seconds
    loaders = [
        torch_data.DataLoader(dataset, size, num_workers=workers, multiprocessing_context=method)
        for dataset, size in ((both, 16), (stream, None))
    ]
    batches, rows = (iter(loader) for loader in loaders)
    assert sorted(torch.cat(list(rows)).tolist()) == list(range(ROWS))
    assert flat(labels(batch for (batch,) in batches)) == list(range(ROWS))


def test_workers_read_beside_a_writer_in_this_process(filled, pairs):
    with TensorEngine(filled) as engine:
        for number, _ in enumerate(SynaDataLoader(pairs, 10, num_workers=2)):
            engine.put_tensor(f"new{number}/", np.arange(3))
        assert engine.row_count("new10/*") == 3


def test_two_loops_over_one_loader_do_not_mix(pairs):
    loader = SynaDataLoader(pairs, 4, num_workers=2)
    kept = list(zip(loader, loader))  # what came first is not overwritten by what came later
    for batches in zip(*kept):
        assert flat(labels(batches)) == list(range(ROWS))


def test_large_batches_and_small_ones(pairs, monkeypatch):
    monkeypatch.setattr(synadb.torch, "LARGEST", 100)
    for size in (4, 5):  # 80 bytes and 100, through the ring; 160 and not
        assert flat(labels(SynaDataLoader(pairs, size, num_workers=2))) == list(range(ROWS))
    assert flat(labels(SynaDataLoader(pairs, 8, num_workers=2))) == list(range(ROWS))


class Failing:
    def __call__(self, row):
        if row[0] == X[40, 0]:
            raise ZeroDivisionError("row 40")
        return row


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_transform_is_raised_as_itself(filled, workers):
    for dataset in (SynaDataset(filled, "x/*", Failing()),
                    SynaIterableDataset(filled, "x/*", Failing())):  # fmt: skip
        with pytest.raises(ZeroDivisionError, match="row 40"):
            list(SynaDataLoader(dataset, 10, num_workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_store_is_raised_as_itself(filled, pairs, workers):
    with TensorEngine(filled) as engine:
        engine.put_tensor("x/", np.arange(3.0))  # other rows than those of the dataset
    loader = SynaDataLoader(pairs, 10, num_workers=workers)
    with pytest.raises(synadb.ArgumentError, match=r"matches 3 rows|rows of"):
        list(loader)
    os.unlink(filled)
    pairs.close()
    with pytest.raises(synadb.FileMissingError):
        list(loader)


# --------------------------------------------------------------------------- the stream alone


@pytest.mark.parametrize("size", [None, 1, 7, 200])
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_stream_covers_and_resumes(filled, size, shuffle):
    def made():
        return SynaIterableDataset(filled, "y/*", batch_size=size, shuffle=shuffle, seed=4)

    stream = made()
    whole = [unit.tolist() for unit in stream]
    rows = whole if size is None else flat(whole)
    assert sorted(rows) == list(range(ROWS)) and (rows == sorted(rows)) is not shuffle
    assert len(stream) == len(whole)
    for stop in {0, 1, len(whole) // 2, len(whole)}:
        source = made()
        units = iter(source)
        for _ in range(stop):
            next(units)
        other = made()
        other.load_state_dict(pickle.loads(pickle.dumps(source.state_dict())))
        assert other.state_dict() == source.state_dict()
        assert [unit.tolist() for unit in other] == whole[stop:]
        assert [unit.tolist() for unit in other] == whole


def test_epochs_of_a_stream(filled):
    stream = SynaIterableDataset(filled, "y/*", batch_size=200, shuffle=True)
    first = next(iter(stream)).tolist()
    stream.set_epoch(1)
    assert next(iter(stream)).tolist() != first
    stream.set_epoch(0)
    assert next(iter(stream)).tolist() == first


def test_a_state_of_another_stream_is_refused(filled):
    state = SynaIterableDataset(filled, "y/*", batch_size=7, seed=1).state_dict()
    for options in ({"batch_size": 8, "seed": 1}, {"batch_size": 7, "seed": 2},
                    {"batch_size": 7, "seed": 1, "rank": 0, "num_replicas": 2}):  # fmt: skip
        with pytest.raises(synadb.ArgumentError, match="the state was saved with"):
            SynaIterableDataset(filled, "y/*", **options).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_share_a_stream(filled, workers):
    seen = []
    for rank in range(3):
        stream = SynaIterableDataset(
            filled, "y/*", batch_size=8, shuffle=True, rank=rank, num_replicas=3
        )
        seen += torch.cat(list(SynaDataLoader(stream, None, num_workers=workers))).tolist()
    assert sorted(seen) == list(range(ROWS))


def test_batch_sizes_that_disagree(filled):
    stream = SynaIterableDataset(filled, "y/*", batch_size=8)
    with pytest.raises(synadb.ArgumentError, match="batches of 8"):
        SynaDataLoader(stream, 4)
    assert len(SynaDataLoader(stream)) == 13


@pytest.mark.parametrize("workers", [0, 2])
def test_torchdatas_stateful_loader(filled, workers):
    stateful = pytest.importorskip(
        "torchdata.stateful_dataloader", reason="needs torchdata for its StatefulDataLoader"
    )
    for size in (None, 8):

        def made(size=size):
            stream = SynaIterableDataset(filled, "y/*", batch_size=size, shuffle=True)
            batch = None if size else 8
            return stateful.StatefulDataLoader(stream, batch, num_workers=workers)

        batches = iter(loader := made())
        for _ in range(3):
            next(batches)
        state = loader.state_dict()
        rest = [batch.tolist() for batch in batches]
        other = made()
        other.load_state_dict(state)
        assert [batch.tolist() for batch in other] == rest and len(rest) >= 10


# ---------------------------------------------------------------------------------- ranks


@pytest.mark.parametrize("uneven", ["exact", "repeat", "drop"])
@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_the_rows(pairs, uneven, workers):
    seen = []
    for rank in range(3):
        loader, sampler = create_distributed_loader(
            pairs, 16, workers, num_replicas=3, rank=rank, uneven=uneven
        )
        assert isinstance(sampler, torch_data.DistributedSampler)
        sampler.set_epoch(4)
        seen.append(flat(labels(loader)))
        assert len(sampler) == len(seen[-1])
    lengths = {"exact": [34, 34, 33], "repeat": [34] * 3, "drop": [33] * 3}[uneven]
    assert [len(share) for share in seen] == lengths
    assert len(set(flat(seen))) == (99 if uneven == "drop" else ROWS)
    assert (len(flat(seen)) == len(set(flat(seen)))) is (uneven != "repeat")


def test_ranks_resume(pairs):
    def made():
        return create_distributed_loader(pairs, 8, num_replicas=2, rank=1, seed=3)

    loader, sampler = made()
    sampler.set_epoch(2)
    batches = iter(loader)
    labels(next(batches) for _ in range(3))
    state = loader.state_dict()
    rest = labels(batches)
    again, other = made()
    again.load_state_dict(state)
    other.set_epoch(state["epoch"])  # as every training loop does
    assert state["epoch"] == 2 and labels(again) == rest
    assert len(labels(again)) == 7


def test_the_place_comes_from_the_environment(monkeypatch):
    assert len(get_distributed_sampler(range(10))) == 10
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "5")
    sampler = get_distributed_sampler(range(10), shuffle=False)
    assert list(sampler) == [1, 6]
    with pytest.raises(synadb.ArgumentError, match="together"):
        get_distributed_sampler(range(10), rank=1)


def test_a_process_group_decides(filled, tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    try:
        assert len(get_distributed_sampler(range(10))) == 10
        assert len(SynaIterableDataset(filled, "y/*")) == ROWS
    finally:
        torch.distributed.destroy_process_group()


def test_the_sampler_alone():
    sampler = SynaSampler(100, seed=1)
    whole = list(sampler)
    assert sorted(whole) == list(range(100)) and len(sampler) == 100
    sampler.begin_at(90)
    assert list(sampler) == whole[90:] and list(sampler) == whole


# ---------------------------------------------------------------------------------- examples

SEED = """
from synadb.torch import SynaDataset, SynaDataLoader

# Create PyTorch Dataset backed by SynaDB
dataset = SynaDataset(
    path="mnist.db",
    pattern="train/*",
    transform=None  # Optional: add torchvision transforms
)

# Use with standard DataLoader
loader = SynaDataLoader(
    dataset,
    batch_size=32,
    shuffle=True,
    num_workers=4,
    prefetch_factor=2
)

# Training loop
for batch in loader:
    # batch is a torch.Tensor
    pass
"""
SEED_DISTRIBUTED = """
from synadb.torch import SynaDataset, create_distributed_loader

dataset = SynaDataset("data.db", pattern="train/*")
loader, sampler = create_distributed_loader(dataset, batch_size=32, num_workers=4)

for epoch in range(num_epochs):
    sampler.set_epoch(epoch)  # Important for proper shuffling
    for batch in loader:
        pass
"""


def test_the_readme_example(tmp_path, monkeypatch):
    readme = Path(__file__).parents[2] / "README.md"
    blocks = re.findall(r"^```py\n(.*?)^```", readme.read_text("utf-8"), re.S | re.M)
    (code,) = (block for block in blocks if "synadb.torch" in block)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["images"].shape == (40, 28, 28) and names["state"]["batch"] == 16


def test_the_seeds_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mnist.db", "data.db"):
        with TensorEngine(name) as engine:
            engine.put_tensor("train/", X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four workers on a machine of two cores
        for example in (SEED, SEED_DISTRIBUTED):
            names = {"num_epochs": 2}
            exec(example, names)
            assert type(names["batch"]) is torch.Tensor and names["batch"].shape == (5, 3)
