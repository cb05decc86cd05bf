"""Shuffled training batches through PyTorch's DataLoader, in a process of its own.

    worker_loader.py CONTESTANT DIR ROWS WORKERS SEED

CONTESTANT is synadb (SynaDataset and SynaDataLoader) or npy (a memory map behind a dataset that
gives rows one by one, the way loaders are written). One line of JSON for two epochs of batches of
256 rows of 784 floats, after one that is not counted; "operations" are rows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from worker import timed

COLUMNS = 784
BATCH = 256
EPOCHS = 2


class Rows(torch.utils.data.Dataset):
    def __init__(self, path: Path) -> None:
        self.array = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.array[row].copy())


def loader_of(name: str, folder: Path, array: np.ndarray, workers: int) -> Any:
    options = {"batch_size": BATCH, "shuffle": True, "num_workers": workers}
    if workers:
        options["persistent_workers"] = True
    if name == "npy":
        np.save(folder / "array.npy", array)
        return torch.utils.data.DataLoader(Rows(folder / "array.npy"), **options)
    from synadb import TensorEngine
    from synadb.torch import SynaDataLoader, SynaDataset

    with TensorEngine(folder / "array.db") as engine:
        engine.put_tensor("x", array)
    return SynaDataLoader(SynaDataset(folder / "array.db", "x*"), **options)


def epoch(loader: Any, expected: float) -> None:
    total = sum(float(batch[:, 0].double().sum()) for batch in loader)
    if abs(total - expected) > 1e-6 * abs(expected):
        raise SystemExit(f"an epoch adds up to {total}, expected {expected}")


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    rows, workers, seed = map(int, sys.argv[3:6])
    torch.set_num_threads(1)
    array = np.random.default_rng(seed).random((rows, COLUMNS), np.float32)
    expected = float(array[:, 0].astype(np.float64).sum())
    loader = loader_of(name, folder, array, workers)
    epoch(loader, expected)

    def work() -> None:
        for _ in range(EPOCHS):
            epoch(loader, expected)

    timed(work, EPOCHS * rows)


if __name__ == "__main__":
    main()
