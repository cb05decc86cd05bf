"""What a store that was killed at any moment may look like: one check for every vector component.

A child changes a store at random and says before each change what it is about to do (``try key
value``; -1: deleted), and ``covered`` whenever all of it has to survive. It is killed after some of
its lines, and what the file has then must be what was covered last, or something tried since.
"""

import signal
import subprocess
import sys

import numpy as np

from synadb import CascadeIndex, GravityWellIndex, MmapVectorStore, SynaDB, VectorStore

DIMS = 8
KEYS = 30
CLASSES = {
    "vector": VectorStore, "mmap": MmapVectorStore,
    "gwi": GravityWellIndex, "cascade": CascadeIndex,
}  # fmt: skip

CHILD = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from killed_stores import change_for_ever
change_for_ever(*sys.argv[2:])
"""


def opened(kind, path, **options):
    """A store of that kind; its vectors are all of one number, which its metadata repeat."""
    options.setdefault("metric", "euclidean")
    if kind == "vector":
        options.setdefault("sync_on_write", False)
    store = CLASSES[kind](path, DIMS, **options)
    if kind == "gwi" and not options.get("read_only") and not store.initialized:
        store.initialize(np.random.default_rng(0).normal(size=(20, DIMS)))
    return store


def rows_of(values):
    return np.repeat(np.asarray(values, np.float32)[:, None], DIMS, axis=1)


def _facts(kind, values):
    return () if kind == "mmap" else ([{"v": int(value)} for value in values],)


def _upkeep(kind, store, path, number):
    """What takes long and may be killed in the middle; afterwards everything is covered."""
    if kind == "vector":
        if number == 0:
            store.build_index()
        elif number == 1:
            store.absorb()
        else:
            with SynaDB(path) as log:
                log.compact()
        return
    if number == 0:
        store.compact()
    if number == 1 and kind == "mmap":
        store.build_index()
    if number == 1 and kind == "gwi":
        store.train()
    store.checkpoint() if kind == "mmap" else store.save()


def change_for_ever(kind, path, seed):
    rng = np.random.default_rng(int(seed))
    store = opened(kind, path)
    if len(store) == 0:  # rows that stay, enough for graphs, wells and buckets
        values = np.arange(2000)
        store.insert_batch([f"stay{v}" for v in values], rows_of(values), *_facts(kind, values))
        _upkeep(kind, store, path, 2)
    print("ready", flush=True)
    lasting = kind == "vector"  # what returned survives the end of the process
    while True:
        act = rng.integers(20)
        if act < 12:
            keys = [f"k{k}" for k in rng.choice(KEYS, rng.integers(1, 4), replace=False)]
            values = rng.integers(4000, size=len(keys))
            for key, value in zip(keys, values):
                print("try", key, value, flush=True)
            store.insert_batch(keys, rows_of(values), *_facts(kind, values))
        elif act < 17:
            key = f"k{rng.integers(KEYS)}"
            print("try", key, -1, flush=True)
            store.delete(key)
        else:
            _upkeep(kind, store, path, act - 17)
            print("covered", flush=True)
        if lasting:
            print("covered", flush=True)


def value_of(kind, store, key):
    vector = store.get(key)
    if vector is None:
        return -1
    assert (vector == vector[0]).all()
    if kind != "mmap":
        assert store.get_metadata(key) == {"v": int(vector[0])}
    return int(vector[0])


def check_whole(kind, store):
    """Every way to ask gives the same rows, each once."""
    keys = store.keys()
    assert len(keys) == len(set(keys)) == len(store)
    hits = store.search(np.zeros(DIMS), k=None, exact=True)
    assert sorted(hit.key for hit in hits) == sorted(keys)
    for hit in hits[:: max(1, len(hits) // 50)]:
        best = store.search(hit.vector, k=3)
        assert best[0].score == 0 and np.array_equal(best[0].vector, hit.vector)
        assert len({h.key for h in best}) == len(best) == min(3, len(keys))


def kill_and_check(kind, path, rounds, folder):
    """So many children, each killed after a number of its lines."""
    path = str(path)
    before = {f"k{k}": -1 for k in range(KEYS)}
    rng = np.random.default_rng(11)
    for n in range(rounds):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, folder, kind, path, str(n)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout.readline() == "ready\n"
        lines = [child.stdout.readline() for _ in range(int(rng.integers(1, 120)))]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        allowed = {key: [value] for key, value in before.items()}
        for words in (line.split() for line in lines if line.endswith("\n")):
            if words[0] == "try":
                allowed[words[1]].append(int(words[2]))
            else:
                allowed = {key: values[-1:] for key, values in allowed.items()}
        with opened(kind, path) as store:
            check_whole(kind, store)
            before = {key: value_of(kind, store, key) for key in allowed}
            for key, values in allowed.items():
                assert before[key] in values, (n, key, before[key], values)
            assert all(f"stay{v}" in store for v in range(2000))
