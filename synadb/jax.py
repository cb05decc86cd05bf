"""Rows of a file as JAX arrays, and as a source for Grain's pipelines.

`SynaSource` needs neither library; the functions import what they need and raise ImportError when
it is missing.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._loading import Rows
from synadb._optional import available, need
from synadb._order import Epoch, Indices, Uneven, at_least

# What has to be installed for the examples below.
__doctest_requires__ = ("jax", "grain")


def is_jax_available() -> bool:
    """Whether JAX is installed.

    Examples
    --------
    >>> is_jax_available()
    True
    """
    return available("jax")


class SynaSource:
    """The rows under a pattern as numpy arrays, each reachable by its number.

    What Grain calls a random access source: a length, items, and picklable, so that worker
    processes read the file for themselves.

    Parameters
    ----------
    path : str or os.PathLike
        The file; it is opened for reading, beside whoever writes to it.
    pattern : str, default "*"
        Which tensors, as in `TensorEngine.get_tensor`; a row is an entry of the first dimension.
    targets : str, optional
        A pattern of as many rows: items are then pairs (row, target).

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(6).reshape(3, 2))
    >>> source = SynaSource(tmp / "data.db", "train/*")
    >>> len(source), source[1]
    (3, array([2, 3]))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pattern: str = "*",
        *,
        targets: str | None = None,
    ) -> None:
        self._rows = Rows(path, pattern)
        self._targets = None if targets is None else self._rows.beside(targets)

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        """One row, or one pair; a negative index counts from the end."""
        number = operator.index(index)
        if number < 0:
            number += len(self)
        return self.__getitems__([number])[0]

    def __getitems__(self, indices: Sequence[int] | Indices) -> list[Any]:
        """Many of them with one read, in the order of `indices`."""
        batch = self.batch(indices)
        return list(zip(*batch)) if isinstance(batch, tuple) else list(batch)

    def batch(self, indices: Sequence[int] | Indices) -> Any:
        """Many rows as one array, or a pair of arrays."""
        rows = self._rows.fetch(indices)
        return rows if self._targets is None else (rows, self._targets.fetch(indices))

    def close(self) -> None:
        """Close the file in this process; the next read opens it again."""
        self._rows.close()
        if self._targets is not None:
            self._targets.close()

    def __repr__(self) -> str:
        return f"SynaSource({self._rows.path!r}, {self._rows.pattern!r})"


def grain_dataset(
    path: str | os.PathLike[str], pattern: str = "*", *, targets: str | None = None
) -> Any:
    """The rows as a `grain.MapDataset`, to be shuffled, mapped and batched with Grain.

    Its iterators can be saved and resumed (``get_state``, ``set_state``).

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(6).reshape(3, 2))
    >>> dataset = grain_dataset(tmp / "data.db", "train/*").batch(3)
    >>> dataset[0].shape
    (3, 2)
    """
    return need("grain", "jax").MapDataset.source(SynaSource(path, pattern, targets=targets))


def get_tensor_jax(
    db_path: str | os.PathLike[str],
    pattern: str = "*",
    device: Any = None,
    dtype: npt.DTypeLike | None = None,
) -> Any:
    """All rows under a pattern as one JAX array.

    Parameters
    ----------
    db_path, pattern
        As for `SynaSource`.
    device : jax.Device or Sharding, optional
        Where to put it; default: JAX's own default device.
    dtype : dtype, optional
        Convert to it; default: as stored. JAX keeps 64-bit types only when ``jax_enable_x64`` is
        set, and makes 32-bit ones of them otherwise.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.ones((3, 2), np.float32))
    >>> get_tensor_jax(tmp / "data.db", "train/*").shape
    (3, 2)
    """
    jax = need("jax", "jax")
    with Rows(db_path, pattern) as rows:
        whole = rows.fetch(slice(0, len(rows)))
    return _put(jax, whole, device, dtype)


class SynaBatches:
    """Batches of JAX arrays, one epoch for each ``for`` loop, and where the loop stands.

    Parameters
    ----------
    path, pattern, targets
        As for `SynaSource`; with `targets` batches are pairs.
    batch_size : int, default 256
    shuffle : bool, default False
        A new order in every epoch.
    seed : int, default 0
        Decides the order together with the epoch.
    drop_last : bool, default False
        Leave out the last batch when it is shorter: arrays of one shape are compiled for once.
    device : jax.Device or Sharding, optional
    dtype : dtype, optional
        Of the rows; default: as stored.
    rank, num_replicas : int
        The share of one of several processes (``jax.process_index()``, ``jax.process_count()``).
    uneven : {"exact", "repeat", "drop"}, default "exact"
        What happens when `num_replicas` does not divide the rows, see `synadb.torch`.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(5, dtype=np.int32))
    >>> batches = SynaBatches(tmp / "data.db", "train/*", batch_size=2)
    >>> [batch.tolist() for batch in batches]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pattern: str = "*",
        *,
        targets: str | None = None,
        batch_size: int = 256,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        device: Any = None,
        dtype: npt.DTypeLike | None = None,
        rank: int = 0,
        num_replicas: int = 1,
        uneven: Uneven = "exact",
    ) -> None:
        self._jax = need("jax", "jax")
        self._source = SynaSource(path, pattern, targets=targets)
        self._order = Epoch(
            len(self._source), bool(shuffle), seed, 0, rank, num_replicas, uneven=uneven
        )
        self._size = at_least(batch_size, 1, "batch_size")
        self._drop_last = bool(drop_last)
        self._device = device
        self._dtype = dtype
        self._coming = self._at = (0, 0)  # epoch and batch: of the next loop; of the state

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self._order.batch_count(self._size, drop_last=self._drop_last)

    def __iter__(self) -> Iterator[Any]:
        epoch, start = self._coming
        self._coming, self._at = (epoch + 1, 0), (epoch, start)
        order = replace(self._order, epoch=epoch)
        batches = order.batches(self._size, start=start, drop_last=self._drop_last)
        return self._deliver(batches, epoch, start)

    def _deliver(self, batches: Iterator[Indices], epoch: int, start: int) -> Iterator[Any]:
        for number, indices in enumerate(batches, start + 1):
            batch = self._source.batch(indices)
            self._at = (epoch, number)
            if isinstance(batch, tuple):
                rows, targets = batch
                yield self._put(rows), _put(self._jax, targets, self._device, None)
            else:
                yield self._put(batch)
        self._at = self._coming

    def _put(self, rows: npt.NDArray[Any]) -> Any:
        return _put(self._jax, rows, self._device, self._dtype)

    def state_dict(self) -> dict[str, int]:
        """Where the loop stands: plain numbers, for `load_state_dict`."""
        return {"epoch": self._at[0], "batch": self._at[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state_dict` was called: the next loop yields what came after it."""
        self._coming = self._at = (
            at_least(state["epoch"], 0, "the epoch"), at_least(state["batch"], 0, "the batch")
        )  # fmt: skip

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._source.close()


def _put(jax: Any, rows: npt.NDArray[Any], device: Any, dtype: npt.DTypeLike | None) -> Any:
    if dtype is not None:
        rows = rows.astype(np.dtype(dtype), copy=False)
    return jax.device_put(rows, device)


__all__ = ["SynaBatches", "SynaSource", "get_tensor_jax", "grain_dataset", "is_jax_available"]
