"""What users pass as vectors and search limits, turned into what the core takes."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb.errors import ArgumentError, Reason

_FLOAT32 = np.dtype(np.float32)
_NO_LIMIT = 2**63


def refused(message: str, path: str | None = None) -> ArgumentError:
    """The error for an argument outside its documented range."""
    return ArgumentError(0, message, reason=Reason.ARGUMENT, path=path)


def float32(given: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    """Real numbers as a contiguous float32 array, without copying where they are one."""
    if type(given) is np.ndarray and given.dtype == _FLOAT32 and given.flags.c_contiguous:
        return given
    if isinstance(given, np.ma.MaskedArray) and np.any(given.mask):
        raise refused(f"{what} has masked elements; expected a number in every place")
    array: npt.NDArray[Any] = np.asarray(given)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what}: expected real numbers, not dtype {array.dtype}")
    with np.errstate(over="ignore"):  # what becomes infinite is refused by the core
        return np.ascontiguousarray(array, dtype=np.float32)


def one_row(given: npt.ArrayLike, dimensions: int, what: str, path: str) -> npt.NDArray[np.float32]:
    """One vector, flattened."""
    row = float32(given, what).reshape(-1)
    if row.size != dimensions:
        raise refused(f"{what} has {row.size} dimensions, this store has {dimensions}", path)
    return row


def many_rows(
    given: npt.ArrayLike, dimensions: int, what: str, path: str
) -> npt.NDArray[np.float32]:
    """Vectors as the rows of a matrix."""
    rows = float32(given, what)
    if rows.size == 0 and rows.ndim < 2:
        rows = rows.reshape(0, dimensions)
    if rows.ndim != 2 or rows.shape[1] != dimensions:
        raise refused(f"{what} has shape {rows.shape}, this store takes (any, {dimensions})", path)
    return rows


def search_limit(k: int | None) -> int | None:
    """The k of a search; None: no limit."""
    if k is None:
        return None
    limit = operator.index(k)
    if limit < 1:
        raise refused(f"k is {limit}; expected at least 1, or None for no limit")
    return limit if limit < _NO_LIMIT else _NO_LIMIT


def search_radius(radius: float | None) -> float | None:
    """The radius of a search; None: no limit."""
    if radius is not None and math.isnan(radius):
        raise refused("the radius is NaN")
    return radius
