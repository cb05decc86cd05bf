"""How transitions lie in a file, and what makes two of them the same.

A transition is one record ``exp/<session>/<micros>_<hash>``, or a row of one: a batch has all its
transitions in one record, column by column, under the time and hash of its first row. "/" and "%"
in a session's id are written %2F and %25. The hash is of everything that a transition says, its
time, session and machine included, so the same one has the same key wherever it came from.

In JSON, what JSON has no form for (arrays, bytes, NaN, numpy scalars ...) is
``{"__synadb__": base64 of the packed value}`` and comes back exactly; tuples become lists.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from synadb._arrays import refused
from synadb._core.pack import pack
from synadb._core.unpack import unpack

KEY = re.compile(r"exp/(.+)/(\d{1,20})_([0-9a-f]{16})\Z", re.S)
_ROW = re.compile(r"(.+)#(\d+)\Z", re.S)
_PACKED = "__synadb__"
#: Later than any time in seconds, earlier than any in microseconds that a program writes down.
_SECONDS_BELOW = 100_000_000_000
BATCH_ROWS = 16_384
BATCH_BYTES = 64 << 20

Column = Union[npt.NDArray[Any], list[Any]]
#: The names of a batch's columns, and what each is called in one transition.
COLUMNS = {"states": "state", "actions": "action", "next_states": "next_state"}


@dataclass(frozen=True, eq=False)
class Transition:
    """One step: in `state`, `action` was taken, `reward` came of it, and `next_state`.

    Attributes
    ----------
    state, action, next_state : object
        Whatever was logged: plain data or numpy arrays.
    reward : float
    timestamp : int
        Microseconds since 1970.
    session_id, machine_id : str
    metadata : dict
    """

    state: Any
    action: Any
    reward: float
    next_state: Any
    timestamp: int
    session_id: str
    machine_id: str
    metadata: dict[str, Any]

    def content_hash(self) -> str:
        """16 hexadecimal digits of everything that the transition says."""
        return _digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The transition as a line of JSONL has it."""
        return {
            "state": _plain(self.state),
            "action": _plain(self.action),
            "reward": _plain(self.reward),
            "next_state": _plain(self.next_state),
            "timestamp": self.timestamp,
            "session_id": self.session_id,
            "machine_id": self.machine_id,
            "metadata": _plain(self.metadata),
        }

    def key(self) -> str:
        """Where it lies when it is a record of its own."""
        return f"exp/{escape(self.session_id)}/{self.timestamp:016d}_{self.content_hash()}"

    def record(self) -> dict[str, Any]:
        """What lies there."""
        return dict(vars(self))


def escape(session_id: str) -> str:
    return session_id.replace("%", "%25").replace("/", "%2F")


def unescape(text: str) -> str:
    return text.replace("%2F", "/").replace("%25", "%")


def row_key(key: str, row: int) -> str:
    """The name of one transition of a batch."""
    return f"{key}#{row}"


def split_key(key: str) -> tuple[str, int]:
    """The record and the row that a transition's name means."""
    found = None if KEY.match(key) else _ROW.match(key)
    return (found[1], int(found[2])) if found else (key, 0)


# ----------------------------------------------------------------------------------------- records


class Record:
    """The transitions of one record of a file: one, or those of a batch."""

    def __init__(self, key: str, value: Any) -> None:
        self.key = key
        if isinstance(value, (bytes, bytearray)):
            value = json.loads(bytes(value))  # the ancestor's
        if not isinstance(value, dict) or not ({"rewards", "reward"} & value.keys()):
            raise TypeError(f"key {key!r} holds no transition")
        self.value: dict[str, Any] = value
        self.batch = "rewards" in value
        if not self.batch:
            session, machine = KEY.match(key), value.get("machine_id")
            value.setdefault("session_id", unescape(session[1]) if session else "default")
            value["machine_id"] = machine if isinstance(machine, str) else ""
            value["timestamp"] = micros(value.get("timestamp") or (session and int(session[2])))
            value["metadata"] = value.get("metadata") or {}

    def __len__(self) -> int:
        return len(self.value["rewards"]) if self.batch else 1

    @property
    def session_id(self) -> str:
        return str(self.value["session_id"])

    def timestamps(self) -> npt.NDArray[np.int64]:
        if self.batch:
            return np.asarray(self.value["timestamps"], np.int64)
        return np.array([self.value["timestamp"]], np.int64)

    def rewards(self) -> npt.NDArray[np.float64]:
        if self.batch:
            return np.asarray(self.value["rewards"], np.float64)
        return np.array([self.value["reward"]], np.float64)

    def column(self, name: str) -> Column:
        column: Column = self.value[name] if self.batch else [self.value[COLUMNS[name]]]
        return column

    def metadata(self) -> Sequence[dict[str, Any]]:
        if not self.batch:
            return [self.value["metadata"]]
        return self.value["metadata"] or [{}] * len(self)

    def row(self, i: int) -> Transition:
        v = self.value
        if not self.batch:
            names = Transition.__dataclass_fields__
            return Transition(**{**{n: v[n] for n in names}, "reward": float(v["reward"])})
        return Transition(
            v["states"][i],
            v["actions"][i],
            float(v["rewards"][i]),
            v["next_states"][i],
            int(v["timestamps"][i]),
            v["session_id"],
            v["machine_id"],
            dict(v["metadata"][i]) if v["metadata"] else {},
        )

    def rows(self) -> Iterator[Transition]:
        return map(self.row, range(len(self)))

    def keys(self) -> Iterator[str]:
        """The name of each transition."""
        if not self.batch:
            yield self.key
        else:
            yield from (row_key(self.key, i) for i in range(len(self)))


def batch_record(
    columns: Mapping[str, Column],
    rewards: npt.NDArray[np.float64],
    timestamps: npt.NDArray[np.int64],
    metadata: list[dict[str, Any]] | None,
    session_id: str,
    machine_id: str,
) -> Record:
    value = {
        **columns,
        "rewards": rewards,
        "timestamps": timestamps,
        "metadata": metadata,
        "session_id": session_id,
        "machine_id": machine_id,
    }
    record = Record("", value)
    first = record.row(0)
    # Two batches of different lengths may begin alike.
    text = {**first.to_json(), "rows": len(rewards)}
    record.key = f"exp/{escape(session_id)}/{first.timestamp:016d}_{_digest(text)}"
    return record


def chunks(columns: Mapping[str, Column], count: int) -> Iterator[slice]:
    """Parts of a batch that make records of a good size."""
    row_bytes = sum(
        column[:1].nbytes for column in columns.values() if isinstance(column, np.ndarray)
    )
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1)))
    return (slice(start, min(start + rows, count)) for start in range(0, count, rows))


def micros(time: object) -> int:
    """A time from a record or a line: microseconds since 1970 as an int, or seconds."""
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not math.isfinite(time):
        raise refused(f"the timestamp is {time!r}; expected a number")
    moment = round(time * 1_000_000) if abs(time) < _SECONDS_BELOW else int(time)
    if not 0 <= moment < 2**63:
        raise refused(f"the timestamp {time!r} is out of range")
    return moment


# -------------------------------------------------------------------------------------------- JSON


def from_json(line: Any, machine_id: str, timestamp: int) -> Transition:
    """The transition of a parsed line; the last two are for lines that do not say."""
    if not isinstance(line, dict):
        raise refused(f"expected an object, found {type(line).__name__}")
    missing = [n for n in ("state", "action", "reward", "next_state") if n not in line]
    if missing:
        raise refused(f"there is no {missing[0]!r}")
    metadata = _restore(line.get("metadata") or {})
    session, machine = line.get("session_id", "default"), line.get("machine_id", machine_id)
    if not isinstance(metadata, dict):
        raise refused(f"metadata is {type(metadata).__name__}, expected an object")
    if not isinstance(session, str) or not isinstance(machine, str) or not session:
        raise refused("session_id and machine_id are texts")
    reward = _restore(line["reward"])
    if isinstance(reward, bool) or not isinstance(reward, (int, float)):
        raise refused(f"the reward is {reward!r}; expected a number")
    time = line.get("timestamp")
    return Transition(
        _restore(line["state"]),
        _restore(line["action"]),
        float(reward),
        _restore(line["next_state"]),
        timestamp if time is None else micros(time),
        session,
        machine,
        metadata,
    )


def _plain(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind in (list, tuple):
        return [_plain(item) for item in value]
    if kind is dict and _PACKED not in value and all(type(key) is str for key in value):
        return {key: _plain(item) for key, item in value.items()}
    return {_PACKED: base64.b64encode(pack(value)).decode("ascii")}


def _restore(value: Any) -> Any:
    if isinstance(value, list):
        return [_restore(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(value.get(_PACKED), str):
        return unpack(base64.b64decode(value[_PACKED], validate=True))
    return {key: _restore(item) for key, item in value.items()}


def _digest(plain: dict[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
