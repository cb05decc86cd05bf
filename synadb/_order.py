"""The order in which loaders hand out rows: seeded, shared out between processes, and resumable.

`Epoch` says which rows come when. It depends on its fields alone, so that every process computes
the same order for itself and a loader goes on in the middle of an epoch by starting at a position.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from synadb.errors import ArgumentError, Reason

Indices = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

#: What happens when the rows cannot be shared out evenly: some ranks get one row more, rows of the
#: beginning are repeated, or the rows left over are dropped.
Uneven = Literal["exact", "repeat", "drop"]

# Up to here a permutation is made in memory (8 bytes a row); beyond it is computed row by row, in
# constant memory. The computed one is not uniform over all permutations of a few rows.
_IN_MEMORY = 1 << 22
# Rounds of the computed permutation: 4 suffice in theory (Luby & Rackoff 1988), 2 more are cheap.
_ROUNDS = 6
# Rows are permuted in blocks of about this many, because numpy calls cost the same for few.
_BLOCK = 1 << 14


def at_least(number: Any, least: int, what: str) -> int:
    """`number` as an int that is not below `least`."""
    value = operator.index(number)
    if value < least:
        raise ArgumentError(
            0, f"{what} is {value}; expected at least {least}", reason=Reason.ARGUMENT
        )
    return value


@dataclass(frozen=True)
class Epoch:
    """Which rows one rank gets in one epoch, and in what order.

    Attributes
    ----------
    count : int
        Rows in all.
    shuffle : bool
    seed, epoch : int
        Together they decide the order when `shuffle` is set.
    rank, world : int
        This process, and how many share the rows.
    uneven : {"exact", "repeat", "drop"}
        What happens when `world` does not divide `count`.
    """

    count: int
    shuffle: bool = False
    seed: int = 0
    epoch: int = 0
    rank: int = 0
    world: int = 1
    uneven: Uneven = "exact"

    def __post_init__(self) -> None:
        at_least(self.seed, 0, "the seed")
        at_least(self.epoch, 0, "the epoch")
        at_least(self.world, 1, "the number of ranks")
        if not 0 <= self.rank < self.world:
            raise ArgumentError(
                0, f"rank {self.rank} of {self.world}; ranks count from 0", reason=Reason.ARGUMENT
            )
        if self.uneven not in ("exact", "repeat", "drop"):
            raise ArgumentError(
                0,
                f"uneven is {self.uneven!r}; expected 'exact', 'repeat' or 'drop'",
                reason=Reason.ARGUMENT,
            )

    def __len__(self) -> int:
        """The rows of this rank."""
        if self.uneven == "drop":
            return self.count // self.world
        if self.uneven == "repeat":
            return -(-self.count // self.world)
        return len(range(self.rank, self.count, self.world))

    def rows(self, start: int, stop: int) -> Indices:
        """The rows of this rank at the positions from `start` to before `stop`."""
        places = np.arange(start, min(stop, len(self)), dtype=np.int64)
        places *= self.world
        places += self.rank
        if self.uneven == "repeat" and places.size and places[-1] >= self.count:
            places %= self.count
        if not self.shuffle:
            return places
        if self._table is not None:
            return self._table[places]
        return _permute(places, self.count, self._keys)

    def batches(self, size: int, *, start: int = 0, drop_last: bool = False) -> Iterator[Indices]:
        """The rows in batches of `size`, from batch number `start` on; the last may be shorter."""
        total = len(self)
        end = total - total % size if drop_last else total
        block = size * max(_BLOCK // size, 1)
        for first in range(start * size, end, block):
            rows = self.rows(first, min(first + block, end))
            for at in range(0, len(rows), size):
                yield rows[at : at + size]

    def batch_count(self, size: int, *, drop_last: bool = False) -> int:
        """How many batches there are."""
        return len(self) // size if drop_last else -(-len(self) // size)

    @cached_property
    def _table(self) -> Indices | None:
        if self.count > _IN_MEMORY:
            return None
        return np.random.default_rng([self.seed, self.epoch]).permutation(self.count)

    @cached_property
    def _keys(self) -> Words:
        words = np.random.SeedSequence([self.seed, self.epoch]).generate_state(_ROUNDS, np.uint64)
        return words.astype(np.uint64, copy=False)


def _permute(places: Indices, count: int, keys: Words) -> Indices:
    """Where a pseudo-random permutation of 0..count-1 sends each of `places`.

    A Feistel network over the smallest rectangle of about sqrt(count) columns that holds `count`
    cells; a cell outside is sent on until it falls inside, which keeps it a permutation.
    """
    columns = math.isqrt(count - 1) + 1
    lines = -(-count // columns)
    cells = _feistel(places.astype(np.uint64), columns, lines, keys)
    outside = np.flatnonzero(cells >= np.uint64(count))
    while outside.size:
        cells[outside] = _feistel(cells[outside], columns, lines, keys)
        outside = outside[cells[outside] >= np.uint64(count)]
    return cells.astype(np.int64)


def _feistel(cells: Words, columns: int, lines: int, keys: Words) -> Words:
    line, column = np.divmod(cells, np.uint64(columns))
    for number, key in enumerate(keys):
        if number % 2:
            _turn(column, line, np.uint64(columns), key)
        else:
            _turn(line, column, np.uint64(lines), key)
    cell: Words = line * np.uint64(columns) + column
    return cell


def _turn(side: Words, other: Words, size: np.uint64, key: np.uint64) -> None:
    """Add to `side` a number below `size` that depends on `other`, modulo `size`."""
    side += (_mix(other ^ key) * size) >> np.uint64(32)
    side[side >= size] -= size


def _mix(words: Words) -> Words:
    """32 well mixed bits of each word: the finaliser of MurmurHash3 (Appleby 2011)."""
    words ^= words >> np.uint64(33)
    words *= np.uint64(0xFF51AFD7ED558CCD)
    words ^= words >> np.uint64(33)
    words *= np.uint64(0xC4CEB9FE1A85EC53)
    return words >> np.uint64(32)


__all__ = ["Epoch", "Indices", "Uneven", "at_least"]
