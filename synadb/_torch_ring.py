"""Batches on their way from worker processes, through memory that is used again and again.

PyTorch makes a new piece of shared memory for each batch: several system calls and a fault for each
page on both sides, which for small batches costs more than reading them. Here each worker has a
ring of slots, writes a batch into the next one, and sends where it lies; the main process copies it
out.

A worker has at most `prefetch_factor` batches under way beyond the one that the main process has
just received, and that one is copied out before the next is asked for. So with `prefetch_factor`
+ 2 slots no slot is written while it is read.
"""

from __future__ import annotations

from typing import Any

from synadb._torch_base import pytorch

# Larger batches go PyTorch's way: what is saved does not depend on the size, the memory does.
LARGEST = 8 << 20
_ALIGN = 64


class Slot:
    """Where a batch lies: worker, turn, and offset, shape and dtype of each of its tensors."""

    def __init__(self, worker: int, turn: int, parts: list[Any], single: bool) -> None:
        self.worker = worker
        self.turn = turn
        self.parts = parts
        self.single = single


class Ring:
    """Slots for all workers of one iteration; called in a worker it sends a batch.

    Parameters
    ----------
    collate : callable
        Makes the batch.
    workers, prefetch_factor : int
    size : int
        Bytes of a batch. One that turns out larger is sent PyTorch's way.
    """

    def __init__(self, collate: Any, workers: int, prefetch_factor: int, size: int) -> None:
        torch = pytorch()
        self.collate = collate
        self.slots = prefetch_factor + 2
        self.turn = 0
        # Slots, and rows and targets in them, begin at aligned places.
        shape = (workers, self.slots, (size // _ALIGN + 2) * _ALIGN)
        self.memory = torch.empty(shape, dtype=torch.uint8).share_memory_()

    def __call__(self, samples: Any) -> Any:
        """In a worker: collate, put the batch into the next slot, and say where."""
        torch = pytorch()
        batch = self.collate(samples)
        info = torch.utils.data.get_worker_info()
        if info is None or getattr(samples, "whole", None) is None:
            return batch
        single = not isinstance(batch, list)
        slot = self.memory[info.id, self.turn % self.slots]
        parts, offset = [], 0
        for tensor in [batch] if single else batch:
            end = offset + tensor.nbytes
            if end > len(slot):
                return batch
            _over(slot[offset:end], tensor.dtype, tensor.shape).copy_(tensor)
            parts.append((offset, end, tuple(tensor.shape), tensor.dtype))
            offset = -(-end // _ALIGN) * _ALIGN
        self.turn += 1
        return Slot(info.id, self.turn - 1, parts, single)

    def take(self, batch: Any) -> Any:
        """In the main process: the batch itself, in memory of its own."""
        if not isinstance(batch, Slot):
            return batch
        slot = self.memory[batch.worker, batch.turn % self.slots]
        tensors = [
            _over(slot[offset:end], dtype, shape).clone()
            for offset, end, shape, dtype in batch.parts
        ]
        return tensors[0] if batch.single else tensors


class Start:
    """What a worker with a ring does first: it needs no single samples. Then the caller's own."""

    def __init__(self, then: Any) -> None:
        self.then = then

    def __call__(self, worker: int) -> None:
        info = pytorch().utils.data.get_worker_info()
        info.dataset.whole_only = True  # of this process's copy
        if self.then is not None:
            self.then(worker)


def _over(raw: Any, dtype: Any, shape: Any) -> Any:
    """The bytes as a tensor."""
    return raw.view(dtype).view(shape)


__all__ = ["LARGEST", "Ring", "Slot", "Start"]
