"""Versions of models: the keys are the same here; a version's record says less in the ancestor's
files, and differently by the side that wrote it (``Development``, ``development``). Since when a
version has its stage is in the record's own history, of which the registry's history of stages is
made."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from synadb._migrate.parts import Plan, json_object, value_of
from synadb._migrate.report import Findings
from synadb.db import SynaDB

_META = re.compile(r"model/(.+)/v([1-9]\d{0,9})/meta\Z", re.S)
_STAGES = ("development", "staging", "production", "archived")
_CHECKSUM = re.compile(r"[0-9a-f]{64}\Z")
_PIECE = 1 << 20

Record = dict[str, Any]


def plan(db: SynaDB, findings: Findings) -> Plan | None:
    """None when there are no models."""
    models: dict[str, dict[int, Record]] = {}
    found = Plan()
    seen = False
    for key in db.scan("model/", keys_only=True):
        match = _META.match(key)
        if not match or int(match[2]) > 0xFFFFFFFF:
            continue
        record = _record(match[1], int(match[2]), value_of(db, key))
        if record is None:
            findings.lose(key, "no record of a model's version; kept under ancestor/")
            found.aside(key)
            continue
        seen = True
        why = _wrong(db, key[: -len("meta")], record)
        if why:
            findings.lose(key, f"{why}; the version is listed, and loading it is refused")
        models.setdefault(match[1], {})[int(match[2])] = record
    for name, versions in models.items():
        findings.came["model versions"] += len(versions)
        _describe(db, found, name, versions)
    if seen:
        findings.component("ModelRegistry")
    return found if seen or found.leave_out else None


def _record(name: str, version: int, value: Any) -> Record | None:
    """The record in our words; None when it is none."""
    given = json_object(value) if isinstance(value, str) else None
    if given is None:
        return None
    checksum, size = str(given.get("checksum", "")).lower(), given.get("size_bytes")
    created, metadata = given.get("created_at", 0), given.get("metadata") or {}
    stage = str(given.get("stage", "")).lower()
    if not _CHECKSUM.match(checksum) or stage not in _STAGES or not isinstance(metadata, dict):
        return None
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        return None
    if isinstance(created, bool) or not isinstance(created, (int, float)) or created != created:
        return None
    return {
        "name": name,
        "version": version,
        "created_at": created,
        "checksum": checksum,
        "size_bytes": size,
        "metadata": {str(name): _text(value) for name, value in metadata.items()},
        "stage": stage,
    }  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _wrong(db: SynaDB, prefix: str, record: Record) -> str | None:
    """What is wrong with the version's bytes."""
    if db.type_of(f"{prefix}data") not in ("bytes", "blob"):
        return "its bytes are missing"
    digest, size = hashlib.sha256(), 0
    with db.open_blob(f"{prefix}data") as source:
        while True:
            piece = source.read(_PIECE)
            if not piece:
                break
            digest.update(piece)
            size += len(piece)
    if digest.hexdigest() != record["checksum"]:
        return f"the checksum of its {size:,} bytes is not the one in its record"
    return None


def _describe(db: SynaDB, found: Plan, name: str, versions: dict[int, Record]) -> None:
    """Our records, the history of stages, and the number that the next version gets."""
    changes: list[tuple[int, int, str]] = sorted(
        (when, number, stage)
        for number in versions
        for when, stage in _stages(db, f"model/{name}/v{number}/meta")
    )
    last = 0
    history: list[tuple[int, int, str]] = []
    for when, number, stage in changes:
        last = max(when, last + 1)
        history.append((last, number, stage))
        versions[number]["stage_us"] = last
    for number, record in versions.items():
        kind = db.get(f"model/{name}/v{number}/format")
        record["format"] = kind if isinstance(kind, str) else "raw"
        record["run_id"] = None
    following = {"next": max(versions) + 1, "last_us": last}

    def write(old: SynaDB, new: SynaDB) -> None:
        with new.batch() as batch:
            for number, record in versions.items():
                batch.put_text(f"model/{name}/v{number}/meta", json.dumps(record))
            for when, number, stage in history:
                batch.put_text(f"model/{name}/stage/{when:020d}", f"{number} {stage}")
            batch.put_text(f"model/{name}/registry", json.dumps(following))

    found.writers.append(write)


def _stages(db: SynaDB, key: str) -> Iterator[tuple[int, str]]:
    """When a version got which stage, by the history of its record."""
    before = None
    for when, value in db.get_history(key):
        given = json_object(value) or {}
        stage = str(given.get("stage", "")).lower()
        if stage in _STAGES and stage != before:
            before = stage
            yield int(when.astype("datetime64[us]").astype(np.int64)), stage
