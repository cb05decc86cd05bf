"""Transitions in memory, as columns: for sampling and for tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._arrays import refused
from synadb._transitions import Column, Record

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class TransitionBatch:
    """Transitions as arrays; row i of each belongs together.

    Attributes
    ----------
    states, actions, next_states : ndarray, shape (n, ...)
        Numbers (and sequences of them, all of one length) and texts as arrays of them; anything
        else as an array of objects.
    rewards : ndarray of float64, shape (n,)
    indices : ndarray of int64, shape (n,)
        Their numbers, for `ExperienceCollector.update_priorities`.
    weights : ndarray of float64, shape (n,)
        What makes up for prioritised sampling, at most 1; all 1 for uniform sampling.
    """

    states: Array
    actions: Array
    rewards: npt.NDArray[np.float64]
    next_states: Array
    indices: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rewards)


def columnize(values: Column) -> Array:
    """A column as an array: of numbers or texts where all values allow it, else of objects."""
    if isinstance(values, np.ndarray):
        return values
    kinds = {type(value) for value in values}
    if kinds == {np.ndarray}:
        if len({(value.dtype, value.shape) for value in values}) == 1:
            return np.stack(values)
    elif kinds <= {str} or _alike(kinds):
        return _of_kind(values, "biufU")
    elif kinds <= {tuple, list} and len({len(value) for value in values}) == 1:
        flat = {type(item) for value in values for item in value}
        if flat and _alike(flat):
            return _of_kind(values, "biuf")
    return _objects(values)


def _alike(kinds: set[type]) -> bool:
    """Only numbers, or only truth values, whether Python's own or numpy's."""
    return kinds <= {bool, np.bool_} or all(
        kind in (int, float) or issubclass(kind, (np.integer, np.floating)) for kind in kinds
    )


def _of_kind(values: Sequence[Any], kinds: str) -> Array:
    array: Array = np.asarray(values)
    return array if array.dtype.kind in kinds else _objects(values)


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    for i, value in enumerate(values):  # a slice assignment would take sequences apart
        array[i] = value
    return array


def _as_objects(array: Array) -> Array:
    if array.dtype == object and array.ndim == 1:
        return array
    objects = np.empty(len(array), object)
    for i, value in enumerate(array if array.ndim > 1 else array.tolist()):
        objects[i] = value
    return objects


class GrowingColumn:
    """An array that takes more rows; it doubles, and widens its type where it must."""

    def __init__(self, dtype: npt.DTypeLike = object) -> None:
        self._room: Array = np.empty(0, dtype)
        self._count = 0

    def extend(self, block: Array) -> None:
        if self._count == 0:
            self._room = block.copy()
            self._count = len(block)
            return
        room = self._room
        if block.dtype != room.dtype or block.shape[1:] != room.shape[1:]:
            block = self._agree(block)
            room = self._room
        if self._count + len(block) > len(room):
            cap = max(2 * len(room), self._count + len(block))
            grown = np.empty((cap, *room.shape[1:]), room.dtype)
            grown[: self._count] = room[: self._count]
            room = grown
        room[self._count : self._count + len(block)] = block
        self._room = room
        self._count += len(block)

    def _agree(self, block: Array) -> Array:
        """The block in a type that holds both; the rows that are here get that type, too."""
        mine = self._room
        both = (mine.dtype.kind, block.dtype.kind)
        alike = all(kind in "iuf" for kind in both) or both == ("U", "U")
        if alike and mine.shape[1:] == block.shape[1:]:
            dtype = np.promote_types(mine.dtype, block.dtype)
            if dtype != mine.dtype:
                self._room = mine.astype(dtype)
            return block.astype(dtype)
        if mine.dtype != object or mine.ndim > 1:
            self._room = _as_objects(mine[: self._count])
        return _as_objects(block)

    def reorder(self, order: npt.NDArray[np.int64]) -> None:
        self._room = self._room[: self._count][order]

    def array(self) -> Array:
        return self._room[: self._count]


class SumTree:
    """Priorities in a binary tree of sums: drawing and changing n of N take n log N steps."""

    def __init__(self, priorities: npt.NDArray[np.float64]) -> None:
        self.leaves = 1 << max(0, (len(priorities) - 1).bit_length())
        self.sums = np.zeros(2 * self.leaves)
        self.sums[self.leaves : self.leaves + len(priorities)] = priorities
        start = self.leaves
        while start > 1:
            pairs = self.sums[start : 2 * start].reshape(-1, 2)
            start //= 2
            self.sums[start : 2 * start] = pairs.sum(axis=1)

    def update(self, indices: npt.NDArray[np.int64], priorities: npt.NDArray[np.float64]) -> None:
        nodes = indices + self.leaves
        self.sums[nodes] = priorities
        while self.leaves > 1 and nodes[0] > 1:
            nodes = np.unique(nodes // 2)
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]

    def draw(self, at: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """The leaves at these parts, in [0, 1), of the sum of all."""
        left = at * self.sums[1]
        nodes = np.ones(len(at), np.int64)
        while nodes[0] < self.leaves:
            nodes *= 2
            below = self.sums[nodes]
            # Rounding must not lead into a subtree without any priority.
            right = (left >= below) & (self.sums[nodes + 1] > 0)
            left = np.where(right, left - below, np.minimum(left, below))
            nodes += right
        drawn: npt.NDArray[np.int64] = nodes - self.leaves
        return drawn


class Buffer:
    """All transitions of some records in the order of their times."""

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self._columns = {name: GrowingColumn() for name in _COLUMN_NAMES} | {
            "rewards": GrowingColumn(np.float64),
            "timestamps": GrowingColumn(np.int64),
            "sessions": GrowingColumn(np.int64),
            "done": GrowingColumn(bool),
        }
        self._codes: dict[str, int] = {}
        self._last = -1
        self._tree: SumTree | None = None
        self._priorities = GrowingColumn(np.float64)
        self._singles: list[Record] = []
        for record in records:
            self.add(record)
        self._settle(sort=True)

    def add(self, record: Record) -> None:
        """Add a record. Rows must come in the order of their times, except in the constructor."""
        if record.batch:
            self._settle()
            self._extend([record], {n: columnize(record.column(n)) for n in _COLUMN_NAMES})
        else:
            self._singles.append(record)

    def _settle(self, sort: bool = False) -> None:
        """Take in what was added one by one."""
        if self._singles:
            singles, self._singles = self._singles, []
            columns = {
                name: columnize([record.column(name)[0] for record in singles])
                for name in _COLUMN_NAMES
            }
            self._extend(singles, columns)
        times = self._columns["timestamps"].array()
        if sort and len(times) > 1 and np.any(times[1:] < times[:-1]):
            order = np.argsort(times, kind="stable")
            for column in self._columns.values():
                column.reorder(order)

    def _extend(self, records: Sequence[Record], columns: dict[str, Array]) -> None:
        count = len(columns["states"])
        codes = [self._codes.setdefault(r.session_id, len(self._codes)) for r in records]
        done = [bool(m.get("done") or m.get("terminal")) for r in records for m in r.metadata()]
        blocks = {
            **columns,
            "rewards": np.concatenate([r.rewards() for r in records]),
            "timestamps": np.concatenate([r.timestamps() for r in records]),
            "sessions": np.repeat(np.array(codes, np.int64), [len(r) for r in records]),
            "done": np.array(done, bool),
        }
        for name, block in blocks.items():
            self._columns[name].extend(block)
        self._prioritize(count)

    def _prioritize(self, count: int) -> None:
        """Give as many new rows the highest priority that there is."""
        first, highest = len(self._priorities.array()), self._highest()
        self._priorities.extend(np.full(count, highest))
        if self._tree is not None and first + count > self._tree.leaves:
            self._tree = None  # made again, with twice the room, when it is needed
        elif self._tree is not None:
            power = np.full(count, highest**self._alpha)
            self._tree.update(np.arange(first, first + count), power)

    def _highest(self) -> float:
        known = self._priorities.array()
        return float(known.max()) if len(known) else 1.0

    def __len__(self) -> int:
        self._settle()
        return len(self._columns["rewards"].array())

    def column(self, name: str) -> Array:
        self._settle()
        return self._columns[name].array()

    def in_session(self, session_id: str | None) -> Any:
        """What selects the rows of a session (None: all) from a column."""
        if session_id is None:
            return slice(None)
        return np.flatnonzero(self.column("sessions") == self._codes.get(session_id, -1))

    # ------------------------------------------------------------------------------- drawing

    def take(self, indices: npt.NDArray[np.int64], weights: Array) -> TransitionBatch:
        columns = self._columns
        return TransitionBatch(
            columns["states"].array().take(indices, axis=0),
            columns["actions"].array().take(indices, axis=0),
            columns["rewards"].array().take(indices),
            columns["next_states"].array().take(indices, axis=0),
            indices,
            weights,
        )

    def uniform(self, n: int, rng: np.random.Generator) -> TransitionBatch:
        return self.take(rng.integers(0, len(self), n), np.ones(n))

    def prioritized(
        self, n: int, rng: np.random.Generator, alpha: float, beta: float
    ) -> TransitionBatch:
        """Schaul et al. 2016, "Prioritized Experience Replay", equations 1 and section 3.4."""
        count = len(self)
        if self._tree is None or self._alpha != alpha:
            self._alpha = alpha
            with np.errstate(over="ignore"):
                self._tree = SumTree(self._priorities.array() ** alpha)
        tree = self._tree
        if not 0 < tree.sums[1] < np.inf:
            raise refused(f"priorities ** {alpha} have the sum {tree.sums[1]}; expected a number")
        indices = np.minimum(tree.draw((np.arange(n) + rng.random(n)) / n), count - 1)
        chances = tree.sums[tree.leaves + indices] / tree.sums[1]
        weights = (count * chances) ** -beta
        return self.take(indices, weights / weights.max())

    def set_priorities(self, indices: Array, priorities: Array) -> None:
        self._settle()
        self._priorities.array()[indices] = priorities
        if self._tree is not None and len(indices):
            with np.errstate(over="ignore"):
                self._tree.update(indices, priorities**self._alpha)

    _alpha = 0.0

    # -------------------------------------------------------------------------------- n steps

    def n_step(self, n: int, gamma: float, session_id: str | None) -> dict[str, Array]:
        rows = np.arange(len(self))[self.in_session(session_id)]
        sessions, done = self.column("sessions")[rows], self.column("done")[rows]
        order = np.argsort(sessions, kind="stable")  # rows are in the order of their times
        rows, sessions, done = rows[order], sessions[order], done[order]
        rewards = self.column("rewards")[rows]
        count = len(rows)
        ends = done.copy()
        ends[:-1] |= sessions[1:] != sessions[:-1]
        ends[-1:] = True
        last = np.flatnonzero(ends)
        last = last[np.searchsorted(last, np.arange(count))] if count else last
        steps = np.minimum(n, last - np.arange(count) + 1)
        returns = np.zeros(count)
        for k in range(min(n, int(steps.max(initial=0)))):
            on = np.flatnonzero(steps > k)
            returns[on] += gamma**k * rewards[on + k]
        to = np.arange(count) + steps - 1
        return {
            "states": self.column("states")[rows],
            "actions": self.column("actions")[rows],
            "returns": returns,
            "next_states": self.column("next_states")[rows[to]],
            "steps": steps,
            "done": done[to],
        }


_COLUMN_NAMES = ("states", "actions", "next_states")
