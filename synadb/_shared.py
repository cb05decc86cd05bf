"""A database that several processes write to, as experiments and collectors hold it.

After `os.fork` the child's copy of an open shared database is closed, and opened anew when it is
first used there: so a run can be logged to from worker processes however they were started.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import Any
from weakref import WeakSet

from synadb.db import SynaDB
from synadb.errors import ArgumentError


class SharedLog:
    """`SynaDB` with options, opened again in each process."""

    def __init__(self, path: str | os.PathLike[str], options: dict[str, Any]) -> None:
        self.options = options
        self._lock = Lock()
        self._db: SynaDB | None = _open(path, options)
        self.path: str = self._db.path
        _LIVE.add(self)

    @property
    def db(self) -> SynaDB:
        db = self._db
        return self._reopen() if db is None else db

    def _reopen(self) -> SynaDB:
        with self._lock:
            if self._db is None:
                self._db = _open(self.path, self.options)
            return self._db

    def forked(self) -> None:
        """In the child: what was inherited cannot be written through."""
        self._lock = Lock()
        if self._db is not None and self.options["shared"] and not self._db.closed:
            self._db.close()
            self._db = None


def _open(path: str | os.PathLike[str], options: dict[str, Any]) -> SynaDB:
    try:
        return SynaDB(path, **options)
    except ArgumentError:
        if not options["shared"]:
            raise
        # This process has the file open for itself: then that is the database to use.
        return SynaDB(path, **{**options, "shared": False})


_LIVE: WeakSet[SharedLog] = WeakSet()


def _after_fork() -> None:
    for log in list(_LIVE):
        log.forked()


os.register_at_fork(after_in_child=_after_fork)
