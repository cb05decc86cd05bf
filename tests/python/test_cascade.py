"""`CascadeIndex`: a dict that finds the nearest at a recall, durable by flush."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from synadb import (
    CascadeIndex,
    CascadeSearchResult,
    ClosedError,
    CorruptionError,
    ForkedError,
    LockedError,
    MmapVectorStore,
    ReadOnlyError,
    SearchResult,
    WrongKindError,
)

PRESETS = {"small": 0.95, "large": 0.95, "high_recall": 0.99, "fast_search": 0.90}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vectors.cascade"


def sheet(count, dims=48, seed=0):
    """Points on a curved sheet of few dimensions in a space of many, as embeddings are."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(-1, 1, (count, 6))
    mix = np.random.default_rng(99).normal(size=(12, dims))
    wide = np.concatenate([np.sin(3 * at), at], axis=1) @ mix
    return (wide + 0.2 * rng.normal(size=(count, dims))).astype(np.float32)


def nearest(rows, query, k=10):
    """The rows that scoring all of them by cosine finds."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.argsort(-(unit @ query), kind="stable")[:k]


def recall_of(index, rows, queries, **how):
    found = index.search_batch(queries, k=10, vectors=False, **how)
    hits = [
        len({hit.key for hit in got} & {f"doc_{i}" for i in nearest(rows, query)})
        for got, query in zip(found, queries)
    ]
    return sum(hits) / (10 * len(queries))


def names(count, first=0):
    return [f"doc_{i}" for i in range(first, first + count)]


# ------------------------------------------------------------------------------------ the contract


def test_the_seeds_examples(tmp_path):
    """README of the first seed: both constructors, insert_batch, search, save, close."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((600, 768)).astype(np.float32)
    index = CascadeIndex(str(tmp_path / "a.cascade"), dimensions=768, preset="large")
    assert index.insert_batch(names(600), vectors) == 600
    results = index.search(vectors[42], k=10)
    assert [r.key for r in results][:1] == ["doc_42"] and len(results) == 10
    assert isinstance(results[0], SearchResult) and CascadeSearchResult is SearchResult
    index.save()
    index.close()
    index = CascadeIndex(
        tmp_path / "b.cascade", dimensions=768, num_hyperplanes=16, bucket_capacity=128, nprobe=8
    )
    index.insert("doc", vectors[0])
    assert len(index) == 1 and (index.get("doc") == vectors[0]).all()
    assert index.get("other") is None
    index.close()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_keep_their_recall(path, preset):
    rows, queries = sheet(9000), sheet(150, seed=1)
    with CascadeIndex(path, 48, preset=preset) as index:
        index.insert_batch(names(9000), rows)
        plan = index.explain(queries[0])
        assert plan.plan == "cascade" and plan.recall >= PRESETS[preset] and plan.codes < 9000
        assert recall_of(index, rows, queries) >= PRESETS[preset]
        assert index.stats().recall == PRESETS[preset]


@pytest.mark.parametrize("preset", PRESETS)
def test_api6_17_recall_holds_on_rows_without_any_structure(path, preset):
    """The ancestor found 0.62 of the nearest of random vectors."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((5000, 128)).astype(np.float32)
    queries = rng.standard_normal((40, 128)).astype(np.float32)
    with CascadeIndex(path, 128, preset=preset) as index:
        index.insert_batch(names(5000), rows)
        assert recall_of(index, rows, queries) >= PRESETS[preset]


@pytest.mark.parametrize("kind", ["sheet", "isotropic"])
@pytest.mark.parametrize(
    ("planes", "capacity", "nprobe"), [(16, 128, 8), (8, 64, 4), (24, 256, 16)]
)
def test_parameters_of_ones_own_find_nine_tenths(path, kind, planes, capacity, nprobe):
    """The seeds' second form, on grouped rows and on rows without any structure."""
    if kind == "sheet":
        rows, queries = sheet(6000), sheet(60, seed=1)
    else:
        rng = np.random.default_rng(5)
        rows = rng.standard_normal((4000, 64)).astype(np.float32)
        queries = rng.standard_normal((60, 64)).astype(np.float32)
    with CascadeIndex(
        path, rows.shape[1], num_hyperplanes=planes, bucket_capacity=capacity, nprobe=nprobe
    ) as index:
        index.insert_batch(names(len(rows)), rows)
        assert recall_of(index, rows, queries) >= 0.90


def test_rows_that_come_one_by_one_are_searchable_at_once_and_found_as_well(path):
    rows, queries = sheet(6000), sheet(100, seed=1)
    with CascadeIndex(path, 48) as index:
        for i, row in enumerate(rows):
            index.insert(f"doc_{i}", row)
            if i % 97 == 0:
                assert index.search(row, k=1)[0].key == f"doc_{i}"
        assert index.stats().indexed_rows == 6000
        assert recall_of(index, rows, queries) >= 0.94


def test_a_recall_can_be_asked_for_and_a_width_be_given(path):
    rows, queries = sheet(6000), sheet(60, seed=1)
    with CascadeIndex(path, 48) as index:
        index.insert_batch(names(6000), rows)
        assert recall_of(index, rows, queries, recall=0.99) >= 0.985
        assert recall_of(index, rows, queries, exact=True) == 1
        assert recall_of(index, rows, queries, recall=1) == 1
        assert index.explain(queries[0], recall=1).plan == "exact"
        narrow = index.explain(queries[0], ef_search=12, num_probes=1)
        wide = index.explain(queries[0], ef_search=300, num_probes=9)
        assert (narrow.ef_search, narrow.buckets, wide.ef_search, wide.buckets) == (12, 1, 300, 9)
        assert narrow.codes < wide.codes and narrow.recall < wide.recall


def test_tuning_is_an_override(path):
    rows = sheet(4000)
    with CascadeIndex(path, 48, num_hyperplanes=3, bucket_capacity=32, nprobe=6) as index:
        index.insert_batch(names(4000), rows)
        facts = index.stats()
        assert (facts.num_hyperplanes, facts.bucket_capacity, facts.nprobe) == (3, 32, 6)
        assert facts.hash_bits == 2 and facts.buckets >= 4000 / 32
        assert index.explain(rows[0]).buckets == 6
    with CascadeIndex(path, 48) as index:  # other buckets: built anew
        assert index.stats().buckets < facts.buckets
        assert index.search(rows[7], k=1)[0].key == "doc_7"


def test_a_key_is_replaced_and_deleted_and_never_doubled(path):
    rows = sheet(5000)
    with CascadeIndex(path, 48) as index:
        index.insert_batch(names(5000), rows)
        assert index.insert_batch(names(500), rows[500:1000]) == 0
        for i in range(1000, 1400):
            assert index.delete(f"doc_{i}")
        assert not index.delete("doc_1000")
        assert len(index) == len(index.keys()) == 4600 and "doc_1000" not in index
        for i in range(0, 1400, 50):
            keys = [hit.key for hit in index.search(rows[i], k=30)]
            assert len(set(keys)) == len(keys)
            assert not any(1000 <= int(key[4:]) < 1400 for key in keys)
        # doc_0 has the vector of doc_500 now: both are at distance 0, the earlier written first.
        assert [hit.key for hit in index.search(rows[500], k=2)] == ["doc_500", "doc_0"]
        assert (index.get("doc_0") == rows[500]).all()
        index.compact()
        assert index.stats().dead_rows == 0 and len(index) == 4600
        assert [hit.key for hit in index.search(rows[500], k=2)] == ["doc_500", "doc_0"]


def test_churn_does_not_ruin_recall(path):
    queries = sheet(80, seed=1)
    rng = np.random.default_rng(5)
    with CascadeIndex(path, 48) as index:
        rows = sheet(4000)
        index.insert_batch(names(4000), rows)
        for seed in range(2, 5):
            chosen = rng.choice(4000, 800, replace=False)
            fresh = sheet(800, seed=seed)
            rows[chosen] = fresh
            index.insert_batch([f"doc_{i}" for i in chosen], fresh)
        assert recall_of(index, rows, queries) >= 0.94
        for seed in range(5, 8):  # more dead rows than live ones: the index is built without them
            rows = sheet(4000, seed=seed)
            for at in range(0, 4000, 500):
                index.insert_batch(names(500, at), rows[at : at + 500])
            assert recall_of(index, rows, queries) >= 0.94
        assert index.stats().dead_rows == 14400


def test_metadata_and_filters(path):
    rows = sheet(5000)
    meta = [{"n": i, "even": i % 2 == 0} for i in range(5000)]
    with CascadeIndex(path, 48) as index:
        index.insert_batch(names(5000), rows, meta)
        assert index.get_metadata("doc_7") == {"n": 7, "even": False}
        assert index.get_metadata("missing") is None
        for wanted, matches in [
            ({"even": True}, [i for i in range(5000) if i % 2 == 0]),
            ({"n": {"$lt": 700}}, range(700)),
            ({"n": {"$in": [3, 5, 4999]}}, [3, 5, 4999]),
            ({"n": -1}, []),
        ]:
            hits = index.search(rows[100], k=20, filter=wanted)
            assert len(hits) == min(20, len(matches))  # a filtered search is complete
            assert {hit.key for hit in hits} <= {f"doc_{i}" for i in matches}
            plan = index.explain(rows[100], filter=wanted)
            assert plan.matches == len(matches) and plan.rows == 5000
            full = index.search(rows[100], k=20, filter=wanted, exact=True)
            assert len({h.key for h in hits} & {h.key for h in full}) >= 0.9 * len(full)
        assert index.search(rows[7], k=1)[0].metadata == {"n": 7, "even": False}
        assert index.search(rows[7], k=1, metadata=False)[0].metadata is None
        index.insert("doc_7", rows[7])  # a new row without metadata
        assert index.get_metadata("doc_7") is None
        with pytest.raises(ValueError, match="\\$near"):
            index.search(rows[0], filter={"n": {"$near": 3}})
    with CascadeIndex(path, 48) as index:
        assert index.get_metadata("doc_8") == {"n": 8, "even": True}
        assert len(index.search(rows[0], k=9999, filter={"even": False})) == 2499


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot_product"])
def test_exact_results_and_scores_are_those_of_every_store(tmp_path, metric):
    rows, queries = sheet(3000), sheet(5, seed=1)
    with (
        CascadeIndex(tmp_path / "a.cascade", 48, metric=metric) as index,
        MmapVectorStore(tmp_path / "a.mmap", 48, metric=metric) as store,
    ):
        for one in (index, store):
            one.insert_batch(names(3000), rows)
        for query in queries:
            assert index.search(query, k=50, exact=True) == store.search(query, k=50)
            radius = store.search(query, k=30)[-1].score
            found = index.search(query, k=None, radius=radius)
            assert found == store.search(query, k=None, radius=radius)
            scores = {hit.key: hit.score for hit in store.search(query, k=3000)}
            assert all(scores[hit.key] == hit.score for hit in index.search(query, k=20))


def test_an_index_is_the_same_every_time(tmp_path):
    rows = sheet(4000)
    hits = []
    for name in "ab":
        with CascadeIndex(tmp_path / name, 48, threads=1 + len(hits)) as index:
            index.insert_batch(names(3500), rows[:3500])
            for i in range(3500, 4000):
                index.insert(f"doc_{i}", rows[i])
            hits.append([index.search(row, k=10) for row in rows[::100]])
    assert hits[0] == hits[1]


# --------------------------------------------------------------------------------------- the files


def test_what_was_saved_is_there_and_the_index_beside_it_may_be_deleted(path):
    rows = sheet(3000)
    with CascadeIndex(path, 48) as index:
        index.insert_batch(names(3000), rows)
        index.save()
        assert index.stats().unsaved_rows == 0
        before = [index.search(row, k=10) for row in rows[::300]]
    beside = path.with_name(path.name + ".index")
    assert beside.exists()
    for damage in ("none", "missing", "flipped", "cut"):
        data = beside.read_bytes()
        if damage == "missing":
            beside.unlink()
        elif damage == "flipped":
            beside.write_bytes(data[:9000] + bytes([data[9000] ^ 1]) + data[9001:])
        elif damage == "cut":
            beside.write_bytes(data[: len(data) // 2])
        with CascadeIndex(path, 48) as index:
            assert [index.search(row, k=10) for row in rows[::300]] == before, damage
            assert index.verify().ok


def test_an_index_of_other_rows_is_not_taken(tmp_path):
    """As when somebody copies only one of the two files."""
    for name, seed in (("a", 1), ("b", 2)):
        with CascadeIndex(tmp_path / name, 48) as index:
            index.insert_batch(names(2500), sheet(2500, seed=seed))
    os.replace(tmp_path / "a.index", tmp_path / "b.index")
    with CascadeIndex(tmp_path / "b", 48) as index:
        assert index.search(sheet(2500, seed=2)[5], k=1)[0].key == "doc_5"


def test_foreign_and_damaged_files_are_refused_and_left_alone(path):
    with MmapVectorStore(path, 4) as store:
        store.insert("a", [1, 2, 3, 4])
    before = path.read_bytes()
    with pytest.raises(WrongKindError):
        CascadeIndex(path, 4)
    assert path.read_bytes() == before
    path.unlink()
    with CascadeIndex(path, 4) as index:
        index.insert_batch(["a", "b"], np.eye(2, 4))
    data = bytearray(path.read_bytes())
    data[4096:12288] = bytes(8192)
    path.write_bytes(data)
    with pytest.raises(CorruptionError):
        CascadeIndex(path, 4)
    assert path.read_bytes() == bytes(data)


def test_damage_in_a_row_is_reported_and_ends_the_writing(path):
    rows = sheet(3000)
    with CascadeIndex(path, 48) as index:
        index.insert_batch(names(3000), rows)
    data = path.read_bytes()
    at = data.index(rows[1234].tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with CascadeIndex(path, 48) as index:
        assert index.verify().damaged == 1
        with pytest.raises(CorruptionError, match=r"vectors\.cascade"):
            index.search(rows[1234], exact=True)
        with pytest.raises(ReadOnlyError):
            index.insert("x", rows[0])


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "bad",
    [
        {"dimensions": 0}, {"dimensions": 65536}, {"preset": "huge"}, {"metric": "l1"},
        {"num_hyperplanes": 0}, {"num_hyperplanes": 65}, {"bucket_capacity": 15},
        {"bucket_capacity": 4097}, {"nprobe": 0}, {"nprobe": 257}, {"recall": 0},
        {"recall": 1.5}, {"recall": float("nan")}, {"initial_capacity": -1},
    ],
)  # fmt: skip
def test_bad_arguments_of_the_constructor(path, bad):
    with pytest.raises(ValueError):
        CascadeIndex(path, **{"dimensions": 4, **bad})
    assert not path.exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_nothing_stored(path, bad):
    with CascadeIndex(path, 4) as index:
        with pytest.raises(ValueError):
            index.insert("a", [1, bad, 3, 4])
        with pytest.raises(ValueError, match="b"):
            index.insert_batch(["a", "b"], [[1, 2, 3, 4], [1, 2, 3, bad]])
        with pytest.raises(ValueError):
            index.search([bad, 1, 2, 3])
        assert len(index) == 0


def test_other_bad_arguments(path):
    with CascadeIndex(path, 4) as index:
        for call in (
            lambda: index.insert("a", [1, 2, 3]),
            lambda: index.insert("", [1, 2, 3, 4]),
            lambda: index.insert_batch(["a"], np.eye(2, 4)),
            lambda: index.insert_batch(["a"], np.eye(1, 4), [{}, {}]),
            lambda: index.insert("a", [1, 2, 3, 4], {"x": float("nan")}),
            lambda: index.search([1, 2, 3]),
            lambda: index.search([1, 2, 3, 4], k=0),
            lambda: index.search([1, 2, 3, 4], recall=2),
            lambda: index.search([1, 2, 3, 4], num_probes=0),
            lambda: index.search([1, 2, 3, 4], ef_search=9000),
            lambda: index.search([1, 2, 3, 4], radius=float("nan")),
        ):
            with pytest.raises(ValueError):
                call()
        with pytest.raises(TypeError):
            index.search([1, 2, 3, 4], filter=["n"])
        with pytest.raises(TypeError):
            index.insert_batch("ab", np.eye(2, 4))
        assert len(index) == 0


def test_dimensions_and_metric_are_fixed_by_the_first_row(path):
    with CascadeIndex(path, 4):
        pass
    with CascadeIndex(path, 3, metric="euclidean") as index:
        index.insert("a", [1, 2, 3])
        with pytest.raises(ValueError, match="3"):
            CascadeIndex(path, 4, metric="euclidean")
    for other in ({"dimensions": 4, "metric": "euclidean"}, {"dimensions": 3}):
        with pytest.raises(ValueError):
            CascadeIndex(path, **other)


def test_closed_indexes_say_so(path):
    index = CascadeIndex(path, 2)
    index.close()
    index.close()
    assert index.closed and "closed" in repr(index)
    for call in (lambda: index.search([1, 2]), lambda: len(index), index.save, index.keys):
        with pytest.raises(ClosedError):
            call()


# -------------------------------------------------------------------------------------- processes

WRITER = """
    import sys, numpy as np
    from synadb import CascadeIndex
    index = CascadeIndex(sys.argv[1], 8, metric="euclidean")
    n = int(index.search(np.full(8, 1e6), k=1, exact=True)[0].vector[0]) + 1 if len(index) else 0
    while True:
        rows = np.full((200, 8), n, np.float32)
        rows[:, 1] = np.arange(200) / 1000
        index.insert_batch([f"k{(n * 200 + i) % 3000}" for i in range(200)], rows)
        index.delete(f"k{(n * 200 + 300) % 3000}")
        n += 1
        (index.save if n % 3 else index.flush)()
        print(n, flush=True)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_P1_kill_9_loses_nothing_that_a_flush_covers(path):
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    for _ in range(5):
        writer = start(WRITER, path)
        said = [writer.stdout.readline()]
        time.sleep(rng.uniform(0, 0.6))
        writer.kill()
        said += writer.stdout.readlines()
        writer.wait()
        durable = int([line for line in said if line.endswith("\n")][-1])
        with CascadeIndex(path, 8, metric="euclidean") as index:
            assert index.verify().ok
            hits = index.search(np.full(8, 1e6), k=200, exact=True)
            assert int(hits[0].vector[0]) >= durable - 1
            # A whole batch: the newest value is that of two hundred keys.
            assert {h.vector[0] for h in hits} == {hits[0].vector[0]}
            keys = index.keys()
            assert len(set(keys)) == len(keys) == len(index)


def test_P9_P10_one_writer_and_readers_that_refresh(path):
    with pytest.raises(FileNotFoundError):
        CascadeIndex(path, 8, metric="euclidean", read_only=True)
    writer = start(WRITER, path)
    try:
        newest = int(writer.stdout.readline()) - 1
        with pytest.raises(LockedError):
            CascadeIndex(path, 8, metric="euclidean")
        with CascadeIndex(path, 8, metric="euclidean", read_only=True) as reader:
            deadline, seen = time.monotonic() + 60, 0
            while seen < 8 and time.monotonic() < deadline:
                if reader.refresh():
                    seen += 1
                    hits = reader.search(np.full(8, 1e6), k=199, exact=True)
                    assert len({h.vector[0] for h in hits}) == 1 and hits[0].vector[0] >= newest
                    newest = hits[0].vector[0]
            assert seen == 8
            with pytest.raises(ReadOnlyError):
                reader.insert("x", np.zeros(8))
            with pytest.raises(ReadOnlyError):
                reader.save()
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_P11_a_forked_child_searches_and_cannot_write(path):
    rows = sheet(3000)
    with CascadeIndex(path, 48) as index:
        index.insert_batch(names(3000), rows)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert index.search(rows[5], k=1)[0].key == "doc_5"
                try:
                    index.insert("x", rows[0])
                except ForkedError:
                    index.close()
                    code = 7
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        index.insert("x", rows[0])
    with CascadeIndex(path, 48) as index:
        assert len(index) == 3001


def test_P12_threads_insert_delete_search_and_save(path):
    rows = sheet(4000)
    errors = []
    done = threading.Event()

    def guard(work):
        def run():
            try:
                work()
            except BaseException as error:  # shown by the assertion below
                errors.append(error)

        return threading.Thread(target=run)

    with CascadeIndex(path, 48) as index:

        def write(first):
            for at in range(first, 4000, 200):
                index.insert_batch(names(100, at), rows[at : at + 100])
                index.delete(f"doc_{at}")
                if at % 800 == 0:
                    index.save()

        def read():
            while not done.is_set():
                keys = [hit.key for hit in index.search(rows[50], k=20)]
                assert len(set(keys)) == len(keys)

        writers = [guard(lambda: write(0)), guard(lambda: write(100))]
        readers = [guard(read) for _ in range(2)]
        for thread in writers + readers:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        assert errors == []
        assert len(index) == 4000 - 40
        assert index.search(rows[123], k=1)[0].key == "doc_123"


def test_P13_progress_is_told_and_stopping_keeps_the_rows(path):
    rows = sheet(20000)
    steps = []
    with CascadeIndex(path, 48, threads=1) as index:
        index.insert_batch(names(100), rows[:100])

        def stop(done, total):
            steps.append((done, total))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index.insert_batch(names(19900, 100), rows[100:], progress=stop)
        assert len(steps) == 1 and len(index) == 20000
        assert index.search(rows[15000], k=1)[0].key == "doc_15000"  # stored, and found
        assert index.stats().indexed_rows == 0
        index.insert("one more", rows[0])  # goes on with what was stopped
        assert index.stats().indexed_rows == 20001


def test_a_signal_stops_a_building(path):
    rows = sheet(30000)
    with CascadeIndex(path, 48, threads=1) as index:
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                for _ in range(50):
                    index.insert_batch(names(30000), rows)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(index) in (0, 30000)


def test_an_unclosed_index_warns(path):
    index = CascadeIndex(path, 2)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del index


# -------------------------------------------------------------------------------------- the model

KEYS = st.sampled_from([f"k{i}" for i in range(8)])
VALUES = st.integers(-50, 50)


class Machine(RuleBasedStateMachine):
    """The index against a dict, on top of enough rows that do not matter; a crash takes it back to
    what the last flush covered."""

    BASE = 2100

    @initialize()
    def begin(self):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "m.cascade")
        self.rows, self.saved = {}, {}
        self.open()
        far = np.random.default_rng(0).normal(size=(self.BASE, 3)).astype(np.float32)
        self.index.insert_batch([f"far{i}" for i in range(self.BASE)], far + 1000)
        self.index.save()

    def open(self):
        self.index = CascadeIndex(self.path, 3, metric="euclidean")

    @rule(items=st.lists(st.tuples(KEYS, VALUES), max_size=12))
    def batch(self, items):
        new = len({key for key, _ in items} - set(self.rows))
        rows = [[x, x + 1, 2] for _, x in items]
        meta = [{"x": x} for _, x in items]
        assert self.index.insert_batch([key for key, _ in items], rows, meta) == new
        for key, x in items:
            self.rows.pop(key, None)
            self.rows[key] = x

    @rule(key=KEYS)
    def delete(self, key):
        assert self.index.delete(key) == (key in self.rows)
        self.rows.pop(key, None)

    @rule(save=st.booleans())
    def flush(self, save):
        (self.index.save if save else self.index.flush)()
        self.saved = dict(self.rows)

    @rule()
    def compact(self):
        self.index.compact()
        self.saved = dict(self.rows)

    @rule()
    def reopen(self):
        self.index.close()
        self.saved = dict(self.rows)
        self.open()

    @rule()
    def crash(self):
        """What kill -9 leaves is the files as they are: copy them, and go on with the copies."""
        import shutil

        copy = os.path.join(self.folder.name, f"m{os.urandom(4).hex()}.cascade")
        shutil.copyfile(self.path, copy)
        shutil.copyfile(self.path + ".index", copy + ".index")
        self.index.close()
        self.path, self.rows = copy, dict(self.saved)
        self.open()

    @rule(x=VALUES, k=st.integers(1, 10), least=st.none() | VALUES)
    def search(self, x, k, least):
        wanted = None if least is None else {"x": {"$gte": least}}
        rows = {key: v for key, v in self.rows.items() if least is None or v >= least}
        hits = self.index.search([x, x + 1, 2], k=k, filter=wanted, exact=True)
        order = list(self.rows)
        near = sorted((abs(v - x), order.index(key), key) for key, v in rows.items())
        keys = [hit.key for hit in hits if not hit.key.startswith("far")]
        assert keys == [key for _, _, key in near[:k]]
        quick = self.index.search([x, x + 1, 2], k=k, filter=wanted)
        assert len(quick) == len(hits) and {h.key for h in quick} <= {*rows, *self.index.keys()}

    @invariant()
    def same(self):
        if hasattr(self, "index"):
            assert len(self.index) == self.BASE + len(self.rows)
            for key in ("k0", "k7"):
                row = self.index.get(key)
                assert (None if row is None else int(row[0])) == self.rows.get(key)

    def teardown(self):
        if hasattr(self, "index"):
            assert [k for k in self.index.keys() if k[0] == "k"] == list(self.rows)
            self.index.close()
            self.folder.cleanup()


TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=4, stateful_step_count=20, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
