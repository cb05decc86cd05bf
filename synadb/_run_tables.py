"""Runs and their metrics as data frames and Arrow tables: see `Experiment.to_dataframe`."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from synadb._optional import need
from synadb._run_facts import Facts

if TYPE_CHECKING:
    from synadb._run import Run

#: A column for each name: one cell a row.
Table = dict[str, list[Any]]


def points_frame(run: Run) -> Any:
    """See `Run.to_dataframe`."""
    pandas = need("pandas", "pandas")
    columns: Table = {"metric": [], "step": [], "value": [], "time": []}
    run._refresh()
    for name in run._metric_names():
        steps, values, times = run._points(name)
        columns["metric"] += [name] * len(steps)
        columns["step"] += steps.tolist()
        columns["value"] += values.tolist()
        columns["time"] += list(times.astype("datetime64[us]"))
    return pandas.DataFrame(columns)


def runs_frame(rows: list[Facts], runs: list[Run]) -> Any:
    """See `Experiment.to_dataframe`; `rows` are the facts of `runs`."""
    return need("pandas", "pandas").DataFrame.from_dict(_runs_table(rows, runs))


def runs_arrow(rows: list[Facts], runs: list[Run]) -> Any:
    """See `Experiment.to_arrow`; `rows` are the facts of `runs`."""
    pyarrow = need("pyarrow", "arrow")
    text, time = pyarrow.string(), pyarrow.timestamp("us", tz="UTC")
    types = {
        **dict.fromkeys(("run_id", "experiment", "status", "parent_id"), text),
        **dict.fromkeys(("started_at", "ended_at"), time),
        "tags": pyarrow.list_(text),
    }  # the same however few runs there are
    table = _runs_table(rows, runs)
    return pyarrow.table(
        {name: pyarrow.array(cells, types.get(name)) for name, cells in table.items()}
    )


def _runs_table(rows: list[Facts], runs: list[Run]) -> Table:
    table: Table = {
        "run_id": [row["id"] for row in rows],
        "experiment": [row["experiment_name"] for row in rows],
        "status": [str(row["status"]) for row in rows],
        "started_at": [_utc(row["started_at"]) for row in rows],
        "ended_at": [_utc(row["ended_at"]) for row in rows],
        "parent_id": [row["parent_id"] for row in rows],
        "tags": [list(row["tags"]) for row in rows],
    }
    for column, cells in (
        ("params", [run._texts("param") for run in runs]),
        ("metrics", [run._latest() for run in runs]),
    ):
        for name in sorted({name for row in cells for name in row}):
            table[f"{column}.{name}"] = [row.get(name) for row in cells]
    return table


def _utc(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
