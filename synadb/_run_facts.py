"""A run's record as the facts that users get, and what they pass as it is stored."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterable
from typing import Any

from synadb._arrays import refused
from synadb.errors import KeyNotFoundError

Facts = dict[str, Any]


class RunStatus(str, enum.Enum):
    """What a run is; equal to its name as a str."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    KILLED = "killed"

    def __str__(self) -> str:
        return self.value


def facts_of(run_id: str, text: str) -> Facts:
    """A run's record, ours or the ancestor's, as the facts that users get."""
    record = json.loads(text)
    return {
        "id": run_id,
        "experiment_name": record.get("experiment_name") or record.get("experiment"),
        "started_at": record.get("started_at"),
        "ended_at": record.get("ended_at"),
        "status": status_of(record.get("status") or "running"),
        "tags": list(record.get("tags") or []),
        "parent_id": record.get("parent"),
    }


def status_of(given: object) -> RunStatus:
    with contextlib.suppress(ValueError):
        return RunStatus(str(given).lower())
    names = ", ".join(map(str, RunStatus))
    raise refused(f"status {given!r}; expected one of {names}")


def tag_list(tags: object) -> list[str]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise TypeError(f"tags is a list of str, not {type(tags).__name__}")
    found = list(tags)
    for tag in found:
        if not isinstance(tag, str):
            raise TypeError(f"a tag is a str, not {type(tag).__name__}")
    return found


def tags_json(tags: Iterable[str] | None) -> str | None:
    return None if tags is None else json.dumps(tag_list(tags))


def text_of(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def no_run(path: str, run_id: str) -> KeyNotFoundError:
    return KeyNotFoundError(-5, f"{path}: there is no run with the id {run_id!r}", path=path)
