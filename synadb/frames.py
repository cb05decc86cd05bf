"""pandas DataFrames out of float histories, and into histories: see `SynaDB.to_dataframe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from synadb._core.arrow import Rows, Selection
from synadb._optional import need
from synadb.errors import ArgumentError, Reason, TypeMismatchError

if TYPE_CHECKING:
    from synadb.db import SynaDB

_KEYS = 4096


def to_dataframe(db: SynaDB, key_pattern: str | None = None) -> Any:
    """See `SynaDB.to_dataframe`."""
    pandas = need("pandas", "pandas")
    columns = {key: db.get_history_tensor(key) for key in _float_keys(db, key_pattern)}
    rows = max(map(len, columns.values()), default=0)
    return pandas.DataFrame({key: _padded(values, rows) for key, values in columns.items()})


def _float_keys(db: SynaDB, key_pattern: str | None) -> list[str]:
    rows = Rows(db, Selection(type="float", pattern=key_pattern))
    keys: list[str] = []
    try:
        while chunk := rows.take(_KEYS, 1 << 30):
            keys += [row[0] for row in chunk]
    finally:
        rows.close()
    return keys


def _padded(values: npt.NDArray[np.float64], rows: int) -> npt.NDArray[np.float64]:
    padded = np.full(rows, np.nan)
    padded[: len(values)] = values
    return padded


def to_timeseries_dataframe(db: SynaDB, key: str) -> Any:
    """See `SynaDB.to_timeseries_dataframe`."""
    pandas = need("pandas", "pandas")
    values, times = float_history(db, key)
    index = pandas.DatetimeIndex(times, tz="UTC", name="time")
    return pandas.DataFrame({"value": values}, index=index)


def float_history(
    db: SynaDB, key: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.datetime64]]:
    """The floats of a history, with their times."""
    history = db.get_history(key)
    values: Any = history.values
    if isinstance(values, np.ndarray) and values.dtype == np.float64:
        return values, history.timestamps
    kept = [i for i, value in enumerate(history.values) if type(value) is float]
    return (
        np.array([history.values[i] for i in kept], dtype=np.float64),
        history.timestamps[kept],
    )


# ------------------------------------------------------------------------------ out of a frame


def from_dataframe(db: SynaDB, df: Any, key_prefix: str = "") -> int:
    """See `SynaDB.from_dataframe`."""
    pandas = need("pandas", "pandas")
    if not isinstance(df, pandas.DataFrame):
        raise TypeError(f"from_dataframe takes a DataFrame, not {type(df).__name__}")
    times = _times(pandas, df.index)
    columns = []
    for place, name in enumerate(df.columns):
        series = df.iloc[:, place]
        valid = series.notna().to_numpy()
        stamps = None if times is None else times[valid]
        columns.append((f"{key_prefix}{name}", _values(name, series[valid]), stamps))
    if len({key for key, _, _ in columns}) < len(columns):
        raise ArgumentError(0, "two columns have one name", reason=Reason.ARGUMENT)
    db.batch().discard()  # a database that cannot be written to says so before anything is done
    for key, _, _ in columns:
        db.exists(key)  # and so does a key that is none
    return sum(_append(db, key, values, stamps) for key, values, stamps in columns)


def _times(pandas: Any, index: Any) -> npt.NDArray[np.datetime64] | None:
    if not isinstance(index, pandas.DatetimeIndex):
        return None
    if index.hasnans or not index.is_monotonic_increasing:
        raise ArgumentError(
            0, "the index decreases or holds NaT; expected times in order", reason=Reason.ARGUMENT
        )
    if index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    times: npt.NDArray[np.datetime64] = index.to_numpy().astype("datetime64[us]")
    return times


def _values(name: Any, series: Any) -> Any:
    """The values of a column: an array of floats or ints, or a list of what is stored one by
    one."""
    kind = getattr(series.dtype, "kind", "O")
    if kind == "f":
        return series.to_numpy(dtype=np.float64)
    if kind in "iu":
        return series.to_numpy(dtype=np.int64 if kind == "i" else np.uint64)
    if kind == "b":
        return [bool(value) for value in series]
    values = [value.item() if isinstance(value, np.generic) else value for value in series]
    for value in values:
        if type(value) not in (float, int, bool, str, bytes):
            raise TypeMismatchError(
                -6, f"column {name!r} holds an object of type {type(value).__name__}; expected "
                "floats, ints, booleans, texts or bytes"
            )  # fmt: skip
    return values


def _append(db: SynaDB, key: str, values: Any, times: Any) -> int:
    if isinstance(values, np.ndarray):
        append = db.append_floats if values.dtype.kind == "f" else db.append_ints
        return append(key, values, times=times)
    with db.batch() as batch:
        for i, value in enumerate(values):
            batch.put(key, value, when=None if times is None else times[i])
    return len(values)
