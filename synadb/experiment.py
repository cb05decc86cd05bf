"""`Experiment` and `Run`: runs with parameters, metrics, tags and artifacts."""

from __future__ import annotations

import contextlib
import enum
import importlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from types import ModuleType
from typing import Any, BinaryIO, Union, cast

import numpy as np
import numpy.typing as npt

from synadb import _serial
from synadb._core import experiments as _core
from synadb._shared import SharedLog
from synadb.blob import BlobReader
from synadb.db import SynaDB
from synadb.errors import ArgumentError, ClosedError, KeyNotFoundError, Reason, SynaError

Facts = dict[str, Any]
#: Artifacts from here on are streamed in pieces instead of written as one value.
_STREAM_FROM = 64 << 20
_FILTERS = ("status", "tags", "params")


class RunStatus(str, enum.Enum):
    """What a run is; equal to its name as a str."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"

    def __str__(self) -> str:
        return self.value


_CODES = {status: code for code, status in enumerate(RunStatus)}
RunOrId = Union["Run", str]


class Experiment:
    """Runs of one experiment in a file that any number of processes may log to at once.

    Parameters
    ----------
    name : str
        The experiment; a file can hold many. Any text of 1 or more characters without NUL.
    path : str or os.PathLike, default "experiments.db"
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log:
        ``synadb keys``, backups and ``verify`` work on it. ``db_path`` is another name for it.
    sync_on_write : bool, default False
        False: what is logged survives the end of the process, kill -9 included, at once, and power
        loss after the run has ended or the experiment was closed. True: every call is on disk when
        it returns; concurrent loggers of a process share their syncs.
    shared : bool, default True
        False: this process alone may write to the file while it is open, and logging costs a
        tenth: no lock is taken for each call.
    read_only : bool, default False
        Look only; works beside any writers.
    timeout : float, default 5.0
        Seconds that a call may wait for another process's write.

    Notes
    -----
    Any method may be called from any thread, and after `os.fork` in the child, too, as long as the
    file is open there through experiments only. A file that this process has open already is used
    as it was opened. Use ``compact(keep_history=True)`` on the file's `SynaDB` if it is to be
    compacted: after a plain ``compact()`` each metric has only its last point. The command line
    asks which of the two is meant.

    Examples
    --------
    >>> exp = Experiment("mnist", tmp / "experiments.db")
    >>> with exp.start_run(tags=["baseline"]) as run:
    ...     run.log_params({"learning_rate": 0.001, "batch_size": 32})
    ...     for epoch in range(3):
    ...         run.log_metric("loss", 1.0 / (epoch + 1), step=epoch)
    >>> best = exp.get_best_run("loss", minimize=True)
    >>> best.id == run.id, best.status == "completed", best.params["learning_rate"]
    (True, True, '0.001')
    >>> exp.get_metric_tensor(run.id, "loss").round(2)
    array([1.  , 0.5 , 0.33])
    >>> exp.close()
    """

    def __init__(
        self,
        name: str,
        path: str | os.PathLike[str] | None = None,
        *,
        db_path: str | os.PathLike[str] | None = None,
        sync_on_write: bool = False,
        shared: bool = True,
        read_only: bool = False,
        timeout: float = 5.0,
    ) -> None:
        if path is not None and db_path is not None:
            raise TypeError("path and db_path are two names of one parameter; give one of them")
        if not isinstance(name, str):
            raise TypeError(f"the name of an experiment is a str, not {type(name).__name__}")
        if not name or "\0" in name:
            raise _refused(f"the experiment's name is {name!r}; expected text without NUL")
        where = path if path is not None else db_path
        self._name = name
        self._options = {
            "sync_on_write": bool(sync_on_write),
            "shared": bool(shared) and not read_only,
            "read_only": bool(read_only),
            "timeout": timeout,
        }
        self._log = SharedLog("experiments.db" if where is None else where, self._options)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._name

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

    def close(self) -> None:
        """Make everything durable and close the file. Runs go on running: resume them later."""
        self._db.close()

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._db.closed else ""
        return f"<Experiment {self._name!r} in {self.path!r}{state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self._name, self.path, self._options)

    # ---------------------------------------------------------------------------------- runs

    def start_run(
        self,
        tags: Iterable[str] | None = None,
        *,
        parent: RunOrId | None = None,
        params: Mapping[str, object] | None = None,
        system: bool = False,
    ) -> Run:
        """Start a run; as a context manager it ends itself.

        Parameters
        ----------
        tags : iterable of str, optional
        parent : Run or str, optional
            The run that this one belongs to, for nested runs.
        params : mapping, optional
            Logged at once, as by `Run.log_params`.
        system : bool, default False
            Also record `Run.system`: Python, platform, installed packages, git commit.

        Returns
        -------
        Run
            Leaving its ``with`` block ends it as ``completed``, leaving it by an exception as
            ``failed``, unless it has been ended before.

        Raises
        ------
        KeyNotFoundError
            There is no run `parent`.
        """
        facts = None
        if system:
            from synadb import _system

            facts = json.dumps(_system.facts())
        above = None if parent is None else _id_of(parent)
        run = Run(self, _core.start(self._db, self._name, _tags_json(tags), above, facts))
        if params:
            run.log_params(params)
        return run

    def resume(self, run_id: RunOrId) -> Run:
        """Make a run that has ended, or whose process died, a running one again.

        Raises
        ------
        KeyNotFoundError
            There is no such run.
        """
        run = Run(self, _id_of(run_id))
        _core.resume(self._db, run.id)
        return run

    def get_run(self, run_id: str) -> Run | None:
        """The run with this id, of whatever experiment in the file; None when there is none."""
        run = Run(self, _id_of(run_id))
        return None if run._record() is None else run

    def list_runs(self, *, parent: RunOrId | None = None) -> list[Run]:
        """The runs of this experiment, the oldest first; with `parent`, those that belong to it."""
        rows = self._rows()
        if parent is not None:
            above = _id_of(parent)
            rows = [row for row in rows if row["parent_id"] == above]
        return [Run(self, row["id"]) for row in rows]

    def delete_run(self, run_id: RunOrId) -> int:
        """Delete a run with all that was logged to it, in one commit.

        Returns how many keys that were, 0 when there is no such run. Runs that belong to it stay.
        """
        return _core.delete(self._db, _id_of(run_id))

    # --------------------------------------------------------------------------------- query

    def get_best_run(self, metric: str, minimize: bool = True) -> Run | None:
        """The run with the least (or greatest) latest value of `metric`.

        The latest value is the one at the highest step. Runs without the metric, or where it is
        NaN, are left out; of equal ones the oldest is taken. None when no run is left.
        """
        self._refresh()
        found = [row for row in _core.latest(self._db, self._name, metric) if row[2] == row[2]]
        if not found:
            return None
        best = (min if minimize else max)(value for _, _, value in found)
        runs = [Run(self, run_id) for run_id, _, value in found if value == best]
        return runs[0] if len(runs) == 1 else min(runs, key=lambda run: (run.started_at, run.id))

    def query(
        self,
        filter: Mapping[str, Any] | None = None,
        sort_by: str | None = None,
        ascending: bool = True,
    ) -> list[Run]:
        """The runs that match a filter, in some order.

        Parameters
        ----------
        filter : mapping, optional
            All of its entries must match. ``"status"``: one of `RunStatus`. ``"tags"``: a list of
            tags that must all be there. Any other key is a parameter, compared as text. A
            parameter whose name is one of these words goes into ``"params"``:
            ``{"params": {"status": "cold"}}``.
        sort_by : str, optional
            A metric, by its latest value; or ``"started_at"`` or ``"ended_at"``. Default: by the
            time of their start.
        ascending : bool, default True
            Runs without the metric, or that have not ended, come last in both directions, and
            before them those where it is NaN.

        Examples
        --------
        >>> with Experiment("queries", tmp / "queries.db") as exp:
        ...     with exp.start_run(tags=["small"], params={"lr": 0.1}) as run:
        ...         run.log_metric("accuracy", 0.9)
        ...     best = exp.query({"status": "completed", "lr": 0.1}, sort_by="accuracy")
        ...     best[0].id == run.id
        True
        """
        rows = [row for row in self._rows() if self._matches(row, filter or {})]
        if sort_by is not None:
            rows = _sorted(rows, self._sort_values(rows, sort_by), ascending)
        elif not ascending:
            rows.reverse()
        return [Run(self, row["id"]) for row in rows]

    def _matches(self, row: Facts, filter: Mapping[str, Any]) -> bool:
        for key, wanted in filter.items():
            if key == "status":
                if row["status"] != _status(wanted):
                    return False
            elif key == "tags":
                if not set(_tag_list(wanted)) <= set(row["tags"]):
                    return False
            elif key == "params":
                if not all(self._has_param(row, name, value) for name, value in wanted.items()):
                    return False
            elif not self._has_param(row, key, wanted):
                return False
        return True

    def _has_param(self, row: Facts, name: str, wanted: object) -> bool:
        return self._db.get_text(f"{self._prefix(row['id'])}/param/{name}") == _text(wanted)

    def _sort_values(self, rows: list[Facts], sort_by: str) -> dict[str, float]:
        if sort_by in ("started_at", "ended_at"):
            return {row["id"]: row[sort_by] for row in rows if row[sort_by] is not None}
        return {run_id: value for run_id, _, value in _core.latest(self._db, self._name, sort_by)}

    def compare_runs(self, run_ids: Iterable[RunOrId]) -> Facts:
        """Runs side by side.

        Returns
        -------
        dict
            ``"runs"``: a dict of facts for each run, in the order given. ``"params"``: for each
            name the text by run id. ``"metrics"``: for each name, by run id, a dict of ``latest``,
            ``min``, ``max`` and ``mean``.

        Raises
        ------
        KeyNotFoundError
            There is no such run.
        """
        runs = self._all_existing(run_ids)
        params: dict[str, dict[str, str]] = {}
        metrics: dict[str, dict[str, dict[str, float]]] = {}
        for run in runs:
            for name, value in run.params.items():
                params.setdefault(name, {})[run.id] = value
            for name, summary in run.metrics.items():
                metrics.setdefault(name, {})[run.id] = summary
        return {"runs": [run.to_dict() for run in runs], "params": params, "metrics": metrics}

    # ------------------------------------------------------------------------------- reading

    def get_metric_tensor(self, run_id: RunOrId, name: str) -> npt.NDArray[np.float64]:
        """The values of a metric in the order of their steps, as a float64 array.

        A step that was logged more than once has its last value. Empty when the metric was never
        logged; a `KeyNotFoundError` when there is no such run.
        """
        return self._run(run_id)._points(name)[1]

    def get_metrics(self, run_id: RunOrId, name: str) -> list[tuple[int, float]]:
        """The same as pairs of step and value."""
        steps, values, _ = self._run(run_id)._points(name)
        return list(zip(steps.tolist(), values.tolist()))

    def list_metrics(self, run_id: RunOrId) -> list[str]:
        """The names of a run's metrics, sorted."""
        return self._run(run_id)._metric_names()

    def list_artifacts(self, run_id: RunOrId) -> list[str]:
        """The names of a run's artifacts, sorted."""
        run = self._run(run_id)
        return run._names("artifact")

    def get_artifact(
        self, run_id: RunOrId, name: str, default: Any = None, *, allow_pickle: bool = False
    ) -> Any:
        """An artifact as it was logged; `default` when there is none of this name.

        Bytes come back as bytes, arrays and plain objects as what they were. Nothing is unpickled
        unless it was logged with ``serializer="pickle"`` (or ``"joblib"``) and `allow_pickle` is
        True: reading a pickle runs whatever code it names.
        """
        run = self._run(run_id)
        run._refresh()
        where = f"{run._where()}/artifact/{name}"
        kind = self._db.get_text(f"{run._where()}/kind/{name}")
        try:
            with self._db.open_blob(where) as source:
                if kind is None:
                    return source.read()
                return _serial.unpack_file(kind, cast(BinaryIO, source), allow_pickle=allow_pickle)
        except KeyNotFoundError:
            return default

    def open_artifact(self, run_id: RunOrId, name: str) -> BlobReader:
        """The bytes of an artifact as a binary file, for what is too large for memory."""
        run = self._run(run_id)
        run._refresh()
        return self._db.open_blob(f"{run._where()}/artifact/{name}")

    # -------------------------------------------------------------------------------- tables

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row per run.

        Columns: id, experiment, status, times, parent, tags, ``params.<name>``, and
        ``metrics.<name>``, the latest values. Needs pandas: the extra ``synadb[pandas]``.
        """
        pandas = _optional("pandas", "to_dataframe needs pandas: pip install 'synadb[pandas]'")
        return pandas.DataFrame.from_dict(self._table())

    def to_arrow(self) -> Any:
        """The same as a pyarrow Table. Needs pyarrow."""
        pyarrow = _optional("pyarrow", "to_arrow needs pyarrow: pip install pyarrow")
        text, time = pyarrow.string(), pyarrow.timestamp("us", tz="UTC")
        types = {
            **dict.fromkeys(("run_id", "experiment", "status", "parent_id"), text),
            **dict.fromkeys(("started_at", "ended_at"), time),
            "tags": pyarrow.list_(text),
        }  # the same however few runs there are
        table = self._table()
        return pyarrow.table(
            {name: pyarrow.array(cells, types.get(name)) for name, cells in table.items()}
        )

    def _table(self) -> dict[str, list[Any]]:
        rows = self._rows()
        table: dict[str, list[Any]] = {
            "run_id": [row["id"] for row in rows],
            "experiment": [row["experiment_name"] for row in rows],
            "status": [str(row["status"]) for row in rows],
            "started_at": [_utc(row["started_at"]) for row in rows],
            "ended_at": [_utc(row["ended_at"]) for row in rows],
            "parent_id": [row["parent_id"] for row in rows],
            "tags": [list(row["tags"]) for row in rows],
        }
        runs = [Run(self, row["id"]) for row in rows]
        for column, cells in (
            ("params", [run._texts("param") for run in runs]),
            ("metrics", [run._latest() for run in runs]),
        ):
            for name in sorted({name for row in cells for name in row}):
                table[f"{column}.{name}"] = [row.get(name) for row in cells]
        return table

    def plot(self, metric: str, run_ids: Iterable[RunOrId] | None = None, *, ax: Any = None) -> Any:
        """Draw a metric of several runs (default: all) into one plot; returns matplotlib's axes.

        Needs matplotlib: the extra ``synadb[plots]``.
        """
        from synadb._plots import plot_metric

        chosen = self.list_runs() if run_ids is None else self._all_existing(run_ids)
        return plot_metric(chosen, metric, ax)

    # -------------------------------------------------------------------------------- inside

    def _refresh(self) -> None:
        self._db.refresh()

    def _rows(self) -> list[Facts]:
        """The facts of all runs, the oldest first."""
        self._refresh()
        rows = []
        for run_id, text in _core.runs(self._db, self._name):
            row = _facts(run_id, text)
            if row["experiment_name"] == self._name:
                rows.append(row)
        rows.sort(key=lambda row: (row["started_at"], row["id"]))
        return rows

    def _run(self, run: RunOrId) -> Run:
        return Run(self, _id_of(run))

    def _existing(self, run: RunOrId) -> Run:
        found = self._run(run)
        if found._record() is None:
            raise _no_run(self._db.path, found.id)
        return found

    def _all_existing(self, runs: Iterable[RunOrId]) -> list[Run]:
        if isinstance(runs, (str, Run)):
            raise TypeError("run_ids is a list of runs, not one run")
        return [self._existing(run) for run in runs]

    def _prefix(self, run_id: str) -> str:
        """What the keys of a run begin with."""
        prefix = self._db.get_text(f"exp/.run/{run_id}")
        if prefix is not None:
            return prefix
        ending = f"/run/{run_id}/meta"  # the ancestor's runs have no pointers
        for key in self._db.scan("exp/", keys_only=True):
            if key.endswith(ending) and key.count(ending) == 1:
                return key[: -len("/meta")]
        raise _no_run(self._db.path, run_id)


class Run:
    """One run of an experiment. Its attributes are read from the file whenever they are asked for.

    Made by `Experiment.start_run`, `get_run` and the queries; as a context manager it ends itself.
    `from_dict` makes one that is not attached to a file.
    """

    def __init__(self, experiment: Experiment | None, run_id: str, facts: Facts | None = None):
        self._experiment = experiment
        self._id = run_id
        self._facts = facts
        self._prefix: str | None = None

    # --------------------------------------------------------------------------------- facts

    @property
    def id(self) -> str:
        """The run's id, a random UUID as text."""
        return self._id

    @property
    def experiment_name(self) -> str:
        """The experiment that it belongs to."""
        name: str = self._current()["experiment_name"]
        return name

    @property
    def status(self) -> RunStatus:
        """What it is; equal to ``"running"``, ``"completed"``, ``"failed"`` or ``"killed"``."""
        status: RunStatus = self._current()["status"]
        return status

    @property
    def started_at(self) -> float:
        """When it was started, in seconds since 1970."""
        started: float = self._current()["started_at"]
        return started

    @property
    def ended_at(self) -> float | None:
        """When it ended, in seconds since 1970; None while it is running."""
        ended: float | None = self._current()["ended_at"]
        return ended

    @property
    def duration(self) -> float | None:
        """Seconds from start to end; None while it is running."""
        facts = self._current()
        return None if facts["ended_at"] is None else facts["ended_at"] - facts["started_at"]

    @property
    def tags(self) -> list[str]:
        """Its tags."""
        return list(self._current()["tags"])

    @property
    def parent_id(self) -> str | None:
        """The id of the run that it belongs to."""
        parent: str | None = self._current()["parent_id"]
        return parent

    @property
    def params(self) -> dict[str, str]:
        """Its parameters as texts, by name."""
        if self._facts is not None:
            return dict(self._facts["params"])
        self._refresh()
        return self._texts("param")

    @property
    def system(self) -> Facts | None:
        """Facts about the machine and the program; None unless they were asked for at the start."""
        self._refresh()
        text = self._db().get_text(f"{self._where()}/system")
        facts: Facts | None = None if text is None else json.loads(text)
        return facts

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """For each metric a dict of ``latest`` (at the highest step), ``min``, ``max``, ``mean``.

        min and max leave NaN out.
        """
        self._refresh()
        found = {}
        for name in self._metric_names():
            stats = _core.stats(self._db(), self._id, name)
            if stats is not None:
                found[name] = dict(zip(("latest", "min", "max", "mean"), stats[2:]))
        return found

    def to_dict(self) -> Facts:
        """The run as plain data; `from_dict` makes a run of it again."""
        facts = self._current()
        return {**facts, "status": str(facts["status"]), "params": self.params}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Run:
        """A run that is not attached to a file: its attributes are what `facts` says."""
        known = _facts(str(facts["id"]), json.dumps({**facts, "params": None}))
        known["parent_id"] = facts.get("parent_id")
        return cls(None, str(facts["id"]), {**known, "params": dict(facts.get("params") or {})})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def __repr__(self) -> str:
        try:
            facts = self._current()
            return f"<Run {self._id} of {facts['experiment_name']!r}, {facts['status']}>"
        except ClosedError:
            return f"<Run {self._id}, file closed>"
        except KeyNotFoundError:
            return f"<Run {self._id}, deleted>"

    def __reduce__(self) -> tuple[Any, ...]:
        return Run, (self._experiment, self._id, self._facts)

    # ------------------------------------------------------------------------------- logging

    def log_param(self, key: str, value: object) -> None:
        """Log one parameter, stored as ``str(value)``. One that is there is replaced.

        Raises
        ------
        ClosedError
            The run has ended.
        """
        _core.log_params(self._db(), self._id, [key], [_text(value)])

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log many parameters in one commit."""
        _core.log_params(
            self._db(), self._id, list(params), [_text(value) for value in params.values()]
        )

    def log_metric(self, key: str, value: float, step: int | None = None) -> None:
        """Log one value of a metric.

        Parameters
        ----------
        key : str
            The metric.
        value : float
            Or anything that float() takes. NaN and infinity are kept.
        step : int, optional
            0 or more. None: one more than the highest so far, 0 for the first. A step that is
            logged again has the later value.

        Raises
        ------
        ClosedError
            The run has ended.

        Notes
        -----
        Safe from many threads and processes at once, also for one metric: nothing is lost.
        """
        _core.log_metric(self._db(), self._id, key, value, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log one value for each of many metrics, in one commit."""
        values = np.array([float(value) for value in metrics.values()], np.float64)
        _core.log_metrics(self._db(), self._id, list(metrics), values, step)

    def log_artifact(self, name: str, data: Any, *, serializer: str | None = None) -> None:
        """Keep an object with the run.

        Parameters
        ----------
        name : str
            May contain "/". One that is there is replaced.
        data : object
            Bytes are kept as they are. A `pathlib.Path` or an open binary file is streamed in,
            whatever its size. Text, numpy arrays, plain data, and tensors, modules and state dicts
            of torch come back as what they were; see `Experiment.get_artifact`.
        serializer : {None, "pickle", "joblib"}
            Store anything by that module; reading it back needs ``allow_pickle=True``.

        Raises
        ------
        TypeError
            There is no safe way to store `data`, and no `serializer` was named.
        ClosedError
            The run has ended.
        """
        if isinstance(data, os.PathLike):
            with open(data, "rb") as file:
                self._stream(name, None, file)
        elif hasattr(data, "read") and not isinstance(data, (bytes, bytearray, memoryview)):
            self._stream(name, None, data)
        else:
            self._log_object(name, data, serializer)

    def _log_object(self, name: str, data: Any, serializer: str | None) -> None:
        kind, parts = _serial.pack_parts(data, serializer=serializer)
        known = None if kind == "raw" else kind
        if sum(len(part) for part in parts) >= _STREAM_FROM:
            self._stream(name, known, parts)
        else:
            whole = parts[0] if len(parts) == 1 else b"".join(parts)
            _core.log_artifact(self._db(), self._id, name, whole, known)

    def _stream(self, name: str, kind: str | None, source: BinaryIO | Iterable[Any]) -> None:
        db = self._db()
        _core.require_running(db, self._id)
        where, what = f"{self._where()}/artifact/{name}", f"{self._where()}/kind/{name}"
        if db.get_text(what) != kind:
            # What is there now would be read as the new kind.
            with db.batch() as batch:
                batch.delete(where)
                if kind is None:
                    batch.delete(what)
                else:
                    batch.put_text(what, kind)
        with db.open_blob(where, "wb") as out:
            if hasattr(source, "read"):
                shutil.copyfileobj(cast(BinaryIO, source), out, 1 << 20)
            else:
                for part in cast("Iterable[Any]", source):
                    out.write(part)

    def set_tags(self, tags: Iterable[str]) -> None:
        """Replace the tags; also of a run that has ended."""
        _core.set_tags(self._db(), self._id, _tags_json(tags) or "[]")

    def end(self, status: str | RunStatus = "completed") -> None:
        """End the run; everything logged is durable when this returns.

        `status` is ``"completed"``, ``"failed"`` or ``"killed"``. A run that has ended raises
        `ClosedError`.
        """
        wanted = _status(status)
        if wanted is RunStatus.RUNNING:
            raise _refused("a run ends as completed, failed or killed, not as running")
        _core.end(self._db(), self._id, _CODES[wanted])

    def __enter__(self) -> Run:
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        try:
            if self.status is RunStatus.RUNNING:
                self.end("completed" if exc_type is None else "failed")
        except SynaError:
            if exc_type is None:  # otherwise the error that ended the block is the one to tell of
                raise

    # ------------------------------------------------------------------------------- reading

    def plot(self, metric: str, *, ax: Any = None) -> Any:
        """Draw a metric over its steps; returns matplotlib's axes.

        Needs matplotlib: the extra ``synadb[plots]``.
        """
        from synadb._plots import plot_metric

        return plot_metric([self], metric, ax)

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row per point: ``metric``, ``step``, ``value``, ``time`` (UTC).

        Needs pandas: the extra ``synadb[pandas]``.
        """
        pandas = _optional("pandas", "to_dataframe needs pandas: pip install 'synadb[pandas]'")
        columns: dict[str, list[Any]] = {"metric": [], "step": [], "value": [], "time": []}
        self._refresh()
        for name in self._metric_names():
            steps, values, times = self._points(name)
            columns["metric"] += [name] * len(steps)
            columns["step"] += steps.tolist()
            columns["value"] += values.tolist()
            columns["time"] += list(times.astype("datetime64[us]"))
        return pandas.DataFrame(columns)

    # -------------------------------------------------------------------------------- inside

    def _db(self) -> SynaDB:
        if self._experiment is None:
            raise ClosedError(-1, f"run {self._id} is not attached to a file", reason=Reason.CLOSED)
        return self._experiment._db

    def _refresh(self) -> None:
        self._db().refresh()

    def _record(self) -> str | None:
        self._refresh()
        return _core.meta(self._db(), self._id)

    def _current(self) -> Facts:
        if self._facts is not None:
            return {name: value for name, value in self._facts.items() if name != "params"}
        text = self._record()
        if text is None:
            raise _no_run(self._db().path, self._id)
        return _facts(self._id, text)

    def _where(self) -> str:
        if self._prefix is None and self._experiment is not None:
            self._prefix = self._experiment._prefix(self._id)
        return self._prefix or ""

    def _names(self, part: str) -> list[str]:
        self._refresh()
        prefix = f"{self._where()}/{part}/"
        return [key[len(prefix) :] for key in self._db().scan(prefix, keys_only=True)]

    def _texts(self, part: str) -> dict[str, str]:
        prefix = f"{self._where()}/{part}/"
        return {key[len(prefix) :]: value for key, value in self._db().scan(prefix)}

    def _metric_names(self) -> list[str]:
        db, found = self._db(), set()
        for name in self._names("metric"):
            if db.type_of(f"{self._where()}/metric/{name}") == "float":
                name = name.rpartition("/")[0]  # the ancestor has a key per step
            found.add(name)
        return sorted(found)

    def _points(
        self, name: str
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.uint64]]:
        self._refresh()
        return _core.points(self._db(), self._id, name)

    def _latest(self) -> dict[str, float]:
        found = {}
        for name in self._metric_names():
            stats = _core.stats(self._db(), self._id, name)
            if stats is not None:
                found[name] = stats[2]
        return found


# ------------------------------------------------------------------------------------- helpers


def _reopen(name: str, path: str, options: dict[str, Any]) -> Experiment:
    return Experiment(name, path, **options)


def _optional(module: str, otherwise: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(otherwise) from error


def _facts(run_id: str, text: str) -> Facts:
    """A run's record, ours or the ancestor's, as the facts that users get."""
    record = json.loads(text)
    return {
        "id": run_id,
        "experiment_name": record.get("experiment_name") or record.get("experiment"),
        "started_at": record.get("started_at"),
        "ended_at": record.get("ended_at"),
        "status": _status(record.get("status") or "running"),
        "tags": list(record.get("tags") or []),
        "parent_id": record.get("parent"),
    }


def _status(given: object) -> RunStatus:
    with contextlib.suppress(ValueError):
        return RunStatus(str(given).lower())
    names = ", ".join(map(str, RunStatus))
    raise _refused(f"status {given!r}; expected one of {names}")


def _id_of(run: RunOrId) -> str:
    if isinstance(run, Run):
        return run.id
    if not isinstance(run, str):
        raise TypeError(f"expected a run or its id, not {type(run).__name__}")
    return run or "\1"  # an empty text is no run's id, and is told so as any other


def _tag_list(tags: object) -> list[str]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise TypeError(f"tags is a list of str, not {type(tags).__name__}")
    found = list(tags)
    for tag in found:
        if not isinstance(tag, str):
            raise TypeError(f"a tag is a str, not {type(tag).__name__}")
    return found


def _tags_json(tags: Iterable[str] | None) -> str | None:
    return None if tags is None else json.dumps(_tag_list(tags))


def _text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)


def _sorted(rows: list[Facts], values: dict[str, float], ascending: bool) -> list[Facts]:
    """Numbers in order, then NaN, then rows without a value."""

    def is_number(row: Facts) -> bool:
        return row["id"] in values and not math.isnan(values[row["id"]])

    numbers = sorted(filter(is_number, rows), key=lambda row: values[row["id"]])
    if not ascending:
        numbers.reverse()
    nan = [row for row in rows if row["id"] in values and not is_number(row)]
    return numbers + nan + [row for row in rows if row["id"] not in values]


def _refused(message: str) -> ArgumentError:
    return ArgumentError(0, message, reason=Reason.ARGUMENT)


def _no_run(path: str, run_id: str) -> KeyNotFoundError:
    return KeyNotFoundError(-5, f"{path}: there is no run with the id {run_id!r}", path=path)


__all__ = ["Experiment", "Run", "RunStatus"]
