"""`FeatureStore`: features of entities, as they are now and as they were at any time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._core.values import times_us
from synadb.db import SynaDB
from synadb.errors import ArgumentError, Reason
from synadb.types import When


class FeatureStore:
    """Features in a file: for each entity of a group, values with the times of their events.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log.
    sync_on_write : bool, default True
        Every `ingest` is on disk when it returns. False: after `flush` or `close`.

    Notes
    -----
    Values come back with their exact types, as ``db[key] = value`` of `SynaDB` keeps them. Events
    may arrive late: what counts is the time of the event, not the order of arrival; of two events
    with one time the later arrival counts.

    Reading a feature goes through its whole history: some 0.1 ms for a thousand values. `compact`
    keeps it; after the plain ``compact()`` of `SynaDB` each feature has only what arrived last.

    Examples
    --------
    >>> with FeatureStore(tmp / "features.db") as store:
    ...     _ = store.ingest("user", "anna", 1_700_000_000.0, {"visits": 3, "score": 0.5})
    ...     _ = store.ingest("user", "anna", 1_700_000_600.0, {"visits": 4})
    ...     store.serve("user", "anna", ["visits", "score"])
    ...     store.get_at_timestamp("user", "anna", "visits", 1_700_000_300.0)
    {'visits': 4, 'score': 0.5}
    3
    """

    def __init__(self, path: str | os.PathLike[str], *, sync_on_write: bool = True) -> None:
        self._db = SynaDB(path, sync_on_write)

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return self._db.path

    def ingest(self, group: str, entity_key: str, event_ts: When, values: Mapping[str, Any]) -> int:
        """Record what the features of an entity were at the time of an event, in one commit.

        `event_ts` is a datetime, a datetime64, seconds since 1970 as a float or microseconds as an
        int. Returns how many features were recorded.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"values is a dict by feature, not {type(values).__name__}")
        with self._db.batch() as batch:
            for feature, value in values.items():
                batch.put(_key(group, entity_key, feature), value, when=event_ts)
        return len(values)

    def serve(self, group: str, entity_key: str, features: Iterable[str]) -> dict[str, Any]:
        """The newest value of each feature by the time of its event; None where there is none."""
        if isinstance(features, str):
            raise TypeError("features is a list of names, not one name")
        return {name: self._newest(_key(group, entity_key, name), None) for name in features}

    def get_at_version(self, group: str, entity_key: str, feature: str, version: int = 0) -> Any:
        """A value by its number in the order of arrival, 1 the first; 0: what `serve` gives.

        None when there is no such version.
        """
        key = _key(group, entity_key, feature)
        if version < 0:
            raise ArgumentError(
                0, f"version is {version}; expected 0 or more", reason=Reason.ARGUMENT
            )
        if version == 0:
            return self._newest(key, None)
        values = self._db.get_history(key).values
        return _pick(values, version - 1) if version <= len(values) else None

    def get_at_timestamp(self, group: str, entity_key: str, feature: str, timestamp: When) -> Any:
        """The value as of a time: that of the last event at or before it; None before the first."""
        return self._newest(_key(group, entity_key, feature), timestamp)

    def _newest(self, key: str, until: When | None) -> Any:
        history = self._db.get_history(key)
        times = history.timestamps.astype(np.int64)
        places: npt.NDArray[np.int64] = np.arange(len(times), dtype=np.int64)
        if until is not None:
            places = places[times <= int(times_us(np.asarray([until]))[0])]
        if len(places) == 0:
            return None
        latest = times[places].max()
        return _pick(history.values, int(places[times[places] == latest][-1]))

    def compact(self) -> None:
        """Rewrite the file with histories of numbers compressed; all values stay as they were."""
        self._db.compact(keep_history=True)

    def flush(self) -> None:
        """Make everything recorded so far durable; needed only with ``sync_on_write=False``."""
        self._db.flush()

    def close(self) -> None:
        """Make everything durable and close the file."""
        self._db.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._db.closed else ""
        return f"<FeatureStore {self._db.path!r}{state}>"


def _key(group: str, entity_key: str, feature: str) -> str:
    """The names with "/" and "%" escaped, so that no two triples have one key."""
    parts = []
    for what, name in (("group", group), ("entity", entity_key), ("feature", feature)):
        if not isinstance(name, str):
            raise TypeError(f"the {what} is a str, not {type(name).__name__}")
        if not name:
            raise ArgumentError(0, f"the {what} is empty", reason=Reason.ARGUMENT)
        parts.append(name.replace("%", "%25").replace("/", "%2F"))
    return "fs/" + "/".join(parts)


def _pick(values: Any, place: int) -> Any:
    """One value; numbers of an array as Python's own."""
    return values[place].item() if isinstance(values, np.ndarray) else values[place]


__all__ = ["FeatureStore"]
