"""Rows of a file for TPUs: arrays and batches of one fixed shape, by way of JAX or `tf.data`.

Everything works on any JAX device; only `is_tpu_available`, `get_tpu_count` and `get_tpu_info` are
about TPUs. Without JAX they are False, 0 and None.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._loading import Rows
from synadb._optional import available, need
from synadb._order import Epoch, at_least
from synadb.errors import ArgumentError, Reason
from synadb.jax import get_tensor_jax

# What has to be installed for the examples below.
__doctest_requires__ = ("jax",)


def _tpus() -> list[Any]:
    if not available("jax"):
        return []
    try:
        return list(need("jax", "jax").devices("tpu"))
    except RuntimeError:  # JAX's word for no such devices
        return []


def is_tpu_available() -> bool:
    """Whether JAX is installed and sees a TPU.

    Examples
    --------
    >>> is_tpu_available() == (get_tpu_count() > 0)
    True
    """
    return bool(_tpus())


def get_tpu_count() -> int:
    """How many TPU devices JAX sees; 0 without JAX."""
    return len(_tpus())


def get_tpu_info() -> dict[str, Any] | None:
    """Facts about the TPUs, or None when there are none.

    Returns
    -------
    dict or None
        ``kind``; ``count``, of all processes; ``local_count``; ``process_index`` and
        ``process_count``.

    Examples
    --------
    >>> get_tpu_info() is None or get_tpu_info()["count"] > 0
    True
    """
    devices = _tpus()
    if not devices:
        return None
    jax = need("jax", "jax")
    return {
        "kind": devices[0].device_kind,
        "count": len(devices),
        "local_count": len(jax.local_devices(backend="tpu")),
        "process_index": jax.process_index(),
        "process_count": jax.process_count(),
    }


def get_tensor_dataset(
    db_path: str | os.PathLike[str],
    pattern: str = "*",
    batch_size: int = 1024,
    dtype: Any = "float32",
) -> Any:
    """A `tf.data.Dataset` of batches of one shape: the last one is left out when it is shorter.

    Needs TensorFlow. Parameters as for `synadb.tensorflow.syna_dataset`.
    """
    from synadb.tensorflow import syna_dataset

    return syna_dataset(db_path, pattern, batch_size, dtype, drop_remainder=True)


def iter_batches_for_tpu(
    db_path: str | os.PathLike[str],
    pattern: str = "*",
    batch_size: int = 1024,
    global_batch_size: int | None = None,
    *,
    dtype: npt.DTypeLike | None = None,
    device: Any = None,
) -> Iterator[Any]:
    """JAX arrays of one fixed shape: what was compiled for the first batch serves all of them.

    Parameters
    ----------
    db_path, pattern
        As for `synadb.jax.SynaSource`.
    batch_size : int, default 1024
        Rows in a batch of this process. The last batch is filled up with zeros.
    global_batch_size : int, optional
        Rows in a batch of all processes together, instead of `batch_size`: every process gets its
        share of the rows, and all get the same number of batches.
    dtype : dtype, optional
        Convert to it; default: as stored.
    device : jax.Device or Sharding, optional

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(1, 6, dtype=np.int32))
    >>> for batch in iter_batches_for_tpu(tmp / "data.db", "train/*", batch_size=3):
    ...     print(batch.tolist())
    [1, 2, 3]
    [4, 5, 0]
    """
    jax = need("jax", "jax")
    rank, world, size = 0, 1, at_least(batch_size, 1, "batch_size")
    if global_batch_size is not None:
        rank, world = jax.process_index(), jax.process_count()
        size = at_least(global_batch_size, 1, "global_batch_size") // world
        if size * world != global_batch_size:
            raise ArgumentError(
                0,
                f"global_batch_size is {global_batch_size}, which {world} processes cannot share",
                reason=Reason.ARGUMENT,
            )
    rows = Rows(db_path, pattern)
    return _padded(jax, rows, Epoch(len(rows), rank=rank, world=world), size, dtype, device)


def _padded(
    jax: Any, rows: Rows, order: Epoch, size: int, dtype: npt.DTypeLike | None, device: Any
) -> Iterator[Any]:
    kind = rows.dtype if dtype is None else np.dtype(dtype)
    with rows:
        # The first rank has the most rows; where it has some left, the others send zeros.
        for first in range(0, -(-order.count // order.world), size):
            indices = order.rows(first, first + size)
            batch = np.zeros((size, *rows.shape), kind)
            batch[: len(indices)] = rows.fetch(indices)
            yield jax.device_put(batch, device)


__all__ = [
    "get_tensor_dataset",
    "get_tensor_jax",
    "get_tpu_count",
    "get_tpu_info",
    "is_tpu_available",
    "iter_batches_for_tpu",
]
