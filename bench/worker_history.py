"""Histories of floats in a process of its own: SynaDB, and what else compresses the same bytes.

    worker_history.py CONTESTANT DIR KIND SERIES POINTS SEED

CONTESTANT is synadb, pcodec, parquet+zstd or npy (raw arrays, the limit). One line of JSON each for
    append    writing everything (compression included, where there is any)
    fold      SynaDB only: compact(keep_history=True)
    stored    bytes a value on disk
    readback  the first reading of everything after opening again
    hot       reading everything once more in the same process
"operations" are bytes of float64. Every array read is compared with what was written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import workloads
from worker import report, timed

CHUNK = 1000  # values an append


class History:
    """What the loop below needs of a contestant; `series` is of shape (series, points)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, series: np.ndarray) -> None:
        raise NotImplementedError

    def fold(self) -> bool:
        """Compress what was appended, where that is a step of its own."""
        return False

    def close(self) -> None:
        """Everything is in the files afterwards."""

    def reopen(self) -> None:
        """Ready for `read` afterwards."""

    def read(self, index: int) -> np.ndarray:
        raise NotImplementedError


class SynaHistory(History):
    def _open(self) -> None:
        from synadb import SynaDB

        self.db = SynaDB(self.folder / "history.db", sync_on_write=False)

    def append(self, series: np.ndarray) -> None:
        self._open()
        for at in range(0, series.shape[1], CHUNK):
            for index, row in enumerate(series):
                self.db.append_floats(f"sensor/{index:03d}", row[at : at + CHUNK])

    def fold(self) -> bool:
        self.db.compact(keep_history=True)
        return True

    def close(self) -> None:
        self.db.close()

    def reopen(self) -> None:
        self._open()

    def read(self, index: int) -> np.ndarray:
        return self.db.get_history_tensor(f"sensor/{index:03d}")


class PcodecHistory(History):
    """One standalone pcodec file a series, at its default level."""

    def append(self, series: np.ndarray) -> None:
        from pcodec import ChunkConfig, standalone

        for index, row in enumerate(series):
            (self.folder / f"{index}.pco").write_bytes(
                standalone.simple_compress(row, ChunkConfig())
            )

    def read(self, index: int) -> np.ndarray:
        from pcodec import standalone

        return standalone.simple_decompress((self.folder / f"{index}.pco").read_bytes())


class ParquetHistory(History):
    """One Parquet file with a zstd-compressed column a series, otherwise pyarrow's defaults."""

    def append(self, series: np.ndarray) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({str(index): row for index, row in enumerate(series)})
        pq.write_table(table, self.folder / "history.parquet", compression="zstd")

    def reopen(self) -> None:
        import pyarrow.parquet as pq

        self.file = pq.ParquetFile(self.folder / "history.parquet")

    def read(self, index: int) -> np.ndarray:
        column = self.file.read(columns=[str(index)], use_threads=False).column(0)
        return column.to_numpy()


class NpyHistory(History):
    """Raw arrays, one file a series."""

    def append(self, series: np.ndarray) -> None:
        for index, row in enumerate(series):
            np.save(self.folder / f"{index}.npy", row)

    def read(self, index: int) -> np.ndarray:
        return np.load(self.folder / f"{index}.npy")


CONTESTANTS: dict[str, type[History]] = {
    "synadb": SynaHistory,
    "pcodec": PcodecHistory,
    "parquet+zstd": ParquetHistory,
    "npy": NpyHistory,
}

KINDS: dict[str, Callable[[int, int, int], np.ndarray]] = {
    "sensor": workloads.sensor_series,
    "noise": workloads.noise_series,
}


def check(store: History, series: np.ndarray) -> None:
    """Bit for bit; also the pass that warms up."""
    for index, row in enumerate(series):
        found = store.read(index)
        if not np.array_equal(found.view(np.uint64), row.view(np.uint64)):
            raise SystemExit(f"{type(store).__name__}: series {index} reads back differently")


def run(store: History, series: np.ndarray) -> None:
    def read_all() -> None:
        for index in range(len(series)):
            store.read(index)

    timed(lambda: store.append(series), series.nbytes)
    timed(store.fold, series.nbytes)
    store.close()
    stored = sum(path.stat().st_size for path in store.folder.rglob("*") if path.is_file())
    report(series.size, 0, 0, bytes_per_value=stored / series.size)
    store.reopen()
    timed(read_all, series.nbytes)
    check(store, series)
    timed(read_all, series.nbytes)
    store.close()


def main(arguments: list[str]) -> None:
    contestant, folder, kind, *numbers = arguments
    series, points, seed = (int(n) for n in numbers)
    run(CONTESTANTS[contestant](Path(folder)), KINDS[kind](series, points, seed))


if __name__ == "__main__":
    main(sys.argv[1:])
