"""`ExperienceCollector`: transitions for reinforcement learning, from one machine or many."""

from __future__ import annotations

import json
import math
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb import _transitions
from synadb._arrays import refused
from synadb._replay import Buffer, TransitionBatch
from synadb._shared import SharedLog
from synadb._transitions import Record, Transition
from synadb.db import SynaDB
from synadb.errors import ArgumentError, ClosedError, Reason, SynaError

_MACHINE = "meta/machine"
_SESSION = "meta/session/"


class ExperienceCollector:
    """Transitions (state, action, reward, next state) in a file, by session and machine.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. Several processes may log to it at
        once. It is an ordinary SynaDB log.
    machine_id : str, optional
        What is written into each transition. Default: the id kept in the file; a new file gets a
        generated one.
    auto_flush : bool, default True
        Make everything durable at the end of each session. False: only in `flush` and `close`.
    sync_on_write : bool, default False
        True: every call is on disk when it returns. False: what is logged survives the end of the
        process at once, and power loss after `flush`, `close`, or (auto_flush) the session's end.
    shared : bool, default True
        False: this process alone may write while the file is open, which is faster.
    read_only : bool, default False
        Look and sample only; works beside any writers.

    Examples
    --------
    >>> with ExperienceCollector(tmp / "exp.db", machine_id="gpu_server_1") as collector:
    ...     with collector.session(model="small") as session:
    ...         _ = session.log((0, 1), "left", 0.75, (0, 2))
    ...         _ = session.log((0, 2), "right", 0.25, (1, 2))
    ...     session.total_reward
    ...     batch = collector.sample(4, seed=1)
    ...     batch.states.shape, batch.actions.shape
    1.0
    ((4, 2), (4,))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        machine_id: str | None = None,
        *,
        auto_flush: bool = True,
        sync_on_write: bool = False,
        shared: bool = True,
        read_only: bool = False,
    ) -> None:
        if machine_id is not None and (not isinstance(machine_id, str) or not machine_id):
            raise refused(f"machine_id is {machine_id!r}; expected a text")
        options = {
            "sync_on_write": bool(sync_on_write),
            "shared": bool(shared) and not read_only,
            "read_only": bool(read_only),
        }
        self._log = SharedLog(path, options)
        self._machine_id = machine_id
        self._auto_flush = bool(auto_flush)
        self._lock = Lock()
        self._last_time = 0
        self._buffer: Buffer | None = None
        self._rng = np.random.default_rng()
        if not self._db.read_only:
            self._settle_machine()

    # --------------------------------------------------------------------------------- facts

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return self._log.path

    @property
    def db(self) -> SynaDB:
        """The database that everything lies in."""
        return self._log.db

    @property
    def _db(self) -> SynaDB:
        return self._log.db

    @property
    def machine_id(self) -> str:
        """What is written into each transition that is logged here."""
        return self._machine_id or self._db.get_text(_MACHINE) or ""

    def _settle_machine(self) -> None:
        if self._db.get_text(_MACHINE) is None:
            self._db.put_text(_MACHINE, self._machine_id or f"machine-{uuid.uuid4().hex[:16]}")
        # Of two processes that open a new file at once the later one's id is kept.
        self._machine_id = self._machine_id or self._db.get_text(_MACHINE)

    def close(self) -> None:
        """Make everything durable and close the file."""
        self._db.close()

    def flush(self) -> None:
        """Make everything logged so far durable."""
        self._db.flush()

    def __enter__(self) -> ExperienceCollector:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._db.closed else ""
        return f"<ExperienceCollector {self.path!r}, machine {self._machine_id!r}{state}>"

    # ------------------------------------------------------------------------------- logging

    def session(self, session_id: str | None = None, **metadata: Any) -> SessionContext:
        """A session: a context manager with `SessionContext.log`.

        Parameters
        ----------
        session_id : str, optional
            Default: a generated one.
        **metadata
            Any plain data or arrays; kept under ``meta/session/<id>``. Those of a session that was
            opened before are added to what it has.
        """
        name = uuid.uuid4().hex if session_id is None else _session(session_id)
        key = _SESSION + _transitions.escape(name)
        known = self.session_metadata(name)
        if metadata or not self._db.exists(key):
            self._db[key] = {"metadata": {**known, **metadata}, "machine_id": self.machine_id}
        return SessionContext(self, name)

    def log_transition(
        self,
        state: Any,
        action: Any,
        reward: float,
        next_state: Any,
        metadata: Mapping[str, Any] | None = None,
        *,
        session_id: str = "default",
    ) -> str:
        """Log one step; returns its key.

        Parameters
        ----------
        state, action, next_state : object
            Plain data, nested as you like, or numpy arrays of any dtype.
        reward : float
        metadata : mapping, optional
            ``"done"`` (or ``"terminal"``) true ends an episode for `n_step`.
        session_id : str, default "default"

        Notes
        -----
        The time of each step is later than that of the one before it, so equal steps stay apart.
        """
        transition = Transition(
            state,
            action,
            float(reward),
            next_state,
            self._times(1),
            _session(session_id),
            self.machine_id,
            dict(metadata or {}),
        )
        key = transition.key()
        self._db[key] = transition.record()
        self._learn([Record(key, transition.record())])
        return key

    def log_transitions(
        self,
        states: Sequence[Any] | npt.NDArray[Any],
        actions: Sequence[Any] | npt.NDArray[Any],
        rewards: npt.ArrayLike,
        next_states: Sequence[Any] | npt.NDArray[Any],
        metadata: Sequence[Mapping[str, Any]] | None = None,
        *,
        session_id: str = "default",
    ) -> int:
        """Log many steps at once, column by column, in one commit; returns how many.

        Parameters
        ----------
        states, actions, next_states : sequence or ndarray
            One entry (for arrays: one row) per step. Arrays are kept as arrays, which is the
            fastest way; other sequences as the values that they hold.
        rewards : array_like of numbers
        metadata : sequence of mappings, optional

        Raises
        ------
        ValueError
            The columns are not equally long. Nothing is written.

        Examples
        --------
        >>> with ExperienceCollector(tmp / "batch.db") as collector:
        ...     collector.log_transitions(np.eye(3), [0, 1, 0], [0.5, 1.0, 0.0], np.eye(3))
        ...     collector.get_rewards_tensor()
        3
        array([0.5, 1. , 0. ])
        """
        amounts = np.asarray(rewards, np.float64)
        if amounts.ndim != 1:
            raise refused(f"rewards has shape {amounts.shape}; expected one dimension")
        count = len(amounts)
        columns = {
            "states": _column(states),
            "actions": _column(actions),
            "next_states": _column(next_states),
        }
        notes = None if metadata is None else [dict(entry) for entry in metadata]
        for name, column in (*columns.items(), ("metadata", notes)):
            if column is not None and len(column) != count:
                raise refused(f"{name} has {len(column)} entries, rewards has {count}")
        name = _session(session_id)
        if count == 0:
            return 0
        times = self._times(count) + np.arange(count, dtype=np.int64)
        records = [
            _transitions.batch_record(
                {n: column[part] for n, column in columns.items()},
                amounts[part],
                times[part],
                None if notes is None else notes[part],
                name,
                self.machine_id,
            )
            for part in _transitions.chunks(columns, count)
        ]
        self._db.put_many((record.key, record.value) for record in records)
        self._learn(records)
        return count

    def _times(self, count: int) -> int:
        """The first of `count` times, each later than all before."""
        with self._lock:
            first = max(time.time_ns() // 1000, self._last_time + 1)
            self._last_time = first + count - 1
        return first

    # ------------------------------------------------------------------------------- reading

    def get_transition(self, key: str) -> Transition | None:
        """The transition with this key, as `log_transition` and `iterate_transitions` give it."""
        self._db.refresh()
        name, row = _transitions.split_key(key)
        value = self._db.get(name) if _transitions.KEY.match(name) else None
        if value is None:
            return None
        record = Record(name, value)
        return record.row(row) if row < len(record) else None

    def iterate_transitions(self, session_id: str | None = None) -> Iterator[str]:
        """The keys of all transitions (of one session) in the order of their times."""
        records = sorted(self._records(session_id), key=lambda record: record.timestamps()[0])
        for record in records:
            yield from record.keys()

    def count_transitions(self, session_id: str | None = None) -> int:
        """How many transitions there are (in one session)."""
        return sum(len(record) for record in self._records(session_id))

    def get_rewards_tensor(self, session_id: str | None = "default") -> npt.NDArray[np.float64]:
        """The rewards of a session, in the order of logging; None: of all sessions."""
        records = list(self._records(session_id))
        if not records:
            return np.empty(0)
        times = np.concatenate([record.timestamps() for record in records])
        rewards = np.concatenate([record.rewards() for record in records])
        return rewards[np.argsort(times, kind="stable")]

    def list_sessions(self) -> list[str]:
        """The ids of all sessions, sorted."""
        self._db.refresh()
        found = {
            _transitions.unescape(key[len(_SESSION) :])
            for key in self._db.scan(_SESSION, keys_only=True)
        }
        for key in self._db.scan("exp/", keys_only=True):
            match = _transitions.KEY.match(key)
            if match:
                found.add(_transitions.unescape(match[1]))
        return sorted(found)

    def session_metadata(self, session_id: str) -> dict[str, Any]:
        """What was given to `session`; empty when it was never opened."""
        self._db.refresh()
        found = self._db.get(_SESSION + _transitions.escape(_session(session_id)))
        return dict(found.get("metadata", {})) if isinstance(found, dict) else {}

    def stats(self) -> dict[str, Any]:
        """How many transitions and sessions, total and mean reward, machine id and path."""
        rewards = self.get_rewards_tensor(None)
        return {
            "transitions": len(rewards),
            "sessions": len(self.list_sessions()),
            "total_reward": float(rewards.sum()),
            "mean_reward": float(rewards.mean()) if len(rewards) else 0.0,
            "machine_id": self.machine_id,
            "path": self.path,
        }

    def _records(self, session_id: str | None = None) -> Iterator[Record]:
        self._db.refresh()
        prefix = "exp/" if session_id is None else f"exp/{_transitions.escape(session_id)}/"
        for key in self._db.scan(prefix, keys_only=True):
            match = _transitions.KEY.match(key)
            if match and (session_id is None or _transitions.unescape(match[1]) == session_id):
                value = self._db.get(key)
                if value is not None:
                    yield Record(key, value)

    # ----------------------------------------------------------------- columns and sampling

    def refresh(self) -> None:
        """Let `sample`, `to_tensors` and `n_step` see what other processes have logged."""
        with self._lock:
            self._buffer = None

    def _learn(self, records: Iterable[Record]) -> None:
        with self._lock:
            if self._buffer is not None:
                for record in records:
                    self._buffer.add(record)

    def _columns(self) -> Buffer:
        if self._db.closed:
            raise ClosedError(-1, f"{self.path}: the database is closed", reason=Reason.CLOSED)
        if self._buffer is None:
            self._buffer = Buffer(list(self._records()))
        return self._buffer

    def to_tensors(self, session_id: str | None = None) -> dict[str, npt.NDArray[Any]]:
        """All transitions (of one session) as arrays, in the order of their times.

        Returns
        -------
        dict
            ``states``, ``actions``, ``rewards``, ``next_states``, ``timestamps`` (int64,
            microseconds since 1970) and ``done`` (bool), one row per transition; see
            `TransitionBatch` for what the arrays are. They are the caller's own.
        """
        with self._lock:
            buffer = self._columns()
            rows = buffer.in_session(session_id)
            names = ("states", "actions", "rewards", "next_states", "timestamps", "done")
            return {name: buffer.column(name)[rows].copy() for name in names}

    def sample(
        self,
        n: int,
        prioritized: bool = False,
        seed: int | None = None,
        *,
        alpha: float = 0.6,
        beta: float = 0.4,
    ) -> TransitionBatch:
        """Draw `n` transitions, with replacement.

        Parameters
        ----------
        n : int
            At least 1.
        prioritized : bool, default False
            Draw in proportion to ``priority ** alpha``; see `update_priorities`.
        seed : int, optional
            The same seed draws the same transitions, as long as nothing is logged.
        alpha, beta : float
            Of prioritised replay: how much priorities count, and how much `weights` make up for
            that. The defaults are those of Schaul et al. 2016.

        Raises
        ------
        ValueError
            There are no transitions, `n` is less than 1, or `alpha` or `beta` is negative or not
            finite.

        Notes
        -----
        Transitions are read into memory at the first call, and those logged here are added as they
        come; `refresh` reads those of other processes.
        """
        if n < 1:
            raise refused(f"n is {n}; expected at least 1")
        for name, exponent in (("alpha", alpha), ("beta", beta)):
            if not 0 <= exponent < math.inf:
                raise refused(f"{name} is {exponent}; expected a number of 0 or more")
        rng = self._rng if seed is None else np.random.default_rng(seed)
        with self._lock:
            buffer = self._columns()
            if len(buffer) == 0:
                raise refused(f"{self.path}: there are no transitions to draw from")
            if prioritized:
                return buffer.prioritized(n, rng, alpha, beta)
            return buffer.uniform(n, rng)

    def update_priorities(self, indices: npt.ArrayLike, priorities: npt.ArrayLike) -> None:
        """Set the priorities of transitions by their `TransitionBatch.indices`.

        A new transition has the highest priority that there is, 1 at first. Priorities are kept in
        memory, not in the file. They are finite and greater than 0; anything else is a ValueError.
        """
        rows = np.asarray(indices, np.int64).reshape(-1)
        values = np.asarray(priorities, np.float64).reshape(-1)
        if rows.shape != values.shape:
            raise refused(f"{len(values)} priorities for {len(rows)} indices")
        if not np.all(np.isfinite(values) & (values > 0)):
            raise refused("priorities are finite and greater than 0")
        with self._lock:
            buffer = self._columns()
            if len(rows) and not (rows.min() >= 0 and rows.max() < len(buffer)):
                raise refused(f"an index is outside 0 to {len(buffer) - 1}")
            buffer.set_priorities(rows, values)

    def n_step(
        self, n: int, gamma: float, *, session_id: str | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Transitions over `n` steps, for all sessions or one.

        Returns
        -------
        dict
            ``states``, ``actions``; ``returns``: the sum of ``gamma**k`` times the reward k steps
            on, over ``steps`` steps, which are `n` or as many as the episode has left; with the
            ``next_states`` and ``done`` of the last of them. Sessions one after the other, each in
            the order of its times. An episode ends with its session, or where the metadata says
            ``done``.
        """
        if n < 1:
            raise refused(f"n is {n}; expected at least 1")
        with self._lock:
            return self._columns().n_step(int(n), float(gamma), session_id)

    # -------------------------------------------------------------------- JSONL and merging

    def export_jsonl(self, path: str | os.PathLike[str], session_id: str | None = None) -> int:
        """Write all transitions (of one session) to a new or replaced text file, one a line.

        Returns how many. A line is an object of ``state, action, reward, next_state, timestamp,
        session_id, machine_id, metadata``; what JSON has no form for (arrays, bytes, NaN) is
        ``{"__synadb__": "<base64>"}`` and comes back exactly, tuples come back as lists.
        """
        rows = [row for record in self._records(session_id) for row in record.rows()]
        rows.sort(key=lambda row: row.timestamp)
        temporary = f"{os.fspath(path)}.tmp-{os.getpid()}"
        try:
            with open(temporary, "w", encoding="utf-8", errors="surrogatepass") as out:
                for row in rows:
                    out.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.remove(temporary)
            raise
        return len(rows)

    def import_jsonl(self, path: str | os.PathLike[str], *, deduplicate: bool = True) -> int:
        """Log the transitions of a file as `export_jsonl` writes it, in one commit.

        Parameters
        ----------
        path : str or os.PathLike
            Lines without a timestamp get the time of the import, lines without a machine this one.
        deduplicate : bool, default True
            Leave out what is here already: the same content at the same time. False: log it again,
            a microsecond later.

        Returns
        -------
        int
            How many were logged.

        Raises
        ------
        ValueError
            A line is no transition; the message has its number. Nothing is logged.
        """
        rows = []
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    rows.append(self._parse(line, path, number))
        return self._import(rows, deduplicate)

    def _parse(self, line: bytes, path: str | os.PathLike[str], number: int) -> Transition:
        try:
            text = line.decode("utf-8", "surrogatepass")
            return _transitions.from_json(json.loads(text), self.machine_id, self._times(1))
        except (ValueError, TypeError, RecursionError, SynaError) as error:
            raise ArgumentError(
                0, f"{os.fspath(path)}: line {number}: {error}", reason=Reason.ARGUMENT
            ) from error

    def _import(self, rows: Iterable[Transition], deduplicate: bool) -> int:
        known = _Known(self)
        fresh: list[Record] = []
        for given in rows:
            row = given
            while known.has(row):
                if deduplicate:
                    break
                row = Transition(**{**vars(row), "timestamp": row.timestamp + 1})
            else:
                record = Record(row.key(), row.record())
                known.add(record)
                fresh.append(record)
        self._db.put_many((record.key, record.value) for record in fresh)
        self.refresh()
        return len(fresh)

    @staticmethod
    def merge(
        sources: Iterable[str | os.PathLike[str]],
        dest: str | os.PathLike[str],
        *,
        deduplicate: bool = True,
    ) -> int:
        """Copy the transitions of many files, such as those of many machines, into one.

        Parameters
        ----------
        sources : iterable of paths
            They stay as they are, and may be in use.
        dest : str or os.PathLike
            Created if missing, its folder must exist; what it holds stays.
        deduplicate : bool, default True
            Leave out what is there already: the same content at the same time. So merging again
            changes nothing, and the order of the sources does not matter. False: a transition
            that is there already is copied again, a microsecond later.

        Returns
        -------
        int
            How many transitions were copied.

        Raises
        ------
        FileMissingError
            A source does not exist. Nothing is copied.
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise TypeError("sources is a list of paths, not one path")
        opened: list[SynaDB] = []
        try:
            for source in sources:
                opened.append(SynaDB(source, read_only=True))
            with ExperienceCollector(dest) as collector:
                known = _Known(collector)
                return sum(collector._merge_one(db, known, deduplicate) for db in opened)
        finally:
            for db in opened:
                db.close()

    def _merge_one(self, source: SynaDB, known: _Known, deduplicate: bool) -> int:
        count = 0
        with self._db.batch() as batch:
            for key in source.scan("exp/", keys_only=True):
                if not _transitions.KEY.match(key) or (deduplicate and self._db.exists(key)):
                    continue
                record = Record(key, source.get(key))
                if record.batch and known.none_of(record):
                    batch[key] = record.value
                    known.add(record)
                    count += len(record)
                    continue
                for row in record.rows():
                    count += self._merge_row(batch, known, row, deduplicate)
            self._merge_sessions(source, batch)
        self.refresh()
        return count

    def _merge_row(self, batch: Any, known: _Known, row: Transition, deduplicate: bool) -> int:
        while known.has(row):
            if deduplicate:
                return 0
            row = Transition(**{**vars(row), "timestamp": row.timestamp + 1})
        record = Record(row.key(), row.record())
        batch[record.key] = record.value
        known.add(record)
        return 1

    def _merge_sessions(self, source: SynaDB, batch: Any) -> None:
        for key, theirs in source.scan(_SESSION):
            ours = self._db.get(key)
            # Of two sessions with one id the same one is kept whichever comes first.
            if ours is None or repr(theirs) > repr(ours):
                batch[key] = theirs


class SessionContext:
    """A session of an `ExperienceCollector`; use it in a ``with`` block.

    Attributes
    ----------
    session_id : str
    transition_count : int
        Transitions logged through this object.
    total_reward, mean_reward : float
        Of them; 0 when there are none.
    """

    def __init__(self, collector: ExperienceCollector, session_id: str) -> None:
        self._collector = collector
        self.session_id = session_id
        self.transition_count = 0
        self.total_reward = 0.0

    @property
    def mean_reward(self) -> float:
        return self.total_reward / self.transition_count if self.transition_count else 0.0

    def log(self, state: Any, action: Any, reward: float, next_state: Any, **extra: Any) -> str:
        """Log one step; `extra` becomes its metadata. Returns its key."""
        key = self._collector.log_transition(
            state, action, reward, next_state, extra, session_id=self.session_id
        )
        self.transition_count += 1
        self.total_reward += float(reward)
        return key

    def __enter__(self) -> SessionContext:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if self._collector._auto_flush:
                self._collector.flush()
        except SynaError:
            if exc_type is None:  # otherwise the error that ended the block is the one to tell of
                raise

    def __repr__(self) -> str:
        return f"<session {self.session_id!r}, {self.transition_count} transitions>"


class _Known:
    """What a file holds: the places of its transitions by time, read only where times meet."""

    def __init__(self, collector: ExperienceCollector) -> None:
        self._places: dict[int, list[tuple[Record, int]]] = {}
        for record in collector._records():
            self.add(record)

    def add(self, record: Record) -> None:
        for row, moment in enumerate(record.timestamps().tolist()):
            self._places.setdefault(moment, []).append((record, row))

    def none_of(self, record: Record) -> bool:
        return not any(moment in self._places for moment in record.timestamps().tolist())

    def has(self, transition: Transition) -> bool:
        near = self._places.get(transition.timestamp)
        if not near:
            return False
        wanted = transition.content_hash()
        return any(record.row(row).content_hash() == wanted for record, row in near)


def _session(session_id: str) -> str:
    if not isinstance(session_id, str):
        raise TypeError(f"a session's id is a str, not {type(session_id).__name__}")
    if not session_id or "\0" in session_id:
        raise refused(f"the session's id is {session_id!r}; expected text without NUL")
    return session_id


def _column(values: Any) -> npt.NDArray[Any] | list[Any]:
    if isinstance(values, np.ndarray) and values.ndim > 0 and not values.dtype.hasobject:
        return values
    return list(values)


__all__ = ["ExperienceCollector", "SessionContext", "Transition", "TransitionBatch"]
