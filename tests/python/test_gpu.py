"""Tensors brought to a device. Everything runs on the CPU through the same code, and once more on
CUDA where there is a device; a recording lane stands in for one where there is none."""

import gc
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'synadb[torch]'")

import synadb  # noqa: E402
from synadb import gpu  # noqa: E402
from synadb.gpu import (  # noqa: E402
    get_gpu_count,
    get_gpu_info,
    get_tensor_cuda,
    is_gpu_available,
    prefetch_to_gpu,
)
from synadb.tensor import TensorEngine  # noqa: E402

CUDA = torch.cuda.is_available()
needs_cuda = pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param(0, marks=needs_cuda), pytest.param("cuda", marks=needs_cuda)]

X = np.arange(1000 * 7, dtype=np.float32).reshape(1000, 7)
Y = np.arange(1000)


@pytest.fixture
def filled(path):
    with TensorEngine(path) as engine:
        engine.put_tensor("train/", X)
        engine.put_tensor("labels/", Y)
    return path


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "synadb-prefetch"]


# --------------------------------------------------------------------------------- the devices


def test_what_is_there():
    count = torch.cuda.device_count() if CUDA else 0
    assert (is_gpu_available(), get_gpu_count()) == (CUDA, count)
    assert get_gpu_info(count) is None and get_gpu_info(-1) is None
    assert (get_gpu_info() is not None) == CUDA


@needs_cuda
def test_facts_about_a_device():
    info = get_gpu_info(0)
    assert info["name"] == torch.cuda.get_device_name(0)
    assert 0 < info["free_memory"] <= info["total_memory"]
    assert info["multiprocessors"] > 0 and info["index"] == 0


@pytest.mark.skipif(CUDA, reason="there is a CUDA device")
@pytest.mark.parametrize("load", [get_tensor_cuda, prefetch_to_gpu])
@pytest.mark.parametrize("device", [0, "cuda", "cuda:1", torch.device("cuda", 0)])
def test_without_a_device_loading_says_so(filled, load, device):
    with pytest.raises(RuntimeError, match="sees no CUDA device"):
        load(filled, "train/*", device=device)


@needs_cuda
@pytest.mark.parametrize("device", [10_000, "cuda:10000"])
def test_a_device_that_is_not_there(filled, device):
    with pytest.raises(ValueError, match="counted from 0"):
        get_tensor_cuda(filled, "train/*", device)


def test_another_kind_of_device(filled):
    with pytest.raises(ValueError, match="expected a CUDA device"):
        get_tensor_cuda(filled, "train/*", "meta")


# --------------------------------------------------------------------------------- whole tensors


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("stage", [1, 28 * 300, 1 << 30])  # one row, several stages, all at once
def test_a_whole_tensor(filled, device, stage, monkeypatch):
    monkeypatch.setattr(gpu, "_STAGE_BYTES", stage)
    got = get_tensor_cuda(filled, "train/*", device)
    assert got.device.type == ("cpu" if device == "cpu" else "cuda")
    assert got.dtype == torch.float32 and np.array_equal(got.cpu().numpy(), X)
    got += 1  # its own memory
    labels = get_tensor_cuda(filled, "labels/*", device)
    assert labels.dtype == torch.int64 and labels.tolist() == Y.tolist()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "float16", "float64", "complex64"])
def test_dtypes(path, device, dtype):
    values = (np.arange(10).reshape(5, 2) % 3).astype(dtype)
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", values)
    got = get_tensor_cuda(path, "t/*", device)
    assert got.dtype == getattr(torch, dtype) and np.array_equal(got.cpu().numpy(), values)


def test_errors_of_the_store(filled, path):
    with pytest.raises(synadb.KeyNotFoundError):
        get_tensor_cuda(filled, "nothing/*", "cpu")
    with pytest.raises(synadb.KeyNotFoundError):
        prefetch_to_gpu(filled, "nothing/*", "cpu")
    with pytest.raises(synadb.FileMissingError):
        get_tensor_cuda(path.with_name("missing.db"), "*", "cpu")


# -------------------------------------------------------------------------------- batch by batch


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_batches_in_order(filled, device, depth):
    batches = prefetch_to_gpu(filled, "train/*", device, batch_size=64, depth=depth)
    assert len(batches) == 16
    kept = list(batches)  # a batch is not overwritten by those after it
    assert [len(batch) for batch in kept] == [64] * 15 + [40]
    assert np.array_equal(torch.cat(kept).cpu().numpy(), X)
    assert list(batches) == [] and len(batches) == 0 and not threads()


@pytest.mark.parametrize("device", DEVICES)
def test_shuffled_pairs(filled, device):
    def labels(epoch, **options):
        seen = []
        for rows, targets in prefetch_to_gpu(
            filled, "train/*", device, targets="labels/*", shuffle=True, seed=3, epoch=epoch,
            batch_size=300, **options
        ):  # fmt: skip
            assert np.array_equal(rows.cpu().numpy(), X[targets.cpu().numpy()])
            seen += targets.tolist()
        return seen

    first = labels(0)
    assert sorted(first) == Y.tolist() and first != Y.tolist()
    assert labels(0) == first != labels(1)
    assert labels(0, drop_last=True) == first[:900]


def test_reading_begins_at_once(filled):
    batches = prefetch_to_gpu(filled, "train/*", "cpu", batch_size=100, depth=3)
    while batches._work.made.qsize() < 3:
        pass
    assert np.array_equal(next(batches).numpy(), X[:100])
    batches.close()


@pytest.mark.parametrize("end", ["close", "with", "drop", "iterate"])
def test_the_thread_ends_however_the_loop_does(filled, end):
    batches = prefetch_to_gpu(filled, "train/*", "cpu", batch_size=10)
    next(batches)
    if end == "close":
        batches.close()
        batches.close()
        assert list(batches) == []
    elif end == "with":
        with batches:
            pass
    elif end == "iterate":
        assert sum(1 for _ in batches) == 99
    del batches
    gc.collect()
    assert not threads()


@pytest.mark.parametrize("device", DEVICES)
def test_an_error_in_the_thread_is_raised_by_the_loop(filled, device, monkeypatch):
    real, reads = TensorEngine.get_rows, []

    def failing(self, pattern, indices, **options):
        reads.append(len(indices))
        if reads.count(10) == 4:
            raise synadb.CorruptionError(-4, "chunk 7: checksum", path=self.path, offset=4096)
        return real(self, pattern, indices, **options)

    monkeypatch.setattr(TensorEngine, "get_rows", failing)
    batches = prefetch_to_gpu(filled, "train/*", device, batch_size=10)
    with pytest.raises(synadb.CorruptionError, match="chunk 7") as caught:
        for number, batch in enumerate(batches):
            assert np.array_equal(batch.cpu().numpy(), X[number * 10 : number * 10 + 10])
    assert number == 2 and caught.value.offset == 4096
    assert list(batches) == [] and not threads()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"depth": 0}, {"seed": -1}])
def test_bad_arguments(filled, options):
    with pytest.raises(synadb.ArgumentError):
        prefetch_to_gpu(filled, "train/*", "cpu", **options)
    assert not threads()


class Recording(gpu._Host):
    """A device that fetches late: only when it is waited for, as a GPU is allowed to."""

    def __init__(self):
        super().__init__(torch, torch.device("cpu"))
        self.pending = []
        self.handed = 0

    def send(self, source, target):
        job = [source, target]
        self.pending.append(job)
        return job

    def wait(self, sent):
        if sent:
            source, target = sent
            target.copy_(source)
            sent.clear()

    def hand_over(self, sent, target):
        self.wait(sent)
        self.handed += 1


def test_a_buffer_is_not_overwritten_before_the_device_has_fetched_it(filled, monkeypatch):
    lane = Recording()
    monkeypatch.setattr(gpu, "_lane", lambda device: lane)
    monkeypatch.setattr(gpu, "_STAGE_BYTES", 28 * 64)
    assert np.array_equal(get_tensor_cuda(filled, "train/*").numpy(), X)
    batches = list(prefetch_to_gpu(filled, "train/*", batch_size=64, depth=3))
    assert np.array_equal(torch.cat(batches).numpy(), X) and lane.handed == 17
    assert not any(lane.pending)


@needs_cuda
def test_batches_are_right_while_the_device_is_busy(filled):
    """Work on the caller's stream waits for the copies, and copies do not wait for it."""
    busy = torch.randn(2048, 2048, device="cuda")
    total = torch.zeros(7, device="cuda", dtype=torch.float64)
    for batch in prefetch_to_gpu(filled, "train/*", 0, batch_size=16):
        busy = busy @ busy / busy.norm()
        total += batch.double().sum(0)
        del batch
    assert total.cpu().tolist() == X.sum(0, dtype=np.float64).tolist()


# ------------------------------------------------------------------------------------- examples

SEED = """
from synadb.gpu import get_tensor_cuda, prefetch_to_gpu, is_gpu_available, get_gpu_info

# Check GPU availability
if is_gpu_available():
    info = get_gpu_info(0)
    print(f"GPU: {info['name']}, Memory: {info['total_memory'] / 1e9:.1f} GB")

# Load tensor directly to GPU
tensor = get_tensor_cuda("data.db", "train/*", device=0)
# tensor is already on cuda:0

# Prefetch data for faster access
prefetch_to_gpu("data.db", "train/*", device=0)
"""


def test_the_seeds_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with TensorEngine("data.db") as engine:
        engine.put_tensor("train/", X)
    names = {}
    if CUDA:
        exec(SEED, names)
        assert str(names["tensor"].device) == "cuda:0"
    else:
        with pytest.raises(RuntimeError, match="no CUDA device"):
            exec(SEED, names)
    gc.collect()
    assert not threads()
