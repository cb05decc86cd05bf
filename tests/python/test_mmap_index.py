"""The graph under `MmapVectorStore`, as seen from Python: recall against brute force, also after
churn and reopening; what a killed process leaves; refusals."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from synadb import MmapVectorStore

DIMS = 32
METRICS = ("cosine", "euclidean", "dot_product")


def sheet(rows, seed):
    """Points near a surface of few dimensions in a space of many, as embeddings are."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(-1, 1, (rows, 4))
    basis = np.random.default_rng(99).normal(size=(4, DIMS))
    curved = np.sin(at @ basis * 1.5) + 0.05 * rng.normal(size=(rows, DIMS))
    return curved.astype(np.float32)


def distances(metric, query, rows):
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.linalg.norm(rows - query, axis=1)
    dots = rows @ query
    if metric == "dot_product":
        return -dots
    return 1 - dots / (np.linalg.norm(rows, axis=1) * np.linalg.norm(query))


def recall(store, known, k=10, **how):
    """Share of the true nearest that come back; `known` is a dict of what the store holds."""
    keys, rows = list(known), np.stack(list(known.values()))
    queries = sheet(50, 12345)
    right = 0
    for query, hits in zip(queries, store.search_batch(queries, k, vectors=False, **how)):
        truth = distances(store.metric, query, rows)
        limit = np.sort(truth)[k - 1]
        assert len(hits) == len({hit.key for hit in hits}) == k
        index = {key: i for i, key in enumerate(keys)}
        for hit in hits:
            exact = truth[index[hit.key]]  # no deleted key, no old value
            assert hit.score == pytest.approx(exact, abs=1e-4)
            right += exact <= limit + 1e-9
    return right / (len(queries) * k)


def filled(path, rows, metric="euclidean", seed=1):
    store = MmapVectorStore(path, DIMS, metric=metric)
    vectors = sheet(rows, seed)
    known = {f"k{i}": v for i, v in enumerate(vectors)}
    store.insert_batch(list(known), vectors)
    return store, known


@pytest.mark.parametrize("metric", METRICS)
def test_the_graph_finds_nearly_all_and_exact_finds_all(tmp_path, metric):
    store, known = filled(tmp_path / "v", 6000, metric)
    with store:
        assert not store.has_index
        assert store.explain(known["k0"]).plan == "scan"
        store.build_index()
        assert store.has_index and store.stats().indexed_rows == 6000
        assert store.explain(known["k0"]).plan == "graph"
        assert store.explain(known["k0"], exact=True).plan == "exact"
        assert store.explain(known["k0"], radius=0.5).plan == "exact"
        assert recall(store, known, ef=200) >= (0.85 if metric == "dot_product" else 0.99)
        assert recall(store, known, exact=True) == 1.0
        assert recall(store, known, recall=1.0) == 1.0


def test_a_recall_that_was_asked_for_is_met(tmp_path):
    store, known = filled(tmp_path / "v", 20000)
    with store:
        store.build_index()
        plan = store.explain(known["k1"], recall=0.95)
        assert plan.plan == "graph" and plan.recall >= 0.95
        assert store.explain(known["k1"], recall=0.99).ef >= plan.ef
        assert recall(store, known, recall=0.95) >= 0.93


def test_recall_survives_churn_and_reopening(tmp_path):
    path = tmp_path / "v"
    store, known = filled(path, 5000)
    store.build_index()
    for round in range(5):
        for key in list(known)[:700]:
            store.delete(key)
            del known[key]
        fresh = sheet(1000, 100 + round)
        batch = {f"r{round}-{i}": v for i, v in enumerate(fresh[:700])}
        batch.update(zip(list(known)[:300], fresh[700:]))  # replaced
        store.insert_batch(list(batch), np.stack(list(batch.values())))
        for key, vector in batch.items():
            known.pop(key, None)
            known[key] = vector
        assert recall(store, known, ef=150) >= 0.98
        if round % 2:
            store.build_index()
        else:
            store.close()
            store = MmapVectorStore(path, DIMS, metric="euclidean")
            assert store.has_index
        assert recall(store, known, ef=150) >= 0.98
        assert store.keys() == list(known)
    store.compact()
    assert store.has_index and store.stats().dead_rows == 0
    assert recall(store, known, ef=150) >= 0.98
    store.close()


def test_search_batch_is_search_one_by_one(tmp_path):
    store, _ = filled(tmp_path / "v", 5000, "cosine")
    with store:
        store.build_index()
        queries = sheet(40, 7)
        together = store.search_batch(queries, 7, ef=30)
        assert together == [store.search(query, 7, ef=30) for query in queries]


def test_bad_arguments_are_refused(tmp_path):
    store, known = filled(tmp_path / "v", 100)
    with store:
        store.build_index()
        for bad in ({"ef": 0}, {"ef": 4097}, {"recall": 0}, {"recall": 1.1}, {"recall": np.nan}):
            with pytest.raises(ValueError):
                store.search(known["k0"], **bad)
        with pytest.raises(TypeError):
            store.search(known["k0"], ef=1.5)


def test_a_stopped_build_leaves_the_store_as_it_was(tmp_path):
    store, known = filled(tmp_path / "v", 3000)

    def stop(done, total):
        raise KeyboardInterrupt

    with store:
        with pytest.raises(KeyboardInterrupt):
            store.build_index(progress=stop)
        assert not store.has_index
        assert recall(store, known) == 1.0
        seen = []
        store.build_index(progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (3000, 3000) and seen == sorted(seen)


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "garbage", "other"])
def test_a_graph_file_that_does_not_fit_is_passed_over(tmp_path, damage):
    path, saved = tmp_path / "v", tmp_path / "v.hnsw"
    store, known = filled(path, 2000)
    with store:
        store.build_index()
    good = saved.read_bytes()
    if damage == "missing":
        saved.unlink()
    elif damage == "cut":
        saved.write_bytes(good[:-1])
    elif damage == "empty":
        saved.write_bytes(b"")
    elif damage == "garbage":
        saved.write_bytes(np.random.default_rng(1).bytes(len(good)))
    else:
        other, _ = filled(tmp_path / "o", 2000)
        with other:
            other.build_index()
        saved.write_bytes((tmp_path / "o.hnsw").read_bytes())
    with MmapVectorStore(path, DIMS, metric="euclidean") as store:
        assert not store.has_index
        assert recall(store, known) == 1.0
        store.build_index()
    with MmapVectorStore(path, DIMS, metric="euclidean") as store:
        assert store.has_index
    assert saved.stat().st_size == len(good)


CHURN = """
import sys, numpy as np
from synadb import MmapVectorStore
rng = np.random.default_rng(int(sys.argv[2]))
with MmapVectorStore(sys.argv[1], 32, metric="euclidean") as store:
    n = 0
    while True:
        keys = [f"{n % 7}-{i}" for i in range(400)]
        store.insert_batch(keys, rng.normal(size=(400, 32)))
        store.delete(f"{(n + 3) % 7}-5")
        n += 1
        store.build_index()
        store.checkpoint()
        if n % 4 == 0:
            store.compact()
        print(n, flush=True)
"""


def test_a_killed_process_leaves_a_store_and_a_graph_that_fit(tmp_path):
    path = tmp_path / "v"
    for kill in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHURN, str(path), str(kill)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2 + kill % 3):
            assert child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        with MmapVectorStore(path, DIMS, metric="euclidean") as store:
            known = {key: store.get(key) for key in store.keys()}
            assert len(known) >= 399
            assert store.verify().ok
            assert recall(store, known, exact=True) == 1.0
            if store.has_index:
                assert recall(store, known, ef=300) >= 0.97


def test_searches_while_a_graph_is_built_and_rows_come(tmp_path):
    store, known = filled(tmp_path / "v", 3000)
    done = threading.Event()
    failures = []

    def search():
        try:
            while not done.is_set():
                for hits in store.search_batch(np.stack([known["k7"], known["k8"]]), 3):
                    assert hits[0].key in ("k7", "k8") and hits[0].score == 0
        except BaseException as error:  # reported in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    with store:
        for thread in threads:
            thread.start()
        for round in range(4):
            fresh = sheet(500, 50 + round)
            store.insert_batch([f"{round}-{i}" for i in range(500)], fresh)
            store.build_index()
            store.checkpoint()
        store.compact()
        done.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.stats().indexed_rows == 5000
