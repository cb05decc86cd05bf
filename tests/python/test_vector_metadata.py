"""Metadata of `VectorStore`: with its vector or not at all, through changes, reopening, compaction,
kills and readers; filtered searches against brute force."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore
from synadb.types import SearchResult

DIMS = 16
Model = dict[str, tuple[np.ndarray, "dict[str, Any] | None"]]


def make(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any] | None]:
    vector = rng.normal(size=DIMS).astype(np.float32)
    choice = rng.integers(0, 4)
    if choice == 0:
        return vector, None
    year = int(rng.integers(2000, 2025))
    text = "x" * int(rng.integers(0, 400)) if choice == 1 else "short"
    return vector, {"year": year, "text": text, "tags": [f"t{year % 3}", f"u{year % 5}"]}


def same(store: VectorStore, model: Model) -> None:
    assert sorted(store.keys()) == sorted(model)
    for row in store.rows():
        vector, metadata = model[row.key]
        assert row.metadata == metadata
        assert row.vector is not None and (row.vector == vector).all()
    old = [key for key, (_, m) in model.items() if m and m["year"] < 2010]
    assert sorted(store.keys({"year": {"$lt": 2010}})) == sorted(old)
    tagged = [key for key, (_, m) in model.items() if m and "t1" in m["tags"]]
    assert sorted(store.keys({"tags": "t1"})) == sorted(tagged)
    assert store.count({"year": {"$exists": False}}) == sum(m is None for _, m in model.values())


def test_metadata_comes_back_with_the_row(tmp_path):
    with VectorStore(tmp_path / "v.db", 2, "euclidean", sync_on_write=False) as store:
        store.insert("a", [0, 0], {"n": 1, "deep": {"list": [1, "é", None]}})
        store.insert("b", [1, 0])
        hit, bare = store.search([0, 0], k=2)
        assert hit.metadata == {"n": 1, "deep": {"list": [1, "é", None]}} == store.get_metadata("a")
        assert bare.metadata is None and store.get_metadata("b") is None
        assert store.get_metadata("nobody") is None
        assert store.search([0, 0], k=1, metadata=False)[0].metadata is None
        assert [r.metadata and r.metadata["n"] for r in store.rows(vectors=False)] == [1, None]
        assert SearchResult("a", 0.0) == SearchResult("a", 0.0, None, {"n": 1})


def test_a_row_that_replaces_another_has_its_own_metadata_only(tmp_path):
    path = tmp_path / "v.db"
    for reopened in (False, True):
        with VectorStore(path, 2, sync_on_write=False) as store:
            if not reopened:
                store.insert("a", [1, 2], {"n": 1})
                store.insert("a", [1, 3])
                store.insert_batch(
                    ["b", "b", "c", "c"], np.ones((4, 2)), [{"n": 2}, None, None, {"n": 3}]
                )
                store.insert("d", [1, 2], {"n": 4})
                store.delete("d")
                store.insert("d", [1, 2])
            assert {k: store.get_metadata(k) for k in store.keys()} == {
                "a": None,
                "b": None,
                "c": {"n": 3},
                "d": None,
            }
            assert store.keys({"n": {"$exists": True}}) == ["c"]


def test_update_metadata_merges_replaces_and_takes_away(tmp_path):
    path = tmp_path / "v.db"
    with VectorStore(path, 2, sync_on_write=False) as store:
        store.insert("a", [1, 2], {"x": 1, "y": {"z": 2}, 'é"': [1]})
        assert store.update_metadata("a", {"y": 3, 'é"': 4, "new": None})
        assert store.get_metadata("a") == {"x": 1, "y": 3, 'é"': 4, "new": None}
        assert store.count({"y.z": 2}) == 0 and store.count({"y": 3}) == 1
        assert store.update_metadata("a", {"only": True}, replace=True)
        assert store.get_metadata("a") == {"only": True}
        store.insert("b", [1, 2])
        assert store.update_metadata("b", {"late": 1})
        store.insert("c", [1, 2], {"gone": 1})
        assert store.update_metadata("c", None) and store.get_metadata("c") is None
        assert not store.update_metadata("nobody", {"a": 1})
        with pytest.raises(TypeError):
            store.update_metadata("a", ["a"])  # type: ignore[arg-type]
        assert (store.get("a") == [1, 2]).all()
    with VectorStore(path, 2) as store:
        assert [store.get_metadata(key) for key in "abc"] == [{"only": True}, {"late": 1}, None]
        assert store.keys({"late": 1}) == ["b"]


def test_delete_where_removes_the_rows_that_match(tmp_path):
    with VectorStore(tmp_path / "v.db", 2, sync_on_write=False) as store:
        store.insert_batch(
            [f"k{i}" for i in range(100)], np.ones((100, 2)), [{"n": i} for i in range(100)]
        )
        assert store.delete_where({"n": {"$lt": 30}}) == 30
        assert store.delete_where({"n": {"$lt": 30}}) == 0
        assert len(store) == 70 and store.count({"n": {"$gte": 30}}) == 70
        assert store.delete_where({}) == 70 and store.keys() == []


@pytest.mark.parametrize("seed", range(3))
def test_changes_of_every_kind_leave_what_a_dict_has(tmp_path, seed):
    path, rng = tmp_path / "v.db", np.random.default_rng(seed)
    model: Model = {}
    store = VectorStore(path, DIMS, sync_on_write=False)
    for step in range(120):
        what = rng.integers(0, 10)
        keys = [f"k{int(i)}" for i in rng.integers(0, 60, 8)]
        rows = [make(rng) for _ in keys]
        if what < 4:
            store.insert_batch(keys, np.array([v for v, _ in rows]), [m for _, m in rows])
            model.update(zip(keys, rows))
        elif what < 6:
            store.insert(keys[0], *rows[0])
            model[keys[0]] = rows[0]
        elif what == 6 and keys[0] in model:
            store.delete(keys[0])
            del model[keys[0]]
        elif what == 7 and keys[0] in model:
            metadata = {**(model[keys[0]][1] or {}), "year": 1999, "tags": ["t1"]}
            assert store.update_metadata(keys[0], {"year": 1999, "tags": ["t1"]})
            model[keys[0]] = (model[keys[0]][0], metadata)
        elif what == 8:
            year = int(rng.integers(2000, 2025))
            gone = [k for k, (_, m) in model.items() if m and m["year"] == year]
            assert store.delete_where({"year": year}) == len(gone)
            for key in gone:
                del model[key]
        elif step % 3 == 0:
            with SynaDB(path, sync_on_write=False) as db:
                db.compact()
        else:
            store.close()
            store = VectorStore(path, DIMS, sync_on_write=False)
        if step % 10 == 0:
            same(store, model)
    same(store, model)
    store.close()


def test_metadata_survives_a_snapshot_and_what_came_after_it(tmp_path):
    path, rng = tmp_path / "v.db", np.random.default_rng(5)
    rows = [make(rng) for _ in range(1500)]  # codes are learned from 1,024 on, and a snapshot made
    model: Model = {f"k{i}": row for i, row in enumerate(rows)}
    with VectorStore(path, DIMS, sync_on_write=False) as store:
        store.insert_batch(list(model), np.array([v for v, _ in rows]), [m for _, m in rows])
    assert (tmp_path / "v.db.hnsw").exists()
    with VectorStore(path, DIMS, sync_on_write=False) as store:
        same(store, model)
        store.update_metadata("k3", {"year": 1990, "tags": [], "text": ""}, replace=True)
        store.insert("k4", model["k4"][0])
        store.delete("k5")
    model["k3"] = (model["k3"][0], {"year": 1990, "tags": [], "text": ""})
    model["k4"] = (model["k4"][0], None)
    del model["k5"]
    snapshot = (tmp_path / "v.db.hnsw").read_bytes()
    with VectorStore(path, DIMS, sync_on_write=False) as store:
        same(store, model)
        while store.stats().dead_rows < 3000 and len(store):  # rows are numbered anew in between
            keys = list(model)
            store.insert_batch(
                keys, np.array([model[k][0] for k in keys]), [model[k][1] for k in keys]
            )
            if store.stats().dead_rows == 0:
                break
        same(store, model)
    (tmp_path / "v.db.hnsw").write_bytes(
        snapshot[: len(snapshot) // 2]
    )  # damaged: as if it were not there
    with VectorStore(path, DIMS) as store:
        same(store, model)


def test_a_reader_follows_metadata(tmp_path):
    path = tmp_path / "v.db"
    code = """
import sys
from synadb import VectorStore
with VectorStore(sys.argv[1], 2, read_only=True) as store:
    for _ in sys.stdin:
        store.refresh()
        print({key: store.get_metadata(key) for key in store.keys()}, flush=True)
"""
    with VectorStore(path, 2) as store:
        store.insert("plain", [1, 2])
        reader = subprocess.Popen(
            [sys.executable, "-c", code, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        assert reader.stdin and reader.stdout

        def seen() -> Any:
            reader.stdin.write("\n")
            reader.stdin.flush()
            return eval(reader.stdout.readline())

        assert seen() == {"plain": None}
        store.insert("a", [1, 2], {"n": 1})
        assert seen() == {"plain": None, "a": {"n": 1}}
        store.update_metadata("plain", {"late": "x" * 300})
        store.insert("a", [2, 2])
        assert seen() == {"plain": {"late": "x" * 300}, "a": None}
        with SynaDB(path) as db:
            db.compact()
        store.update_metadata("a", {"n": 2})
        assert seen() == {"plain": {"late": "x" * 300}, "a": {"n": 2}}
        reader.stdin.close()
        assert reader.wait(30) == 0


def test_a_killed_writer_leaves_rows_and_metadata_that_belong_together(tmp_path):
    code = """
import sys
import numpy as np
from synadb import VectorStore
store = VectorStore(sys.argv[1], 2)
for i in range(10**9):
    keys = [f"k{i % 7}", f"k{(i + 3) % 7}"]
    store.insert_batch(keys, np.full((2, 2), i), [{"i": i, "pad": "p" * (i % 200)}, None])
    print(i, flush=True)
"""
    path = tmp_path / "v.db"
    for round in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        assert writer.stdout
        last = -1
        for line in writer.stdout:
            last = int(line)
            if last >= 20 + round:
                break
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        last = int(rest[-1]) if rest else last
        with VectorStore(path, 2) as store:
            for row in store.rows():
                assert row.vector is not None
                i = int(row.vector[0])
                with_metadata = row.key == f"k{i % 7}"
                assert row.metadata == ({"i": i, "pad": "p" * (i % 200)} if with_metadata else None)
            assert any(row.vector is not None and row.vector[0] >= last for row in store.rows())
        path.unlink()
        (tmp_path / "v.db.hnsw").unlink(missing_ok=True)


def test_writers_of_the_same_keys_leave_pairs(tmp_path):
    path = tmp_path / "v.db"
    wrong: list[str] = []
    with VectorStore(path, 2, "euclidean", sync_on_write=False) as store:
        store.insert("k0", [-1, -1])

        def write(me: int) -> None:
            pick = random.Random(me)
            for i in range(150):
                value = me * 1000 + i
                metadata = {"v": value} if pick.random() < 0.6 else None
                store.insert(f"k{pick.randrange(4)}", [value, 1 if metadata else 0], metadata)

        def read() -> None:
            while any(t.is_alive() for t in writers):
                for row in store.search([0, 0], k=None):
                    assert row.vector is not None
                    want = {"v": int(row.vector[0])} if row.vector[1] == 1 else None
                    if row.metadata != want:
                        wrong.append(f"{row.vector} {row.metadata}")

        writers = [threading.Thread(target=write, args=(me,)) for me in range(4)]
        for thread in writers:
            thread.start()
        read()
        assert wrong == []
        before = {row.key: (tuple(row.vector), row.metadata) for row in store.rows()}
    with VectorStore(path, 2, "euclidean") as store:
        assert {row.key: (tuple(row.vector), row.metadata) for row in store.rows()} == before


# ------------------------------------------------------------------------------ filtered search


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    """Clusters whose number is in the metadata, beside one that has no bearing on the vector."""
    path = tmp_path_factory.mktemp("s") / "v.db"
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(10, DIMS)) * 2
    section = rng.integers(0, 10, 12000)
    rows = (centres[section] + rng.normal(size=(12000, DIMS))).astype(np.float32)
    dice = rng.integers(0, 1000, 12000)
    store = VectorStore(path, DIMS, "euclidean", sync_on_write=False, threads=1)
    store.insert_batch(
        [str(i) for i in range(12000)],
        rows,
        [{"section": int(s), "dice": int(d)} for s, d in zip(section, dice)],
    )
    store.build_index()
    yield store, rows, section, dice
    store.close()


def check_filtered(sections, filter, chosen, k=10, least=0.95, **how) -> None:
    store, rows, _, _ = sections
    ids = np.flatnonzero(chosen)
    assert store.count(filter) == len(ids)
    rng = np.random.default_rng(7)
    found = wanted = 0
    for query in rows[rng.integers(0, len(rows), 20)] + rng.normal(size=(20, DIMS)).astype(
        np.float32
    ):
        distances = ((rows[ids] - query) ** 2).sum(1)
        true = {str(i) for i in ids[np.argsort(distances, kind="stable")[:k]]}
        hits = store.search(query, k=k, filter=filter, vectors=False, **how)
        assert len(hits) == min(k, len(ids))
        assert all(chosen[int(hit.key)] for hit in hits)
        assert [hit.score for hit in hits] == sorted(hit.score for hit in hits)
        found += len(true & {hit.key for hit in hits})
        wanted += len(true)
    assert found >= least * wanted


@pytest.mark.parametrize("below", [0, 1, 10, 100, 300, 500, 900, 999])
def test_filters_of_any_selectivity_find_the_nearest_that_match(sections, below):
    check_filtered(sections, {"dice": {"$lt": below}}, sections[3] < below)


@pytest.mark.parametrize("wanted", [[3], [0, 1, 2, 3, 4, 5, 6], [9, 4]])
def test_filters_that_go_with_the_vectors_find_the_nearest_too(sections, wanted):
    check_filtered(sections, {"section": {"$in": wanted}}, np.isin(sections[2], wanted))


def test_exact_and_radius_searches_take_filters(sections):
    store, rows, _, dice = sections
    check_filtered(sections, {"dice": {"$gte": 200}}, dice >= 200, least=1.0, exact=True)
    query = rows[5]
    distances = np.sqrt(((rows - query) ** 2).sum(1))
    near = {str(i) for i in np.flatnonzero((distances <= 4.0) & (dice < 500))}
    hits = store.search(query, k=None, radius=4.0, filter={"dice": {"$lt": 500}})
    assert {hit.key for hit in hits} == near and len(near) > 5
    assert all(hit.metadata["dice"] < 500 for hit in hits)


def test_a_batch_gives_what_single_searches_give(sections):
    store, rows, _, _ = sections
    for filter in ({"dice": {"$lt": 5}}, {"dice": {"$lt": 800}}):
        batch = store.search_batch(rows[:8], k=5, filter=filter)
        assert batch == [store.search(row, k=5, filter=filter) for row in rows[:8]]


def test_a_filter_that_is_asked_again_sees_every_change(tmp_path):
    """What a filter chose is kept from search to search: whatever happens between two must show."""
    path, rng = tmp_path / "v.db", np.random.default_rng(3)
    model: dict[str, int] = {}
    with VectorStore(path, 2, "euclidean", sync_on_write=False) as store:
        for step in range(300):
            key, n = str(rng.integers(30)), int(rng.integers(3))
            deed = rng.integers(6)
            if deed < 3:
                store.insert(key, [1, 2], {"n": n})
                model[key] = n
            elif deed == 3 and store.update_metadata(key, {"n": n}):
                model[key] = n
            elif deed == 4:
                store.delete(key)
                model.pop(key, None)
            elif step % 50 == 5:
                store.delete_where({"n": n})
                model = {k: m for k, m in model.items() if m != n}
            for filter, fits in (({"n": 1}, (1,)), ({"n": {"$gte": 1}}, (1, 2))):
                for _ in range(2):
                    hits = store.search([0, 0], k=50, filter=filter)
                    assert {hit.key for hit in hits} == {k for k, m in model.items() if m in fits}
        with pytest.raises(ValueError, match="filter"):
            store.search([0, 0], filter={"n": {"$wrong": 1}})
        with VectorStore(path, 2, "euclidean", read_only=True) as reader:
            reader.search([0, 0], k=50, filter={"n": 1})
            for key in ("x", "y"):
                store.insert(key, [1, 2], {"n": 1})
                reader.refresh()
                assert key in {hit.key for hit in reader.search([0, 0], k=50, filter={"n": 1})}


def test_filtered_searches_beside_changes_show_rows_that_match(tmp_path):
    with VectorStore(tmp_path / "v.db", 2, "euclidean", sync_on_write=False) as store:
        for i in range(40):
            store.insert(str(i), [i, 0], {"n": i % 2, "m": i})
        done, wrong = threading.Event(), []

        def search(n: int) -> None:
            while not done.is_set():
                hits = store.search([0, 0], k=50, filter={"n": n})
                wrong.extend(hit for hit in hits if hit.metadata["n"] != n)

        threads = [threading.Thread(target=search, args=(i % 2,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for i in range(1500):
            store.update_metadata(str(i % 40), {"n": (i // 40 + i) % 2})
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_explain_tells_which_way_a_filtered_search_went(sections):
    store, rows, _, dice = sections
    few = store.explain(rows[0], filter={"dice": {"$lt": 10}})
    assert (few.plan, few.matches, few.recall) == ("exact", int((dice < 10).sum()), 1.0)
    many = store.explain(rows[0], filter={"dice": {"$lt": 950}})
    assert many.plan == "graph" and many.ef >= 100
    assert store.explain(rows[0]).matches == len(store)


def test_the_log_is_an_ordinary_one(tmp_path: Path):
    path = tmp_path / "v.db"
    with VectorStore(path, 2) as store:
        store.insert("a", [1, 2], {"n": 1})
    with SynaDB(path) as db:
        assert db.get_text("vecm/a") == '{"n":1}'
        db.put_text("vecm/a", "no json")
        db.put_text("vecm/nobody", '{"n":2}')
    with VectorStore(path, 2) as store:  # what is no metadata is left alone
        assert store.get_metadata("a") is None and store.keys() == ["a"]
    assert synadb.verify(path).ok
