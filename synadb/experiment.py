"""`Experiment` and `Run`: runs with parameters, metrics, tags and artifacts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from synadb import _serial
from synadb._arrays import refused
from synadb._core import experiments as _core
from synadb._run import Run, RunOrId, id_of
from synadb._run_facts import (
    Facts,
    RunStatus,
    facts_of,
    no_run,
    status_of,
    tag_list,
    tags_json,
    text_of,
)
from synadb._run_tables import runs_arrow, runs_frame
from synadb._shared import SharedLog
from synadb.blob import BlobReader
from synadb.db import SynaDB
from synadb.errors import KeyNotFoundError


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
    as it was opened. Use ``compact(keep_history="live")`` on the file's `SynaDB` if it is to be
    compacted: that removes what deleted runs have left and keeps the metrics of the others, of
    which a plain ``compact()`` leaves only the last points. The command line asks which is meant.

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
            raise refused(f"the experiment's name is {name!r}; expected text without NUL")
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
        above = None if parent is None else id_of(parent)
        run = Run(self, _core.start(self._db, self._name, tags_json(tags), above, facts))
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
        run = Run(self, id_of(run_id))
        _core.resume(self._db, run.id)
        return run

    def get_run(self, run_id: str) -> Run | None:
        """The run with this id, of whatever experiment in the file; None when there is none."""
        run = Run(self, id_of(run_id))
        return None if run._record() is None else run

    def list_runs(self, *, parent: RunOrId | None = None) -> list[Run]:
        """The runs of this experiment, the oldest first; with `parent`, those that belong to it."""
        rows = self._rows()
        if parent is not None:
            above = id_of(parent)
            rows = [row for row in rows if row["parent_id"] == above]
        return [Run(self, row["id"]) for row in rows]

    def delete_run(self, run_id: RunOrId) -> int:
        """Delete a run with all that was logged to it, in one commit.

        Returns how many keys that were, 0 when there is no such run. Runs that belong to it stay.
        """
        return _core.delete(self._db, id_of(run_id))

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
                if row["status"] != status_of(wanted):
                    return False
            elif key == "tags":
                if not set(tag_list(wanted)) <= set(row["tags"]):
                    return False
            elif key == "params":
                if not all(self._has_param(row, name, value) for name, value in wanted.items()):
                    return False
            elif not self._has_param(row, key, wanted):
                return False
        return True

    def _has_param(self, row: Facts, name: str, wanted: object) -> bool:
        return self._db.get_text(f"{self._prefix(row['id'])}/param/{name}") == text_of(wanted)

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
        return runs_frame(*self._rows_and_runs())

    def to_arrow(self) -> Any:
        """The same as a pyarrow Table. Needs pyarrow."""
        return runs_arrow(*self._rows_and_runs())

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
            row = facts_of(run_id, text)
            if row["experiment_name"] == self._name:
                rows.append(row)
        rows.sort(key=lambda row: (row["started_at"], row["id"]))
        return rows

    def _rows_and_runs(self) -> tuple[list[Facts], list[Run]]:
        rows = self._rows()
        return rows, [Run(self, row["id"]) for row in rows]

    def _run(self, run: RunOrId) -> Run:
        return Run(self, id_of(run))

    def _existing(self, run: RunOrId) -> Run:
        found = self._run(run)
        if found._record() is None:
            raise no_run(self._db.path, found.id)
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
        raise no_run(self._db.path, run_id)


def _reopen(name: str, path: str, options: dict[str, Any]) -> Experiment:
    return Experiment(name, path, **options)


def _sorted(rows: list[Facts], values: dict[str, float], ascending: bool) -> list[Facts]:
    """Numbers in order, then NaN, then rows without a value."""

    def is_number(row: Facts) -> bool:
        return row["id"] in values and not math.isnan(values[row["id"]])

    numbers = sorted(filter(is_number, rows), key=lambda row: values[row["id"]])
    if not ascending:
        numbers.reverse()
    nan = [row for row in rows if row["id"] in values and not is_number(row)]
    return numbers + nan + [row for row in rows if row["id"] not in values]


__all__ = ["Experiment", "Run", "RunStatus"]
