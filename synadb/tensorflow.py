"""Rows of a file as `tf.data` datasets, for one process or for `tf.distribute`.

Whole batches come out of the file with one read each. A dataset made here reads in the process that
made it; TensorFlow cannot send it to another one. Without TensorFlow this module can be imported;
what needs it raises ImportError.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any, Callable

from synadb._loading import Rows
from synadb._optional import available, need
from synadb._order import Epoch, Uneven, at_least

# What has to be installed for the examples below.
__doctest_requires__ = ("tensorflow",)


def is_tensorflow_available() -> bool:
    """Whether TensorFlow is installed. It is not imported, which takes many seconds.

    Examples
    --------
    >>> is_tensorflow_available()
    True
    """
    return available("tensorflow")


def _tensorflow() -> Any:
    return need("tensorflow", "tensorflow")


class SynaDataset:
    """The rows under a pattern of a file, from which `tf.data` datasets are made.

    Parameters
    ----------
    path : str or os.PathLike
        The file; it is opened for reading, beside whoever writes to it.
    pattern : str, default "*"
        Which tensors, as in `TensorEngine.get_tensor`; a row is an entry of the first dimension.
    targets : str, optional
        A pattern of as many rows: elements are then pairs (rows, targets).

    Raises
    ------
    ImportError
        TensorFlow is not installed.
    KeyNotFoundError
        Nothing matches the pattern.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(5, dtype=np.float32))
    >>> with SynaDataset(tmp / "data.db", "train/*") as dataset:
    ...     for batch in dataset.to_tf_dataset(batch_size=3):
    ...         print(batch.numpy())
    [0. 1. 2.]
    [3. 4.]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        pattern: str = "*",
        *,
        targets: str | None = None,
    ) -> None:
        _tensorflow()
        self._rows = Rows(path, pattern)
        self._targets = None if targets is None else self._rows.beside(targets)

    @property
    def path(self) -> str:
        """The file."""
        return self._rows.path

    @property
    def pattern(self) -> str:
        """Which tensors."""
        return self._rows.pattern

    def keys(self) -> list[str]:
        """The names that match the pattern, as `TensorEngine.keys` gives them."""
        return self._rows.keys()

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def to_tf_dataset(
        self,
        batch_size: int = 32,
        dtype: Any = None,
        shuffle: bool = False,
        buffer_size: int | None = None,
        *,
        seed: int = 0,
        drop_remainder: bool = False,
        num_shards: int = 1,
        index: int = 0,
        uneven: Uneven = "exact",
    ) -> Any:
        """A `tf.data.Dataset` of batches.

        Parameters
        ----------
        batch_size : int, default 32
        dtype : numpy or TensorFlow dtype, optional
            Convert the rows to it; default: as stored. Targets stay as stored.
        shuffle : bool, default False
            A new order each time that the dataset is iterated over.
        buffer_size : int, optional
            Taken for the sake of programs that pass it: the order is always one of all rows.
        seed : int, default 0
            Decides the orders; the first iteration has the first one.
        drop_remainder : bool, default False
            Leave out the last batch when it is shorter; the batch dimension is then fixed.
        num_shards, index : int
            Only the share of one of several pipelines. Every row is in one share.
        uneven : {"exact", "repeat", "drop"}, default "exact"
            What happens when `num_shards` does not divide the rows, see `synadb.torch`.
        """
        size = at_least(batch_size, 1, "batch_size")
        if buffer_size is not None:
            at_least(buffer_size, 1, "buffer_size")
        order = Epoch(len(self), bool(shuffle), seed, rank=index, world=num_shards, uneven=uneven)
        return _dataset(self._rows, self._targets, order, size, dtype, bool(drop_remainder))

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._rows.close()
        if self._targets is not None:
            self._targets.close()

    def __enter__(self) -> SynaDataset:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SynaDataset {self.path!r}, {self.pattern!r}, {len(self):,} rows>"


def _dataset(
    rows: Rows, targets: Rows | None, order: Epoch, size: int, dtype: Any, drop: bool
) -> Any:
    tf = _tensorflow()
    kind = tf.as_dtype(rows.dtype_name if dtype is None else dtype)
    array_kind = kind.as_numpy_dtype
    leading = size if drop else None

    def signature(source: Rows, of: Any) -> Any:
        return tf.TensorSpec((leading, *source.shape), of)

    epochs = count()

    def batches() -> Iterator[Any]:
        for indices in replace(order, epoch=next(epochs)).batches(size, drop_last=drop):
            batch = rows.fetch(indices).astype(array_kind, copy=False)
            yield batch if targets is None else (batch, targets.fetch(indices))

    specs = signature(rows, kind)
    if targets is not None:
        specs = (specs, signature(targets, tf.as_dtype(targets.dtype_name)))
    made = tf.data.Dataset.from_generator(batches, output_signature=specs)
    length = order.batch_count(size, drop_last=drop)
    return made.apply(tf.data.experimental.assert_cardinality(length))


def syna_dataset(
    path: str | os.PathLike[str],
    pattern: str = "*",
    batch_size: int = 32,
    dtype: Any = None,
    *,
    targets: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
) -> Any:
    """A `tf.data.Dataset` of batches of the rows under a pattern.

    Parameters
    ----------
    path, pattern, targets
        As for `SynaDataset`.
    batch_size, dtype, shuffle, seed, drop_remainder
        As for `SynaDataset.to_tf_dataset`.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(6).reshape(3, 2))
    >>> dataset = syna_dataset(tmp / "data.db", "train/*", batch_size=2, dtype="float32")
    >>> [batch.shape.as_list() for batch in dataset]
    [[2, 2], [1, 2]]
    """
    return SynaDataset(path, pattern, targets=targets).to_tf_dataset(
        batch_size, dtype, shuffle, seed=seed, drop_remainder=drop_remainder
    )


def create_distributed_dataset(
    path: str | os.PathLike[str],
    pattern: str = "*",
    batch_size: int = 32,
    dtype: Any = None,
    *,
    targets: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
) -> Any:
    """A `tf.data.Dataset` for ``strategy.experimental_distribute_dataset``.

    It is `syna_dataset` with the auto-shard policy DATA: each worker of the strategy reads the file
    and takes its part of the batches. `batch_size` is that of all replicas together.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(4))
    >>> dataset = create_distributed_dataset(tmp / "data.db", "train/*", batch_size=2)
    >>> dataset.options().experimental_distribute.auto_shard_policy.name
    'DATA'
    """
    tf = _tensorflow()
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return syna_dataset(
        path,
        pattern,
        batch_size,
        dtype,
        targets=targets,
        shuffle=shuffle,
        seed=seed,
        drop_remainder=drop_remainder,
    ).with_options(options)


def distributed_dataset_fn(
    path: str | os.PathLike[str],
    pattern: str = "*",
    batch_size: int = 32,
    dtype: Any = None,
    *,
    targets: str | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_remainder: bool = False,
) -> Callable[[Any], Any]:
    """The function that ``strategy.distribute_datasets_from_function`` calls on each worker.

    Each input pipeline reads its own share of the rows only, and every row is in one share;
    `batch_size` is that of all replicas together. Other arguments as for `syna_dataset`.

    Examples
    --------
    >>> import tensorflow as tf
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("train/", np.arange(4))
    >>> make = distributed_dataset_fn(tmp / "data.db", "train/*", batch_size=2)
    >>> context = tf.distribute.InputContext(num_input_pipelines=2, input_pipeline_id=1)
    >>> [batch.numpy().tolist() for batch in make(context)]
    [[1, 3]]
    """

    def dataset_fn(context: Any) -> Any:
        return SynaDataset(path, pattern, targets=targets).to_tf_dataset(
            context.get_per_replica_batch_size(batch_size),
            dtype,
            shuffle,
            seed=seed,
            drop_remainder=drop_remainder,
            num_shards=context.num_input_pipelines,
            index=context.input_pipeline_id,
        )

    return dataset_fn


__all__ = [
    "SynaDataset",
    "create_distributed_dataset",
    "distributed_dataset_fn",
    "is_tensorflow_available",
    "syna_dataset",
]
