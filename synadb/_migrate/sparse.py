"""The ancestor's ``.svs``: ``SVS`` and a NUL, u32 1, u64 next id; u32 keys, each u32 length, key,
u64 id; u32 vectors, each u64 id, u32 length in bytes, u32 terms, and for each u32 term, f32
weight."""

from __future__ import annotations

import math
import struct
from typing import Any

from synadb._migrate.reading import Ends, Source, key_of
from synadb._migrate.report import Findings

_HEAD = struct.Struct("<4sIQ")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_VECTOR = struct.Struct("<QI")
_TERM_BYTES = 8

Terms = dict[int, float]


def read_svs(source: Source, findings: Findings) -> dict[str, Terms]:
    """The vectors that have a key, by key."""
    source.header(_HEAD, "an .svs file")
    names = _names(source, findings)
    if names is None:
        return {}
    found: dict[str, Terms] = {}
    seen: set[int] = set()
    count = 0
    try:
        (count,) = source.numbers(_U32)
        for _ in range(count):
            vector_id, terms = _vector(source)
            seen.add(vector_id)
            _take(findings, found, names, vector_id, terms)
    except Ends:
        findings.note(f"the file ends in its vectors, of which it should have {count:,}")
    for vector_id, key in names.items():
        if vector_id not in seen:
            findings.lose(repr(key), f"there is no vector with its id {vector_id}")
    return found


def _names(source: Source, findings: Findings) -> dict[int, str] | None:
    names: dict[int, str] = {}
    try:
        (count,) = source.numbers(_U32)
        for _ in range(count):
            at = source.at
            raw = source.take(source.numbers(_U32)[0])
            (vector_id,) = source.numbers(_U64)
            try:
                names[vector_id] = key_of(raw)
            except ValueError as error:
                findings.lose(f"offset {at}", f"the vector {vector_id} has {error}")
    except Ends:
        findings.lose(
            f"offset {source.at}", "the file ends in its list of keys; no vector could be read"
        )
        return None
    return names


def _vector(source: Source) -> tuple[int, list[tuple[int, float]] | str]:
    """An id and its terms, or what is wrong with them."""
    vector_id, length = source.numbers(_VECTOR)
    body = source.take(length)
    if length < 4 or (length - 4) != _TERM_BYTES * _U32.unpack_from(body)[0]:
        return vector_id, f"its {length:,} bytes are not those of its number of terms"
    return vector_id, [(int(t), float(w)) for t, w in struct.iter_unpack("<If", body[4:])]


def _take(
    findings: Findings,
    found: dict[str, Terms],
    names: dict[int, str],
    vector_id: int,
    terms: list[tuple[int, float]] | str,
) -> None:
    key = names.get(vector_id)
    if key is None:
        findings.lose(f"vector {vector_id}", "no key has this id")
    elif isinstance(terms, str):
        findings.lose(repr(key), terms)
    elif not all(math.isfinite(weight) for _, weight in terms):
        findings.lose(repr(key), "a weight is NaN or infinite")
    else:
        found[key] = dict(terms)


def migrate_svs(findings: Findings, open_target: Any) -> None:
    findings.kind = "svs"
    with Source(findings.old) as source:
        vectors = read_svs(source, findings)
    with open_target() as store:
        for key, terms in vectors.items():
            store.insert(key, terms)
    findings.component("SparseVectorStore")
    findings.came["sparse vectors"] += len(vectors)
