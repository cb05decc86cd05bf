"""``VectorStore(backend="faiss")``: the index types of FAISS under the contract of the store."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from synadb import VectorStore

DIMS = 16
TYPES = ["Flat", "IVF16,Flat", "HNSW16", "IVF16,SQ8", "PCA8,IVF8,Flat"]
METRICS = ["cosine", "euclidean", "dot_product"]


def sheet(rows: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(rows, 4)) @ rng.normal(size=(4, DIMS)) / 2).astype(np.float32)


def open_store(path, **how) -> VectorStore:
    pytest.importorskip(
        "faiss", reason="backend='faiss' needs faiss-cpu: pip install 'synadb[faiss]'"
    )
    how = {"metric": "cosine", "faiss_index_type": "Flat", "faiss_nprobe": 16} | how
    return VectorStore(path, DIMS, sync_on_write=False, backend="faiss", **how)


def filled(path, count: int = 1500, **how) -> tuple[VectorStore, np.ndarray]:
    store, rows = open_store(path, **how), sheet(count)
    store.insert_batch([f"k{i}" for i in range(count)], rows, [{"n": i} for i in range(count)])
    return store, rows


def same(hits, others) -> None:
    assert [hit.key for hit in hits] == [hit.key for hit in others]
    np.testing.assert_allclose(
        [hit.score for hit in hits], [hit.score for hit in others], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("metric", METRICS)
def test_a_flat_index_gives_what_exact_search_gives(path, metric):
    store, rows = filled(path, metric=metric)
    with store:
        assert (store.backend, store.resolved_backend, store.has_index) == ("faiss", "flat", False)
        store.build_index()
        assert store.resolved_backend == "faiss" and store.has_index and store.is_faiss_trained
        for query in sheet(20, 1):
            hits = store.search(query, k=7)
            same(hits, store.search(query, k=7, exact=True))
            assert [hit.score for hit in hits] == sorted(hit.score for hit in hits)
            for hit in hits:
                np.testing.assert_array_equal(hit.vector, rows[int(hit.key[1:])])
                assert hit.metadata == {"n": int(hit.key[1:])}
        assert store.explain(rows[0], k=5).plan == "faiss"
        bare = store.search(rows[3], k=1, vectors=False, metadata=False)[0]
        assert bare.vector is None and bare.metadata is None


@pytest.mark.parametrize("index_type", TYPES)
def test_every_index_type_finds_nearly_all_and_scores_exactly(path, index_type):
    store, _ = filled(path, faiss_index_type=index_type)
    with store:
        assert store.faiss_index_type == index_type and store.faiss_nprobe == 16
        store.build_index()
        queries = sheet(50, 2)
        found = 0
        for hits, query in zip(store.search_batch(queries, k=10), queries):
            exact = {hit.key: hit.score for hit in store.search(query, k=1500, exact=True)}
            assert all(abs(hit.score - exact[hit.key]) < 1e-5 for hit in hits)
            found += len({hit.key for hit in hits} & set(list(exact)[:10]))
        assert found >= 0.9 * 500


def test_what_faiss_cannot_answer_is_answered_exactly(path):
    store, _ = filled(path)
    with store:
        store.build_index()
        query = sheet(1, 3)[0]
        plans = [
            store.explain(query, radius=0.0),
            store.explain(query, filter={"n": {"$lt": 3}}),
            store.explain(query, recall=0.5),
            store.explain(query, ef=10),
            store.explain(query, exact=True),
            store.explain(query, k=None),
        ]
        assert {plan.plan for plan in plans} == {"exact"}
        chosen = store.search(query, k=10, filter={"n": {"$lt": 3}})
        assert {hit.key for hit in chosen} == {"k0", "k1", "k2"}
        assert len(store.search(query, k=5000)) == 1500


def test_writes_are_seen_at_once_whoever_wrote(path):
    store, rows = filled(path, metric="euclidean", faiss_index_type="IVF16,Flat")
    with store, VectorStore(path, DIMS, metric="euclidean") as other:
        store.build_index()
        new = sheet(4, 4) + 50
        for write in (
            lambda: store.insert("k5", new[0]),
            lambda: store.insert_batch(["a", "b", "a"], new[1:4]),
            lambda: other.insert("k6", new[0]),
            lambda: store.insert("k6", rows[6]),
            lambda: store.delete("k7"),
            lambda: other.delete("k8"),
            lambda: store.delete_where({"n": {"$gte": 1400}}),
            lambda: store.delete("not there"),
        ):
            write()
            for query in [*new, *rows[4:9]]:
                same(store.search(query, k=3), store.search(query, k=3, exact=True))
        assert store.resolved_backend == "faiss"


def test_churn_makes_the_index_anew_in_time(path):
    store, _ = filled(path, metric="euclidean")
    with store:
        store.build_index()
        for turn in range(4):
            late = sheet(1000, 10 + turn)
            for i in range(1000):
                store.insert(f"k{i}", late[i])
            for query in sheet(5, 20 + turn):
                same(store.search(query, k=10), store.search(query, k=10, exact=True))
        index = store._faiss
        assert len(index._keys) <= 1500 * 3 and len(index._numbers) == 1500


def test_it_comes_by_itself_when_the_store_is_large(path):
    store, rows = filled(path, 10000)
    with store:
        assert not store.has_index
        store.search(rows[0])
        assert store.has_index and store.resolved_backend == "faiss"
    with open_store(path, faiss_index_type="IVF1024,Flat") as again:  # made anew after opening
        assert len(again.search(rows[0])) == 10
        assert not again.has_index  # 1024 lists want more rows than these


def test_progress_errors_and_empty_stores(path):
    with open_store(path, faiss_index_type="IVF64,Flat") as store:
        assert store.search(np.ones(DIMS)) == [] and store.search_batch(np.ones((2, DIMS))) == [
            [],
            [],
        ]
        store.insert_batch([f"k{i}" for i in range(20)], sheet(20))
        with pytest.raises(ValueError, match="'IVF64,Flat' cannot be trained with 20 rows"):
            store.build_index()
        assert len(store.search(np.ones(DIMS))) == 10
        with pytest.raises(ValueError, match="not finite"):
            store.search([np.nan] * DIMS)
    with open_store(path) as store:
        told = []
        store.build_index(progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (20, 20)

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        store.insert("one more", np.ones(DIMS))
        with pytest.raises(KeyboardInterrupt):
            store.build_index(progress=stop)
        assert store.search(np.ones(DIMS), k=1)[0].key == "one more"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"faiss_index_type": "NoSuchIndex"}, "NoSuchIndex"),
        ({"faiss_index_type": "IVF8,PQ5"}, "IVF8,PQ5"),
        ({"faiss_nprobe": 0}, "faiss_nprobe"),
        ({"use_gpu": True}, "no GPU"),
    ],
)
def test_bad_options_are_refused(path, bad, message):
    faiss = pytest.importorskip("faiss", reason="backend='faiss' needs faiss-cpu")
    if "use_gpu" in bad and faiss.get_num_gpus():
        pytest.skip("FAISS sees a GPU here, so use_gpu=True is no bad option")
    with pytest.raises(ValueError, match=message):
        open_store(path, **bad)
    assert not path.exists()


def test_searches_and_writes_on_many_threads(path):
    store, _ = filled(path, metric="euclidean")
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i, row in enumerate(sheet(60, 30 + number)):
                store.insert(f"t{number}-{i}", row)
                assert store.search(row, k=1)[0].score < 1e-3
        except BaseException as error:
            errors.append(error)

    with store:
        store.build_index()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and len(store) == 1740


def test_without_the_package_it_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"synadb\[faiss\]"):
        VectorStore(path, DIMS, backend="faiss")
    with pytest.raises(ValueError, match="auto, flat, hnsw, faiss"):
        VectorStore(path, DIMS, backend="annoy")
    assert not path.exists()


def test_other_backends_never_import_it(path, python):
    code = """
        import sys
        from synadb import VectorStore
        with VectorStore(sys.argv[1], 4) as store:
            store.insert("a", [1, 2, 3, 4])
            store.search([1, 2, 3, 4])
            print("faiss" in sys.modules, store.is_faiss_trained, store.use_gpu)
    """
    assert python(code, path).split() == ["False", "False", "False"]
