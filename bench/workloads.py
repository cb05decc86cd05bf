"""The data of all benchmarks: keys, values, YCSB traces, time series, and how much of each.

Everything follows from a seed, and every peer gets the same bytes in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

KEY_BYTES = 16
VALUE_BYTES = 64
YCSB_VALUE_BYTES = 1000  # ten fields of 100 bytes, the benchmark's own default
YCSB_WORKLOADS = "ABCFDE"  # the order its authors recommend: D and E insert
BATCH = 1000

_VALUE_POOL = 1024


@dataclass(frozen=True)
class Sizes:
    """How much work a run does. `full` is what the floors are about."""

    repeats: int
    keys: int  # in the store of the get rows
    gets: int
    puts: int
    overwrites: int
    durable: int  # commits a thread and turn
    durable_rounds: int  # turns of one thread, then of many
    ycsb_records: int
    ycsb_ops: int
    series: int  # keys with a history
    points: int  # floats in each of them
    open_keys: int
    memory_keys: int
    kills: int
    flips: int


SIZES = {
    "tiny": Sizes(2, 2_000, 2_000, 500, 1_000, 10, 2, 1_000, 1_000, 5, 5_000, 3_000, 20_000, 2, 40),
    "quick": Sizes(
        5,
        100_000,
        200_000,
        30_000,
        100_000,
        100,
        5,
        100_000,
        100_000,
        100,
        20_000,
        200_000,
        200_000,
        10,
        300,
    ),
    "full": Sizes(
        7,
        1_000_000,
        1_000_000,
        100_000,
        100_000,
        300,
        9,
        1_000_000,
        500_000,
        100,
        100_000,
        1_000_000,
        1_000_000,
        50,
        3_000,
    ),
}


# ---------------------------------------------------------------- keys and values


def key(record: int) -> str:
    """The key of a record: a bijection of its number, so that numbers in order give keys in none.

    The same as make_key in c/kvbench.c: 387420489 (3 to the 18th) has no factor in common with 10.
    """
    return f"user{record * 387420489 % 10**12:012d}"


def value_pool(size: int, seed: int) -> list[bytes]:
    """Printable random values; general-purpose compressors gain next to nothing on them."""
    letters = np.random.default_rng(seed).integers(32, 127, (_VALUE_POOL, size), dtype=np.uint8)
    return [row.tobytes() for row in letters]


def pool_value(pool: list[bytes], record: int, version: int = 0) -> bytes:
    return pool[(record + version) % _VALUE_POOL]


# ---------------------------------------------------------------- YCSB

READ, UPDATE, INSERT, SCAN, READ_MODIFY_WRITE = range(5)

STEP = np.dtype([("op", "u1"), ("zero", "u1"), ("len", "<u2"), ("id", "<u4")])  # kvbench.c: step

_MIX = {  # operation: share
    "A": {READ: 0.5, UPDATE: 0.5},
    "B": {READ: 0.95, UPDATE: 0.05},
    "C": {READ: 1.0},
    "D": {READ: 0.95, INSERT: 0.05},
    "E": {SCAN: 0.95, INSERT: 0.05},
    "F": {READ: 0.5, READ_MODIFY_WRITE: 0.5},
}

YCSB_TITLES = {
    "A": "A: 50 % read, 50 % update",
    "B": "B: 95 % read, 5 % update",
    "C": "C: read only",
    "D": "D: 95 % read of the latest, 5 % insert",
    "E": "E: 95 % scan of 1 to 100, 5 % insert",
    "F": "F: 50 % read, 50 % read-modify-write",
}


def zipfian(count: int, size: int, rng: np.random.Generator, theta: float = 0.99) -> np.ndarray:
    """`size` ranks in [0, count), rank r with a probability proportional to 1 / (r + 1)**theta."""
    weights = np.arange(1, count + 1, dtype=np.float64) ** -theta
    edges = np.cumsum(weights)
    return np.searchsorted(edges, rng.random(size) * edges[-1]).astype(np.int64)


def ycsb_trace(workload: str, records: int, operations: int, seed: int) -> np.ndarray:
    """The operations of one run on a store that holds `records` records, as an array of STEP.

    Reads, updates and scans are scrambled zipfian (theta 0.99) over the records present at the
    start; in D they are zipfian over age, the newest insert being the most popular.
    """
    rng = np.random.default_rng([seed, ord(workload)])
    mix = _MIX[workload]
    trace = np.zeros(operations, STEP)
    trace["op"] = rng.choice(list(mix), operations, p=list(mix.values()))
    inserts = trace["op"] == INSERT
    inserted = np.cumsum(inserts)
    ranks = zipfian(records, operations, rng)
    if workload == "D":
        newest = records + inserted - 1
        ids = newest - ranks
    else:
        ids = rng.permutation(records)[ranks]
    trace["id"] = np.where(inserts, records + inserted - 1, ids)
    trace["len"] = np.where(trace["op"] == SCAN, rng.integers(1, 101, operations), 0)
    return trace


def trace_inserts(trace: np.ndarray) -> int:
    return int(np.count_nonzero(trace["op"] == INSERT))


def save_trace(trace: np.ndarray, path: Path) -> None:
    path.write_bytes(trace.tobytes())


def load_trace(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), STEP)


# ---------------------------------------------------------------- time series


def sensor_series(series: int, points: int, seed: int) -> np.ndarray:
    """What a thermometer writes: a random walk rounded to two decimals; shape (series, points)."""
    rng = np.random.default_rng([seed, 1])
    steps = rng.normal(0.0, 0.1, (series, points))
    return np.round(20.0 + np.cumsum(steps, axis=1), 2)


def noise_series(series: int, points: int, seed: int) -> np.ndarray:
    """Normal noise: 52 random bits of mantissa a value, the hard case."""
    return np.random.default_rng([seed, 2]).standard_normal((series, points))
