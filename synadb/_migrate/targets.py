"""Which of our components a file of vectors goes to, opened empty under its future content."""

from __future__ import annotations

import importlib
from typing import Any

from synadb._migrate.place import Place
from synadb._migrate.report import Findings

_CLASSES = {
    "mmap": ("synadb.mmap", "MmapVectorStore"),
    "gwi": ("synadb.gwi", "GravityWellIndex"),
    "cascade": ("synadb.cascade", "CascadeIndex"),
}
#: What the header of a damaged file says is no reason to take more room than this ahead of time.
_CAPACITY_MAX = 1_000_000


def open_target(
    place: Place, findings: Findings, kind: str, dimensions: int, metric: str, count: int
) -> Any:
    """An empty store or index of the kind's class."""
    module, name = _CLASSES[kind]
    cls = getattr(importlib.import_module(module), name)
    findings.component(name)
    return cls(place.path, dimensions, metric=metric, initial_capacity=min(count, _CAPACITY_MAX))
