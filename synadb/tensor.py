"""`TensorEngine`: typed arrays of any size, stored and loaded as a whole, by rows or in batches."""

from __future__ import annotations

import importlib
import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
import numpy.typing as npt

from synadb._arrays import refused
from synadb._core import tensor as _tensor
from synadb._optional import need
from synadb.errors import KeyNotFoundError

if TYPE_CHECKING:
    from synadb._core.tensor import TensorSet

Shape = Union[int, Sequence[int], Literal["stored"], None]

# dtype names by the numbers of the C interface (SYNA_DTYPE_*).
_NAMES = (
    "float32", "float64", "int32", "int64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2",
    "int8", "int16", "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
)  # fmt: skip
_CODES = {name: code for code, name in enumerate(_NAMES)}
_BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
_CODECS: dict[str | None, int] = {None: 0, "lz4": 1}

_PLAIN = _tensor.SELECT_PLAIN
_ELEMENTS = _tensor.SELECT_ELEMENTS
_CHUNKS = _tensor.SELECT_CHUNKS
_ALL = _PLAIN | _ELEMENTS | _CHUNKS
_NAME = _tensor.SELECT_NAME
_BY_ELEMENTS = (_ELEMENTS | _PLAIN, _CHUNKS)
_BY_CHUNKS = (_CHUNKS, _ELEMENTS | _PLAIN)


@dataclass(frozen=True)
class TensorInfo:
    """What is stored under a prefix.

    Attributes
    ----------
    name : str
        The prefix.
    dtype : numpy.dtype
        As `TensorEngine.get_tensor` returns it for ``dtype=None``.
    dtype_name : str
        The stored type: ``"bfloat16"`` also where `dtype` is the ``uint16`` of its bits.
    shape : tuple of int
    elements : int
        The product of `shape`.
    rows : int
        ``shape[0]``; 1 for a tensor without dimensions.
    chunked : bool
        Stored by `TensorEngine.put_tensor_chunked`.
    chunk_size : int or None
        Elements per chunk key of a chunked tensor.
    codec : str or None
    nbytes : int
        Of the elements.
    stored_bytes : int
        Of the chunks in the file; less than `nbytes` when compressed.
    """

    name: str
    dtype: np.dtype[Any]
    dtype_name: str
    shape: tuple[int, ...]
    elements: int
    rows: int
    chunked: bool
    chunk_size: int | None
    codec: str | None
    nbytes: int
    stored_bytes: int


class TensorEngine(_tensor.TensorHandle):
    """Arrays under key prefixes in one file, loaded at memory speed.

    An array is stored under a *prefix*; its elements have the keys ``prefix0000``, ``prefix0001``,
    ... (four digits, more when there are more elements). The keys are virtual: they can be listed,
    matched by patterns and deleted, and cost nothing in the file. Patterns are shell patterns
    (``*`` crosses ``/``) and also match the keys of floats and ints stored with `SynaDB`.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log:
        ``synadb verify``, backups and histories work on it. The same file opened as `SynaDB`, or
        again, in one process is one open database.
    sync_on_write : bool, default True
        A write is on disk when its call returns. False: it survives the end of the process at
        once, and power loss after `flush` or `close`.
    read_only : bool, default False
        Never write; the file may be open for writing in another process.

    Raises
    ------
    LockedError
        Another process writes to the file.

    Notes
    -----
    Every put replaces what its prefix held of the same kind (elements, or chunks), in one commit:
    readers and crashes see the old array or the new one. Shape and dtype are remembered. dtypes:
    float16, float32, float64, int8 to int64, uint8 to uint64, bool, complex64, complex128, and
    bfloat16, float8_e4m3fn and float8_e5m2 of the package ml_dtypes; where that is not installed,
    these are returned as the uint16 or uint8 of their bits. Big-endian arrays are converted. Each
    chunk's checksum is compared when it is first used after opening.

    Any method may be called from any thread; the GIL is released while the core works. After
    `os.fork` a child may read.

    Examples
    --------
    >>> with TensorEngine(tmp / "training.db") as engine:
    ...     _ = engine.put_tensor("train/X/", np.arange(6, dtype=np.float32).reshape(2, 3))
    ...     X = engine.get_tensor("train/X/*", shape=(2, 3), dtype=np.float32)
    ...     print(X, engine.keys("train/*")[:2])
    [[0. 1. 2.]
     [3. 4. 5.]] ['train/X/0000', 'train/X/0001']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync_on_write: bool = True,
        read_only: bool = False,
    ) -> None:
        self._open(path, bool(sync_on_write), bool(read_only))

    def __enter__(self) -> TensorEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TensorEngine {self.path!r}{' closed' if self.closed else ''}>"

    # ------------------------------------------------------------------------------- storing

    def put_tensor(self, prefix: str, tensor: npt.ArrayLike, *, codec: str | None = None) -> int:
        """Store an array under a prefix, in the place of what was stored there before.

        Parameters
        ----------
        prefix : str
            Usually ends in ``/``. The elements' keys are the prefix and their number.
        tensor : array_like
            Of any shape and a dtype of those named at the class. Copied row by row (C order).
        codec : {None, "lz4"}, default None
            ``"lz4"`` stores bytes of equal significance together and compresses them. Loading
            then decompresses; ``view=True`` copies.

        Returns
        -------
        int
            The number of elements.

        Raises
        ------
        TypeError
            An object, text, date, structured or masked array.

        Notes
        -----
        One commit: after an error or a crash the old array is there.

        Examples
        --------
        >>> with TensorEngine(tmp / "put.db") as engine:
        ...     engine.put_tensor("values/", [1.0, 2.0, 3.0])
        3
        """
        array = _storable(tensor)
        self._put(prefix, False, _code_of(array), array.shape, 0, _codec(codec), _bytes_of(array))
        return array.size

    def put_tensor_chunked(
        self,
        prefix: str,
        tensor: npt.ArrayLike,
        chunk_size: int = 1000,
        *,
        codec: str | None = None,
    ) -> int:
        """Store an array whose keys name chunks: ``prefix + "chunk_0000"`` and so on.

        As `put_tensor`, but with a key per `chunk_size` elements, so that patterns can pick out
        parts of a large array. How the bytes lie in the file does not depend on `chunk_size`.

        Returns
        -------
        int
            The number of chunk keys.

        Examples
        --------
        >>> with TensorEngine(tmp / "chunked.db") as engine:
        ...     chunks = engine.put_tensor_chunked("w/", np.ones((50, 50)), chunk_size=1000)
        ...     print(chunks, engine.get_tensor_chunked("w/chunk_*").shape, engine.keys())
        3 (50, 50) ['w/chunk_0000', 'w/chunk_0001', 'w/chunk_0002']
        """
        size = min(_at_least_one("chunk_size", chunk_size), 2**63 - 1)
        array = _storable(tensor)
        self._put(prefix, True, _code_of(array), array.shape, size, _codec(codec), _bytes_of(array))
        return -(-array.size // size)

    def append_rows(self, name: str, rows: npt.ArrayLike) -> int:
        """Add rows behind those of the array stored under the prefix `name`.

        Parameters
        ----------
        name : str
            A prefix. Where nothing is stored under it, the rows become a new array.
        rows : array_like, shape (n, ...)
            The shape of a row must be that of the stored ones. Converted to the stored dtype by
            value; what that cannot hold is refused.

        Returns
        -------
        int
            The number of rows afterwards.

        Raises
        ------
        ValueError
            The rows have another shape, or values that the stored dtype cannot hold.

        Notes
        -----
        Costs what the new rows cost, and now and then as much again to keep the pieces few. One
        commit. An array grown in steps may lie in several pieces; ``view=True`` then copies.

        Examples
        --------
        >>> with TensorEngine(tmp / "append.db") as engine:
        ...     _ = engine.put_tensor("log/", np.zeros((2, 3), np.float32))
        ...     engine.append_rows("log/", np.ones((4, 3)))
        6
        """
        for _ in range(8):  # somebody else may create or delete it meanwhile
            try:
                known = self.info(name)
            except KeyNotFoundError:
                first = np.atleast_1d(_storable(rows))
                self.put_tensor(name, first)
                return len(first)
            array = np.atleast_1d(_convert(_storable(rows), known.dtype))
            array = np.ascontiguousarray(array)
            try:
                return self._append(
                    name, known.chunked, _CODES[known.dtype_name], array.shape, _bytes_of(array)
                )
            except KeyNotFoundError:
                continue
        raise KeyNotFoundError(-5, f"{self.path}: the tensor {name!r} keeps being deleted")

    def delete(self, pattern: str) -> int:
        """Delete what the pattern matches: whole arrays, and plain floats and ints.

        Returns
        -------
        int
            The number of keys deleted.

        Raises
        ------
        ValueError
            The pattern matches only some keys of an array; nothing is deleted.

        Examples
        --------
        >>> with TensorEngine(tmp / "delete.db") as engine:
        ...     _ = engine.put_tensor("a/", np.zeros(5))
        ...     print(engine.delete("a/*"), engine.keys())
        5 []
        """
        return self._delete(pattern, _ALL)

    # ------------------------------------------------------------------------------- loading

    def get_tensor(
        self,
        pattern: str,
        shape: Shape = None,
        dtype: npt.DTypeLike | None = np.float32,
        *,
        view: bool = False,
    ) -> npt.NDArray[Any]:
        """Load everything that a pattern matches as one array, in the order of the keys.

        Parameters
        ----------
        pattern : str
            Matches keys of elements, and of plain floats and ints. Where it matches none of
            them, keys of chunks.
        shape : int, tuple of int, "stored" or None
            None: one dimension. ``"stored"``: that of the stored array, when the pattern matches
            the whole of one. A tuple may have one -1.
        dtype : dtype or None, default numpy.float32
            Values are converted, never their bytes reinterpreted. None: as stored.
        view : bool, default False
            True: a read-only array over the mapped file, without a copy; it stays valid when the
            array is replaced and the file compacted or closed. Where that cannot be (another
            dtype than the stored one, compressed, several arrays, grown by `append_rows`, moved
            by a compaction), a read-only copy.

        Returns
        -------
        numpy.ndarray
            Empty when nothing matches.

        Raises
        ------
        ValueError
            `shape` does not fit the number of elements; or an integer dtype was asked for and a
            value has a fraction or is out of its range; or a real one, and a value is complex.
        CorruptionError
            A chunk's checksum does not match.

        Examples
        --------
        >>> with TensorEngine(tmp / "get.db") as engine:
        ...     _ = engine.put_tensor("i/", np.array([[1, 2], [3, 2**53 + 1]]))
        ...     print(engine.get_tensor("i/*", dtype=np.int64))
        ...     print(engine.get_tensor("i/*", shape="stored", dtype=None, view=True).shape)
        [               1                2                3 9007199254740993]
        (2, 2)
        """
        with self._find(pattern, _BY_ELEMENTS) as found:
            return _shaped(found, _load(found, _dtype(dtype), view), shape, False)

    def get_tensor_chunked(
        self,
        pattern: str,
        dtype: npt.DTypeLike | None = np.float32,
        shape: Shape = None,
        *,
        view: bool = False,
    ) -> npt.NDArray[Any]:
        """Load what was stored by `put_tensor_chunked`.

        As `get_tensor`, but the pattern is matched against the keys of chunks first, and with
        ``shape=None`` a pattern that matches the whole of one array gives its stored shape.

        Examples
        --------
        >>> with TensorEngine(tmp / "get_chunked.db") as engine:
        ...     _ = engine.put_tensor_chunked("w/", np.eye(3), chunk_size=4)
        ...     print(engine.get_tensor_chunked("w/chunk_*", dtype=None).dtype)
        ...     print(engine.get_tensor_chunked("w/chunk_0000"))
        float64
        [1. 0. 0. 0.]
        """
        with self._find(pattern, _BY_CHUNKS) as found:
            return _shaped(found, _load(found, _dtype(dtype), view), shape, True)

    def get_tensor_torch(
        self,
        pattern: str,
        shape: Shape = None,
        device: Any = "cpu",
        *,
        dtype: npt.DTypeLike | None = np.float32,
    ) -> Any:  # a torch.Tensor
        """`get_tensor` as a PyTorch tensor on `device`.

        Raises
        ------
        ImportError
            PyTorch is not installed: ``pip install 'synadb[ml]'``.
        """
        torch = need("torch", "ml")
        array = self.get_tensor(pattern, shape, dtype)
        name = array.dtype.name
        if name in _BITS:  # numpy knows these types by a package that torch does not look at
            bits = torch.from_numpy(array.view(_BITS[name].replace("uint16", "int16")))
            return bits.view(getattr(torch, name)).to(device)
        return torch.from_numpy(array).to(device)

    def get_tensor_tf(
        self, pattern: str, shape: Shape = None, *, dtype: npt.DTypeLike | None = np.float32
    ) -> Any:  # a tensorflow.Tensor
        """`get_tensor` as a TensorFlow tensor.

        Raises
        ------
        ImportError
            TensorFlow is not installed: ``pip install 'synadb[ml]'``.
        """
        tensorflow = need("tensorflow", "ml")
        return tensorflow.convert_to_tensor(self.get_tensor(pattern, shape, dtype))

    def stream(
        self,
        pattern: str,
        batch_size: int = 32,
        dtype: npt.DTypeLike | None = np.float32,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        drop_last: bool = False,
        rows: bool = False,
    ) -> Iterator[npt.NDArray[Any]]:
        """Load what a pattern matches in batches.

        Parameters
        ----------
        pattern : str
            As for `get_tensor`.
        batch_size : int, default 32
            Elements in a batch; rows with ``rows=True``. The last batch may be shorter.
        dtype : dtype or None, default numpy.float32
            As for `get_tensor`.
        shuffle : bool, default False
            In random order.
        seed : int, optional
            The same seed gives the same order.
        drop_last : bool, default False
            Leave out a last batch that is shorter.
        rows : bool, default False
            Batches of rows as `get_rows` returns them, instead of elements.

        Yields
        ------
        numpy.ndarray, shape (batch,) or (batch, ...)
            Writable, with memory of its own.

        Raises
        ------
        ValueError
            `batch_size` is below 1.

        Notes
        -----
        What matched at the start is streamed, whatever is written meanwhile.

        Examples
        --------
        >>> with TensorEngine(tmp / "stream.db") as engine:
        ...     _ = engine.put_tensor("x/", np.arange(5))
        ...     for batch in engine.stream("x/*", batch_size=2):
        ...         print(batch)
        [0. 1.]
        [2. 3.]
        [4.]
        """
        size = _at_least_one("batch_size", batch_size)
        found = self._find(pattern, _BY_ELEMENTS)
        try:
            row, tail = _row_shape(found) if rows else (1, ())
        except BaseException:
            found.close()
            raise
        order = None
        if shuffle:
            order = np.random.default_rng(seed).permutation(_row_total(found, row))
        return _batches(found, size, _dtype(dtype), order, drop_last, row, tail)

    def get_rows(
        self, pattern: str, indices: npt.ArrayLike, dtype: npt.DTypeLike | None = None
    ) -> npt.NDArray[Any]:
        """Rows by their numbers, in the order asked for.

        Parameters
        ----------
        pattern : str
            As for `get_tensor`. A row is what lies under one index of the first dimension. Arrays
            whose rows have one shape are numbered on, in the order of their names; where the
            shapes differ, or only parts of arrays match, every element is a row.
        indices : array_like of int
            Each from 0 to `row_count` - 1, or negative to count from the end; may repeat.
        dtype : dtype or None, default None
            None: as stored.

        Returns
        -------
        numpy.ndarray, shape (len(indices), ...)
            Writable, with memory of its own.

        Raises
        ------
        IndexError
            An index is out of range.

        Examples
        --------
        >>> with TensorEngine(tmp / "rows.db") as engine:
        ...     _ = engine.put_tensor("x/", np.arange(8).reshape(4, 2))
        ...     engine.get_rows("x/*", [3, 0, -1])
        array([[6, 7],
               [0, 1],
               [6, 7]])
        """
        with self._find(pattern, _BY_ELEMENTS) as found:
            row, tail = _row_shape(found)
            wanted = _indices(indices, _row_total(found, row))
            return _gather(found, wanted, _dtype(dtype), row, tail)

    # --------------------------------------------------------------------------------- facts

    def row_count(self, pattern: str) -> int:
        """How many rows `get_rows` finds under a pattern."""
        with self._find(pattern, _BY_ELEMENTS) as found:
            return _row_total(found, _row_shape(found)[0])

    def keys(self, pattern: str = "*") -> list[str]:
        """The keys that match, sorted: of elements, of chunks, and of plain floats and ints.

        Makes a string for each key. To learn how many elements there are, use `info`.
        """
        with self._select(pattern, _ALL) as found:
            return [key for part in found.parts() for key in _keys_of(found, part)]

    def info(self, name: str) -> TensorInfo:
        """What is stored under the prefix `name`.

        Raises
        ------
        KeyNotFoundError
            No array has this prefix.

        Examples
        --------
        >>> with TensorEngine(tmp / "info.db") as engine:
        ...     _ = engine.put_tensor("x/", np.zeros((4, 2), np.int16))
        ...     print(engine.info("x/").shape, engine.info("x/").dtype)
        (4, 2) int16
        """
        for select in (_ELEMENTS | _NAME, _CHUNKS | _NAME):
            with self._select(name, select) as found:
                for part in found.parts():
                    return _info(part)
        raise KeyNotFoundError(
            -5, f"{self.path}: no tensor has the prefix {name!r}", path=self.path
        )

    def names(self, pattern: str = "*") -> list[str]:
        """The prefixes of the arrays that have keys which match, sorted, each once."""
        with self._select(pattern, _ELEMENTS | _CHUNKS) as found:
            return sorted({part.prefix for part in found.parts()})

    def _find(self, pattern: str, order: tuple[int, int]) -> TensorSet:
        """What the pattern matches of the first kind of keys; if nothing, of the second."""
        found = self._select(pattern, order[0])
        if found.part_count:
            return found
        found.close()
        return self._select(pattern, order[1])


# ------------------------------------------------------------------------------------- arguments


def _at_least_one(what: str, value: int) -> int:
    number = operator.index(value)
    if number < 1:
        raise refused(f"{what} is {number}; expected 1 or more")
    return number


def _codec(codec: str | None) -> int:
    if codec not in _CODECS:
        raise refused(f"codec {codec!r}; expected None or 'lz4'")
    return _CODECS[codec]


def _storable(tensor: npt.ArrayLike) -> npt.NDArray[Any]:
    """The array in C order and native bytes, of a dtype that can be stored."""
    if isinstance(tensor, np.ma.MaskedArray):
        raise TypeError("a masked array cannot be stored; store its data and its mask")
    array = np.asarray(tensor)
    if array.dtype.name not in _CODES:
        raise TypeError(
            f"an array of dtype {array.dtype} cannot be stored; expected one of {', '.join(_NAMES)}"
        )
    return np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")


def _code_of(array: npt.NDArray[Any]) -> int:
    return _CODES[array.dtype.name]


def _bytes_of(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return array.reshape(-1).view(np.uint8)


def _dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any] | None:
    if dtype is None:
        return None
    wanted = np.dtype(dtype)
    if wanted.name not in _CODES:
        raise TypeError(f"cannot load as {wanted}; expected one of {', '.join(_NAMES)}")
    return wanted


def _indices(indices: npt.ArrayLike, rows: int) -> npt.NDArray[np.int64]:
    array = np.asarray(indices)
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise TypeError(
            f"indices of dtype {array.dtype} and {array.ndim} dimensions; expected integers in one"
        )
    wanted = np.ascontiguousarray(array, np.int64)
    if int(wanted.view(np.uint64).max()) < rows:  # negative numbers are large ones there
        return wanted
    low, high = int(array.min()), int(array.max())
    if low < -rows or high >= rows:
        raise IndexError(f"index {high if high >= rows else low} is out of range for {rows} rows")
    return np.where(wanted < 0, wanted + rows, wanted)


# --------------------------------------------------------------------------------------- dtypes


def _numpy_dtype(code: int) -> np.dtype[Any]:
    name = _NAMES[code]
    if name not in _BITS:
        return np.dtype(name)
    try:
        small_floats: Any = importlib.import_module("ml_dtypes")
    except ImportError:
        return np.dtype(_BITS[name])
    found: np.dtype[Any] = np.dtype(getattr(small_floats, name))
    return found


def _convert(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values in another dtype; ValueError where an integer or real one cannot hold them."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "c" and dtype.kind != "c":
        if np.any(array.imag):
            raise refused(f"complex values cannot be had as {dtype}: an imaginary part is not 0")
        array = array.real
    with np.errstate(invalid="ignore", over="ignore"):
        result = array.astype(dtype)
        if dtype.kind in "iub" and not _same(array, result):
            raise refused(
                f"values of dtype {array.dtype} cannot be had as {dtype}: one has a fraction or is "
                "out of range"
            )
    return result


def _same(array: npt.NDArray[Any], result: npt.NDArray[Any]) -> bool:
    """Are these integers the values that they were made from?"""
    if array.dtype.kind == "b":
        return True
    if array.dtype.kind not in "iu":
        # Not exact at the ends of the range: the float behind it would come back as the last one.
        if result.dtype.kind in "iu" and array.size:
            wide = array.astype(np.float64)
            limits = np.iinfo(result.dtype)
            top = float(limits.max)
            below = wide <= top if int(top) == limits.max else wide < top
            if not bool(np.all(below & (wide >= float(limits.min)))):
                return False
        return bool(np.array_equal(result.astype(array.dtype), array))
    if result.dtype.kind == "b":
        return bool(np.array_equal(result.astype(array.dtype), array))
    if array.size == 0:
        return True
    limits = np.iinfo(result.dtype)
    return limits.min <= int(array.min()) and int(array.max()) <= limits.max


def _stored_dtype(found: TensorSet) -> np.dtype[Any]:
    """Of all parts together: where they differ, one that holds them all as numpy promotes."""
    if found.dtype >= 0:
        return _numpy_dtype(found.dtype)
    return np.result_type(*{_numpy_dtype(part.dtype) for part in found.parts()})


# -------------------------------------------------------------------------------------- loading


def _load(found: TensorSet, dtype: np.dtype[Any] | None, view: bool) -> npt.NDArray[Any]:
    """Everything in the set, in one dimension."""
    array: npt.NDArray[Any]
    if found.part_count == 0:
        array = np.empty(0, dtype or np.float32)
    elif found.dtype < 0:
        array = _read_mixed(found, 0, found.count, dtype or _stored_dtype(found))
    else:
        stored = _numpy_dtype(found.dtype)
        array = _load_stored(found, stored, view or dtype not in (None, stored))
        if dtype is not None:
            array = _convert(array, dtype)
    if view:
        array.flags.writeable = False
    return array


def _load_stored(found: TensorSet, stored: np.dtype[Any], view: bool) -> npt.NDArray[Any]:
    if view and found.count:
        mapped = found.view(found.count * stored.itemsize)
        if mapped is not None:
            return np.frombuffer(memoryview(mapped), stored)
    array: npt.NDArray[Any] = np.empty(found.count, stored)
    found.read(0, found.count, array.view(np.uint8))
    return array


def _read_mixed(found: TensorSet, first: int, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Elements of a set of several dtypes, part by part."""
    array = np.empty(count, dtype)
    start = 0
    for part in found.parts():
        low, high = max(first, start), min(first + count, start + part.size)
        if low < high:
            piece = np.empty(high - low, _numpy_dtype(part.dtype))
            found.read(low, high - low, piece.view(np.uint8))
            array[low - first : high - first] = _convert(piece, dtype)
        start += part.size
    return array


def _read(
    found: TensorSet, first: int, count: int, dtype: np.dtype[Any] | None
) -> npt.NDArray[Any]:
    if found.dtype < 0:
        return _read_mixed(found, first, count, dtype or _stored_dtype(found))
    array = np.empty(count, _numpy_dtype(found.dtype))
    found.read(first, count, array.view(np.uint8))
    return array if dtype is None else _convert(array, dtype)


def _shaped(
    found: TensorSet, array: npt.NDArray[Any], shape: Shape, stored: bool
) -> npt.NDArray[Any]:
    if isinstance(shape, str) and shape != "stored":
        raise refused(f"shape {shape!r}; expected numbers, 'stored' or None")
    if shape is None and not stored:
        return array
    if shape is None or isinstance(shape, str):
        whole = _whole_shape(found)
        if whole is None and shape is not None and found.part_count:
            raise refused("the pattern does not match the whole of one tensor: no stored shape")
        return array if whole is None else array.reshape(whole)
    try:
        return array.reshape(shape)
    except ValueError:
        raise refused(f"{array.size} elements match; they do not fit the shape {shape}") from None


def _whole_shape(found: TensorSet) -> tuple[int, ...] | None:
    parts = found.parts() if found.part_count == 1 else []
    if parts and not parts[0].plain and parts[0].size == parts[0].elements:
        return parts[0].shape
    return None


# ----------------------------------------------------------------------------------------- rows


def _row_shape(found: TensorSet) -> tuple[int, tuple[int, ...]]:
    """Elements in a row, and its shape."""
    tails = set()
    for part in found.parts():
        if part.plain or part.size != part.elements or not part.shape:
            return 1, ()
        tails.add(part.shape[1:])
    if len(tails) != 1:
        return 1, ()
    tail = tails.pop()
    row = 1
    for length in tail:
        row *= length
    return (row, tail) if row else (1, ())


def _row_total(found: TensorSet, row: int) -> int:
    return found.count // row


def _gather(
    found: TensorSet,
    wanted: npt.NDArray[np.int64],
    dtype: np.dtype[Any] | None,
    row: int,
    tail: tuple[int, ...],
) -> npt.NDArray[Any]:
    if found.dtype < 0:
        whole = _read_mixed(found, 0, found.count, dtype or _stored_dtype(found))
        return whole.reshape(-1, row)[wanted].reshape((len(wanted), *tail))
    array = np.empty((len(wanted), *tail), _numpy_dtype(found.dtype))
    found.rows(row, wanted, _bytes_of(array))
    return array if dtype is None else _convert(array, dtype)


def _batches(
    found: TensorSet,
    size: int,
    dtype: np.dtype[Any] | None,
    order: npt.NDArray[np.int64] | None,
    drop_last: bool,
    row: int,
    tail: tuple[int, ...],
) -> Iterator[npt.NDArray[Any]]:
    with found:
        total = _row_total(found, row)
        for start in range(0, total, size):
            count = min(size, total - start)
            if count < size and drop_last:
                return
            if order is not None:
                yield _gather(found, order[start : start + count], dtype, row, tail)
            else:
                batch = _read(found, start * row, count * row, dtype)
                yield batch.reshape((count, *tail))


# ----------------------------------------------------------------------------------------- keys


def _keys_of(found: TensorSet, part: Any) -> list[str]:
    numbers = range(part.first_key, part.first_key + part.keys)
    if part.plain:
        return [found.plain_key(number) for number in numbers]
    prefix = part.prefix + ("chunk_" if part.chunked else "")
    return [f"{prefix}{number:0{part.digits}d}" for number in numbers]


def _info(part: Any) -> TensorInfo:
    dtype = _numpy_dtype(part.dtype)
    return TensorInfo(
        name=part.prefix,
        dtype=dtype,
        dtype_name=_NAMES[part.dtype],
        shape=part.shape,
        elements=part.elements,
        rows=part.shape[0] if part.shape else 1,
        chunked=part.chunked,
        chunk_size=part.per_chunk if part.chunked else None,
        codec="lz4" if part.codec else None,
        nbytes=part.elements * dtype.itemsize,
        stored_bytes=part.stored_bytes,
    )
