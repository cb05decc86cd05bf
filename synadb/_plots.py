"""Plots of metrics, with matplotlib: the extra ``synadb[plots]``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synadb.experiment import Run


def plot_metric(runs: Iterable[Run], metric: str, ax: Any) -> Any:
    """One line per run that has the metric, over its steps; returns the axes."""
    if ax is None:
        ax = _new_axes()
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


def _new_axes() -> Any:
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'synadb[plots]'") from error
    return pyplot.figure().add_subplot()
