"""One large array in a process of its own: stored, loaded, and read by rows.

    worker_tensor.py CONTESTANT DIR ROWS SEED

CONTESTANT is synadb, npy (with its memory map for rows), safetensors, h5py or raw (write and fsync,
no more than that). One line of JSON each for
    store     until it is on disk
    load      the whole as a copy; "hot": read once before in this process
    view      SynaDB only: the whole as a mapped view, hot
    rows      shuffled batches of 256 rows
"operations" are bytes. What is read is compared with what was written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from worker import timed

COLUMNS = 784
BATCH = 256
BATCHES = 200


class Array:
    """What the loop below needs of a contestant."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "array"

    def store(self, array: np.ndarray) -> None:
        raise NotImplementedError

    def open(self) -> None:
        """Ready for the calls below."""

    def load(self) -> np.ndarray:
        raise NotImplementedError

    def rows(self, wanted: np.ndarray) -> np.ndarray | None:
        return None


def sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


class SynaArray(Array):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        from synadb import TensorEngine

        self.make = TensorEngine

    def open(self) -> None:
        self.engine = self.make(self.file)

    def store(self, array: np.ndarray) -> None:
        self.open()
        self.engine.put_tensor("x/", array)
        self.engine.close()

    def load(self) -> np.ndarray:
        return self.engine.get_tensor("x/*", "stored", None)

    def view(self) -> np.ndarray:
        return self.engine.get_tensor("x/*", "stored", None, view=True)

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        return self.engine.get_rows("x/*", wanted)


class NpyArray(Array):
    def store(self, array: np.ndarray) -> None:
        np.save(self.folder / "array.npy", array)
        sync(self.folder / "array.npy")

    def open(self) -> None:
        self.mapped = np.load(self.folder / "array.npy", mmap_mode="r")

    def load(self) -> np.ndarray:
        return np.load(self.folder / "array.npy")

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        return np.asarray(self.mapped[wanted])


class SafetensorsArray(Array):
    def store(self, array: np.ndarray) -> None:
        from safetensors.numpy import save_file

        save_file({"x": array}, self.file)
        sync(self.file)

    def load(self) -> np.ndarray:
        from safetensors.numpy import load_file

        return load_file(self.file)["x"]


class H5Array(Array):
    def store(self, array: np.ndarray) -> None:
        import h5py

        with h5py.File(self.file, "w") as file:
            file.create_dataset("x", data=array)
        sync(self.file)

    def open(self) -> None:
        import h5py

        self.data: Any = h5py.File(self.file, "r")["x"]

    def load(self) -> np.ndarray:
        return self.data[:]

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        rising, places = np.unique(wanted, return_inverse=True)  # it takes no others
        return self.data[rising][places]


class RawFile(Array):
    def store(self, array: np.ndarray) -> None:
        rest = memoryview(array).cast("B")
        with open(self.file, "wb", buffering=0) as file:
            while rest:
                rest = rest[file.write(rest[: 1 << 24]) :]
            os.fsync(file.fileno())

    def load(self) -> np.ndarray:
        return np.fromfile(self.file, np.float32).reshape(-1, COLUMNS)


CONTESTANTS = {
    "synadb": SynaArray,
    "npy": NpyArray,
    "safetensors": SafetensorsArray,
    "h5py": H5Array,
    "raw": RawFile,
}


def check(got: np.ndarray, array: np.ndarray) -> None:
    if got.shape != array.shape or not np.array_equal(got[::997], array[::997]):
        raise SystemExit("what was loaded is not what was stored")


def main() -> None:
    name, folder, rows, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rng = np.random.default_rng(seed)
    array = rng.random((rows, COLUMNS), dtype=np.float32)
    order = rng.integers(0, rows, (BATCHES, BATCH))
    contestant = CONTESTANTS[name](folder)
    # Once before the measurement: in a virtual machine the page cache's first use of memory costs
    # several times what the writing does.
    contestant.store(array)
    for file in folder.iterdir():
        file.unlink()
    timed(lambda: contestant.store(array), array.nbytes)
    contestant.open()
    check(contestant.load(), array)
    timed(contestant.load, array.nbytes)
    if isinstance(contestant, SynaArray):
        check(contestant.view(), array)
        timed(contestant.view, array.nbytes)
    if contestant.rows(order[0]) is None:
        return
    check(contestant.rows(order[0]), array[order[0]])
    for batch in order:  # hot
        contestant.rows(batch)

    def work() -> None:
        for batch in order:
            contestant.rows(batch)

    timed(work, BATCHES * BATCH * COLUMNS * 4)


if __name__ == "__main__":
    main()
