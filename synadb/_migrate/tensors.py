"""Tensors in chunks: ``<prefix>chunk_<index>``, each the bytes of some elements. The ancestor did
not write down of what dtype they are, so only its user can say; without that they stay bytes.
Tensors whose elements have keys of their own (``<prefix><index>``) need nothing: `TensorEngine`
reads such floats and ints where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from synadb._migrate.parts import Plan
from synadb._migrate.report import Findings
from synadb.db import SynaDB
from synadb.errors import ArgumentError, Reason

_CHUNK = re.compile(r"(.*)chunk_(\d{1,12})\Z", re.S)
#: The name that stands for all prefixes which have none of their own.
ANY = "*"


def checked(tensors: Mapping[str, npt.DTypeLike] | None) -> dict[str, np.dtype[Any]]:
    """The dtypes by prefix."""
    found = {}
    for prefix, dtype in (tensors or {}).items():
        try:
            found[prefix] = np.dtype(dtype)
        except TypeError as error:
            raise ArgumentError(
                0, f"the tensor {prefix!r}: {error}", reason=Reason.ARGUMENT
            ) from None
        if found[prefix].hasobject or found[prefix].kind not in "fiubc":
            raise ArgumentError(
                0, f"the tensor {prefix!r}: dtype {dtype!r}; expected one of numbers or bools",
                reason=Reason.ARGUMENT,
            )  # fmt: skip
    return found


def plan(db: SynaDB, findings: Findings, dtypes: Mapping[str, np.dtype[Any]]) -> Plan | None:
    """None when nothing is to be changed."""
    chunked: dict[str, dict[int, str]] = {}
    for key in db.scan(keys_only=True):
        match = _CHUNK.match(key)
        if match and match[1] and db.type_of(key) == "bytes":
            chunked.setdefault(match[1], {})[int(match[2])] = key
    found = Plan()
    unknown = []
    for prefix, chunks in chunked.items():
        dtype = dtypes.get(prefix, dtypes.get(ANY))
        if dtype is None:
            unknown.append(prefix)
            continue
        sizes = [len(db.get_bytes(key) or b"") for _, key in sorted(chunks.items())]
        why = _wrong(sorted(chunks), sizes, dtype)
        if why:
            findings.lose(prefix, f"no tensor of {dtype}: {why}; its chunks came over as bytes")
            continue
        findings.component("TensorEngine")
        findings.came["tensors"] += 1
        keys = [key for _, key in sorted(chunks.items())]
        found.leave_out += keys
        per_chunk = sizes[0] // dtype.itemsize
        found.writers.append(partial(_write, prefix, keys, dtype, per_chunk))
    _tell(findings, unknown, [prefix for prefix in dtypes if prefix not in {*chunked, ANY}])
    return found if found.leave_out else None


def _wrong(numbers: list[int], sizes: list[int], dtype: np.dtype[Any]) -> str | None:
    if numbers != list(range(len(numbers))):
        missing = next(i for i, number in enumerate([*numbers, -1]) if i != number)
        return f"chunk {missing} is missing"
    for number, size in enumerate(sizes):
        if size % dtype.itemsize or size == 0:
            return f"chunk {number} has {size} bytes"
        if size != sizes[0] and (number + 1 < len(sizes) or size > sizes[0]):
            return f"chunk {number} has {size} bytes and the first {sizes[0]}"
    return None


def _write(
    prefix: str, keys: list[str], dtype: np.dtype[Any], per_chunk: int, old: SynaDB, new: SynaDB
) -> None:
    from synadb.tensor import TensorEngine

    values = np.concatenate([np.frombuffer(old.get_bytes(key) or b"", dtype) for key in keys])
    with TensorEngine(new.path, sync_on_write=False) as engine:
        engine.put_tensor_chunked(prefix, values, per_chunk)


def _tell(findings: Findings, unknown: list[str], unused: list[str]) -> None:
    if unknown:
        findings.note(
            f"{len(unknown):,} tensors in chunks ({', '.join(map(repr, unknown[:5]))}"
            f"{', ...' if len(unknown) > 5 else ''}) came over as bytes, since the ancestor did "
            "not write down their dtype; migrate with tensors= to make them arrays"
        )
    for prefix in unused:
        findings.note(f"there is no tensor in chunks under {prefix!r}")
