"""Rows of a file as PyTorch datasets and loaders: shuffled, shared out, and resumable.

`SynaDataset`
    Map-style: any row by its number, a whole batch with one read.
`SynaIterableDataset`
    A stream of rows or batches that shares itself out between ranks and worker processes.
`SynaDataLoader`
    A `torch.utils.data.DataLoader` whose order depends on a seed alone, and which goes on in the
    middle of an epoch (``state_dict``, ``load_state_dict``).
`create_distributed_loader`, `get_distributed_sampler`
    The same for several ranks.

Worker processes open the file for themselves, whatever started them (fork, spawn, forkserver).
Without PyTorch this module can be imported; what needs it raises ImportError.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from synadb._optional import available
from synadb._order import Uneven, at_least
from synadb._torch_base import DataLoader, check_state, pytorch
from synadb._torch_datasets import SynaDataset, SynaIterableDataset, collate
from synadb._torch_ring import LARGEST, Ring, Start
from synadb._torch_samplers import Skipping, SynaDistributedSampler, SynaSampler
from synadb.errors import ArgumentError, Reason

# What has to be installed for the examples below.
__doctest_requires__ = ("torch",)


def is_torch_available() -> bool:
    """Whether PyTorch is installed.

    Examples
    --------
    >>> is_torch_available()
    True
    """
    return available("torch")


class SynaDataLoader(DataLoader):
    """A `torch.utils.data.DataLoader` that is reproducible and can go on in the middle.

    Parameters
    ----------
    dataset : SynaDataset, SynaIterableDataset or any dataset
    batch_size : int or None, default 1
        None: single samples.
    shuffle : bool, default False
        A new order in every epoch.
    num_workers : int, default 0
        Processes that read; each opens the file for itself.
    prefetch_factor : int, default 2
        Batches that each worker prepares ahead; without workers it means nothing.
    seed : int, optional
        Decides the order together with the epoch. Default: drawn from `generator`, else from
        PyTorch's own, so that `torch.manual_seed` decides.
    **options
        As for `torch.utils.data.DataLoader`: sampler, batch_sampler, collate_fn, pin_memory,
        drop_last, persistent_workers, multiprocessing_context, ...

    Notes
    -----
    Every ``for`` loop over the loader is the next epoch, also when the one before was left early.
    Every row comes once an epoch, in an order that does not depend on the number of workers (unless
    ``in_order=False`` gives the order up); the last batch is shorter unless ``drop_last=True``.

    With a sampler or a dataset of somebody else's, `load_state_dict` skips what was already
    delivered, which is exact when the same epoch gives the same order again; the epoch of a sampler
    that was passed in is for the caller to set.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("x", np.arange(10))
    >>> dataset = SynaDataset(tmp / "data.db")
    >>> loader = SynaDataLoader(dataset, batch_size=4, shuffle=True, seed=7)
    >>> batches = iter(loader)
    >>> first = next(batches)
    >>> state = loader.state_dict()
    >>> rest = list(batches)
    >>> again = SynaDataLoader(dataset, batch_size=4, shuffle=True)
    >>> again.load_state_dict(state)
    >>> [a.equal(b) for a, b in zip(again, rest)]
    [True, True]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool = False,
        num_workers: int = 0,
        prefetch_factor: int | None = 2,
        *,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        torch = pytorch()
        self._seed = _draw(options.get("generator")) if seed is None else at_least(seed, 0, "seed")
        self._shuffle = bool(shuffle)
        self._begin: Any = None  # the sampler of rows or of batches, when there is one
        self._coming = self._at = (0, 0)  # epoch and batch: of the next loop; of the state
        if isinstance(dataset, SynaIterableDataset):
            dataset = self._stream(dataset, batch_size, options)
            batch_size = None
        elif isinstance(dataset, torch.utils.data.IterableDataset):
            options["shuffle"] = shuffle  # which PyTorch refuses in its own words
        else:
            self._choose_sampler(dataset, options)
        self._ring: Ring | None = None
        self._ringed = (
            isinstance(dataset, SynaDataset)
            and num_workers > 0
            and batch_size is not None
            and not options.get("pin_memory")
            and options.get("collate_fn") is None
        )
        if self._ringed:
            options["worker_init_fn"] = Start(options.get("worker_init_fn"))
        if batch_size is not None and options.get("collate_fn") is None:
            options["collate_fn"] = collate
        super().__init__(
            dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor if num_workers else None,
            **options,
        )

    def _stream(
        self, dataset: SynaIterableDataset, batch_size: int | None, options: dict[str, Any]
    ) -> SynaIterableDataset:
        """The dataset making whole batches, so that their order does not depend on the workers."""
        if dataset.batch_size is not None:
            if batch_size not in (None, 1, dataset.batch_size):
                raise ArgumentError(
                    0,
                    f"batch_size is {batch_size}, the dataset makes batches of "
                    f"{dataset.batch_size}",
                    reason=Reason.ARGUMENT,
                )
            batch_size = dataset.batch_size
        return dataset.batched(
            batch_size,
            drop_last=bool(options.pop("drop_last", False)) or dataset.drop_last,
            collate_fn=options.pop("collate_fn", None) or dataset.collate_fn,
            seed=self._seed if self._shuffle else None,
        )

    def _choose_sampler(self, dataset: Any, options: dict[str, Any]) -> None:
        name = "batch_sampler" if options.get("batch_sampler") is not None else "sampler"
        given = options.get(name)
        if given is None:
            given = SynaSampler(len(dataset), shuffle=self._shuffle, seed=self._seed)
        elif self._shuffle:
            options["shuffle"] = True  # which PyTorch refuses in its own words
        self._begin = given if hasattr(given, "begin_at") else Skipping(given)
        options[name] = self._begin

    # -------------------------------------------------------------------------------- epochs

    def set_epoch(self, epoch: int) -> None:
        """Make the next loop this epoch, from its beginning."""
        self._coming = self._at = (at_least(epoch, 0, "the epoch"), 0)

    def __iter__(self) -> Iterator[Any]:
        epoch, start = self._coming
        self._coming, self._at = (epoch + 1, 0), (epoch, start)
        skip = 0
        if isinstance(self.dataset, SynaIterableDataset):
            self.dataset.set_epoch(epoch, start)
        elif self._begin is None:
            skip = start
        else:
            if isinstance(self._begin, SynaSampler):
                self._begin.set_epoch(epoch)
            whole = self._begin is self.batch_sampler or self.batch_size is None
            self._begin.begin_at(start if whole else start * (self.batch_size or 1))
        self._make_ring()
        return self._deliver(super().__iter__(), self._ring, epoch, start, skip)

    def _make_ring(self) -> None:
        """A ring for the workers that the next loop starts; those that go on keep theirs."""
        if not self._ringed or (self._ring is not None and self.persistent_workers):
            return
        size = (self.batch_size or 0) * self.dataset.sample_bytes
        if 0 < size <= LARGEST:
            factor = self.prefetch_factor or 1
            self._ring = Ring(collate, self.num_workers, factor, size)
            self.collate_fn = self._ring

    def _deliver(
        self, batches: Iterator[Any], ring: Ring | None, epoch: int, start: int, skip: int
    ) -> Iterator[Any]:
        try:
            for number, batch in enumerate(islice(batches, skip, None), start + 1):
                self._at = (epoch, number)
                yield batch if ring is None else ring.take(batch)
            self._at = self._coming
        finally:
            # However the loop ends. Left to the garbage collector after an error, PyTorch waits
            # five seconds for each worker.
            if not self.persistent_workers:
                getattr(batches, "_shutdown_workers", int)()

    # --------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        """Where the loop stands: plain numbers, for `load_state_dict`.

        Batches count that were handed out; what workers have prepared beyond does not.
        """
        epoch, number = self._at
        epoch = self._foreign_epoch(epoch)
        return {"epoch": epoch, "batch": number, "seed": self._seed, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was called: the next loop yields the batches that came after it.

        A state of another dataset size, batch size or way of shuffling is an `ArgumentError`.
        """
        check_state(state, self._identity())
        epoch, self._seed = int(state["epoch"]), int(state["seed"])
        self._coming = self._at = (epoch, int(state["batch"]))
        if isinstance(self._begin, SynaSampler):
            self._begin.set_seed(self._seed)
        elif hasattr(self._begin, "set_epoch"):
            self._begin.set_epoch(epoch)
        elif isinstance(self.dataset, SynaIterableDataset) and self._shuffle:
            self.dataset.set_seed(self._seed)

    def _foreign_epoch(self, epoch: int) -> int:
        """The epoch of a sampler that was passed in is the one that counts."""
        if self._begin is None or isinstance(self._begin, SynaSampler):
            return epoch
        return int(getattr(self._begin, "epoch", epoch))

    def _identity(self) -> dict[str, Any]:
        source = self.dataset if self._begin is None else self._begin
        try:
            count = len(source)
        except TypeError:  # a stream of unknown length
            count = None
        size = getattr(self.dataset, "batch_size", None) if self.batch_size is None else None
        return {"length": count, "batch_size": size or self.batch_size, "shuffle": self._shuffle}


def _draw(generator: Any) -> int:
    torch = pytorch()
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def get_distributed_sampler(
    dataset: Any,
    num_replicas: int | None = None,
    rank: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool = False,
    *,
    uneven: Uneven | None = None,
) -> SynaDistributedSampler:
    """A sampler that gives each rank its share of the rows.

    Parameters
    ----------
    dataset : dataset with a length
    num_replicas, rank : int, optional
        How many processes share the rows, and which this is; by default those of
        `torch.distributed`, or of the environment variables ``WORLD_SIZE`` and ``RANK``, else the
        only one.
    shuffle : bool, default True
    seed : int, default 0
        The same on every rank.
    drop_last : bool, default False
        Short for ``uneven="drop"``.
    uneven : {"repeat", "drop", "exact"}, default "repeat"
        What happens when `num_replicas` does not divide the rows. Training in step needs equal
        ranks: rows of the beginning are repeated, or the rows left over are dropped. "exact": each
        row comes once, and some ranks get one more; for evaluation.

    Examples
    --------
    >>> shares = [get_distributed_sampler(range(5), 2, rank, uneven="exact") for rank in (0, 1)]
    >>> sorted(row for share in shares for row in share)
    [0, 1, 2, 3, 4]
    """
    return SynaDistributedSampler(
        dataset, num_replicas, rank, shuffle, seed, drop_last, uneven=uneven
    )


def create_distributed_loader(
    dataset: Any,
    batch_size: int = 1,
    num_workers: int = 0,
    prefetch_factor: int | None = 2,
    *,
    num_replicas: int | None = None,
    rank: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    drop_last: bool = False,
    uneven: Uneven | None = None,
    **options: Any,
) -> tuple[SynaDataLoader, SynaDistributedSampler]:
    """A loader for one of several ranks, and its sampler.

    Parameters
    ----------
    dataset, batch_size, num_workers, prefetch_factor, **options
        As for `SynaDataLoader`; `batch_size` is that of each rank.
    num_replicas, rank, shuffle, seed, drop_last, uneven
        As for `get_distributed_sampler`; `drop_last` also drops the last batch when it is shorter.

    Returns
    -------
    (SynaDataLoader, SynaDistributedSampler)
        Call ``sampler.set_epoch(epoch)`` before each epoch.

    Examples
    --------
    >>> loader, sampler = create_distributed_loader(range(6), 2, num_replicas=3, rank=0)
    >>> sampler.set_epoch(1)
    >>> [len(batch) for batch in loader]
    [2]
    """
    sampler = get_distributed_sampler(
        dataset, num_replicas, rank, shuffle, seed, drop_last, uneven=uneven
    )
    loader = SynaDataLoader(
        dataset,
        batch_size,
        False,
        num_workers,
        prefetch_factor,
        sampler=sampler,
        drop_last=drop_last,
        **options,
    )
    return loader, sampler


__all__ = [
    "SynaDataLoader",
    "SynaDataset",
    "SynaDistributedSampler",
    "SynaIterableDataset",
    "SynaSampler",
    "collate",
    "create_distributed_loader",
    "get_distributed_sampler",
    "is_torch_available",
]
