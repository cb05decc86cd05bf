"""What a component's part of a log has to say before the log is copied for good.

A part reads a first copy, which holds everything, and answers with the keys whose records are to be
left out of the second, and with what to write instead. Keys that mean nothing here to the component
that their name belongs to, and would make it fail, are set aside: kept under ``ancestor/<key>``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from synadb.db import SynaDB
from synadb.errors import SynaError

ASIDE = "ancestor/"
#: A batch is committed when it holds about this much.
BATCH_BYTES = 16 << 20


@dataclass
class Plan:
    """What one component's part asks for."""

    leave_out: list[str] = field(default_factory=list)
    writers: list[Callable[[SynaDB, SynaDB], None]] = field(default_factory=list)

    def aside(self, key: str) -> None:
        """Keep the key's values where no component looks for them."""
        self.leave_out.append(key)
        self.writers.append(partial(_set_aside, key))


def _set_aside(key: str, old: SynaDB, new: SynaDB) -> None:
    with new.batch() as batch:
        for when, value in old.get_history(key):
            batch.put(ASIDE + key, value, when=when)


def last_time(db: SynaDB, key: str) -> Any:
    """When the newest value of a key was put: a datetime64."""
    return db.get_history(key).timestamps[-1]


def json_object(value: Any) -> dict[str, Any] | None:
    """The object that a text or bytes value describes; None when it is something else."""
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value)
    elif not isinstance(value, str):
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def value_of(db: SynaDB, key: str) -> Any:
    """The newest value; None when it cannot be read."""
    try:
        return db.get(key)
    except SynaError:
        return None
