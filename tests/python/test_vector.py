"""VectorStore: what it finds, keeps, remembers and refuses."""

import os
import threading
import time
import warnings

import numpy as np
import pytest

import synadb
from synadb import SearchResult, SynaDB, VectorStore
from synadb.errors import ArgumentError, ClosedError, ForkedError, InvalidKeyError

METRICS = ("cosine", "euclidean", "dot_product")


@pytest.fixture
def store(path):
    with VectorStore(path, 8, sync_on_write=False) as store:
        yield store


def rows_of(count, dimensions, seed=1):
    return np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)


def distances(query, rows, metric):
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((rows - query) ** 2).sum(axis=1))
    if metric == "dot_product":
        return -rows @ query
    return 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


# ------------------------------------------------------------------------------------- searching


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dimensions", [1, 6, 64, 384])
def test_search_finds_the_nearest_with_their_scores(path, metric, dimensions):
    rows, queries = rows_of(700, dimensions), rows_of(5, dimensions, seed=2)
    with VectorStore(path, dimensions, metric=metric, sync_on_write=False) as store:
        assert store.insert_batch([f"k{i}" for i in range(700)], rows) == 700
        for query in queries:
            hits = store.search(query, k=12)
            expected = distances(query, rows, metric)
            scores = np.array([hit.score for hit in hits])
            found = np.array([int(hit.key[1:]) for hit in hits])
            assert len(hits) == 12
            assert np.all(np.diff(scores) >= 0)
            np.testing.assert_allclose(scores, expected[found], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(scores, np.sort(expected)[:12], rtol=1e-4, atol=1e-5)
            for hit, row in zip(hits, found):
                assert np.array_equal(hit.vector, rows[row])


def test_search_batch_is_search_for_each(store):
    store.insert_batch([f"k{i}" for i in range(300)], rows_of(300, 8))
    queries = rows_of(70, 8, seed=3)
    assert store.search_batch(queries, k=7) == [store.search(query, k=7) for query in queries]
    assert store.search_batch(np.empty((0, 8))) == []


def test_equal_scores_come_in_the_order_written_also_after_reopening(path):
    with VectorStore(path, 2) as store:
        for key in "zbxa":
            store.insert(key, [1, 0])
        store.insert("b", [1, 0])
        assert [hit.key for hit in store.search([1, 0])] == list("zxab")
        assert store.keys() == list("zxab")
    with VectorStore(path, 2) as store:
        assert [hit.key for hit in store.search([1, 0])] == list("zxab")


def test_a_radius_limits_the_results(path):
    with VectorStore(path, 1, metric="euclidean") as store:
        store.insert_batch(list("abcde"), np.arange(5.0)[:, None])
        assert [hit.key for hit in store.search([0], k=None, radius=2)] == ["a", "b", "c"]
        assert [hit.key for hit in store.search([0], k=1, radius=2)] == ["a"]
        assert store.search([0.5], radius=0.25) == []
        assert len(store.search([0], k=None)) == 5
        with pytest.raises(ValueError, match="radius is NaN"):
            store.search([0], radius=float("nan"))


def test_zero_vectors_are_at_cosine_distance_one(store):
    store.insert("zero", np.zeros(8))
    store.insert("same", np.ones(8))
    assert [(hit.key, hit.score) for hit in store.search(np.ones(8))][1] == ("zero", 1.0)
    assert [hit.score for hit in store.search(np.zeros(8))] == [1.0, 1.0]


def test_an_empty_store_finds_nothing(store):
    assert store.search(np.ones(8)) == []
    assert len(store) == 0 and store.keys() == []


def test_results_are_values_of_their_own(store):
    store.insert("a", np.ones(8))
    hit = store.search(np.ones(8), k=1)[0]
    assert hit == SearchResult("a", hit.score)
    hit.vector[:] = 7
    assert store.get("a")[0] == 1
    with pytest.raises(AttributeError):
        hit.score = 0
    assert store.search(np.ones(8), vectors=False)[0].vector is None


# --------------------------------------------------------------------------------------- writing


def test_get_contains_len_and_delete(store):
    vector = rows_of(1, 8)[0]
    store.insert("doc/ключ 🚀", vector)
    assert np.array_equal(store.get("doc/ключ 🚀"), vector)
    assert store.get("doc/ключ 🚀").dtype == np.float32
    assert store.get("absent") is None
    assert "doc/ключ 🚀" in store and not store.contains("absent")
    assert len(store) == 1
    assert store.delete("doc/ключ 🚀") is None
    assert store.delete("doc/ключ 🚀") is None
    assert len(store) == 0 and "doc/ключ 🚀" not in store


def test_the_same_key_replaces(store):
    store.insert("a", np.ones(8))
    store.insert("a", -np.ones(8))
    assert len(store) == 1
    assert store.get("a")[0] == -1
    assert len(store.search(np.ones(8))) == 1


def test_everything_is_there_after_reopening(path):
    rows = rows_of(500, 8)
    with VectorStore(path, 8) as store:
        store.insert_batch([str(i) for i in range(500)], rows)
        store.delete("17")
    with VectorStore(path, 8) as store:
        assert len(store) == 499
        assert store.get("17") is None
        assert np.array_equal(store.get("18"), rows[18])
        assert store.search(rows[499], k=1)[0].key == "499"


@pytest.mark.parametrize("sync", [True, False])
def test_a_killed_process_loses_nothing_it_inserted(path, python, sync):
    code = """
        import os, signal, sys
        from synadb import VectorStore
        store = VectorStore(sys.argv[1], 4, sync_on_write=sys.argv[2] == "True")
        for i in range(50):
            store.insert(str(i), [i, 1, 2, 3])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(code, path, sync, check=False).returncode == -9
    with VectorStore(path, 4) as store:
        assert len(store) == 50
        assert store.get("49")[0] == 49


def test_many_kinds_of_arrays_are_taken(store):
    store.insert("list", [1, 2, 3, 4, 5, 6, 7, 8])
    store.insert("ints", np.arange(1, 9))
    store.insert("f64", np.arange(1, 9, dtype=np.float64))
    store.insert("f16", np.arange(1, 9, dtype=np.float16))
    store.insert("strided", np.arange(1, 17, dtype=np.float32)[::2] / 2 + 0.5)
    store.insert("column", np.arange(1, 9).reshape(8, 1))
    store.insert("big endian", np.arange(1, 9, dtype=">f4"))
    read_only = np.arange(1, 9, dtype=np.float32)
    read_only.flags.writeable = False
    store.insert("read-only", read_only)
    for key in store.keys():
        assert np.array_equal(store.get(key), np.arange(1, 9)), key
    rows = np.asfortranarray(rows_of(3, 8))
    assert store.insert_batch(iter("xyz"), rows) == 3
    assert np.array_equal(store.get("y"), rows[1])


def test_a_batch_counts_new_keys(store):
    assert store.insert_batch(["a", "b"], np.ones((2, 8))) == 2
    assert store.insert_batch(["b", "c", "c"], rows_of(3, 8)) == 1
    assert np.array_equal(store.get("c"), rows_of(3, 8)[2])
    assert store.insert_batch([], np.empty((0, 8))) == 0
    assert store.insert_batch([], []) == 0
    assert store.insert_batch_fast(["d"], [np.zeros(8)]) == 1


# -------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_what_is_not_finite_is_refused_by_name(store, bad):
    rows = np.ones((3, 8))
    rows[1, 5] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="row 1, key b: element 5"):
            store.insert_batch(["a", "b", "c"], rows)
        with pytest.raises(ValueError, match="key b: element 5"):
            store.insert("b", rows[1])
        with pytest.raises(ValueError, match="query 0: element 5"):
            store.search(rows[1])
    assert len(store) == 0


def test_wrong_lengths_are_refused(store):
    for vector in (np.ones(7), np.ones(9), [], 5.0, np.ones((2, 8))):
        with pytest.raises(ValueError, match="this store has 8"):
            store.insert("a", vector)
        with pytest.raises(ValueError, match="this store has 8"):
            store.search(vector)
    for rows in (np.ones((2, 7)), np.ones(8), np.ones((1, 2, 4))):
        with pytest.raises(ValueError, match="shape"):
            store.insert_batch(["a", "b"], rows)
        with pytest.raises(ValueError, match="shape"):
            store.search_batch(rows)
    with pytest.raises(ValueError, match="3 keys for 2 vectors"):
        store.insert_batch("a b c".split(), np.ones((2, 8)))
    assert len(store) == 0


def test_wrong_types_are_refused(store):
    for vector in (["1"] * 8, np.ones(8, complex), None, {"a": 1}, np.array(["x"] * 8)):
        with pytest.raises((TypeError, ValueError)):
            store.insert("a", vector)
    for key in (1, None, b"a", ("a",)):
        with pytest.raises(TypeError):
            store.insert(key, np.ones(8))
        with pytest.raises(TypeError):
            store.get(key)
    with pytest.raises(TypeError):
        store.insert_batch("ab", np.ones((2, 8)))
    for k in (1.5, "3"):
        with pytest.raises(TypeError):
            store.search(np.ones(8), k=k)
    for k in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            store.search(np.ones(8), k=k)
    assert len(store) == 0


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", "k" * 65531])
def test_bad_keys_are_refused(store, key):
    with pytest.raises(ValueError) as caught:
        store.insert(key, np.ones(8))
    assert isinstance(caught.value, synadb.SynaError)
    assert len(store) == 0


def test_the_longest_key_is_taken(store):
    store.insert("k" * 65530, np.ones(8))
    assert store.keys() == ["k" * 65530]


@pytest.mark.parametrize(
    "arguments",
    [
        {"dimensions": 0},
        {"dimensions": 65536},
        {"dimensions": -1},
        {"metric": "manhattan"},
        {"metric": 0},
        {"backend": "annoy"},
        {"faiss_nprobe": 0},
    ],
)
def test_bad_options_are_refused_and_create_nothing(path, arguments):
    with pytest.raises(ArgumentError):
        VectorStore(path, **{"dimensions": 4, **arguments})
    assert not path.exists()


def test_dimensions_are_an_integer(path):
    with pytest.raises(TypeError):
        VectorStore(path, 4.0)
    with VectorStore(path, np.int64(4)) as store:
        assert store.dimensions == 4


def test_a_file_with_rows_keeps_dimensions_and_metric(path):
    with VectorStore(path, 4, metric="euclidean") as store:
        store.insert("a", np.ones(4))
    with pytest.raises(ValueError, match="holds vectors of 4 dimensions, opened with 5"):
        VectorStore(path, 5, metric="euclidean")
    with pytest.raises(ValueError, match="its metric is euclidean, opened with cosine"):
        VectorStore(path, 4)
    with VectorStore(path, 4, metric="euclidean") as store:
        store.delete("a")
    with VectorStore(path, 5) as store:
        store.insert("a", np.ones(5))


@pytest.mark.parametrize("dimensions", [1, 64, 8192, 65535])
def test_every_dimension_works(path, dimensions):
    rows = rows_of(3, dimensions)
    with VectorStore(path, dimensions) as store:
        store.insert_batch(list("abc"), rows)
        assert store.search(rows[1], k=1)[0].key in ("b" if dimensions > 1 else "abc")
    with VectorStore(path, dimensions) as store:
        assert np.array_equal(store.get("c"), rows[2])


# --------------------------------------------------------------------------------------- the rest


def test_a_store_is_an_ordinary_database(path):
    with VectorStore(path, 4) as store:
        store.insert("a", [1, 2, 3, 4])
        with SynaDB(path) as db:
            assert db.get("vec-store/config") == '{"dimensions":4,"metric":"cosine"}'
            assert sorted(db.keys()) == ["vec-store/config", "vec/a"]
    assert synadb.verify(path).ok


def test_two_objects_of_one_file_are_one_store(path):
    with VectorStore(path, 4) as one, VectorStore(str(path), 4) as two:
        one.insert("a", np.ones(4))
        assert two.search(np.ones(4), k=1)[0].key == "a"
        one.close()
        assert len(two) == 1


def test_facts_about_a_store(store, path):
    assert store.dimensions == 8 and store.metric_name == "cosine"
    assert store.backend == "auto" and store.resolved_backend == "flat"
    assert (VectorStore.COSINE, VectorStore.EUCLIDEAN, VectorStore.DOT_PRODUCT) == (0, 1, 2)
    store.insert_batch(list("abc"), np.ones((3, 8)))
    stats = store.stats()
    assert (stats.rows, stats.dimensions, stats.metric) == (3, 8, "cosine")
    assert stats.memory_bytes > 0 and stats.file_bytes > 0
    assert repr(store) == f"<VectorStore {str(path)!r}, 3 x 8, cosine>"
    store.close()
    assert store.closed and "closed" in repr(store)


def test_a_closed_store_says_so(path):
    store = VectorStore(path, 4)
    store.close()
    store.close()
    for call in (
        lambda: store.insert("a", np.ones(4)),
        lambda: store.insert_batch(["a"], np.ones((1, 4))),
        lambda: store.insert_batch([], []),
        lambda: store.search(np.ones(4)),
        lambda: store.search_batch(np.ones((0, 4))),
        lambda: store.get("a"),
        lambda: store.delete("a"),
        lambda: len(store),
        lambda: store.keys(),
        lambda: store.stats(),
        lambda: store.flush(),
    ):
        with pytest.raises(ClosedError):
            call()


def test_a_forgotten_store_warns_and_is_closed(path):
    with pytest.warns(ResourceWarning, match="unclosed vector store"):
        VectorStore(path, 4).insert("a", np.ones(4))
    with VectorStore(path, 4) as store:
        assert len(store) == 1


def test_the_level_of_the_kernels_can_be_forced_and_gives_the_same_bits(path, python):
    with VectorStore(path, 100, sync_on_write=False) as store:
        store.insert_batch([str(i) for i in range(100)], rows_of(100, 100))
        expected = [hit.score.hex() for hit in store.search(rows_of(1, 100, seed=2)[0], k=100)]
    code = """
        import sys, numpy as np
        from synadb import VectorStore
        with VectorStore(sys.argv[1], 100) as store:
            query = np.random.default_rng(2).standard_normal((1, 100)).astype(np.float32)[0]
            print(store.stats().simd, *[hit.score.hex() for hit in store.search(query, k=100)])
    """
    for level in ("scalar", "avx2", "avx512", "neon", "nonsense"):
        out = python(code, path, env={**os.environ, "SYNADB_SIMD": level}).split()
        assert out[1:] == expected
        assert out[0] == "scalar" or level != "scalar"


def test_searches_run_beside_inserts(path):
    found, stop = [], threading.Event()
    with VectorStore(path, 16, metric="euclidean", sync_on_write=False) as store:
        store.insert("first", np.zeros(16))

        def search():
            while not stop.is_set():
                hits = store.search(np.zeros(16), k=3)
                assert hits[0].key == "first"
                found.append(len(hits))

        def insert(number):
            for i in range(500):
                store.insert(f"{number}-{i}", np.full(16, 1.0 + i))

        readers = [threading.Thread(target=search) for _ in range(2)]
        writers = [threading.Thread(target=insert, args=(n,)) for n in range(3)]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in readers:
            thread.join()
        assert len(store) == 1501
    assert found


def test_close_waits_for_calls_in_progress(path):
    store = VectorStore(path, 64, sync_on_write=False)
    store.insert_batch([str(i) for i in range(2000)], rows_of(2000, 64))
    ends = []

    def search():
        try:
            while True:
                store.search_batch(rows_of(20, 64), k=5)
        except ClosedError:
            ends.append("closed")

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    store.close()
    for thread in threads:
        thread.join()
    assert ends == ["closed"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_searches_and_does_not_write(path, python):
    code = """
        import os, sys, warnings
        import numpy as np
        from synadb import VectorStore
        from synadb.errors import ForkedError
        warnings.simplefilter("ignore")
        store = VectorStore(sys.argv[1], 4)
        store.insert("a", np.ones(4))
        pid = os.fork()
        if pid == 0:
            ok = store.search(np.ones(4))[0].key == "a"
            try:
                store.insert("b", np.ones(4))
            except ForkedError:
                store.close()
                os._exit(0 if ok else 2)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        store.insert("c", np.ones(4))
        print(len(store))
        store.close()
    """
    assert python(code, path).strip() == "2"
    assert issubclass(ForkedError, synadb.SynaError) and issubclass(InvalidKeyError, ValueError)


def test_progress_of_opening_is_told_and_can_stop_it(path):
    with VectorStore(path, 1, sync_on_write=False) as store:
        store.insert_batch([str(i) for i in range(200_000)], np.zeros((200_000, 1)))
    told = []
    with VectorStore(path, 1, progress=lambda done, total: told.append((done, total))):
        pass
    assert all(0 <= done <= total == 200_000 for done, total in told)

    class Stop(Exception):
        pass

    def stop(done, total):
        raise Stop

    if told:
        with pytest.raises(Stop):
            VectorStore(path, 1, progress=stop)


# ----------------------------------------------------------- the examples of the documentation


def test_the_first_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    # Create store with 768 dimensions (BERT-sized)
    store = VectorStore("vectors.db", dimensions=768)

    # Insert embeddings
    embedding = np.random.randn(768).astype(np.float32)
    store.insert("doc1", embedding)

    # Search for similar vectors
    query = np.random.randn(768).astype(np.float32)
    results = store.search(query, k=5)
    for r in results:
        print(f"{r.key}: {r.score:.4f}")

    assert capsys.readouterr().out.startswith("doc1: ")

    # Disable sync for 456x faster writes (use for bulk ingestion)
    store = VectorStore("vectors.db", dimensions=768, sync_on_write=False)

    # Context manager support (auto-saves index on exit)
    with VectorStore("vectors.db", dimensions=768) as store:
        store.insert("doc1", embedding)
    # Index automatically saved
    synadb._core.handle.close_all()


def test_the_metrics_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Create store with 768 dimensions (BERT-sized)
    store = VectorStore("vectors.db", dimensions=768)
    # Insert embeddings
    embedding1 = np.random.randn(768).astype(np.float32)
    embedding2 = np.random.randn(768).astype(np.float32)
    store.insert("doc1", embedding1)
    store.insert("doc2", embedding2)
    # Search for similar vectors
    query_embedding = np.random.randn(768).astype(np.float32)
    results = store.search(query_embedding, k=5)
    assert sorted(r.key for r in results) == ["doc1", "doc2"]
    store.close()
    os.remove("vectors.db")
    # Use euclidean distance
    store = VectorStore("vectors.db", dimensions=768, metric="euclidean")
    store.close()
    # Use dot product
    store = VectorStore("vectors.db", dimensions=768, metric="dot_product")
    store.close()


def test_the_examples_of_the_docstrings_run(tmp_path):
    import doctest

    import synadb.vector

    ran = 0
    for i, test in enumerate(doctest.DocTestFinder().find(synadb.vector)):
        folder = tmp_path / str(i)
        folder.mkdir()
        with VectorStore(folder / "example.db", 64, sync_on_write=False) as store:
            test.globs.update(store=store, tmp=folder, np=np, VectorStore=VectorStore)
            result = doctest.DocTestRunner().run(test)
        assert result.failed == 0, test.name
        ran += result.attempted
    assert ran > 10
