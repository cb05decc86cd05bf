"""The classes of PyTorch that ours inherit from, and what all of ours need.

Where PyTorch is missing, empty classes stand for its own, so that the modules can be imported; what
they hold begins by calling `pytorch`, which raises ImportError.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable

from synadb._optional import need
from synadb.errors import ArgumentError, Reason

Transform = Callable[[Any], Any]

if TYPE_CHECKING:

    class Dataset:
        pass

    class IterableDataset:
        pass

    class Sampler:
        pass

    class DistributedSampler:
        dataset: Any
        seed: int
        epoch: int
        shuffle: bool
        drop_last: bool
        rank: int
        num_replicas: int
        num_samples: int
        total_size: int

        def __init__(self, dataset: Any, **options: Any) -> None: ...

    class DataLoader:
        dataset: Any
        sampler: Any
        batch_sampler: Any
        batch_size: int | None
        drop_last: bool
        num_workers: int
        prefetch_factor: int | None
        persistent_workers: bool
        collate_fn: Any

        def __init__(self, dataset: Any, **options: Any) -> None: ...

        def __iter__(self) -> Iterator[Any]: ...

else:
    try:
        from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
        from torch.utils.data.distributed import DistributedSampler
    except ImportError:
        Dataset = type("Dataset", (), {})
        IterableDataset = type("IterableDataset", (), {})
        Sampler = type("Sampler", (), {})
        DistributedSampler = type("DistributedSampler", (), {})
        DataLoader = type("DataLoader", (), {})


def pytorch() -> Any:
    """PyTorch, imported now."""
    return need("torch", "torch")


def check_state(state: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse a saved state that is about something else."""
    for name, value in ours.items():
        if name in state and state[name] != value:
            raise ArgumentError(
                0,
                f"the state was saved with {name} {state[name]!r}, this has {value!r}",
                reason=Reason.ARGUMENT,
            )


def place(rank: int | None, world: int | None) -> tuple[int, int]:
    """Which rank this is and of how many: what was given, or what the process was started as."""
    if (rank is None) != (world is None):
        raise ArgumentError(
            0, "rank and num_replicas are given together or not at all", reason=Reason.ARGUMENT
        )
    if rank is not None and world is not None:
        return operator.index(rank), operator.index(world)
    distributed = pytorch().distributed
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return 0, 1


__all__ = [
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "IterableDataset",
    "Sampler",
    "Transform",
    "check_state",
    "place",
    "pytorch",
]
