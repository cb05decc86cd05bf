"""One task on one store in a process of its own: the Python twin of c/kvbench.c.

    worker.py PEER load    DIR KEYS VALUE_BYTES
    worker.py PEER get     DIR KEYS VALUE_BYTES OPS      random gets, after a pass over all keys
    worker.py PEER put     DIR KEYS VALUE_BYTES          one commit a key
    worker.py PEER batch   DIR KEYS VALUE_BYTES SIZE     commits of SIZE keys
    worker.py PEER over    DIR TIMES VALUE_BYTES OPS     a key written once, then one written TIMES
    worker.py PEER ycsb    DIR KEYS VALUE_BYTES TRACE
    worker.py PEER durable DIR COMMITS VALUE_BYTES THREADS ROUNDS
                                synced puts, COMMITS a thread; a round is one thread, then THREADS
    worker.py PEER open    DIR KEYS VALUE_BYTES          open and read one value
    worker.py PEER die     DIR KEYS VALUE_BYTES          put KEYS one by one, then die of SIGKILL
    worker.py PEER memory  DIR KEYS                      puts of 20-byte keys, then ordered scans
    worker.py PEER prefix  DIR KEYS                      scans of 200 keys
    worker.py PEER small   DIR                           ten small values, closed

Results are lines of JSON as in kvbench. A wrong answer ends the process with an error.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import workloads
from peers import ALL, Peer

PREFIX_KEYS = 200  # keys that share a prefix in the prefix task


def report(operations: float, wall: float, cpu: float, **extra: float) -> None:
    print(json.dumps({"ops": operations, "wall": wall, "cpu": cpu, **extra}), flush=True)


def timed(work: Callable[[], object], operations: float, **extra: float) -> None:
    gc.collect()
    gc.disable()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    gc.enable()
    report(operations, wall, cpu, **extra)


def pairs_of(peer: type[Peer], count: int, value_bytes: int) -> list[tuple[Any, bytes]]:
    pool = workloads.value_pool(value_bytes, seed=1)
    return [
        (peer.key(workloads.key(record)), workloads.pool_value(pool, record))
        for record in range(count)
    ]


def put_in_batches(store: Peer, pairs: list[tuple[Any, bytes]], size: int) -> None:
    for at in range(0, len(pairs), size):
        store.put_many(pairs[at : at + size])


def check(store: Peer, keys: list[Any], value_bytes: int) -> None:
    """Every key is there with a value of the right length. Also the warm-up of the get tasks."""
    get = store.reader(writes_between=False)
    for key in keys:
        if len(get(key)) != value_bytes:
            raise SystemExit(f"{store.name}: {key!r} has a value of another length")


# ---------------------------------------------------------------- tasks of kvbench


def task_load(peer: type[Peer], folder: Path, keys: int, value_bytes: int) -> None:
    store = peer(folder)
    put_in_batches(store, pairs_of(peer, keys, value_bytes), workloads.BATCH)
    store.close()


def task_get(peer: type[Peer], folder: Path, keys: int, value_bytes: int, ops: int) -> None:
    names = [peer.key(workloads.key(record)) for record in range(keys)]
    picks = np.random.default_rng(7).integers(0, keys, ops)
    wanted = [names[pick] for pick in picks]
    store = peer(folder)
    check(store, names, value_bytes)
    get = store.reader(writes_between=False)

    def work() -> None:
        for name in wanted:
            get(name)

    timed(work, ops)
    store.close()


def task_put(peer: type[Peer], folder: Path, keys: int, value_bytes: int) -> None:
    pairs = pairs_of(peer, keys, value_bytes)
    store = peer(folder)
    put = store.writer()

    def work() -> None:
        for key, value in pairs:
            put(key, value)

    timed(work, keys)
    check(store, [key for key, _ in pairs], value_bytes)
    store.close()


def task_batch(peer: type[Peer], folder: Path, keys: int, value_bytes: int, size: int) -> None:
    pairs = pairs_of(peer, keys, value_bytes)
    store = peer(folder)
    timed(lambda: put_in_batches(store, pairs, size), keys)
    check(store, [key for key, _ in pairs], value_bytes)
    store.close()


def task_over(peer: type[Peer], folder: Path, times: int, value_bytes: int, ops: int) -> None:
    pool = workloads.value_pool(value_bytes, seed=1)
    once, often = peer.key(workloads.key(0)), peer.key(workloads.key(1))
    store = peer(folder)
    put = store.writer()
    put(once, pool[0])
    for version in range(times):
        put(often, workloads.pool_value(pool, 1, version))
    get = store.reader(writes_between=False)

    def gets(key: Any) -> None:
        for _ in range(ops):
            get(key)

    for key in (once, often):
        gets(key)
        timed(lambda key=key: gets(key), ops)
    store.close()


def task_ycsb(peer: type[Peer], folder: Path, keys: int, value_bytes: int, trace: Path) -> None:
    steps = workloads.load_trace(trace)
    pool = workloads.value_pool(value_bytes, seed=1)
    top = int(steps["id"].max()) + 1
    names = [peer.key(workloads.key(record)) for record in range(max(top, keys))]
    store = peer(folder)
    check(store, names[:keys], value_bytes)
    get, put, scan = store.reader(writes_between=True), store.writer(), store.scan
    plan = [
        (op, names[record], workloads.pool_value(pool, record, version), length)
        for version, (op, _, length, record) in enumerate(steps.tolist())
    ]

    def work(part: list[tuple[int, Any, bytes, int]]) -> None:
        for op, key, value, length in part:
            if op == workloads.READ:
                get(key)
            elif op == workloads.SCAN:
                scan(key, length)
            else:
                if op == workloads.READ_MODIFY_WRITE:
                    get(key)
                put(key, value)

    warm = len(plan) // 10
    work(plan[:warm])
    timed(lambda: work(plan[warm:]), len(plan) - warm)
    store.close()


# ---------------------------------------------------------------- durability, opening, dying


def task_durable(
    peer: type[Peer], folder: Path, commits: int, value_bytes: int, threads: int, rounds: int
) -> None:
    """Puts that are on disk when they return: by one thread, then by `threads`, `rounds` times.

    A disk that is quick in this second may be slow in the next: short turns meet the same disk.
    Reports the commits, and the syncs where told.
    """
    turns = [1, threads] * rounds if threads > 1 else [1] * rounds
    pairs = pairs_of(peer, commits * sum(turns) + 1, value_bytes)
    store = peer(folder, sync=True)
    store.writer()(*pairs[0])  # the first one creates and preallocates
    at = 1
    for turn in turns:
        parts = [pairs[at + i * commits : at + (i + 1) * commits] for i in range(turn)]
        before = _syncs(store)
        wall, cpu = _by_threads(store.writer(), parts)
        report(commits * turn, wall, cpu, syncs=_syncs(store) - before)
        at += commits * turn
    check(store, [key for key, _ in pairs], value_bytes)
    store.close()


def _by_threads(
    put: Callable[[Any, bytes], object], parts: list[list[tuple[Any, bytes]]]
) -> tuple[float, float]:
    """Put every part by a thread of its own; the time by the clock and of the processor."""

    def work(part: list[tuple[Any, bytes]]) -> None:
        for key, value in part:
            put(key, value)

    workers = [threading.Thread(target=work, args=(part,)) for part in parts]
    wall, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return wall, cpu


def _syncs(store: Peer) -> int:
    return int(store.db.stats().syncs) if store.name == "synadb" else 0


def task_open(peer: type[Peer], folder: Path, keys: int, value_bytes: int) -> None:
    """From nothing to the first value read; the module is imported before."""
    if peer.module:
        __import__(peer.module)
    key = peer.key(workloads.key(keys // 2))
    opened: list[Peer] = []

    def work() -> None:
        opened.append(peer(folder))
        value = opened[0].reader(writes_between=False)(key)
        if len(value) != value_bytes:
            raise SystemExit(f"{peer.name}: wrong value after open")

    timed(work, 1)
    opened[0].close()


def task_die(peer: type[Peer], folder: Path, keys: int, value_bytes: int) -> None:
    pairs = pairs_of(peer, keys, value_bytes)
    put = peer(folder).writer()
    for key, value in pairs:
        put(key, value)
    os.kill(os.getpid(), signal.SIGKILL)


# ---------------------------------------------------------------- memory, scans, size on disk


def private_dirty() -> int:
    """Bytes of dirty memory that only this process has.

    Linux counts a dirty page of a shared file mapping here, too, until it is written back: the sync
    makes those clean, so that what remains is memory that only swapping could take away.
    """
    gc.collect()
    os.sync()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("smaps_rollup has no Private_Dirty line")


def task_memory(peer: type[Peer], folder: Path, keys: int) -> None:
    """Growth of private dirty memory over the puts, then over ordered scans, in bytes a key."""
    store = peer(folder)
    put, value = store.writer(), (1).to_bytes(8, "little")
    for record in range(1000):
        put(peer.key(f"warm:{record:015d}"), value)
    base = private_dirty()
    for record in range(keys):
        put(peer.key(f"key:{record * 387420489 % 10**12:016d}"), value)
    puts = (private_dirty() - base) / keys
    if peer.ordered:
        for first in range(10):
            store.prefix(peer.key(f"key:000012{first}"))
            store.scan(peer.key(f"key:000045{first}"), 1000)
    scans = (private_dirty() - base) / keys
    report(keys, 0, 0, puts=puts, scans=scans)
    store.close()


def task_prefix(peer: type[Peer], folder: Path, keys: int) -> None:
    """Scans of PREFIX_KEYS keys: the first after opening, then 100 others (the median)."""
    groups = keys // PREFIX_KEYS
    order = np.random.default_rng(3).permutation(groups * PREFIX_KEYS)
    store = peer(folder)
    put_in_batches(
        store,
        [
            (peer.key(f"group/{n // PREFIX_KEYS:06d}/{n % PREFIX_KEYS:03d}"), b"12345678")
            for n in order.tolist()
        ],
        workloads.BATCH,
    )
    store.close()
    store = peer(folder)
    rng = np.random.default_rng(4)

    def scan() -> tuple[float, float]:
        prefix = peer.key(f"group/{rng.integers(groups):06d}/")
        wall, cpu = time.perf_counter(), time.process_time()
        found = store.prefix(prefix)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if found != PREFIX_KEYS:
            raise SystemExit(f"{peer.name}: {found} keys under {prefix!r}, not {PREFIX_KEYS}")
        return wall, cpu

    report(1, *scan())
    later = [scan() for _ in range(100)]
    report(1, *np.median(later, axis=0).tolist())
    store.close()


def task_small(peer: type[Peer], folder: Path) -> None:
    """Ten small values in a database that was closed: bytes in the files, and blocks on disk."""
    store = peer(folder)
    put = store.writer()
    for record in range(10):
        put(peer.key(f"setting:{record}"), b"a small value")
    store.close()
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    blocks = sum(status.st_blocks for status in files)
    report(10, 0, 0, bytes=sum(status.st_size for status in files), disk=blocks * 512)


TASKS: dict[str, Callable[..., None]] = {
    name.removeprefix("task_"): function
    for name, function in list(globals().items())
    if name.startswith("task_")
}


def main(arguments: list[str]) -> None:
    name, task, folder, *numbers = arguments
    peer = ALL[name]
    TASKS[task](peer, Path(folder), *(int(n) if n.isdigit() else Path(n) for n in numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
