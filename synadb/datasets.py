"""Hugging Face `datasets` over the tensors of a file, and kept in one.

`tensor_dataset`, `stream_dataset`
    Tensors as a `datasets.Dataset` over the file's own mapping, or as a stream that worker
    processes share.
`save_dataset`, `load_dataset`
    Any `datasets.Dataset` into a file and back. Its numeric columns become tensors, for all other
    loaders to use; the rest stays in Arrow's own format.

They import the package `datasets` when called, and raise ImportError when it is missing.
"""

from __future__ import annotations

import glob
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, Union
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from synadb._loading import Rows
from synadb._optional import available, need
from synadb._order import at_least
from synadb.db import SynaDB
from synadb.errors import ArgumentError, FormatVersionError, KeyNotFoundError, Reason
from synadb.tensor import TensorEngine

# What has to be installed for the examples below.
__doctest_requires__ = ("datasets",)

#: Column names with the pattern of each, or the pattern of the only column, ``"data"``.
Columns = Union[Mapping[str, str], str]

# Rows read, written or put into one Arrow array at a time.
_ROWS = 8192
_FORMAT = 1
_BLOCKS = "dataset.arrow/"
# The dtypes that tensors and Arrow share.
_KINDS = {
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
}  # fmt: skip
# Arrow's lists count elements in 31 bits.
_ELEMENTS = 1 << 30


def is_datasets_available() -> bool:
    """Whether the package `datasets` is installed.

    Examples
    --------
    >>> is_datasets_available()
    True
    """
    return available("datasets")


def _packages() -> tuple[Any, Any]:
    return need("datasets", "datasets"), need("pyarrow", "datasets")


# ---------------------------------------------------------------------------- tensors as columns


def tensor_dataset(path: str | os.PathLike[str], columns: Columns = "*") -> Any:
    """Tensors as the columns of a `datasets.Dataset`, without copying them.

    Parameters
    ----------
    path : str or os.PathLike
        The file; it is opened for reading.
    columns : mapping of str to str, or str
        For each column the pattern of its rows, as in `TensorEngine.get_tensor`; or one pattern,
        whose column is called ``"data"``. All of them have the same number of rows.

    Returns
    -------
    datasets.Dataset
        Rows of one dimension are lists of fixed length, of two to five dimensions
        ``Array2D`` to ``Array5D``.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("x/", np.arange(6, dtype=np.float32).reshape(3, 2))
    ...     _ = engine.put_tensor("y/", np.arange(3))
    >>> dataset = tensor_dataset(tmp / "data.db", {"image": "x/*", "label": "y/*"})
    >>> dataset[1]
    {'image': [2.0, 3.0], 'label': 1}
    """
    datasets, pa = _packages()
    sources = _sources(path, columns)
    features = datasets.Features({name: _feature(rows) for name, rows in sources.items()})
    arrays = [_chunked(pa, rows, features[name]) for name, rows in sources.items()]
    return datasets.Dataset(pa.table(arrays, schema=features.arrow_schema))


def stream_dataset(
    path: str | os.PathLike[str], columns: Columns = "*", *, num_shards: int = 16
) -> Any:
    """Tensors as a `datasets.IterableDataset` of numpy rows.

    Parameters
    ----------
    path, columns
        As for `tensor_dataset`.
    num_shards : int, default 16
        Into how many parts the rows are cut: as many worker processes or nodes can share them.
        Every row is in one of them.

    Examples
    --------
    >>> with TensorEngine(tmp / "data.db") as engine:
    ...     _ = engine.put_tensor("y/", np.arange(5))
    >>> stream = stream_dataset(tmp / "data.db", {"label": "y/*"}, num_shards=2)
    >>> sorted(int(row["label"]) for row in stream)
    [0, 1, 2, 3, 4]
    """
    datasets, _ = _packages()
    sources = _sources(path, columns)
    features = datasets.Features({name: _feature(rows) for name, rows in sources.items()})
    total = len(next(iter(sources.values())))
    shards = min(at_least(num_shards, 1, "num_shards"), max(total, 1))
    spans = [(total * n // shards, total * (n + 1) // shards) for n in range(shards)]
    return datasets.IterableDataset.from_generator(
        _span_rows, features=features, gen_kwargs={"sources": sources, "spans": spans}
    )


def _span_rows(sources: dict[str, Rows], spans: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    for start, stop in spans:
        for first in range(start, stop, _ROWS):
            span = slice(first, min(first + _ROWS, stop))
            block = {name: rows.fetch(span) for name, rows in sources.items()}
            for row in zip(*block.values()):
                yield dict(zip(block, row))


def _sources(path: str | os.PathLike[str], columns: Columns) -> dict[str, Rows]:
    patterns = {"data": columns} if isinstance(columns, str) else dict(columns)
    if not patterns:
        raise ArgumentError(0, "no columns; expected at least one", reason=Reason.ARGUMENT)
    sources: dict[str, Rows] = {}
    for name, pattern in patterns.items():
        first = next(iter(sources.values()), None)
        sources[name] = Rows(path, pattern) if first is None else first.beside(pattern)
    return sources


def _feature(rows: Rows) -> Any:
    datasets, _ = _packages()
    kind = _arrow_name(rows.dtype)
    if not rows.shape:
        return datasets.Value(kind)
    if len(rows.shape) == 1:
        return datasets.List(datasets.Value(kind), length=rows.shape[0])
    if len(rows.shape) > 5:
        raise ArgumentError(
            0,
            f"{rows.path}: rows of {rows.pattern!r} have {len(rows.shape)} dimensions; "
            "expected at most 5",
            reason=Reason.ARGUMENT,
        )
    return getattr(datasets, f"Array{len(rows.shape)}D")(shape=rows.shape, dtype=kind)


def _arrow_name(dtype: np.dtype[Any]) -> str:
    if dtype.name not in _KINDS:
        raise TypeError(f"Arrow has no type for dtype {dtype}")
    return dtype.name


def _chunked(pa: Any, rows: Rows, feature: Any) -> Any:
    """The rows as a chunked Arrow array over the mapping of the file."""
    kind = _packages()[0].Features({"column": feature}).arrow_schema.field("column").type
    step = max(_ELEMENTS // max(math.prod(rows.shape), 1), 1)
    whole = rows.whole()
    chunks = [
        _arrow_array(pa, whole[first : first + step], kind) for first in range(0, len(rows), step)
    ]
    return pa.chunked_array(chunks, type=kind)


def _arrow_array(pa: Any, rows: npt.NDArray[Any], kind: Any) -> Any:
    values = pa.array(rows.reshape(-1))
    if rows.ndim == 1:
        return values
    if rows.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(values, type=kind)
    for axis in range(rows.ndim - 1, 0, -1):
        count = math.prod(rows.shape[:axis])
        offsets = np.arange(count + 1, dtype=np.int32) * np.int32(rows.shape[axis])
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return pa.ExtensionArray.from_storage(kind, values)


# --------------------------------------------------------------------------- whole datasets, kept


def save_dataset(
    dataset: Any,
    path: str | os.PathLike[str],
    prefix: str = "",
    *,
    overwrite: bool = False,
) -> int:
    """Keep a `datasets.Dataset` in a file.

    Parameters
    ----------
    dataset : datasets.Dataset
        Rows that a selection or a shuffle left out are not stored.
    path : str or os.PathLike
        The file; created if missing.
    prefix : str, default ""
        What the names of everything that is stored begin with. Columns of numbers, of lists of
        numbers of one length, and of arrays become tensors ``<prefix><column>/``; all others, and
        those with missing values, Arrow record batches.
    overwrite : bool, default False
        Replace the dataset that is there. Interrupted, neither is there.

    Returns
    -------
    int
        The number of rows.

    Raises
    ------
    ArgumentError
        There is a dataset under that prefix already.

    Notes
    -----
    Rows are stored in blocks, so that memory does not limit the size; the description that makes
    them a dataset comes last, when everything before it is on disk.

    Examples
    --------
    >>> import datasets
    >>> made = datasets.Dataset.from_dict({"text": ["one", "two"], "label": [0, 1]})
    >>> save_dataset(made, tmp / "texts.db", "train/")
    2
    >>> load_dataset(tmp / "texts.db", "train/")[1]
    {'text': 'two', 'label': 1}
    >>> with TensorEngine(tmp / "texts.db") as engine:
    ...     engine.get_tensor("train/label/*", dtype=np.int64)
    array([0, 1])
    """
    datasets, pa = _packages()
    if not isinstance(dataset, datasets.Dataset):
        raise TypeError(f"expected a datasets.Dataset, not {type(dataset).__name__}")
    with SynaDB(path, sync_on_write=False) as db, TensorEngine(path) as engine:
        if db.exists(_info_key(prefix)) and not overwrite:
            raise ArgumentError(
                0,
                f"{db.path}: there is a dataset under {prefix!r} already",
                reason=Reason.ARGUMENT,
                path=db.path,
            )
        _forget(db, engine, prefix)
        shapes = _tensor_columns(datasets, dataset)
        table = dataset.with_format("arrow")
        for number, first in enumerate(range(0, max(len(dataset), 1), _ROWS)):
            block = table[first : first + _ROWS]
            for name, (shape, dtype) in shapes.items():
                rows = _numbers(block.column(name), (block.num_rows, *shape), dtype)
                store = engine.append_rows if number else engine.put_tensor
                store(_tensor_name(prefix, name), rows)
            others = block.drop_columns(list(shapes))
            if others.num_columns:
                db.put_bytes(_block_key(prefix, number), _packed(pa, others))
        info = {
            "format": _FORMAT,
            "rows": len(dataset),
            "features": dataset.features.to_dict(),
            "tensors": list(shapes),
        }
        db.flush()
        db.put_text(_info_key(prefix), json.dumps(info))
        db.flush()
    return len(dataset)


def load_dataset(path: str | os.PathLike[str], prefix: str = "") -> Any:
    """The `datasets.Dataset` that `save_dataset` kept: the same columns, types and rows.

    Its tensors are used where they lie in the file, without copying.

    Raises
    ------
    KeyNotFoundError
        There is no dataset under that prefix, or storing it was interrupted.
    """
    datasets, pa = _packages()
    with SynaDB(path, read_only=True) as db:
        info = _info(db, prefix)
        features = datasets.Features.from_dict(info["features"])
        columns: dict[str, Any] = {}
        for name in info["tensors"]:
            rows = Rows(path, _pattern(_tensor_name(prefix, name)))
            columns[name] = _chunked(pa, rows, features[name])
        if len(columns) < len(features):
            blocks = [
                pa.ipc.open_stream(db.get_bytes(_block_key(prefix, number))).read_all()
                for number in range(max(-(-info["rows"] // _ROWS), 1))
            ]
            others = pa.concat_tables(blocks)
            columns.update((name, others.column(name)) for name in others.column_names)
    table = pa.table([columns[name] for name in features], schema=features.arrow_schema)
    return datasets.Dataset(table)


def _info_key(prefix: str) -> str:
    return f"{prefix}dataset.json"


def _block_key(prefix: str, number: int) -> str:
    return f"{prefix}{_BLOCKS}{number:08}"


def _tensor_name(prefix: str, column: str) -> str:
    """Where a column lies; characters that mean something in a pattern are written as %xx."""
    return f"{prefix}{quote(column, safe=' ')}/"


def _info(db: SynaDB, prefix: str) -> dict[str, Any]:
    text = db.get_text(_info_key(prefix))
    if text is None:
        raise KeyNotFoundError(-5, f"{db.path}: there is no dataset under {prefix!r}", path=db.path)
    info: dict[str, Any] = json.loads(text)
    if info.get("format") != _FORMAT:
        raise FormatVersionError(
            -4,
            f"{db.path}: the dataset under {prefix!r} has format {info.get('format')!r}, "
            f"expected {_FORMAT}",
            reason=Reason.NEWER_FORMAT,
            path=db.path,
        )
    return info


def _forget(db: SynaDB, engine: TensorEngine, prefix: str) -> None:
    """Delete the dataset under the prefix; its description first, so that half of one has none."""
    text = db.get_text(_info_key(prefix))
    db.delete(_info_key(prefix))
    db.flush()
    for name in json.loads(text)["tensors"] if text else []:
        engine.delete(_pattern(_tensor_name(prefix, name)))
    for key in list(db.scan(prefix=f"{prefix}{_BLOCKS}", keys_only=True)):
        db.delete(key)


def _tensor_columns(
    datasets: Any, dataset: Any
) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """The columns that are tensors, each with the shape and dtype of its rows."""
    found = {}
    for name, feature in dataset.features.items():
        shape: tuple[Any, ...] = ()
        kind = getattr(feature, "dtype", "")
        if isinstance(feature, datasets.List):
            shape, kind = (feature.length,), getattr(feature.feature, "dtype", "")
            if not isinstance(feature.feature, datasets.Value):
                continue
        elif getattr(feature, "shape", None):
            shape = tuple(feature.shape)
        elif not isinstance(feature, (datasets.Value, datasets.ClassLabel)):
            continue
        fixed = all(isinstance(length, int) and length > 0 for length in shape)
        if kind in _KINDS and fixed and not _has_nulls(dataset.data.column(name)):
            found[name] = shape, np.dtype(kind)
    return found


def _has_nulls(column: Any) -> bool:
    return any(_values(chunk) is None for chunk in column.chunks)


def _values(array: Any) -> Any:
    """The innermost values of an Arrow array of lists; None when a value or list is missing."""
    while True:
        if array.null_count:
            return None
        if hasattr(array, "storage"):
            array = array.storage
        elif hasattr(array, "flatten") and hasattr(array.type, "value_type"):
            array = array.flatten()
        else:
            return array


def _numbers(column: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    values = _values(column.combine_chunks())
    array: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return array.reshape(shape)


def _packed(pa: Any, table: Any) -> bytes:
    """A table as an Arrow stream."""
    out = io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


def _pattern(prefix: str) -> str:
    return glob.escape(prefix) + "*"


__all__ = [
    "is_datasets_available",
    "load_dataset",
    "save_dataset",
    "stream_dataset",
    "tensor_dataset",
]
