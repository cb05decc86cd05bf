"""Samplers: the row numbers of an epoch, for one process or for one rank of several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from synadb._order import Epoch, Uneven, at_least
from synadb._torch_base import DistributedSampler, Sampler, place, pytorch

# What has to be installed for the examples below.
__doctest_requires__ = ("torch",)

# Row numbers made at a time.
_NUMBERS = 1 << 14


class SynaSampler(Sampler):
    """The row numbers of one epoch in the order of its seed, from any position on.

    `SynaDataLoader` makes one for itself.

    Examples
    --------
    >>> sorted(SynaSampler(5, shuffle=True, seed=1))
    [0, 1, 2, 3, 4]
    """

    def __init__(self, count: int, *, shuffle: bool = True, seed: int = 0) -> None:
        pytorch()
        self._order = Epoch(at_least(count, 0, "count"), bool(shuffle), seed)
        self._start = 0

    def __len__(self) -> int:
        return len(self._order)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch."""
        self._order = replace(self._order, epoch=epoch)

    def set_seed(self, seed: int) -> None:
        """Use the orders of this seed."""
        self._order = replace(self._order, seed=seed)

    def begin_at(self, position: int) -> None:
        """Leave out what comes before `position` in the next iteration, and only in that."""
        self._start = at_least(position, 0, "the position")

    def __iter__(self) -> Iterator[int]:
        start, self._start = self._start, 0
        return _numbers(self._order, start)


def _numbers(order: Epoch, start: int) -> Iterator[int]:
    for first in range(start, len(order), _NUMBERS):
        yield from order.rows(first, first + _NUMBERS).tolist()


class SynaDistributedSampler(DistributedSampler):
    """The row numbers of one rank: every rank computes the same order and takes its share.

    What `get_distributed_sampler` returns. It is a `torch.utils.data.DistributedSampler` that can
    begin in the middle, and that can leave the ranks unequal instead of repeating rows.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        *,
        uneven: Uneven | None = None,
    ) -> None:
        pytorch()
        rank, world = place(rank, num_replicas)
        share = uneven or ("drop" if drop_last else "repeat")
        order = Epoch(len(dataset), bool(shuffle), seed, rank=rank, world=world, uneven=share)
        super().__init__(
            dataset,
            num_replicas=world,
            rank=rank,
            shuffle=order.shuffle,
            seed=seed,
            drop_last=share == "drop",
        )
        self._order = order
        self._start = 0
        self.num_samples = len(order)
        self.total_size = self.num_samples * world

    def __len__(self) -> int:
        return len(self._order)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch. Call it before each one, as for PyTorch's own sampler."""
        self._order = replace(self._order, epoch=epoch)
        self.epoch = epoch

    def begin_at(self, position: int) -> None:
        """Leave out what comes before `position` in the next iteration, and only in that."""
        self._start = at_least(position, 0, "the position")

    def __iter__(self) -> Iterator[int]:
        start, self._start = self._start, 0
        return _numbers(self._order, start)


class Skipping(Sampler):
    """Somebody else's sampler of rows or batches, which can begin late once."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self._start = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def begin_at(self, position: int) -> None:
        self._start = position

    def __iter__(self) -> Iterator[Any]:
        start, self._start = self._start, 0
        return islice(iter(self.sampler), start, None)


__all__ = ["Skipping", "SynaDistributedSampler", "SynaSampler"]
