"""The ancestor's ``.svs``: ``SVS`` and a NUL, u32 1, u64 next id; u32 keys, each u32 length, key,
u64 id; u32 vectors, each u64 id, u32 length in bytes, and in these u32 terms, for each u32 term,
f32 weight. How large the vocabulary was is not in it."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._migrate.place import Place
from synadb._migrate.reading import Ends, Source, key_of
from synadb._migrate.report import Findings

_HEAD = struct.Struct("<4sIQ")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_VECTOR = struct.Struct("<QI")
_PAIR = np.dtype([("term", "<u4"), ("weight", "<f4")])
#: What the store takes; its default vocabulary is that of the usual tokenizers.
_TERM_MAX = 2**32 - 2
_TERMS_MAX = 1 << 20
_VOCABULARY = 30522
_BATCH_ROWS = 1000

Pairs = npt.NDArray[Any]


def read_svs(source: Source, findings: Findings) -> dict[str, Pairs]:
    """The vectors that have a key, by key."""
    source.header(_HEAD, "an .svs file")
    found: dict[str, Pairs] = {}
    names: dict[int, str] = {}
    seen: set[int] = set()
    try:
        _read_names(source, findings, names)
        (count,) = source.numbers(_U32)
        for _ in range(count):
            vector_id, length = source.numbers(_VECTOR)
            _take(findings, found, names, vector_id, source.take(length))
            seen.add(vector_id)
    except Ends:
        findings.lose(f"offset {source.at}", "the file ends in the middle of its keys or vectors")
    for vector_id, key in names.items():
        if vector_id not in seen:
            findings.lose(repr(key), f"there is no vector with its id {vector_id}")
    return found


def _read_names(source: Source, findings: Findings, names: dict[int, str]) -> None:
    (count,) = source.numbers(_U32)
    for _ in range(count):
        at = source.at
        raw = source.take(source.numbers(_U32)[0])
        (vector_id,) = source.numbers(_U64)
        try:
            key = key_of(raw)
        except ValueError as error:
            findings.lose(f"offset {at}", f"the vector {vector_id} has {error}")
            continue
        if vector_id in names:
            findings.lose(repr(names[vector_id]), f"{key!r} has the same id {vector_id}")
        names[vector_id] = key


def _take(
    findings: Findings,
    found: dict[str, Pairs],
    names: dict[int, str],
    vector_id: int,
    body: bytes,
) -> None:
    key = names.get(vector_id)
    if key is None:
        findings.lose(f"vector {vector_id}", "no key has this id")
        return
    why = _wrong(body)
    if why:
        findings.lose(repr(key), why)
    else:
        found[key] = np.frombuffer(body, _PAIR, offset=_U32.size)


def _wrong(body: bytes) -> str | None:
    count = _U32.unpack_from(body)[0] if len(body) >= _U32.size else 0
    if len(body) != _U32.size + _PAIR.itemsize * count:
        return f"its {len(body):,} bytes are not those of {count:,} terms"
    pairs = np.frombuffer(body, _PAIR, offset=_U32.size)
    if count > _TERMS_MAX:
        return f"{count:,} terms, at most {_TERMS_MAX:,} fit"
    if not np.isfinite(pairs["weight"]).all():
        return "a weight is NaN or infinite"
    if count and int(pairs["term"].max()) > _TERM_MAX:
        return f"a term above {_TERM_MAX}"
    return None


def migrate_svs(place: Place, findings: Findings, tell: Callable[[int, int], object]) -> None:
    from synadb.sparse import SparseVectorStore

    findings.kind = "svs"
    findings.component("SparseVectorStore")
    with Source(findings.old) as source:
        vectors = read_svs(source, findings)
        size = source.size
    top = max((int(pairs["term"].max()) for pairs in vectors.values() if len(pairs)), default=0)
    rows = iter(vectors.items())
    done = 0
    with SparseVectorStore(place.path, max(_VOCABULARY, top + 1), sync_on_write=False) as store:
        for some in iter(lambda: list(itertools.islice(rows, _BATCH_ROWS)), []):
            tell(size * done // len(vectors), size)
            store.index_batch([(key, p["term"], p["weight"]) for key, p in some])
            done += len(some)
    findings.came["sparse vectors"] += done
