"""What all loaders share: rows of a file read by path in any process."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._optional import need
from synadb._order import Indices
from synadb.errors import ArgumentError, KeyNotFoundError, Reason
from synadb.tensor import TensorEngine

# The integers that carry the bits of what numpy does not know by itself.
_BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}


class Rows:
    """The rows under a pattern of the file at a path.

    Their number, shape and dtype are fixed when the object is made. The file is opened for reading
    at the first read, in each process anew: a pickled object is its path, and a forked process does
    not use what its parent had open. A process goes on reading what it found when it opened the
    file, whatever is stored meanwhile. Any thread may read.

    Attributes
    ----------
    path : str
        Absolute, so that a process with another working directory finds it.
    pattern : str
    shape : tuple of int
        Of one row.
    dtype : numpy.dtype
    dtype_name : str
        The stored type: ``"bfloat16"`` also where `dtype` is the ``uint16`` of its bits.
    """

    def __init__(self, path: str | os.PathLike[str], pattern: str = "*") -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.pattern = pattern
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        opened = _Opened(self.path, pattern)
        self._count, self.shape = opened.count, opened.shape
        self.dtype, self.dtype_name = opened.dtype, opened.dtype_name
        opened.close()

    def beside(self, pattern: str) -> Rows:
        """As many rows under another pattern of the same file."""
        other = Rows(self.path, pattern)
        if len(other) != len(self):
            raise ArgumentError(
                0,
                f"{self.path}: {len(other)} rows match {pattern!r}, {len(self)} match "
                f"{self.pattern!r}; expected as many",
                reason=Reason.ARGUMENT,
                path=self.path,
            )
        return other

    def __len__(self) -> int:
        return self._count

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def keys(self) -> list[str]:
        """The names that match the pattern."""
        return self._open().engine.keys(self.pattern)

    def fetch(self, which: Sequence[int] | Indices | slice) -> npt.NDArray[Any]:
        """Those rows as a new array, in the order asked for."""
        return self._open().engine.get_rows(self.pattern, self._indices(which))

    def fetch_into(self, which: Sequence[int] | Indices | slice, out: npt.NDArray[Any]) -> None:
        """The same into an array of that shape and dtype."""
        np.copyto(out, self.fetch(which), casting="no")

    def _indices(self, which: Sequence[int] | Indices | slice) -> Indices:
        if isinstance(which, slice):
            return np.arange(*which.indices(len(self)), dtype=np.int64)
        indices = np.asarray(which, dtype=np.int64)
        if indices.size:
            for index in (indices.min(), indices.max()):
                if not 0 <= index < len(self):
                    raise IndexError(f"row {index} of {len(self)} that match {self.pattern!r}")
        return indices

    def whole(self) -> npt.NDArray[Any]:
        """All rows, read-only: a view of the file's mapping where they lie in it in one piece."""
        engine = self._open().engine
        elements = engine.get_tensor(self.pattern, dtype=self.dtype, view=True)
        return elements.reshape((-1, *self.shape))[: len(self)]

    # --------------------------------------------------------------------------- the open file

    def _open(self) -> _Opened:
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            opened = self._open_here()
        return opened

    def _open_here(self) -> _Opened:
        if self._opened is not None:
            self._lock = threading.Lock()  # a thread of the parent may have held the other one
        with self._lock:
            if self._opened is None or self._opened.pid != os.getpid():
                self._opened = self._same(_Opened(self.path, self.pattern))
            return self._opened

    def _same(self, opened: _Opened) -> _Opened:
        """The rows are still those that were there when this object was made, or more."""
        here = (opened.shape, opened.dtype_name)
        if opened.count < len(self) or here != (self.shape, self.dtype_name):
            opened.close()
            raise ArgumentError(
                0,
                f"{self.path}: {self.pattern!r} matches {opened.count} rows of {opened.shape} "
                f"{opened.dtype_name} now; it was {len(self)} of {self.shape} {self.dtype_name}",
                reason=Reason.ARGUMENT,
                path=self.path,
            )
        return opened

    def close(self) -> None:
        """Close the file in this process; the next read opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None and opened.pid == os.getpid():
                opened.close()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        del state["_lock"]
        return {**state, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    # ------------------------------------------------------------------------------ for PyTorch

    def torch_dtype(self) -> Any:
        """The PyTorch dtype of the rows."""
        torch = need("torch", "torch")
        found = getattr(torch, self.dtype_name, None)
        if not isinstance(found, torch.dtype):
            raise TypeError(f"PyTorch has no dtype {self.dtype_name}")
        return found

    def as_tensor(self, rows: npt.NDArray[Any]) -> Any:
        """What `fetch` returned as a PyTorch tensor over the same bytes."""
        torch = need("torch", "torch")
        if self.dtype_name in _BITS:
            return torch.from_numpy(rows.view(_BITS[self.dtype_name])).view(self.torch_dtype())
        return torch.from_numpy(rows)

    def as_numpy(self, tensor: Any) -> npt.NDArray[Any]:
        """A tensor of that dtype in main memory as an array over the same bytes."""
        torch = need("torch", "torch")
        if self.dtype_name in _BITS:  # which numpy does not know by itself
            tensor = tensor.view(getattr(torch, _BITS[self.dtype_name]))
        array: npt.NDArray[Any] = tensor.numpy()
        return array.view(self.dtype)


class _Opened:
    """The file open in this process, and what the pattern matches in it."""

    def __init__(self, path: str, pattern: str) -> None:
        self.pid = os.getpid()
        self.engine = TensorEngine(path, read_only=True)
        try:
            names = self.engine.names(pattern)
            self.count = self.engine.row_count(pattern)
            if not self.count and not names:
                raise KeyNotFoundError(-5, f"{path}: nothing matches {pattern!r}", path=path)
            none = self.engine.get_rows(pattern, np.empty(0, np.int64))
            stored = {self.engine.info(name).dtype_name for name in names}
        except BaseException:
            self.engine.close()
            raise
        self.shape: tuple[int, ...] = none.shape[1:]
        self.dtype: np.dtype[Any] = none.dtype
        self.dtype_name = stored.pop() if len(stored) == 1 else none.dtype.name

    def close(self) -> None:
        self.engine.close()


__all__ = ["Rows"]
