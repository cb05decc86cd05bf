"""SparseVectorStore through its public interface: what searches find is compared with scoring every
row."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import weakref

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from synadb import (
    ClosedError,
    ForkedError,
    SparseSearchResult,
    SparseVectorStore,
    SynaDB,
    SynaError,
)
from synadb.sparse import SparseVector

VOCAB = 500


@pytest.fixture
def store(tmp_path):
    with SparseVectorStore(tmp_path / "a.svs", VOCAB, sync_on_write=False) as opened:
        yield opened


def score(row: dict[int, float], query: dict[int, float]) -> float:
    """The promise: float32 inputs, ascending indices, double precision, one rounding."""
    total = 0.0
    for index in sorted(query):
        if index in row:
            total += float(np.float32(query[index])) * float(np.float32(row[index]))
    return float(np.float32(total))


def expected(rows, query, k, accept=lambda key: True):
    """Keys and scores; `rows` is a dict in the order of the last writes."""
    hits = [(key, score(row, query)) for key, row in rows.items() if accept(key)]
    hits = [hit for hit in hits if hit[1] != 0]
    hits.sort(key=lambda hit: -hit[1])
    return hits if k is None else hits[:k]


def found(hits):
    return [(hit.key, hit.score) for hit in hits]


def random_row(rng, nnz, low=1, high=9, negatives=False):
    indices = rng.choice(VOCAB, nnz, replace=False)
    values = rng.integers(low, high, nnz) / 4
    if negatives:
        values *= rng.choice([-1, 1], nnz)
    return {int(i): float(v) for i, v in zip(indices, values)}


def fill(store, rng, count, nnz=20, **how):
    rows = {f"r{i}": random_row(rng, nnz, **how) for i in range(count)}
    assert store.index_batch(rows) == count
    return rows


# ------------------------------------------------------------------------------ searching


def test_the_seeds_example(tmp_path):
    store = SparseVectorStore(str(tmp_path / "lexical.svs"), vocab_size=30522)
    store.index("doc1", indices=[101, 2054, 3000], values=[0.8, 0.5, 0.3])
    store.index("doc2", indices=[101, 5678, 9012], values=[0.9, 0.4, 0.1])
    results = store.search(query_indices=[101, 2054], query_values=[0.7, 0.6], k=10)
    assert [r.key for r in results] == ["doc1", "doc2"]
    assert results[0].score == pytest.approx(0.86)
    stats = store.stats()
    assert (stats.num_vectors, stats.vocab_size, stats.total_postings) == (2, 30522, 6)
    assert (stats.num_documents, stats.num_terms, stats.num_postings) == (2, 30522, 6)
    assert stats.avg_nnz == stats.avg_doc_length == 3.0
    store.save()
    store.close()
    store = SparseVectorStore.open(str(tmp_path / "lexical.svs"))
    assert len(store) == 2 and store.contains("doc1") and store.delete("doc1")
    assert not store.delete("doc1") and not store.contains("doc1")
    store.close()


@pytest.mark.parametrize("negatives", [False, True])
def test_searches_find_what_scoring_every_row_finds(store, negatives):
    rng = np.random.default_rng(1)
    rows = fill(store, rng, 6000, negatives=negatives)
    for i in range(60):
        query = random_row(rng, int(rng.integers(1, 60)), negatives=negatives and i % 2 == 0)
        k = [1, 10, 100, None][i % 4]
        assert found(store.search(query, k=k)) == expected(rows, query, k)
    assert store.stats().windows > 0


def test_searches_agree_with_scipy(store):
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(2)
    matrix = sparse.random(3000, VOCAB, 0.05, "csr", np.float32, rng)
    keys = [f"d{i}" for i in range(matrix.shape[0])]
    assert store.index_batch(keys, matrix) == 3000
    queries = sparse.random(50, VOCAB, 0.08, "csr", np.float32, rng)
    scores = (matrix.astype(np.float64) @ queries.T.astype(np.float64)).toarray().astype(np.float32)
    for q, hits in enumerate(store.search_batch(queries, k=10)):
        best = np.argsort(-scores[:, q], kind="stable")[:10]
        assert [hit.key for hit in hits] == [keys[i] for i in best]
        assert [hit.score for hit in hits] == scores[best, q].tolist()


def test_csr_comes_back_as_it_went_in(store):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(200, VOCAB, 0.05, "csr", np.float32, np.random.default_rng(3))
    names = [f"d{i}" for i in range(200)]
    store.index_batch(names, matrix)
    keys, back = store.to_csr()
    assert keys == names
    assert back.shape == matrix.shape and (abs(back - matrix)).nnz == 0
    row = store.get("d7")
    np.testing.assert_array_equal(row.indices, np.sort(matrix[7].indices))


def test_equal_scores_come_in_the_order_of_the_last_write(store):
    for key in "abcd":
        store.index(key, {1: 1.0})
    store.index("b", {1: 1.0})
    assert [hit.key for hit in store.search({1: 2.0})] == ["a", "c", "d", "b"]
    assert store.keys() == ["a", "c", "d", "b"]


def test_scores_of_zero_are_left_out_and_negative_ones_come_last(store):
    store.index_batch(
        {"up": {1: 1.0}, "none": {2: 1.0}, "even": {1: 1.0, 3: 1.0}, "down": {3: 2.0}}
    )
    assert found(store.search({1: 1.0, 3: -1.0})) == [("up", 1.0), ("down", -2.0)]
    assert found(store.search({1: 1.0, 3: -1.0}, min_score=0.5)) == [("up", 1.0)]
    assert found(store.search({1: 1.0, 3: -1.0}, min_score=-2.0, k=1)) == [("up", 1.0)]


def test_every_form_of_a_vector_means_the_same(store):
    forms = [
        ({4: 0.5, 9: 2.0}, None),
        ([(9, 2.0), (4, 0.5)], None),
        (([9, 4], [2.0, 0.5]), None),
        ([9, 4, 9], [1.5, 0.5, 0.5]),
        (np.array([4, 9, 7], np.uint16), np.array([0.5, 2.0, 0.0])),
        (SparseVector(np.array([4, 9], np.uint32), np.array([0.5, 2.0], np.float32)), None),
    ]
    for indices, values in forms:
        store.index("v", indices, values)
        assert store.get("v").to_dict() == {4: 0.5, 9: 2.0}
        assert found(store.search(indices, values)) == [("v", 4.25)]
    assert found(store.search({4: 2.0}, 5)) == [("v", 1.0)]
    sparse = pytest.importorskip("scipy.sparse")
    store.index("v", sparse.csr_matrix(([1.0, 3.0], ([0, 0], [8, 2])), shape=(1, VOCAB)))
    assert store.get("v").to_dict() == {2: 3.0, 8: 1.0}
    assert store.index_batch([("v", {1: 1.0}), ("w", [2], [1.0])]) == 1


def test_empty_vectors_and_queries_are_legal(store):
    store.index("empty", [], [])
    store.index("zeros", [1, 2], [0.0, 0.0])
    assert store.get("empty").to_dict() == store.get("zeros").to_dict() == {}
    assert store.search({}) == [] and store.search({1: 0.0}) == [] and store.search({1: 1.0}) == []
    assert store.search_batch([]) == [] and store.index_batch({}) == 0
    assert len(store) == 2


def test_filters_choose_rows_by_metadata(store):
    rng = np.random.default_rng(4)
    rows = {f"r{i}": random_row(rng, 15) for i in range(3000)}
    facts = [{"n": i, "lang": ["en", "de", "fr"][i % 3]} if i % 7 else None for i in range(3000)]
    store.index_batch(rows, metadata=facts)
    query = random_row(rng, 20)
    for given, accept in [
        ({"lang": "de"}, lambda i: i % 3 == 1),
        ({"n": {"$lt": 40}}, lambda i: i < 40),
        ({"n": {"$gte": 100}, "lang": {"$in": ["en", "fr"]}}, lambda i: i >= 100 and i % 3 != 1),
        ({"n": -1}, lambda i: False),
    ]:
        right = {f"r{i}" for i in range(3000) if i % 7 and accept(i)}
        want = expected(rows, query, 10, right.__contains__)
        hits = store.search(query, filter=given)
        assert found(hits) == want
        assert [hit.metadata for hit in hits] == [facts[int(hit.key[1:])] for hit in hits]
    assert store.search(query, k=1, metadata=False)[0].metadata is None
    store.index("r1", {1: 1.0})  # replaced, its metadata too
    assert store.get("r1").metadata is None
    assert all(hit.key != "r1" for hit in store.search({1: 1.0}, k=None, filter={"lang": "de"}))


def test_approximate_searches_find_most_of_the_best(store):
    rng = np.random.default_rng(5)
    rows = fill(store, rng, 6000, nnz=40)
    hits = total = 0
    for _ in range(30):
        query = random_row(rng, 30)
        best = {key for key, _ in expected(rows, query, 10)}
        got = store.search(query, recall=0.9)
        assert all(hit.score == score(rows[hit.key], query) for hit in got)
        hits += len(best & {hit.key for hit in got})
        total += len(best)
    assert hits / total >= 0.85
    assert found(store.search(query, recall=1.0)) == expected(rows, query, 10)


@pytest.mark.parametrize("subjects", [False, True])
def test_recall_is_measured_on_the_stored_vectors(tmp_path, subjects):
    rng = np.random.default_rng(11)

    def vectors(count: int, drawn: int) -> list[tuple[np.ndarray, np.ndarray]]:
        made = []
        for _ in range(count):
            terms = (3000 * rng.random(drawn) ** 2).astype(np.uint32)
            if subjects:
                about = rng.integers(0, 200) * 14
                terms[: drawn // 2] = about + 200 * rng.random(drawn // 2) ** 2
            terms = np.unique(terms)
            made.append((terms, rng.gamma(2.0, 1.0, len(terms)).astype(np.float32)))
        return made

    with SparseVectorStore(tmp_path / "r.svs", 3000, sync_on_write=False) as store:
        store.index_batch({str(row): SparseVector(*v) for row, v in enumerate(vectors(9000, 50))})
        queries = vectors(100, 25)
        shares = {}
        for recall in (None, 0.97, 0.8):
            hits = [store.search(*query, recall=recall) for query in queries]
            shares[recall] = [{hit.key for hit in of_query} for of_query in hits]
        best = shares[None]
        for recall, least in ((0.97, 0.94), (0.8, 0.75)):
            reached = [len(a & b) / 10 for a, b in zip(best, shares[recall])]
            assert np.mean(reached) >= least
        assert shares[0.8] != best  # it does leave something out
        query = queries[0]
        assert found(store.search(*query, 300, recall=0.8)) == found(store.search(*query, 300))


def test_explain_tells_the_work(store):
    rng = np.random.default_rng(6)
    fill(store, rng, 6000)
    told = store.explain(random_row(rng, 20))
    assert told.matches == 6000 and told.windows >= 1 and 0 < told.rows_scored <= 6000


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "indices, values, error",
    [
        ([1, 2], [1.0], ValueError),
        ([VOCAB], [1.0], ValueError),
        ([-1], [1.0], ValueError),
        ([2**40], [1.0], ValueError),
        ([1], [float("nan")], ValueError),
        ([1], [float("inf")], ValueError),
        ([1], [1e300], ValueError),
        ([1, 1], [3e38, 3e38], ValueError),
        ([1.5], [1.0], TypeError),
        ([1], ["x"], TypeError),
        ("text", None, TypeError),
        (7, None, TypeError),
        ([1, 2, 3], None, ValueError),
        (([1], [1.0], [2]), None, ValueError),
    ],
)
def test_bad_vectors_are_refused_and_change_nothing(store, indices, values, error):
    store.index("keep", {1: 1.0})
    size = store.stats().file_bytes
    with pytest.raises(error):
        store.index("keep", indices, values)
    with pytest.raises(error):
        store.search(indices, values)
    with pytest.raises(error):
        store.index_batch([("new", {1: 1.0}), ("bad", indices, values)])
    assert store.keys() == ["keep"] and store.get("keep").to_dict() == {1: 1.0}
    assert store.stats().file_bytes == size


def test_bad_arguments_are_refused(store, tmp_path):
    store.index("a", {1: 1.0})
    for bad in (0, -3):
        with pytest.raises(ValueError):
            store.search({1: 1.0}, k=bad)
    for bad in (0, 1.5, -1, float("nan")):
        with pytest.raises(ValueError):
            store.search({1: 1.0}, recall=bad)
    with pytest.raises(ValueError, match="min_score"):
        store.search({1: 1.0}, min_score=float("nan"))
    with pytest.raises(ValueError, match="frob"):
        store.search({1: 1.0}, filter={"a": {"$frob": 1}})
    with pytest.raises(TypeError):
        store.search({1: 1.0}, filter="a")
    with pytest.raises(TypeError):
        store.index("b", {1: 1.0}, metadata=[1])
    with pytest.raises(ValueError):
        store.index_batch({"b": {1: 1.0}}, metadata=[None, None])
    with pytest.raises(TypeError):
        store.index_batch("abc")
    with pytest.raises(ValueError):
        store.index("", {1: 1.0})
    with pytest.raises(ValueError):
        store.index("k" * 65531, {1: 1.0})
    for bad in (0, -1, 2**32):
        with pytest.raises(ValueError):
            SparseVectorStore(tmp_path / "other.svs", bad)
    assert not (tmp_path / "other.svs").exists() and store.keys() == ["a"]


def test_the_vocabulary_is_remembered(tmp_path):
    path = tmp_path / "a.svs"
    SparseVectorStore(path, 10).close()
    with pytest.raises(ValueError, match="no sparse"):
        SparseVectorStore.open(path)
    with SparseVectorStore(path, 20) as store:  # empty: the latest opening decides
        store.index("a", {19: 1.0})
        with pytest.raises(ValueError, match="20"):
            SparseVectorStore(path, 30)
    with pytest.raises(ValueError, match="20"):
        SparseVectorStore(path, 10)
    with SparseVectorStore.open(path) as store:
        assert store.vocab_size == 20
    with pytest.raises(SynaError):
        SparseVectorStore.open(tmp_path / "missing.svs")
    assert not (tmp_path / "missing.svs").exists()
    (tmp_path / "junk.svs").write_bytes(b"junk" * 4000)
    with pytest.raises(SynaError):
        SparseVectorStore.open(tmp_path / "junk.svs")


def test_the_largest_indices_are_legal(tmp_path):
    with SparseVectorStore(tmp_path / "a.svs", 2**32 - 1) as store:
        store.index("a", {2**32 - 2: 1.0, 0: 2.0})
        assert found(store.search({2**32 - 2: 3.0, 0: 1.0})) == [("a", 5.0)]
        with pytest.raises(ValueError):
            store.index("b", [2**32 - 1], [1.0])


def test_calls_after_close_raise(tmp_path):
    store = SparseVectorStore(tmp_path / "a.svs")
    store.close()
    store.close()
    assert store.closed and "closed" in repr(store)
    for call in (
        lambda: store.index("a", {1: 1.0}),
        lambda: store.search({1: 1.0}),
        store.stats,
        store.keys,
        store.save,
        lambda: len(store),
        lambda: store.get("a"),
    ):
        with pytest.raises(ClosedError):
            call()


# ---------------------------------------------------------------------------- persistence


def test_a_saved_store_is_the_same_with_and_without_its_index(tmp_path):
    path = tmp_path / "a.svs"
    rng = np.random.default_rng(7)
    with SparseVectorStore(path, VOCAB, sync_on_write=False) as store:
        rows = fill(store, rng, 5000)
        for i in range(0, 5000, 3):
            assert store.delete(f"r{i}")
            del rows[f"r{i}"]
        store.index("late", {1: 9.0}, metadata={"n": 1})
        rows["late"] = {1: 9.0}
    assert path.with_name("a.svs.postings").exists()
    queries = [random_row(rng, 25) for _ in range(10)]
    want = [expected(rows, query, 10) for query in queries]
    for remove in (False, True):
        if remove:
            path.with_name("a.svs.postings").unlink()
        with SparseVectorStore.open(path, read_only=True) as store:
            assert (store.stats().mapped_bytes > 0) != remove
            assert [found(hits) for hits in store.search_batch(queries)] == want
            assert found(store.search({1: 1.0}, filter={"n": 1})) == [("late", 9.0)]
            assert store.stats().total_postings == sum(len(row) for row in rows.values())


def test_a_damaged_index_file_is_made_anew(tmp_path):
    path = tmp_path / "a.svs"
    rng = np.random.default_rng(8)
    with SparseVectorStore(path, VOCAB, sync_on_write=False) as store:
        rows = fill(store, rng, 2000)
    saved = path.with_name("a.svs.postings")
    whole = saved.read_bytes()
    query = random_row(rng, 25)
    want = expected(rows, query, 10)
    for at in range(0, len(whole), max(len(whole) // 40, 1)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x5A
        saved.write_bytes(damaged)
        with SparseVectorStore.open(path, read_only=True) as store:
            assert found(store.search(query)) == want
    for size in (0, 100, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with SparseVectorStore.open(path, read_only=True) as store:
            assert found(store.search(query)) == want


def test_a_flipped_bit_in_a_row_is_an_error_and_no_wrong_result(tmp_path):
    path = tmp_path / "a.svs"
    with SparseVectorStore(path, VOCAB) as store:
        store.index_batch({f"r{i}": {1: 1.0 + i, 2: 1.0} for i in range(300)})
        store.save()
    data = bytearray(path.read_bytes())
    at = data.index(b"svs/r150") + 40
    data[at] ^= 1
    path.write_bytes(data)
    try:
        with SparseVectorStore.open(path, read_only=True) as store:
            hits = store.search({1: 1.0}, k=None)
    except SynaError:
        return
    pytest.fail(f"{len(hits)} hits from a damaged file")


def test_save_copies_to_another_file(store, tmp_path):
    store.index("a", {1: 1.0})
    store.save(tmp_path / "copy.svs")
    with SparseVectorStore.open(tmp_path / "copy.svs") as copy:
        assert found(copy.search({1: 2.0})) == [("a", 2.0)]
    with pytest.raises(SynaError):
        store.save(tmp_path / "copy.svs")


def test_a_compaction_keeps_rows_and_order(tmp_path):
    path = tmp_path / "a.svs"
    rng = np.random.default_rng(9)
    with SparseVectorStore(path, VOCAB, sync_on_write=False) as store, SynaDB(path) as db:
        rows = fill(store, rng, 1500)
        for i in range(0, 1500, 2):
            rows[f"r{i}"] = rows.pop(f"r{i}")
            store.index(f"r{i}", rows[f"r{i}"])
        query = random_row(rng, 25)
        want = expected(rows, query, 20)
        db.compact()
        assert found(store.search(query, k=20)) == want
        store.index("r1", {1: 100.0})
        assert store.search({1: 1.0}, k=1)[0].key == "r1"
    with SparseVectorStore.open(path) as store:
        assert len(store) == 1500


def test_rows_that_another_component_wrote_compressed_are_read(tmp_path):
    path = tmp_path / "a.svs"
    with SparseVectorStore(path, VOCAB) as store:
        store.index("a", dict.fromkeys(range(400), 1.0), metadata={"n": 1})
    with SynaDB(path) as db:
        value = db.get_bytes("svs/a")
        db.put_bytes("svs/b", value)  # repetitive: stored compressed
        db.put_bytes("svs/junk", b"not a row")
        db.put_text("svs/text", "not a row")
    with SparseVectorStore.open(path) as store:
        assert store.keys() == ["a", "b"]
        assert found(store.search({3: 2.0})) == [("a", 2.0), ("b", 2.0)]
        assert store.get("b").metadata == {"n": 1}
        store.index("a", {3: 5.0})
        assert store.delete("b")
        assert found(store.search({3: 2.0})) == [("a", 10.0)]


def test_a_reader_in_another_process_follows_the_writer(tmp_path):
    path = tmp_path / "a.svs"
    with SparseVectorStore(path, VOCAB) as store:
        store.index("a", {1: 1.0})
        store.flush()
        code = f"""
            import sys
            from synadb import LockedError, SparseVectorStore
            store = SparseVectorStore.open({str(path)!r}, read_only=True)
            try:
                SparseVectorStore.open({str(path)!r})
            except LockedError:
                print("locked", flush=True)
            for line in sys.stdin:
                store.refresh()
                print([(h.key, h.score) for h in store.search({{1: 1.0}})], flush=True)
            """
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "locked\n"
        for change, want in [
            (lambda: store.index("b", {1: 2.0}), [("b", 2.0), ("a", 1.0)]),
            (lambda: store.delete("a"), [("b", 2.0)]),
            (lambda: store.index("b", {1: 0.5}), [("b", 0.5)]),
        ]:
            change()
            store.flush()
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == f"{want}\n"
        child.stdin.close()
        assert child.wait(10) == 0
    child.stdout.close()


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path):
    path = tmp_path / "a.svs"
    code = f"""
        from synadb import SparseVectorStore
        store = SparseVectorStore({str(path)!r}, {VOCAB}, sync_on_write=False)
        for i in range(100000):
            store.index(f"r{{i % 3000}}", {{i % {VOCAB}: 1.0 + i}})
            if i % 3 == 2:
                store.update_metadata(f"r{{(i - 1) % 3000}}", {{"n": i}})
            if i % 5 == 4:
                store.delete(f"r{{(i - 2) % 3000}}")
            print(i, flush=True)
        """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    last = -1
    for line in child.stdout:
        last = int(line)
        if last >= 4000:
            break
    os.kill(child.pid, signal.SIGKILL)
    rest = child.stdout.read().splitlines()
    child.wait()
    child.stdout.close()
    last = int(rest[-1]) if rest and rest[-1].isdigit() else last
    rows: dict[str, tuple[dict[int, float], dict[str, int] | None]] = {}
    for i in range(last + 1):
        rows[f"r{i % 3000}"] = ({i % VOCAB: 1.0 + i}, None)
        described = f"r{(i - 1) % 3000}"
        if i % 3 == 2 and described in rows:
            rows[described] = (rows[described][0], {"n": i})
        if i % 5 == 4:
            rows.pop(f"r{(i - 2) % 3000}", None)
    unsure = {f"r{j % 3000}" for j in range(last - 1, last + 3)} | {f"r{(last - 1) % 3000}"}
    with SparseVectorStore.open(path) as store:
        got = {k: (store.get(k).to_dict(), store.get_metadata(k)) for k in store.keys()}
    for key in rows.keys() | got.keys():
        if key not in unsure:
            assert rows.get(key) == got.get(key), key


# ---------------------------------------------------------------------------- concurrency


def test_searches_run_beside_writes_and_see_whole_rows(store):
    stop = threading.Event()
    failures: list[str] = []

    def search() -> None:
        while not stop.is_set():
            for hit in store.search({1: 1.0, 2: 1.0}, k=50):
                if hit.score != 3.0:  # rows are {1: n, 2: 3 - n} at all times
                    failures.append(f"{hit.key}: {hit.score}")

    def write(part: int) -> None:
        for i in range(1500):
            n = 1.0 + i % 2
            store.index(f"{part}-{i % 700}", {1: n, 2: 3 - n, 3 + i % 400: 1.0})
            if i % 10 == 9:
                store.delete(f"{part}-{(i - 5) % 700}")

    readers = [threading.Thread(target=search) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(part,)) for part in range(2)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert not failures
    assert len(store.search({1: 1.0}, k=None)) == len(store)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_searches_and_may_not_write(store):
    store.index("a", {1: 1.0})
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert found(store.search({1: 2.0})) == [("a", 2.0)]
            try:
                store.index("b", {1: 1.0})
            except ForkedError:
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    store.index("b", {1: 1.0})
    assert len(store) == 2


def test_results_are_the_dataclass_that_is_documented(store):
    """Made past the constructor; the collector looks at those with metadata."""
    store.index("whole", {1: 2.0}, metadata={"n": 1})
    store.index("part", {1: 1.0})
    whole, part = store.search({1: 1.0})
    for hit, made in (
        (whole, SparseSearchResult("whole", 2.0, {"n": 1})),
        (part, SparseSearchResult("part", 1.0)),
    ):
        assert type(hit) is SparseSearchResult and hit == made and hash(hit) == hash(made)
        assert repr(hit) == repr(made) and dataclasses.asdict(hit) == dataclasses.asdict(made)
        for one in (pickle.loads(pickle.dumps(hit)), copy.copy(hit), copy.deepcopy(hit)):
            assert one == hit and one.metadata == made.metadata
        for name in ("score", "metadata", "more"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(hit, name, 1)
    assert dataclasses.replace(part, key="b") == SparseSearchResult("b", 1.0)
    assert gc.is_tracked(whole) and not gc.is_tracked(part)
    whole.metadata["itself"] = whole
    looks = [weakref.ref(whole), weakref.ref(part)]
    del whole, part, hit, made, one
    gc.collect()
    assert looks[0]() is None and looks[1]() is None


CHANGES = {
    "index": lambda store: store.index("b", {1: 1.0}),
    "delete": lambda store: store.delete("a"),
    "update_metadata": lambda store: store.update_metadata("a", {"n": 0}),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_a_child_forked_while_a_row_is_changed_is_refused_and_does_not_wait(tmp_path, change):
    """Whoever updates metadata holds a lock while its record becomes durable: so does a fork that
    comes meanwhile find it, and its copy is let go by nobody."""
    stop = threading.Event()

    def update():
        n = 0
        while not stop.is_set():
            n += 1
            store.update_metadata("a", {"n": n})

    with SparseVectorStore(tmp_path / "a.svs", 50) as store:  # each change waits for the disk
        store.index("a", {1: 1.0}, metadata={"n": 0})
        worker = threading.Thread(target=update)
        worker.start()
        try:
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)  # ends a child that waits
                    try:
                        CHANGES[change](store)
                    except ForkedError:
                        os._exit(0)
                    finally:
                        os._exit(1)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
            worker.join()
        assert store.keys() == ["a"] and store.get_metadata("a")["n"] > 0


def test_rows_written_twice_since_the_snapshot_keep_the_place_of_the_last(path):
    with SparseVectorStore(path, 40) as store:
        store.index_batch({f"m{i}": {i % 40: 1.0} for i in range(4200)})
    assert os.path.exists(f"{path}.postings")
    with SparseVectorStore(path, 40) as store:
        store.index_batch([("a", {1: 1.0}), ("b", {1: 2.0}), ("a", {1: 2.0})])
        store.index("c", {2: 1.0})
        store.index("b", {2: 2.0})
        store.delete("c")
        before = store.keys()
        assert before[-2:] == ["a", "b"]
    with SparseVectorStore(path, 40) as store:
        assert store.keys() == before and "c" not in store


# --------------------------------------------------------------------------------- a model

vectors = st.dictionaries(
    st.integers(0, 39),
    st.sampled_from([-2.0, -0.5, 0.25, 0.5, 1.0, 1.0, 1.0, 3.5]),
    max_size=12,
)
names = st.sampled_from([f"k{i}" for i in range(25)])


class Model(RuleBasedStateMachine):
    """A store against a dict in the order of the last writes."""

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "a.svs")
        self.rows: dict[str, dict[int, float]] = {}
        self.facts: dict[str, dict | None] = {}
        self.rng = np.random.default_rng(seed)
        self.open()

    def open(self):
        self.store = SparseVectorStore(self.path, 40, sync_on_write=False)

    def put(self, key, row, facts):
        self.rows.pop(key, None)
        self.rows[key] = row
        self.facts[key] = facts

    @rule(key=names, row=vectors, fact=st.none() | st.integers(0, 2))
    def index(self, key, row, fact):
        facts = None if fact is None else {"f": fact}
        self.store.index(key, row, metadata=facts)
        self.put(key, row, facts)

    @rule(batch=st.lists(st.tuples(names, vectors), max_size=8))
    def index_batch(self, batch):
        new = {key for key, _ in batch} - self.rows.keys()
        assert self.store.index_batch(batch) == len(new)
        last = {key: i for i, (key, _) in enumerate(batch)}
        for i, (key, row) in enumerate(batch):
            if last[key] == i:
                self.put(key, row, None)

    @rule()
    def index_many(self):
        """Enough for windows to be sealed."""
        rows = {f"m{i}": {int(j): 1.0 for j in self.rng.choice(40, 3, False)} for i in range(4200)}
        self.store.index_batch(rows)
        for key, row in rows.items():
            self.put(key, row, None)

    @rule(key=names)
    def delete(self, key):
        assert self.store.delete(key) == (key in self.rows)
        self.rows.pop(key, None)
        self.facts.pop(key, None)

    @rule()
    def delete_many(self):
        for key in [key for key in self.rows if key.startswith("m") and int(key[1:]) % 3]:
            assert self.store.delete(key)
            del self.rows[key], self.facts[key]

    @rule(query=vectors, k=st.sampled_from([1, 3, 10, None]))
    def search(self, query, k):
        assert found(self.store.search(query, k=k)) == expected(self.rows, query, k)

    @rule(query=vectors, fact=st.integers(0, 3))
    def search_filtered(self, query, fact):
        want = expected(self.rows, query, 5, lambda key: (self.facts[key] or {}).get("f") == fact)
        assert found(self.store.search(query, k=5, filter={"f": fact})) == want

    @rule(key=names)
    def get(self, key):
        row = self.store.get(key)
        assert (row and row.to_dict()) == self.rows.get(key)
        if row:
            assert row.metadata == self.facts[key]

    @rule(remove=st.booleans())
    def reopen(self, remove):
        self.store.close()
        if remove and os.path.exists(self.path + ".postings"):
            os.unlink(self.path + ".postings")
        self.open()

    @rule()
    def save(self):
        self.store.save()

    @rule()
    def compact(self):
        with SynaDB(self.path, sync_on_write=False) as db:
            db.compact()

    @invariant()
    def same_rows(self):
        if hasattr(self, "store"):
            assert len(self.store) == len(self.rows)

    def teardown(self):
        if hasattr(self, "store"):
            assert self.store.keys() == list(self.rows)
            self.store.close()
            self.folder.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
