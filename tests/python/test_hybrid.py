"""Promises of `synadb.HybridVectorStore`: each key once, with its newest vector, whatever moves."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import synadb
from synadb import GravityWellIndex, HybridSearchResult, HybridVectorStore, SearchResult
from synadb.errors import (
    ClosedError,
    ForkedError,
    InvalidKeyError,
    LockedError,
    ReadOnlyError,
    SynaIOError,
    WrongKindError,
)

DIMS = 8


def rows(count, dims=DIMS, seed=1):
    return np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)


def names(count, prefix="k"):
    return [f"{prefix}{i}" for i in range(count)]


@pytest.fixture
def paths(tmp_path):
    return tmp_path / "v.gwi", tmp_path / "v.cascade"


@pytest.fixture
def store(paths):
    with HybridVectorStore(*paths, DIMS, metric="euclidean", promote_at=None) as opened:
        yield opened


def open_store(paths, **options):
    return HybridVectorStore(*paths, DIMS, **{"metric": "euclidean", "promote_at": None, **options})


# ---------------------------------------------------------------- the seeds' example


def test_the_seeds_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    embedding = rows(1, 768)[0]
    keys, vectors = names(50), rows(50, 768, seed=2)
    query = vectors[4]

    store = HybridVectorStore(
        hot_path="vectors.gwi",
        cold_path="vectors.cascade",
        dimensions=768
    )  # fmt: skip
    sample = np.random.randn(1000, 768).astype(np.float32)
    store.initialize_hot(sample)
    store.ingest("doc1", embedding)
    store.ingest_batch(keys, vectors)
    results = store.search(query, k=10)
    for r in results:
        print(f"{r.key}: {r.score:.4f} (from {r.source})")
    promoted = store.promote_to_cold()
    print(f"Promoted {promoted} vectors to cold storage")
    print(f"Hot: {store.hot_count()}, Cold: {store.cold_count()}")
    store.flush_hot()
    store.save_cold()
    assert len(store) == 51
    assert all(type(r) is SearchResult for r in store.search_cold(query, k=10))
    assert store.search_hot(query, k=10) == []
    assert all(r.source == "cold" for r in store.search(query, k=10))
    store.close()
    out = capsys.readouterr().out
    assert out.startswith("k4: 0.0000 (from hot)\n")
    assert "Promoted 51 vectors to cold storage\nHot: 0, Cold: 51\n" in out


# ---------------------------------------------------------------- the model


class Model(RuleBasedStateMachine):
    """A dict of what was ingested, in order, and a brute-force search over it."""

    KEYS = st.sampled_from(names(6))
    NUMBERS = st.integers(0, 5)

    @initialize()
    def begin(self):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.paths = (f"{self.folder.name}/h", f"{self.folder.name}/c")
        self.store = open_store(self.paths)
        self.rows = {}  # key -> (vector, metadata, layer), in the order ingested

    def vector(self, number):
        return np.full(DIMS, number, np.float32)

    def put(self, key, vector, metadata):
        self.rows.pop(key, None)
        self.rows[key] = (vector, metadata, "hot")

    @rule(key=KEYS, number=NUMBERS, tag=st.sampled_from([None, 1, 2]))
    def ingest(self, key, number, tag):
        metadata = None if tag is None else {"tag": tag}
        self.store.ingest(key, self.vector(number), metadata)
        self.put(key, self.vector(number), metadata)

    @rule(keys=st.lists(KEYS, max_size=5), number=NUMBERS)
    def ingest_batch(self, keys, number):
        added = self.store.ingest_batch(keys, np.full((len(keys), DIMS), number, np.float32))
        assert added == len(set(keys) - set(self.rows))
        for key in keys:
            self.put(key, self.vector(number), None)

    @rule(key=KEYS)
    def delete(self, key):
        assert self.store.delete(key) == (key in self.rows)
        self.rows.pop(key, None)

    @rule(key=KEYS, year=NUMBERS, replace=st.booleans())
    def update_metadata(self, key, year, replace):
        found = self.store.update_metadata(key, {"year": year}, replace=replace)
        assert found == (key in self.rows)
        if found:
            vector, metadata, _ = self.rows[key]
            self.put(key, vector, {**({} if replace else metadata or {}), "year": year})

    @rule()
    def promote(self):
        hot = [key for key, row in self.rows.items() if row[2] == "hot"]
        assert self.store.promote_to_cold() == len(hot)
        for key in hot:
            self.rows[key] = (*self.rows[key][:2], "cold")

    @rule(after=st.integers(0, 3))
    def promotion_that_is_stopped(self, after):
        calls = []

        def stop(done, total):
            calls.append(done)
            return None if len(calls) <= after else 1 / 0

        with (
            pytest.raises(ZeroDivisionError)
            if self.store.hot_count() > 0 and after == 0
            else (_either(ZeroDivisionError))
        ):
            self.store.promote_to_cold(progress=stop)
        for key, (vector, metadata, _) in list(self.rows.items()):
            hot = self.store.search_hot(vector, k=None)
            self.rows[key] = (vector, metadata, "hot" if key in {h.key for h in hot} else "cold")

    @rule(how=st.sampled_from(["flush_hot", "save_cold", "save", "compact"]))
    def upkeep(self, how):
        getattr(self.store, how)()

    @rule()
    def reopen(self):
        self.store.close()
        self.store = open_store(self.paths)

    @invariant()
    def the_same(self):
        if not hasattr(self, "store"):
            return
        store, model = self.store, self.rows
        assert len(store) == len(model)
        layers = [row[2] for row in model.values()]
        assert store.hot_count() == layers.count("hot")
        assert store.cold_count() == layers.count("cold")
        assert sorted(store.keys()) == sorted(model)
        for key in names(6):
            assert (key in store) == (key in model)
            found = store.get(key)
            if key in model:
                assert np.array_equal(found, model[key][0])
                assert store.get_metadata(key) == model[key][1]
            else:
                assert found is None

    @invariant()
    def searches(self):
        if not hasattr(self, "store"):
            return
        query = np.full(DIMS, 2.25, np.float32)
        best = sorted(
            (float(np.linalg.norm(vector - query)), key, layer)
            for key, (vector, _, layer) in self.rows.items()
        )
        for k in (1, 3, None):
            hits = self.store.search(query, k=k)
            assert len({h.key for h in hits}) == len(hits)
            assert np.allclose([h.score for h in hits], [b[0] for b in best[:k]])
            for hit in hits:
                assert hit.source == self.rows[hit.key][2]
                assert np.array_equal(hit.vector, self.rows[hit.key][0])
        for layer, search in (("hot", self.store.search_hot), ("cold", self.store.search_cold)):
            assert sorted(h.key for h in search(query, k=10)) == sorted(
                key for key, row in self.rows.items() if row[2] == layer
            )
        tagged = {h.key for h in self.store.search(query, k=10, filter={"tag": 1})}
        assert tagged == {k for k, row in self.rows.items() if (row[1] or {}).get("tag") == 1}

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


class _either:
    """The error may come or not."""

    def __init__(self, error):
        self.error = error

    def __enter__(self):
        return self

    def __exit__(self, kind, *rest):
        return kind is not None and issubclass(kind, self.error)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_api6_18_a_promotion_drains_the_hot_layer_and_a_second_one_doubles_nothing(store):
    """The ancestor's promotion copied and never drained: calling it again doubled every row."""
    store.initialize_hot(rows(100))
    store.ingest_batch(names(200), rows(200))
    assert store.promote_to_cold() == 200
    assert store.promote_to_cold() == 0
    assert (store.hot_count(), store.cold_count(), len(store)) == (0, 200, 200)
    store.ingest_batch(names(50), rows(50, seed=2))
    assert store.promote_to_cold() == 50 and len(store) == 200
    hits = store.search(rows(1)[0], k=None)
    assert len(hits) == len({hit.key for hit in hits}) == 200
    np.testing.assert_array_equal(store.get("k7"), rows(50, seed=2)[7])


def test_equal_scores_come_in_the_order_of_ingestion(store):
    for key in ("b", "a", "d"):
        store.ingest(key, np.ones(DIMS))
    store.promote_to_cold()
    for key in ("c", "a"):
        store.ingest(key, np.ones(DIMS))
    assert [h.key for h in store.search(np.ones(DIMS), k=5)] == ["b", "d", "c", "a"]
    assert [h.key for h in store.search(np.ones(DIMS), k=2)] == ["b", "d"]


# ---------------------------------------------------------------- sizes that have an index


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    paths = folder / "h", folder / "c"
    vectors = rows(9000, seed=3)
    with open_store(paths) as store:
        store.ingest_batch(names(6000), vectors[:6000])
        assert store.promote_to_cold() == 6000
        # A third of the cold rows is out of date, and there are new ones.
        store.ingest_batch(names(2000), vectors[6000:8000])
        store.ingest_batch(names(1000, "new"), vectors[8000:])
        now = {f"k{i}": vectors[i] for i in range(2000, 6000)}
        now.update({f"k{i}": vectors[6000 + i] for i in range(2000)})
        now.update({f"new{i}": vectors[8000 + i] for i in range(1000)})
        yield store, now


def test_newer_vectors_hide_the_old_ones_of_the_cold_layer(large):
    store, now = large
    keys, matrix = list(now), np.array(list(now.values()))
    assert (len(store), store.hot_count(), store.cold_count()) == (7000, 3000, 4000)
    assert store.stats().outdated_rows == 2000
    for query in rows(30, seed=4):
        order = np.linalg.norm(matrix - query, axis=1).argsort(kind="stable")[:10]
        hits = store.search(query, exact=True)
        assert [h.key for h in hits] == [keys[i] for i in order]
        for hit in hits:
            assert np.array_equal(hit.vector, now[hit.key])
        assert len(store.search(query, k=10)) == 10


def test_near_a_cluster_of_outdated_vectors_there_are_still_k(store):
    store.ingest_batch(names(300), rows(300) * 0.01)
    store.ingest_batch(names(50, "far"), rows(50, seed=2) + 5)
    store.promote_to_cold()
    store.ingest_batch(names(300), rows(300, seed=5) + 100)
    hits = store.search_cold(np.zeros(DIMS), k=20)
    assert len(hits) == 20 and all(h.key.startswith("far") for h in hits)
    plan = store.explain(np.zeros(DIMS), k=20)
    assert plan.passed >= 300 and plan.rounds > 1


def test_a_promotion_takes_the_outdated_vectors_away(large):
    store, now = large
    assert store.promote_to_cold() == 3000
    assert store.stats().outdated_rows == 0
    assert (store.hot_count(), store.cold_count()) == (0, 7000)
    for key in ("k0", "k1999", "k2000", "new7"):
        assert np.array_equal(store.get(key), now[key])
        assert store.search(now[key], k=1)[0].key == key
    batch = store.search_batch([now["k5"], now["new9"]], k=1)
    assert [hits[0] for hits in batch] == [
        HybridSearchResult("k5", 0.0, "cold"),
        HybridSearchResult("new9", 0.0, "cold"),
    ]


def test_promotions_by_themselves(paths):
    with open_store(paths, promote_at=1000) as store:
        for part in range(4):
            store.ingest_batch(names(1000, f"p{part}-"), rows(1000, seed=part))
        waiter = threading.Event()
        for _ in range(1000):
            if store.stats().promotions:
                break
            waiter.wait(0.02)
        assert store.stats().promotions >= 1
        assert len(store) == 4000
        assert len(set(store.keys())) == 4000
    with open_store(paths) as store:
        assert len(set(store.keys())) == len(store) == 4000


# ---------------------------------------------------------------- threads


def test_every_key_is_found_once_while_others_move_change_and_delete(paths):
    fixed = rows(400, seed=21)
    errors, done = [], threading.Event()

    def guarded(work):
        def run():
            try:
                round_number = 0
                while not done.is_set():
                    work(round_number)
                    round_number += 1
            except BaseException as error:
                errors.append(error)
                done.set()

        return threading.Thread(target=run)

    with open_store(paths) as store:
        store.ingest_batch(names(400, "fixed"), fixed)
        store.ingest_batch(names(100, "moving"), rows(100, seed=22) + 50)
        rng = np.random.default_rng(5)

        def search(n):
            i = n * 7 % 400
            hits = store.search(fixed[i], k=5)
            assert hits[0].key == f"fixed{i}" and hits[0].score == 0
            assert len({h.key for h in hits}) == 5

        def all_there(n):
            found = [h.key for h in store.search(np.zeros(DIMS), k=None, vectors=False)]
            assert len(set(found)) == len(found)
            assert {k for k in found if k.startswith("fixed")} == set(names(400, "fixed"))

        def replace(n):
            store.ingest_batch(names(20, "moving"), rng.normal(size=(20, DIMS)) + 50)
            store.ingest(f"fixed{n % 400}", fixed[n % 400])

        def delete(n):
            store.delete(f"moving{50 + n % 50}")
            assert store.get(f"moving{50 + n % 50}") is None

        def promote(n):
            store.promote_to_cold()
            if n % 4 == 3:
                store.save()

        threads = [guarded(w) for w in (search, all_there, replace, delete, promote)]
        for thread in threads:
            thread.start()
        done.wait(3)
        done.set()
        for thread in threads:
            thread.join()
        assert not errors, errors[0]
        for i in range(400):
            assert np.array_equal(store.get(f"fixed{i}"), fixed[i])
        assert len(store) == len(set(store.keys()))


# ---------------------------------------------------------------- crashes

CHILD = """
import sys
import numpy as np
from synadb import HybridVectorStore

hot, cold, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rng = np.random.default_rng(seed)
store = HybridVectorStore(hot, cold, 8, metric="euclidean", promote_at=None)
pending = []

def say(*words):
    print(*words, flush=True)

while True:
    key = f"k{rng.integers(12)}"
    act = rng.integers(12)
    if act < 6:
        value = int(rng.integers(1 << 20))
        say("try", key, value)
        store.ingest(key, np.full(8, value, np.float32))
    elif act < 8:
        say("try", key, -1)
        store.delete(key)
    elif act < 9:
        store.promote_to_cold()
        say("moved")
    elif act < 10:
        store.flush_hot()
        say("covered")
    else:
        store.save()
        say("covered")
"""


def states_after(lines, before):
    """For each key the values that it may have: the one that was covered, and all later ones."""
    allowed = {key: [value] for key, value in before.items()}
    for line in lines:
        words = line.split()
        if words[0] == "try":
            allowed[words[1]].append(int(words[2]))
        elif words[0] == "covered":
            allowed = {key: values[-1:] for key, values in allowed.items()}
    return allowed


def value_of(store, key):
    vector = store.get(key)
    return -1 if vector is None else int(vector[0])


def test_killed_at_any_moment_nothing_is_lost_doubled_or_brought_back(tmp_path):
    paths = str(tmp_path / "h"), str(tmp_path / "c")
    before = {f"k{i}": -1 for i in range(12)}
    rng = np.random.default_rng(9)
    for n in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *paths, str(n)], stdout=subprocess.PIPE, text=True
        )
        lines = [child.stdout.readline() for _ in range(int(rng.integers(5, 150)))]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        with open_store(paths) as store:
            assert len(store) == len(store.keys()) == len(set(store.keys()))
            hits = store.search(np.zeros(8), k=None)
            assert len({h.key for h in hits}) == len(hits) == len(store)
            assert all(report.ok for report in store.verify())
            allowed = states_after([line for line in lines if line.endswith("\n")], before)
            for key, values in allowed.items():
                assert value_of(store, key) in values, (n, key, values)
            before = {key: value_of(store, key) for key in allowed}


# ---------------------------------------------------------------- readers

WRITER = """
import sys
import numpy as np
from synadb import HybridVectorStore

with HybridVectorStore(sys.argv[1], sys.argv[2], 8, metric="euclidean", promote_at=None) as store:
    print("ready", flush=True)
    for line in sys.stdin:
        what, *rest = line.split()
        if what == "put":
            first, count, value = map(int, rest)
            keys = [f"k{i}" for i in range(first, first + count)]
            store.ingest_batch(keys, np.full((count, 8), value), [{"v": value}] * count)
        elif what == "delete":
            store.delete(rest[0])
        else:
            getattr(store, what)()
        print("done", flush=True)
"""


@pytest.fixture
def writer(paths):
    """writer("put", first, count, value): what a process that has the store open does."""
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, *map(str, paths)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def ask(*words):
        print(*words, file=child.stdin, flush=True)
        assert child.stdout.readline() == "done\n"

    assert child.stdout.readline() == "ready\n"
    yield ask
    child.stdin.close()
    child.stdout.close()
    assert child.wait() == 0


def seen(reader):
    """What each key has, and where, by every way to ask."""
    hits = reader.search(np.zeros(DIMS), k=None)
    assert sorted(h.key for h in hits) == sorted(reader.keys())
    assert len(hits) == len(reader) == reader.hot_count() + reader.cold_count()
    for hit in hits:
        assert hit.metadata == reader.get_metadata(hit.key) == {"v": hit.vector[0]}
        np.testing.assert_array_equal(reader.get(hit.key), hit.vector)
        assert hit.key in reader
    return {h.key: (int(h.vector[0]), h.source) for h in hits}


def test_a_reader_sees_what_another_process_made_durable(paths, writer):
    writer("put", 0, 4, 1)
    writer("save")
    with open_store(paths, read_only=True) as reader:
        assert seen(reader) == {f"k{i}": (1, "hot") for i in range(4)}
        writer("put", 2, 4, 2)
        assert not reader.refresh() and len(reader) == 4
        writer("flush_hot")
        assert len(reader) == 4 and reader.refresh()
        want = {"k0": (1, "hot"), "k1": (1, "hot")} | {f"k{i}": (2, "hot") for i in range(2, 6)}
        assert seen(reader) == want
        writer("promote_to_cold")
        assert seen(reader) == want and reader.refresh()
        assert seen(reader) == {key: (value, "cold") for key, (value, _) in want.items()}
        writer("put", 0, 1, 3)
        writer("delete", "k5")
        writer("flush_hot")
        assert reader.refresh() and not reader.refresh()
        assert seen(reader)["k0"] == (3, "hot") and "k5" not in reader and len(reader) == 5
        assert reader.stats().outdated_rows == 1 and reader.stats().promote_at == 0
        assert [h.key for h in reader.search_cold(np.zeros(DIMS), k=None)] == ["k1", *names(5)[2:]]
        writer("promote_to_cold")
        writer("compact")
        assert reader.refresh()
        assert seen(reader)["k0"] == (3, "cold") and len(reader) == 5
        assert reader.stats().outdated_rows == 0
        with open_store(paths, read_only=True) as other:
            assert seen(other) == seen(reader)


def test_a_reader_beside_a_writer_in_this_process_and_alone(paths):
    with open_store(paths) as store, pytest.raises(LockedError):
        GravityWellIndex(paths[0], DIMS, metric="euclidean")
    with open_store(paths) as store:
        store.ingest("a", np.ones(DIMS))
        with open_store(paths, read_only=True) as reader:
            assert len(reader) == 0 and store.refresh() is False
            store.save()
            assert reader.refresh() and reader.get("a")[0] == 1
    with open_store(paths, read_only=True) as reader, open_store(paths) as store:
        store.ingest("b", np.ones(DIMS))
        store.save()
        assert reader.refresh() and sorted(reader.keys()) == ["a", "b"]


def test_a_reader_refuses_to_write(paths):
    with open_store(paths) as store:
        store.ingest("a", np.ones(DIMS), {"v": 1})
    before = [path.read_bytes() for path in paths]
    with open_store(paths, read_only=True, promote_at=1) as reader:
        for write in (
            lambda: reader.ingest("b", np.ones(DIMS)),
            lambda: reader.ingest_batch(["b"], np.ones((1, DIMS))),
            lambda: reader.initialize_hot(rows(20)),
            lambda: reader.update_metadata("a", {"v": 2}),
            lambda: reader.update_metadata("missing", None),
            lambda: reader.delete("a"),
            lambda: reader.delete("missing"),
            reader.promote_to_cold,
            reader.flush_hot,
            reader.save_cold,
            reader.save,
            reader.compact,
        ):
            with pytest.raises(ReadOnlyError, match="opened read-only"):
                write()
        assert reader.hot_count() == 1 and all(report.ok for report in reader.verify())
    assert [path.read_bytes() for path in paths] == before


def test_a_reader_of_files_that_are_missing_or_do_not_fit(paths):
    with pytest.raises(FileNotFoundError):
        open_store(paths, read_only=True)
    assert not any(path.exists() for path in paths)
    with open_store(paths) as store:
        store.ingest("a", np.ones(DIMS))
        store.save()
        with open_store(paths, read_only=True) as reader:
            with pytest.raises(ValueError, match="dimensions"):
                HybridVectorStore(*paths, 9, metric="euclidean", read_only=True)
            store.ingest("b", np.ones(DIMS))
            store.save()
            paths[1].rename(paths[1].with_suffix(".away"))
            with pytest.raises(SynaIOError):
                reader.refresh()
            for read in (
                lambda: reader.search(np.ones(DIMS)),
                lambda: reader.get("a"),
                reader.keys,
            ):
                with pytest.raises(SynaIOError, match="refresh again"):
                    read()
            paths[1].with_suffix(".away").rename(paths[1])
            reader.refresh()
            assert sorted(reader.keys()) == ["a", "b"]


def test_after_fork_a_child_reads_and_does_not_write(store):
    store.ingest("a", np.ones(DIMS))
    store.promote_to_cold()
    store.ingest("b", np.zeros(DIMS))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = [h.key for h in store.search(np.zeros(DIMS), k=2)]
        for call in (lambda: store.ingest("c", np.ones(DIMS)), lambda: store.delete("a")):
            try:
                call()
            except ForkedError:
                told.append("forked")
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert json.loads(os.read(reader, 1000)) == ["b", "a", "forked", "forked"]
    os.close(reader)
    os.close(writer)
    store.ingest("c", np.ones(DIMS))


# ---------------------------------------------------------------- bad input


def test_bad_input_changes_nothing(store):
    store.ingest("a", np.ones(DIMS))
    store.promote_to_cold()
    bad = [
        (ValueError, lambda: store.ingest("b", np.ones(DIMS + 1))),
        (ValueError, lambda: store.ingest("a", np.full(DIMS, np.nan))),
        (ValueError, lambda: store.ingest_batch(["a", "b"], [[1] * DIMS, [np.inf] * DIMS])),
        (ValueError, lambda: store.ingest_batch(["a"], np.ones((2, DIMS)))),
        (TypeError, lambda: store.ingest_batch("a", np.ones((1, DIMS)))),
        (InvalidKeyError, lambda: store.ingest("", np.ones(DIMS))),
        (TypeError, lambda: store.ingest(5, np.ones(DIMS))),
        (InvalidKeyError, lambda: store.delete("x" * 70000)),
        (ValueError, lambda: store.search(np.ones(DIMS), k=0)),
        (ValueError, lambda: store.search(np.full(DIMS, np.inf))),
        (ValueError, lambda: store.search(np.ones(3))),
        (ValueError, lambda: store.search(np.ones(DIMS), nprobe=0)),
        (ValueError, lambda: store.search(np.ones(DIMS), recall=1.5)),
        (ValueError, lambda: store.search(np.ones(DIMS), ef_search=9000)),
        (ValueError, lambda: store.search(np.ones(DIMS), radius=float("nan"))),
        (ValueError, lambda: store.search(np.ones(DIMS), filter={"$no": 1})),
        (ValueError, lambda: store.initialize_hot(np.empty((0, DIMS)))),
        (ValueError, lambda: store.initialize_hot(np.ones((4, DIMS + 1)))),
    ]
    for error, call in bad:
        with pytest.raises(error):
            call()
        assert (len(store), store.hot_count(), store.stats().outdated_rows) == (1, 0, 0)
        assert np.array_equal(store.get("a"), np.ones(DIMS))
        assert store.search(np.ones(DIMS))[0].source == "cold"


@pytest.mark.parametrize(
    "options",
    [
        {"dimensions": 0},
        {"dimensions": 65536},
        {"metric": "manhattan"},
        {"preset": "tiny"},
        {"promote_at": 0},
        {"recall": 0.0},
        {"hot_capacity": -1},
    ],
)
def test_bad_options_are_refused(paths, options):
    with pytest.raises(ValueError):
        HybridVectorStore(*paths, **{"dimensions": DIMS, **options})
    assert not paths[0].exists()


def test_files_that_do_not_fit_are_refused(paths, tmp_path):
    with open_store(paths) as store:
        store.ingest("a", np.ones(DIMS))
        with pytest.raises(ValueError, match="open with"):
            open_store((paths[0], tmp_path / "other"))
        with pytest.raises(LockedError):
            synadb.GravityWellIndex(paths[0], DIMS, metric="euclidean")
        again = open_store(paths)
        again.ingest("b", np.zeros(DIMS))
        assert len(store) == 2
        again.close()
        assert store.get("b") is not None
    with pytest.raises(ValueError, match="two files"):
        open_store((paths[0], paths[0]))
    with pytest.raises(WrongKindError):
        open_store((paths[1], paths[0]))
    with pytest.raises(ValueError):
        HybridVectorStore(*paths, DIMS + 1, metric="euclidean")
    with pytest.raises(ValueError):
        HybridVectorStore(*paths, DIMS, metric="cosine")
    with open_store(paths) as store:
        assert len(store) == 2


def test_a_closed_store_says_so(paths):
    store = open_store(paths)
    assert "0 x 8" in repr(store)
    store.close()
    store.close()
    assert store.closed and "closed" in repr(store)
    for call in (store.flush_hot, store.promote_to_cold, store.hot_count, store.keys):
        with pytest.raises(ClosedError):
            call()


def test_a_promotion_that_is_cancelled_goes_on_later(store):
    store.ingest_batch(names(2000), rows(2000))
    with pytest.raises(ZeroDivisionError):
        store.promote_to_cold(progress=lambda done, total: 1 / 0)
    assert (len(store), store.hot_count()) == (2000, 2000)
    assert store.search_cold(np.zeros(DIMS), k=5) == []
    assert store.promote_to_cold() == 2000
    assert sorted(h.key for h in store.search(np.zeros(DIMS), k=None)) == sorted(names(2000))


def test_an_empty_store_takes_other_dimensions(paths):
    with open_store(paths) as store:
        store.ingest("a", np.ones(DIMS))
        store.promote_to_cold()
        store.delete("a")
        assert len(store) == 0
    with HybridVectorStore(*paths, 3) as store:
        store.ingest("a", [1, 2, 3])
        assert store.promote_to_cold() == 1
        assert store.search([1, 2, 3])[0].key == "a"
