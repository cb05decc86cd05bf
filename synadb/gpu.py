"""Tensors of a file on a GPU: loaded at once, or batch by batch ahead of their use.

Bytes go from the file's mapping into page-locked buffers and from there to the device on a stream
of their own, so that reading, copying and computing overlap. ``device="cpu"`` runs the same code
without a GPU. Needs PyTorch; without it, or without CUDA, `is_gpu_available` is False and loading
raises.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Union

from synadb._loading import Rows
from synadb._optional import available, need
from synadb._order import Epoch, Indices, at_least

# What has to be installed for the examples below.
__doctest_requires__ = ("torch",)

#: A CUDA device by its number, or whatever `torch.device` takes.
Device = Union[int, str, Any]

# Size of a page-locked buffer of get_tensor_cuda: large enough for the full speed of a bus, small
# enough that reading the first one does not keep the device waiting.
_STAGE_BYTES = 16 << 20


def is_gpu_available() -> bool:
    """Whether PyTorch is installed and sees a CUDA device.

    Examples
    --------
    >>> is_gpu_available() == (get_gpu_count() > 0)
    True
    """
    return get_gpu_count() > 0


def get_gpu_count() -> int:
    """How many CUDA devices there are; 0 without PyTorch."""
    if not available("torch"):
        return 0
    torch = need("torch", "torch")
    return int(torch.cuda.device_count()) if torch.cuda.is_available() else 0


def get_gpu_info(device: int = 0) -> dict[str, Any] | None:
    """Facts about a CUDA device, or None when there is none of that number.

    Returns
    -------
    dict or None
        ``name``; ``total_memory`` and ``free_memory`` in bytes; ``compute_capability``, such as
        ``"9.0"``; ``multiprocessors``; ``index``.

    Examples
    --------
    >>> get_gpu_info(10_000) is None
    True
    """
    if not 0 <= device < get_gpu_count():
        return None
    cuda = need("torch", "torch").cuda
    facts = cuda.get_device_properties(device)
    free, total = cuda.mem_get_info(device)
    return {
        "index": device,
        "name": facts.name,
        "total_memory": int(total),
        "free_memory": int(free),
        "compute_capability": f"{facts.major}.{facts.minor}",
        "multiprocessors": int(facts.multi_processor_count),
    }


# --------------------------------------------------------------------------------- the two lanes


class _Host:
    """The way to the device when the device is this machine's memory: plain copies, no waiting."""

    def __init__(self, torch: Any, device: Any) -> None:
        self.torch = torch
        self.device = device

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Memory that the device can fetch from by itself."""
        return self.torch.empty(shape, dtype=dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Uninitialised memory on the device."""
        return self.torch.empty(shape, dtype=dtype, device=self.device)

    def active(self) -> AbstractContextManager[Any]:
        """Copies and memory inside belong to this lane."""
        return nullcontext()

    def send(self, source: Any, target: Any) -> Any:
        """Start copying; what comes back is waited for by `wait` and `hand_over`."""
        target.copy_(source)
        return None

    def wait(self, sent: Any) -> None:
        """Return when that copy has ended and its buffer may be written again."""

    def hand_over(self, sent: Any, target: Any) -> None:
        """Make what the caller computes from now on wait for that copy."""


class _Cuda(_Host):
    """The way to a CUDA device: page-locked buffers and a stream of its own."""

    def __init__(self, torch: Any, device: Any) -> None:
        super().__init__(torch, device)
        self.stream = torch.cuda.Stream(device)

    def buffer(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.torch.empty(shape, dtype=dtype, pin_memory=True)

    def active(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self.torch.cuda.stream(self.stream)
        return context

    def send(self, source: Any, target: Any) -> Any:
        with self.active():
            target.copy_(source, non_blocking=True)
            sent = self.torch.cuda.Event()
            sent.record(self.stream)
        return sent

    def wait(self, sent: Any) -> None:
        sent.synchronize()

    def hand_over(self, sent: Any, target: Any) -> None:
        current = self.torch.cuda.current_stream(self.device)
        current.wait_event(sent)
        target.record_stream(current)  # its memory is not reused before that stream is done with it


def _lane(device: Device) -> _Host:
    torch = need("torch", "torch")
    place = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if place.type == "cpu":
        return _Host(torch, place)
    if place.type != "cuda":
        raise ValueError(f"device {place}: expected a CUDA device or 'cpu'")
    count = get_gpu_count()
    if count == 0:
        raise RuntimeError(
            f"device {place}: this PyTorch ({torch.__version__}) sees no CUDA device; "
            "device='cpu' does the same in main memory"
        )
    index = torch.cuda.current_device() if place.index is None else place.index
    if not 0 <= index < count:
        raise ValueError(f"device {place}: there are {count} CUDA devices, counted from 0")
    return _Cuda(torch, torch.device("cuda", index))


# -------------------------------------------------------------------------------- whole tensors


def get_tensor_cuda(db_path: str | os.PathLike[str], pattern: str = "*", device: Device = 0) -> Any:
    """All rows under a pattern as one tensor on a device.

    Parameters
    ----------
    db_path : str or os.PathLike
        The file; it is opened for reading.
    pattern : str
        Which tensors, as in `TensorEngine.get_tensor`; several follow each other.
    device : int, str or torch.device, default 0
        The number of a CUDA device, or ``"cpu"`` for the same in main memory.

    Returns
    -------
    torch.Tensor
        With the dtype and shape that were stored, ready for use on the current stream.

    Raises
    ------
    ImportError
        PyTorch is not installed.
    RuntimeError
        There is no CUDA device, or not enough memory on it.
    KeyNotFoundError
        Nothing matches the pattern.

    Notes
    -----
    Two page-locked buffers of about 16 MiB: one is filled from the file while the device fetches
    the other.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.ones((2, 3), np.float32))
    >>> get_tensor_cuda(tmp / "data.db", "train/*", device="cpu").shape
    torch.Size([2, 3])
    """
    lane = _lane(device)
    with Rows(db_path, pattern) as rows:
        dtype = rows.torch_dtype()
        with lane.active():
            out = lane.empty((len(rows), *rows.shape), dtype)
        step = min(max(_STAGE_BYTES // max(rows.row_bytes, 1), 1), max(len(rows), 1))
        stages = [_Stage(lane, rows, step) for _ in range(2)]
        sent = None
        for number, first in enumerate(range(0, len(rows), step)):
            last = min(first + step, len(rows))
            sent = stages[number % 2].send(slice(first, last), out[first:last])
        lane.hand_over(sent, out) if sent is not None else None
        for stage in stages:
            stage.drain()
    return out


class _Stage:
    """One page-locked buffer: filled with rows, then fetched by the device."""

    def __init__(self, lane: _Host, rows: Rows, size: int) -> None:
        self.lane = lane
        self.rows = rows
        self.buffer = lane.buffer((size, *rows.shape), rows.torch_dtype())
        self.array = rows.as_numpy(self.buffer)
        self.sent: Any = None

    def send(self, which: slice | Indices, target: Any) -> Any:
        """Read those rows and start copying them to `target`."""
        self.drain()
        count = target.shape[0]
        self.rows.fetch_into(which, self.array[:count])
        self.sent = self.lane.send(self.buffer[:count], target)
        return self.sent

    def drain(self) -> None:
        """Wait until the device has fetched what was sent last."""
        if self.sent is not None:
            self.lane.wait(self.sent)
            self.sent = None


# ------------------------------------------------------------------------------- batch by batch


def prefetch_to_gpu(
    db_path: str | os.PathLike[str],
    pattern: str = "*",
    device: Device = 0,
    *,
    batch_size: int = 256,
    targets: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    drop_last: bool = False,
    depth: int = 2,
) -> GpuBatches:
    """Begin to bring the rows under a pattern to a device, batch by batch.

    Parameters
    ----------
    db_path, pattern, device
        As for `get_tensor_cuda`.
    batch_size : int, default 256
        Rows in a batch; the last one may be shorter.
    targets : str, optional
        A pattern of as many rows: batches are then pairs (rows, targets).
    shuffle : bool, default False
        Rows in the order that `seed` and `epoch` decide; otherwise as they are stored.
    seed, epoch : int, default 0
    drop_last : bool, default False
        Leave out the last batch when it is shorter.
    depth : int, default 2
        Batches under way at a time, each with a page-locked buffer.

    Returns
    -------
    GpuBatches
        An iterator over one epoch. Reading has begun when this returns.

    Raises
    ------
    As `get_tensor_cuda`; what goes wrong while reading is raised by the iteration.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(5))
    >>> for batch in prefetch_to_gpu(tmp / "data.db", "train/*", device="cpu", batch_size=2):
    ...     print(batch)
    tensor([0, 1])
    tensor([2, 3])
    tensor([4])
    """
    lane = _lane(device)
    rows = Rows(db_path, pattern)
    sources = [rows] if targets is None else [rows, rows.beside(targets)]
    order = Epoch(len(rows), bool(shuffle), seed, epoch)
    size = at_least(batch_size, 1, "batch_size")
    return GpuBatches(lane, sources, order, size, bool(drop_last), at_least(depth, 1, "depth"))


class GpuBatches:
    """Batches on a device, made ahead by a thread: what `prefetch_to_gpu` returns.

    Iterate over it once. `close`, leaving a ``with`` block, or dropping the last reference end the
    thread. A batch is the caller's own and may be kept.
    """

    def __init__(
        self,
        lane: _Host,
        sources: list[Rows],
        order: Epoch,
        size: int,
        drop_last: bool,
        depth: int,
    ) -> None:
        self._lane = lane
        self._left = order.batch_count(size, drop_last=drop_last)
        self._work = _Work(lane, sources, order.batches(size, drop_last=drop_last), size, depth)
        thread = threading.Thread(target=self._work.run, name="synadb-prefetch", daemon=True)
        self._end = weakref.finalize(self, _end, self._work, thread)
        thread.start()

    def __len__(self) -> int:
        """Batches still to come."""
        return self._left

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if not self._end.alive:
            raise StopIteration
        made = self._work.made.get()
        if not isinstance(made, list):
            self.close()
            if made is not None:
                raise made
            raise StopIteration
        for sent, target in made:
            self._lane.hand_over(sent, target)
        self._work.room.release()
        self._left -= 1
        targets = tuple(target for _, target in made)
        return targets if len(targets) > 1 else targets[0]

    def close(self) -> None:
        """End the thread and forget what it has made."""
        self._end()

    def __enter__(self) -> GpuBatches:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Work:
    """What the thread does. It holds no reference to its GpuBatches, so that one can be dropped."""

    def __init__(
        self, lane: _Host, sources: list[Rows], order: Iterator[Indices], size: int, depth: int
    ) -> None:
        self.lane = lane
        self.sources = sources
        self.order = order
        self.stages = [[_Stage(lane, rows, size) for rows in sources] for _ in range(depth)]
        self.room = threading.Semaphore(depth)
        self.made: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.stopping = False

    def run(self) -> None:
        """Make batches until they are all made, the iterator is closed, or one fails."""
        last: BaseException | None = None
        try:
            for number, indices in enumerate(self.order):
                self.room.acquire()
                if self.stopping:
                    break
                stages = self.stages[number % len(self.stages)]
                self.made.put([self._send(stage, indices) for stage in stages])
            for stage in (stage for stages in self.stages for stage in stages):
                stage.drain()
        except BaseException as error:  # raised again by the iteration
            last = error
        finally:
            for rows in self.sources:
                rows.close()
            self.made.put(last)

    def _send(self, stage: _Stage, indices: Indices) -> tuple[Any, Any]:
        with self.lane.active():
            target = self.lane.empty((len(indices), *stage.rows.shape), stage.rows.torch_dtype())
        return stage.send(indices, target), target


def _end(work: _Work, thread: threading.Thread) -> None:
    work.stopping = True
    work.room.release()
    # A finaliser may run in any thread, that one included.
    if thread.ident is not None and thread is not threading.current_thread():
        thread.join()


__all__ = [
    "GpuBatches",
    "get_gpu_count",
    "get_gpu_info",
    "get_tensor_cuda",
    "is_gpu_available",
    "prefetch_to_gpu",
]
