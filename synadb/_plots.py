"""Plots of metrics, with matplotlib: the extra ``synadb[plots]``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from synadb._optional import need

if TYPE_CHECKING:
    from synadb.experiment import Run


def plot_metric(runs: Iterable[Run], metric: str, ax: Any) -> Any:
    """One line per run that has the metric, over its steps; returns the axes."""
    if ax is None:
        ax = need("matplotlib.pyplot", "plots").figure().add_subplot()
    lines = 0
    for run in runs:
        steps, values, _ = run._points(metric)
        if steps.size:
            ax.plot(steps, values, label=run.id[:8], marker="o" if steps.size == 1 else None)
            lines += 1
    ax.set_xlabel("step")
    ax.set_ylabel(metric)
    if lines > 1:
        ax.legend()
    return ax
