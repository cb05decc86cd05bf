"""The vectors of the dense bench: read or made, normalised, with the truth; one folder a set.

    worker_vectors_data.py SOURCE FOLDER ROWS QUERIES SEED

SOURCE is "made", the begin of <it>_base.npy and <it>_query.npy, or the path of one .npy, .fvecs or
.bvecs file, whose last rows become the queries then. Written to FOLDER: base.npy, query.npy
(float32; rows of unit length make the set one for cosine, others are for euclidean distance),
truth.npy (the ten nearest), labels.npy (a number 0..99 by chance a row) and section.npy (a number
that goes with the place of the row: the _section.npy of the set, or the nearest of 16 rows).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

K = 10
_BLOCK = 100_000  # rows whose distances are taken at a time


@dataclass
class Set:
    base: np.ndarray
    query: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    section: np.ndarray

    @property
    def cosine(self) -> bool:
        return is_unit(self.base[:1000])

    @property
    def dims(self) -> int:
        return int(self.base.shape[1])

    @property
    def together(self) -> int:
        """The section that has about a twentieth of the rows."""
        return int(np.argmin(np.abs(np.bincount(self.section) - len(self.base) / 20)))


def load(folder: Path) -> Set:
    names = ("base", "query", "truth", "labels", "section")
    return Set(*(np.load(folder / f"{name}.npy") for name in names))


def is_unit(rows: np.ndarray) -> bool:
    return bool(np.all(np.abs(np.linalg.norm(rows, axis=1) - 1) < 0.01))


def made(count: int, seed: int, dims: int = 384) -> np.ndarray:
    """Unit rows that lie near a curved surface of few dimensions, as embeddings do."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(36, dims)).astype(np.float32)
    rows = np.empty((count, dims), np.float32)
    for at in range(0, count, _BLOCK):
        some = rows[at : at + _BLOCK]
        place = rng.uniform(-1, 1, (len(some), 18)).astype(np.float32)
        some[:] = np.concatenate([np.sin(3 * place), place], axis=1) @ mix
        some += 0.2 * rng.normal(size=some.shape).astype(np.float32)
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return rows


def _read_file(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r")
    element = np.dtype(np.float32 if path.suffix == ".fvecs" else np.uint8)
    raw = np.memmap(path, np.uint8, "r")
    dims = int(raw[:4].view("<i4")[0])
    return raw.reshape(-1, 4 + dims * element.itemsize)[:, 4:].view(element)


def read(source: str, count: int, asked: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and queries, float32."""
    if source == "made":
        rows = made(count + asked, seed)
        return rows[:count], rows[count:]
    path = Path(source)
    if path.is_file():
        rows = _read_file(path)
        count = min(count, len(rows) - asked)
        return _ready(rows[:count]), _ready(rows[len(rows) - asked :])
    base, query = (np.load(f"{source}_{part}.npy", mmap_mode="r") for part in ("base", "query"))
    return _ready(base[:count]), _ready(query[:asked])


def _ready(rows: np.ndarray) -> np.ndarray:
    rows = np.array(rows, np.float32)
    if is_unit(rows[:1000]):  # half precision leaves lengths that are not quite 1
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def nearest(
    rows: np.ndarray, queries: np.ndarray, k: int, chosen: np.ndarray | None = None
) -> np.ndarray:
    """The k nearest of the rows, or of those with chosen[row], a query; -1 behind the last."""
    numbers = np.arange(len(rows)) if chosen is None else np.flatnonzero(chosen)
    parts, names = [], []
    for at in range(0, len(numbers), _BLOCK):
        some = rows[numbers[at : at + _BLOCK]]
        far = np.einsum("ij,ij->i", some, some) - 2 * (queries @ some.T)
        best = np.argpartition(far, min(k, far.shape[1]) - 1, axis=1)[:, :k]
        parts.append(np.take_along_axis(far, best, axis=1))
        names.append(numbers[at + best])
    far, found = np.concatenate(parts, axis=1), np.concatenate(names, axis=1)
    order = np.argsort(far, axis=1, kind="stable")[:, :k]
    out = np.full((len(queries), k), -1)
    out[:, : order.shape[1]] = np.take_along_axis(found, order, axis=1)
    return out


def _sections(source: str, base: np.ndarray, seed: int) -> np.ndarray:
    path = Path(f"{source}_section.npy")
    if path.exists():
        return np.unique(np.load(path)[: len(base)], return_inverse=True)[1]
    centres = base[np.random.default_rng(seed).choice(len(base), 16, replace=False)]
    return nearest(centres, base, 1)[:, 0]


def main() -> None:
    source, folder = sys.argv[1], Path(sys.argv[2])
    count, asked, seed = (int(argument) for argument in sys.argv[3:6])
    base, query = read(source, count, asked, seed)
    np.save(folder / "base.npy", base)
    np.save(folder / "query.npy", query)
    np.save(folder / "truth.npy", nearest(base, query, K))
    np.save(folder / "labels.npy", np.random.default_rng(seed).integers(0, 100, len(base)))
    np.save(folder / "section.npy", _sections(source, base, seed))


if __name__ == "__main__":
    main()
