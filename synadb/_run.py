"""`Run`: what is logged to one run of an experiment, and read from it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Union, cast

import numpy as np
import numpy.typing as npt

from synadb import _serial
from synadb._arrays import refused
from synadb._core import experiments as _core
from synadb._run_facts import (
    Facts,
    RunStatus,
    facts_of,
    no_run,
    status_of,
    tags_json,
    text_of,
)
from synadb._run_tables import points_frame
from synadb.db import SynaDB
from synadb.errors import ClosedError, KeyNotFoundError, Reason, SynaError

if TYPE_CHECKING:
    from synadb.experiment import Experiment

#: Artifacts from here on are streamed in pieces instead of written as one value.
_STREAM_FROM = 64 << 20
_CODES = {status: code for code, status in enumerate(RunStatus)}
RunOrId = Union["Run", str]


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
        known = facts_of(str(facts["id"]), json.dumps({**facts, "params": None}))
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
        _core.log_params(self._db(), self._id, [key], [text_of(value)])

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log many parameters in one commit."""
        _core.log_params(
            self._db(), self._id, list(params), [text_of(value) for value in params.values()]
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
        _core.set_tags(self._db(), self._id, tags_json(tags) or "[]")

    def end(self, status: str | RunStatus = "completed") -> None:
        """End the run; everything logged is durable when this returns.

        `status` is ``"completed"``, ``"failed"`` or ``"killed"``. A run that has ended raises
        `ClosedError`.
        """
        wanted = status_of(status)
        if wanted is RunStatus.RUNNING:
            raise refused("a run ends as completed, failed or killed, not as running")
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
        return points_frame(self)

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
            raise no_run(self._db().path, self._id)
        return facts_of(self._id, text)

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


def id_of(run: RunOrId) -> str:
    if isinstance(run, Run):
        return run.id
    if not isinstance(run, str):
        raise TypeError(f"expected a run or its id, not {type(run).__name__}")
    return run or "\1"  # an empty text is no run's id, and is told so as any other
