"""The graph under `VectorStore`: against brute force, through changes, reopening, kills."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import synadb
from synadb import VectorStore

DIMS = 32


def sheet(rows: int, seed: int = 0) -> np.ndarray:
    """Points of few dimensions bent into many, as embeddings are."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(-1, 1, (rows, 4))
    bent = np.sin(3 * np.repeat(low, DIMS // 4, 1) + np.arange(DIMS))
    return (bent + 0.05 * rng.normal(size=(rows, DIMS))).astype(np.float32)


def truth(rows: np.ndarray, query: np.ndarray, k: int) -> set[int]:
    return set(np.argsort(((rows - query) ** 2).sum(1), kind="stable")[:k].tolist())


def recall(store: VectorStore, rows: dict[str, np.ndarray], queries: np.ndarray, **how) -> float:
    keys, matrix = list(rows), np.array(list(rows.values()))
    found = 0
    for query in queries:
        near = {keys[i] for i in truth(matrix, query, 10)}
        hits = store.search(query, k=10, vectors=False, **how)
        assert len(hits) == 10 and len({hit.key for hit in hits}) == 10
        assert [hit.score for hit in hits] == sorted(hit.score for hit in hits)
        found += len(near & {hit.key for hit in hits})
    return found / (10 * len(queries))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "v.db"


def filled(path: Path, count: int, **options) -> tuple[VectorStore, dict[str, np.ndarray]]:
    store = VectorStore(path, DIMS, metric="euclidean", sync_on_write=False, **options)
    matrix = sheet(count)
    keys = [f"k{i}" for i in range(count)]
    assert store.insert_batch(keys, matrix) == count
    store.absorb()
    return store, dict(zip(keys, matrix))


def wait_for(store: VectorStore, rows: int, tail: int = 1024) -> None:
    """Until the thread of the store has taken all but a short tail into the graph."""
    while store.stats().indexed_rows < rows - tail:
        time.sleep(0.002)
    while not 0 < store.explain(sheet(1)[0]).recall <= 1:  # and has measured what it gives
        time.sleep(0.002)


def test_the_graph_comes_by_itself_at_ten_thousand_rows(path):
    store, rows = filled(path, 9999)
    with store:
        assert not store.has_index and store.resolved_backend == "flat"
        assert store.explain(sheet(1)[0]).plan == "exact"
        store.insert("one more", sheet(1, 5)[0])
        rows["one more"] = sheet(1, 5)[0]
        wait_for(store, 10000)
        assert store.has_index and store.resolved_backend == "hnsw"
        assert store.stats().indexed_rows == 10000
        plan = store.explain(sheet(1)[0])
        assert plan.plan == "graph" and plan.ef == 100 and 0.9 < plan.recall <= 1
        assert plan.codes_compared < 5000 and plan.rows_scored < 100
        assert recall(store, rows, sheet(50, 1)) >= 0.98


def test_flat_means_exact_whatever_the_size(path):
    store, rows = filled(path, 12000, backend="flat")
    with store:
        assert not store.has_index
        assert recall(store, rows, sheet(20, 1)) == 1.0
        store.build_index()
        assert store.has_index  # asked for


def test_exact_and_radius_and_recall_one_are_exact_beside_a_graph(path):
    store, rows = filled(path, 12000)
    with store:
        assert store.has_index
        for how in ({"exact": True}, {"recall": 1.0}):
            assert store.explain(sheet(1)[0], **how).plan == "exact"
            assert recall(store, rows, sheet(20, 1), **how) == 1.0
        matrix, query = np.array(list(rows.values())), sheet(1, 1)[0]
        distances = np.sqrt(((matrix.astype(np.float64) - query) ** 2).sum(1))
        limit = float(np.sort(distances)[300]) + 1e-5
        assert len(store.search(query, k=None, radius=limit)) == int((distances <= limit).sum())


def test_recall_is_a_parameter(path):
    hard = np.random.default_rng(5).normal(size=(12000, DIMS)).astype(np.float32)
    with VectorStore(path.with_name("hard.db"), DIMS, sync_on_write=False) as store:
        store.insert_batch([str(i) for i in range(len(hard))], hard)
        store.absorb()
        low, high = (store.explain(sheet(1)[0], recall=r).ef for r in (0.9, 0.99))
        assert 10 <= low < high
    store, rows = filled(path, 15000)
    with store:
        assert recall(store, rows, sheet(100, 1), recall=0.95) >= 0.9
        for bad in (0, -0.5, 1.5):
            with pytest.raises(ValueError, match="recall"):
                store.search(sheet(1)[0], recall=bad)
        for bad in (0, 4097):
            with pytest.raises(ValueError, match="ef"):
                store.search(sheet(1)[0], ef=bad)


def test_fresh_replaced_and_deleted_rows_are_right_at_once(path):
    store, rows = filled(path, 12000)
    rng = np.random.default_rng(3)
    with store:
        for i, vector in enumerate(sheet(1500, 9)):
            key = f"k{rng.integers(12000)}" if i % 3 else f"new{i}"
            if i % 5 == 4 and key in rows:
                store.delete(key)
                del rows[key]
                assert store.get(key) is None
                continue
            store.insert(key, vector)
            rows[key] = vector
            assert store.search(vector, k=1)[0].key == key or i % 100
        assert len(store) == len(rows)
        assert recall(store, rows, sheet(50, 1)) >= 0.98


def test_churn_keeps_recall(path):
    store, rows = filled(path, 12000)
    rng = np.random.default_rng(4)
    with store:
        before = recall(store, rows, sheet(100, 1))
        for turn in range(5):
            gone = rng.choice(sorted(rows), 2400, replace=False)
            for key in gone:
                store.delete(str(key))
                del rows[str(key)]
            fresh = {f"t{turn}-{i}": v for i, v in enumerate(sheet(2400, 20 + turn))}
            store.insert_batch(list(fresh), np.array(list(fresh.values())))
            rows.update(fresh)
        after = recall(store, rows, sheet(100, 1))
        assert after >= before - 0.02
        assert sorted(store.keys()) == sorted(rows)


def test_the_graph_is_there_again_after_closing(path):
    store, rows = filled(path, 12000)
    store.close()
    assert path.with_name("v.db.hnsw").exists()
    with VectorStore(path, DIMS, metric="euclidean") as again:
        assert again.has_index and len(again) == 12000
        assert again.stats().indexed_rows == 12000
        assert recall(again, rows, sheet(50, 1)) >= 0.98
        again.insert("late", sheet(1, 7)[0])
        assert again.search(sheet(1, 7)[0], k=1)[0].key == "late"
    with VectorStore(path, DIMS, metric="euclidean") as again:
        assert again.search(sheet(1, 7)[0], k=1)[0].key == "late" and len(again) == 12001


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped", "another"])
def test_a_missing_or_damaged_snapshot_is_built_again(path, harm):
    store, rows = filled(path, 10500)
    store.close()
    snapshot = path.with_name("v.db.hnsw")
    data = bytearray(snapshot.read_bytes())
    if harm == "gone":
        snapshot.unlink()
    elif harm == "cut":
        snapshot.write_bytes(data[: len(data) // 2])
    elif harm == "flipped":
        data[len(data) // 2] ^= 1
        snapshot.write_bytes(data)
    else:
        snapshot.write_bytes(b"not ours" * 1000)
    with VectorStore(path, DIMS, metric="euclidean") as again:
        assert len(again) == 10500
        again.absorb()
        assert again.has_index
        assert recall(again, rows, sheet(30, 1)) >= 0.98


def test_compaction_leaves_every_row_where_it_is_found(path):
    store, rows = filled(path, 11000)
    with store, synadb.SynaDB(path) as log:
        for i in range(0, 3000):
            store.insert(f"k{i}", rows[f"k{i}"])
        log.compact()
        assert recall(store, rows, sheet(30, 1)) >= 0.98
        store.insert("after", sheet(1, 8)[0])
        assert store.search(sheet(1, 8)[0], k=1)[0].key == "after"
        np.testing.assert_array_equal(store.get("k5"), rows["k5"])
        assert sorted(store.keys()) == sorted([*rows, "after"])


def test_a_killed_writer_loses_nothing(path):
    code = f"""
import os, sys, numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_vector_index import filled, sheet
from pathlib import Path
store, rows = filled(Path({str(path)!r}), 10500)
store.close()
from synadb import VectorStore
store = VectorStore({str(path)!r}, {DIMS}, metric="euclidean", sync_on_write=False)
for i, v in enumerate(sheet(1000, 6)):
    store.insert(f"late{{i}}", v)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", code], env=os.environ)
    assert done.returncode == -9
    rows = {f"k{i}": v for i, v in enumerate(sheet(10500))}
    rows.update({f"late{i}": v for i, v in enumerate(sheet(1000, 6))})
    with VectorStore(path, DIMS, metric="euclidean") as store:
        assert len(store) == 11500
        assert store.stats().indexed_rows >= 10500
        assert recall(store, rows, sheet(30, 1)) >= 0.98


def test_a_reader_follows_the_writer(path):
    store, _ = filled(path, 300)
    code = f"""
import sys
from synadb import VectorStore
store = VectorStore({str(path)!r}, {DIMS}, metric="euclidean", read_only=True)
print(len(store), flush=True)
sys.stdin.readline()
print(store.refresh(), len(store), store.contains("new"), store.contains("k0"), flush=True)
try:
    store.insert("x", [0] * {DIMS})
except Exception as error:
    print(type(error).__name__, flush=True)
"""
    with store:
        reader = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert reader.stdout.readline() == "300\n"
        store.insert("new", sheet(1, 3)[0])
        store.delete("k0")
        out, _ = reader.communicate("\n", timeout=60)
        assert out.split("\n")[:2] == ["True 300 True False", "ReadOnlyError"]


def test_searches_run_beside_inserts(path):
    store, rows = filled(path, 11000)
    errors: list[BaseException] = []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                for query in sheet(20, 2):
                    assert len(store.search(query, k=5)) == 5
        except BaseException as error:
            errors.append(error)

    with store:
        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        late = sheet(9000, 11)
        for i, vector in enumerate(late[:500]):
            store.insert(f"one{i}", vector)
        store.insert_batch([f"late{i}" for i in range(8500)], late[500:])
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors
        rows.update({f"one{i}": v for i, v in enumerate(late[:500])})
        rows.update({f"late{i}": v for i, v in enumerate(late[500:])})
        assert recall(store, rows, sheet(50, 1)) >= 0.98


def test_no_write_waits_for_the_graph_and_without_the_thread_one_does(path):
    store, _ = filled(path, 9900)
    with store:
        store.insert_batch([f"late{i}" for i in range(5000)], sheet(5000, 2))
        wait_for(store, 14900)
    with VectorStore(
        path.with_name("w.db"), DIMS, metric="euclidean", sync_on_write=False, absorber=False
    ) as store:
        store.insert_batch([f"k{i}" for i in range(10000)], sheet(10000))
        assert store.stats().indexed_rows == 10000
        store.insert_batch([f"late{i}" for i in range(4097)], sheet(4097, 2))
        assert store.stats().indexed_rows == 14097


def test_searches_stay_short_while_rows_come(path):
    """99 of 100 searches beside inserts compare at most five times the codes of an idle one.

    The writer goes on when the thread has taken in what it wrote, which is what writers with
    something else to do look like; what is counted does not depend on the machine.
    """
    store, _ = filled(path, 12000)
    queries = sheet(64, 1)
    done = threading.Event()
    counted: list[int] = []

    def search() -> None:
        while not done.is_set():
            for query in queries:
                counted.append(store.explain(query).codes_compared)

    with store:
        idle = float(np.mean([store.explain(query).codes_compared for query in queries]))
        thread = threading.Thread(target=search)
        thread.start()
        late = sheet(2500, 2)
        for start in range(0, len(late), 500):
            keys = [f"late{start + i}" for i in range(500)]
            store.insert_batch(keys, late[start : start + 500])
            wait_for(store, len(store))
        done.set()
        thread.join()
        assert len(store) == 14500 and store.stats().indexed_rows >= 14500 - 1024
        assert np.percentile(counted, 99) <= 5 * idle


def test_a_reader_in_another_process_sees_every_row_at_once_and_builds_for_itself(path, python):
    store, _ = filled(path, 10500)
    code = """
        import sys, numpy as np
        from synadb import VectorStore
        path, late = sys.argv[1:]
        with VectorStore(path, 32, metric="euclidean", read_only=True) as store:
            store.refresh()
            print(len(store), store.has_index, store.search(np.load(late), k=1)[0].key)
    """
    late = sheet(2500, 4)
    np.save(path.with_name("late.npy"), late[2499])
    with store:
        store.insert_batch([f"late{i}" for i in range(2500)], late)
        seen = python(code, path, path.with_name("late.npy")).split()
    assert seen == ["13000", "True", "late2499"]


def test_closing_gives_up_the_work_and_the_next_opening_takes_it_up(path):
    store, _ = filled(path, 9000)
    store.insert_batch([f"late{i}" for i in range(6000)], sheet(6000, 2))
    store.close()
    with VectorStore(path, DIMS, metric="euclidean") as again:
        assert len(again) == 15000
        wait_for(again, 15000)
        assert len(again.search(sheet(1)[0], k=5)) == 5


def test_absorb_takes_every_row_in(path):
    store, _ = filled(path, 11000, absorber=False)
    with store:
        store.insert_batch([f"late{i}" for i in range(3000)], sheet(3000, 2))
        assert store.stats().indexed_rows == 11000
        told = []
        store.absorb(progress=lambda done, total: told.append((done, total)))
        assert store.stats().indexed_rows == 14000
        assert all(0 <= done <= total == 3000 for done, total in told)


@pytest.mark.parametrize("bad", [{"m": 3}, {"m": 65}, {"ef_construction": 0}, {"ef_search": 5000},
                                 {"threads": 0}])  # fmt: skip
def test_options_out_of_range_are_refused(path, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        VectorStore(path, DIMS, **bad)
    assert not path.exists()


def test_a_build_can_be_stopped(path):
    store, _ = filled(path, 9000)
    with store:
        calls = []

        def stop(done: int, total: int) -> bool:
            calls.append((done, total))
            raise KeyboardInterrupt

        try:
            store.build_index(progress=stop)
        except KeyboardInterrupt:
            assert not store.has_index
        else:
            assert not calls  # quicker than the first look at the clock
        assert len(store.search(sheet(1)[0], k=3)) == 3


def test_memory_beside_the_rows_at_384_dimensions(path):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12_000, 384)).astype(np.float32)
    with VectorStore(path, 384, sync_on_write=False, ef_construction=40) as store:
        store.insert_batch([f"k{i}" for i in range(len(rows))], rows)
        store.absorb()
        stats = store.stats()
        assert stats.indexed_rows == len(rows)
        assert stats.memory_bytes <= 560 * len(rows)
