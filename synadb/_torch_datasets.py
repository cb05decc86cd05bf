"""Datasets: rows by their numbers, and rows as a stream."""

from __future__ import annotations

import copy
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from synadb._loading import Rows
from synadb._order import Epoch, Indices, Uneven, at_least
from synadb._torch_base import Dataset, IterableDataset, Transform, check_state, place, pytorch
from synadb.errors import ArgumentError, Reason

# What has to be installed for the examples below.
__doctest_requires__ = ("torch",)

# Rows read at a time by a stream of single rows.
_READ_AHEAD = 256


class _Samples:
    """What both datasets share: the rows, their targets, and how they become samples."""

    path: str
    pattern: str
    transform: Transform | None
    target_transform: Transform | None
    #: Batches need not be taken apart into samples: set in worker processes of `SynaDataLoader`.
    whole_only: bool = False
    _rows: Rows
    _targets: Rows | None

    def _open(
        self,
        path: str | os.PathLike[str],
        pattern: str,
        transform: Transform | None,
        target_transform: Transform | None,
        targets: str | None,
    ) -> None:
        pytorch()
        if target_transform is not None and targets is None:
            raise ArgumentError(
                0,
                "target_transform without targets: name the pattern of the targets",
                reason=Reason.ARGUMENT,
            )
        self._rows = Rows(path, pattern)
        self._targets = None if targets is None else self._rows.beside(targets)
        self.path = self._rows.path
        self.pattern = pattern
        self.transform = transform
        self.target_transform = target_transform

    @property
    def sample_bytes(self) -> int:
        """Bytes of an untransformed sample."""
        targets = 0 if self._targets is None else self._targets.row_bytes
        return self._rows.row_bytes + targets

    @property
    def targets(self) -> str | None:
        """The pattern of the targets, or None."""
        return self._targets.pattern if self._targets is not None else None

    def close(self) -> None:
        """Close the file in this process; the next read opens it again."""
        self._rows.close()
        if self._targets is not None:
            self._targets.close()

    def _whole(self, indices: Any) -> Any:
        """The rows as one tensor, or rows and targets as a pair of tensors."""
        rows = _read(self._rows, indices)
        return rows if self._targets is None else (rows, _read(self._targets, indices))

    def _samples(self, whole: Any) -> list[Any]:
        """The samples of what `_whole` returned, transformed."""
        if self._targets is None:
            return _apply(self.transform, whole)
        rows, targets = whole
        return list(zip(_apply(self.transform, rows), _apply(self.target_transform, targets)))

    def _batch(self, whole: Any) -> _Batch:
        """The samples as a batch that keeps the whole tensors when nothing transforms them."""
        plain = self.transform is None and self.target_transform is None
        batch = _Batch(() if plain and self.whole_only else self._samples(whole))
        if plain:
            batch.whole = whole
        return batch


def _apply(transform: Transform | None, rows: Any) -> list[Any]:
    single = list(rows.unbind(0))
    return single if transform is None else [transform(row) for row in single]


def _read(rows: Rows, indices: Any) -> Any:
    """The rows as a tensor over memory of their own."""
    return rows.as_tensor(rows.fetch(indices))


class _Batch(list):  # type: ignore[type-arg]
    """The samples of one read, together with the tensors that they are slices of."""

    whole: Any = None


def collate(samples: Any) -> Any:
    """Make one batch of many samples: what `SynaDataLoader` does unless told otherwise.

    Untransformed rows already lie in one tensor, which is the batch; anything else goes to
    `torch.utils.data.default_collate`.
    """
    if isinstance(samples, _Batch) and samples.whole is not None:
        return list(samples.whole) if isinstance(samples.whole, tuple) else samples.whole
    return pytorch().utils.data.default_collate(samples)


class SynaDataset(_Samples, Dataset):
    """The rows under a pattern as a map-style dataset of tensors.

    Parameters
    ----------
    path : str or os.PathLike
        The file; it is opened for reading, beside whoever writes to it.
    pattern : str, default "*"
        Which tensors or keys, as in `TensorEngine.get_tensor`; a row is an entry of the first
        dimension, and rows of several tensors follow each other in the order of their names.
    transform : callable, optional
        Applied to each row, a tensor of the dtype and shape that was stored.
    target_transform : callable, optional
        Applied to each target.
    targets : str, optional
        A pattern of as many rows: each sample is then a pair (row, target).

    Raises
    ------
    KeyNotFoundError
        Nothing matches the pattern.
    ArgumentError
        The tensors that match have rows of different shape or dtype, or there are not as many
        targets as rows.

    Notes
    -----
    The number of rows is fixed when the dataset is made; rows appended later belong to the next
    one. A pickled dataset is its path and patterns, and every process that reads from it opens the
    file for itself.

    Examples
    --------
    >>> with TensorEngine(tmp / "mnist.db") as engine:
    ...     _ = engine.put_tensor("train/x", np.arange(12, dtype=np.float32).reshape(6, 2))
    ...     _ = engine.put_tensor("train/y", np.arange(6))
    >>> dataset = SynaDataset(tmp / "mnist.db", "train/x*", targets="train/y*")
    >>> len(dataset), dataset[2]
    (6, (tensor([4., 5.]), tensor(2)))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pattern: str = "*",
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        targets: str | None = None,
    ) -> None:
        self._open(path, pattern, transform, target_transform, targets)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        """One sample; a negative index counts from the end."""
        number = operator.index(index)
        if number < 0:
            number += len(self)
        return self.__getitems__([number])[0]

    def __getitems__(self, indices: Sequence[int] | Indices) -> list[Any]:
        """Many samples with one read, in the order of `indices`."""
        return self._batch(self._whole(indices))

    def __repr__(self) -> str:
        return f"<SynaDataset {self.path!r}, {self.pattern!r}, {len(self):,} rows>"


class SynaIterableDataset(_Samples, IterableDataset):
    """The rows under a pattern as a stream that is shared out between ranks and workers.

    Every row comes once an epoch, whatever the number of ranks and worker processes; batches come
    in the same order for any number of workers.

    Parameters
    ----------
    path, pattern, transform, target_transform, targets
        As for `SynaDataset`.
    batch_size : int, optional
        Yield batches of this many samples, collated; the last one may be shorter. Give the loader
        ``batch_size=None`` then. Default: yield single samples.
    shuffle : bool, default False
        A new order for every epoch, see `set_epoch`.
    seed : int, default 0
        Together with the epoch it decides the order.
    drop_last : bool, default False
        Leave out the last batch when it is shorter.
    rank, num_replicas : int, optional
        This process and how many share the rows; by default those of `torch.distributed`, or of
        the environment variables ``RANK`` and ``WORLD_SIZE``, else the only one.
    uneven : {"exact", "repeat", "drop"}, default "exact"
        What happens when `num_replicas` does not divide the rows: some ranks get one more; rows of
        the beginning are repeated; the rows left over are dropped.

    Examples
    --------
    >>> with TensorEngine(tmp / "stream.db") as engine:
    ...     _ = engine.put_tensor("x", np.arange(5))
    >>> stream = SynaIterableDataset(tmp / "stream.db", batch_size=2)
    >>> list(stream)
    [tensor([0, 1]), tensor([2, 3]), tensor([4])]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pattern: str = "*",
        transform: Transform | None = None,
        target_transform: Transform | None = None,
        *,
        targets: str | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        num_replicas: int | None = None,
        uneven: Uneven = "exact",
        collate_fn: Transform | None = None,
    ) -> None:
        self._open(path, pattern, transform, target_transform, targets)
        self.collate_fn = collate_fn
        self.batch_size = None if batch_size is None else at_least(batch_size, 1, "batch_size")
        self.drop_last = bool(drop_last)
        rank, world = place(rank, num_replicas)
        self._order = Epoch(
            len(self._rows), bool(shuffle), seed, rank=rank, world=world, uneven=uneven
        )
        # Epoch and first unit, seen by worker processes that live longer than an epoch.
        self._clock = pytorch().zeros(2, dtype=pytorch().int64).share_memory_()
        self._resume: tuple[int, int, int] | None = None
        self._at = (0, 0, 0)

    def __len__(self) -> int:
        """How many batches, or samples, this rank yields in an epoch."""
        if self.batch_size is None:
            return len(self._order)
        return self._order.batch_count(self.batch_size, drop_last=self.drop_last)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Begin the next iteration at batch (or sample) number `start` of this epoch.

        Call it before each epoch: without it every iteration has the same order. `SynaDataLoader`
        does.
        """
        self._clock[0] = at_least(epoch, 0, "the epoch")
        self._clock[1] = at_least(start, 0, "the start")
        self._resume = None
        self._at = (int(epoch), int(start), int(start))

    def set_seed(self, seed: int) -> None:
        """Use the orders of this seed."""
        self._order = replace(self._order, seed=seed)

    def __iter__(self) -> Iterator[Any]:
        """Yield the share of this rank, in a worker process the share of that worker."""
        if self._resume is not None:
            epoch, base, first = self._resume
            self._resume = None
        else:
            epoch, base = self._clock.tolist()
            first = base
        info = pytorch().utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        order = replace(self._order, epoch=epoch)
        units = self._batches if self.batch_size else self._singles
        self._at = (epoch, base, first)
        for number, unit in units(order, base, first, worker, workers):
            self._at = (epoch, base, number + 1)
            yield unit
        self._at = (epoch, base, len(self))

    def _batches(
        self, order: Epoch, base: int, first: int, worker: int, workers: int
    ) -> Iterator[tuple[int, Any]]:
        size = self.batch_size or 1
        batches = order.batches(size, start=first, drop_last=self.drop_last)
        for number, indices in enumerate(batches, first):
            if (number - base) % workers == worker:
                whole = self._whole(indices)
                yield number, (self.collate_fn or collate)(self._batch(whole))

    def _singles(
        self, order: Epoch, base: int, first: int, worker: int, workers: int
    ) -> Iterator[tuple[int, Any]]:
        first += (worker - (first - base)) % workers
        block = _READ_AHEAD * workers
        for start in range(first, len(order), block):
            indices = order.rows(start, start + block)[::workers]
            samples = self._samples(self._whole(indices))
            yield from zip(range(start, start + block, workers), samples)

    def batched(
        self,
        batch_size: int | None,
        *,
        drop_last: bool = False,
        collate_fn: Transform | None = None,
        seed: int | None = None,
    ) -> SynaIterableDataset:
        """The same rows in batches; shuffled by `seed` when it is given."""
        other = copy.copy(self)
        other.batch_size = None if batch_size is None else at_least(batch_size, 1, "batch_size")
        other.drop_last = drop_last
        other.collate_fn = collate_fn
        other._clock = self._clock.clone().share_memory_()
        if seed is not None:
            other._order = replace(self._order, shuffle=True, seed=seed)
        return other

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration stands: plain numbers, for `load_state_dict`."""
        epoch, base, following = self._resume or self._at
        return {"epoch": epoch, "base": base, "next": following, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called: the next iteration yields what came after it.

        A state of other rows, another order or another share is an `ArgumentError`.
        """
        check_state(state, self._identity())
        self._resume = (int(state["epoch"]), int(state["base"]), int(state["next"]))

    def _identity(self) -> dict[str, Any]:
        return {
            "rows": len(self._rows),
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "shuffle": self._order.shuffle,
            "seed": self._order.seed,
            "rank": self._order.rank,
            "num_replicas": self._order.world,
            "uneven": self._order.uneven,
        }

    def __repr__(self) -> str:
        return f"<SynaIterableDataset {self.path!r}, {self.pattern!r}, {len(self._rows):,} rows>"


__all__ = ["SynaDataset", "SynaIterableDataset", "collate"]
