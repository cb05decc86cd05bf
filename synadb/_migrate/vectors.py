"""Vectors in a log: ``vec/<key>``, as `VectorStore` keeps them too. What the ancestor did not write
down is their length and metric; the metric stands in the index file beside its log."""

from __future__ import annotations

import struct
from collections import Counter
from functools import partial

from synadb._migrate.parts import Plan
from synadb._migrate.report import Findings
from synadb.db import SynaDB

#: The ancestor's numbers of metrics, which are ours.
METRICS = ("cosine", "euclidean", "dot_product")
_CONFIG = "vec-store/config"
#: Up to this share of vectors of another length are strays; with more it was no store of vectors.
_STRAY = 0.1
_INDEX_HEAD = struct.Struct("<4sHHB")


def plan(db: SynaDB, findings: Findings, metric: str | None) -> Plan | None:
    """None when there are no vectors."""
    lengths = _lengths(db)
    counts = Counter(lengths.values())
    if not counts or _CONFIG in db:
        return None
    dimensions, count = counts.most_common(1)[0]
    others = [key for key, length in lengths.items() if length != dimensions]
    if len(others) > _STRAY * len(lengths):
        findings.note(
            f"the {len(lengths):,} vectors under vec/ have {len(counts)} lengths: no VectorStore "
            "can hold them; they came over as values"
        )
        return None
    found = Plan()
    for key in others:
        findings.lose(
            key, f"{lengths[key]} dimensions, and most have {dimensions}; kept under ancestor/"
        )
        found.aside(key)
    findings.component("VectorStore")
    findings.came["vectors"] += count
    chosen = metric or _metric_beside(findings.old, dimensions)
    if chosen is None:
        chosen = "cosine"
        findings.note(
            "the ancestor's log does not say how its vectors are compared, and there is no index "
            "file beside it: taken as cosine; migrate with metric= if that is wrong"
        )
    text = f'{{"dimensions":{dimensions},"metric":"{chosen}"}}'
    found.writers.append(partial(_write, text))
    return found


def _lengths(db: SynaDB) -> dict[str, int]:
    found = {}
    for key in db.scan("vec/", keys_only=True):
        vector = db.get_vector(key) if db.type_of(key) == "vector" else None
        if vector is not None:
            found[key] = len(vector)
    return found


def _write(text: str, old: SynaDB, new: SynaDB) -> None:
    new.put_text(_CONFIG, text)


def _metric_beside(path: str, dimensions: int) -> str | None:
    """What the index file of the ancestor's store says, if it is one of these vectors."""
    try:
        with open(f"{path}.hnsw", "rb") as file:
            head = file.read(_INDEX_HEAD.size)
    except OSError:
        return None
    if len(head) < _INDEX_HEAD.size:
        return None
    magic, version, length, metric = _INDEX_HEAD.unpack(head)
    if (magic, version, length) != (b"HNSW", 1, dimensions) or metric >= len(METRICS):
        return None
    return METRICS[metric]
