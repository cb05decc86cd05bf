"""VectorStore with other kinds of rows and codes: against a model in numpy, after changes,
reopening, compaction and a killed writer; what is remembered and refused; recall on real data."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from synadb import SynaDB, VectorStore
from synadb.errors import ArgumentError

METRICS = ("cosine", "euclidean", "dot_product")


def bfloat16(rows):
    """Rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(rows, np.float32).view(np.uint32)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


def rounded(rows, dtype):
    rows = np.asarray(rows, np.float32)
    return bfloat16(rows) if dtype == "bfloat16" else rows.astype(dtype).astype(np.float32)


def clusters(count, dimensions, seed=1):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, dimensions))
    spread = 0.6 * rng.standard_normal((count, dimensions))
    return (centres[rng.integers(0, 50, count)] + spread).astype("f4")


def curved(count, dimensions, seed=1):
    """Rows of few degrees of freedom, as embeddings are."""
    latent = np.random.default_rng(seed).standard_normal((count, 10))
    return np.tanh(latent @ np.random.default_rng(0).standard_normal((10, dimensions))).astype("f4")


def distances(query, rows, metric):
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((rows - query) ** 2).sum(axis=1))
    if metric == "dot_product":
        return -rows @ query
    return 1 - rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)


# ----------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("metric", METRICS)
def test_changes_agree_with_a_model_of_rounded_rows(path, dtype, metric):
    rng = np.random.default_rng(3)
    model, tags = {}, {}
    pool = clusters(400, 21)
    with VectorStore(path, 21, metric, sync_on_write=False, dtype=dtype) as store:
        for step in range(300):
            key = f"k{rng.integers(0, 90)}"
            if rng.random() < 0.2:
                store.delete(key)
                model.pop(key, None)
                tags.pop(key, None)
            elif rng.random() < 0.1 and key in model:
                store.update_metadata(key, {"n": step})
                tags[key] = step
            else:
                row = pool[rng.integers(0, 400)].astype(rng.choice(["f2", "f4", "f8"]))
                store.insert(key, row, {"n": step} if step % 2 else None)
                model[key] = rounded(row, dtype)
                tags.pop(key, None)
                if step % 2:
                    tags[key] = step
        check(store, model, tags, metric)
    with SynaDB(path) as db:
        db.compact()
    with VectorStore(path, 21, metric, sync_on_write=False) as store:
        check(store, model, tags, metric)
        assert store.stats().dtype == dtype


def check(store, model, tags, metric):
    assert sorted(store.keys()) == sorted(model)
    for key, row in model.items():
        got = store.get(key)
        assert got.dtype == np.float32
        assert np.array_equal(got, row)
    keys = list(model)
    rows = np.stack([model[key] for key in keys])
    query = clusters(1, 21, seed=9)[0]
    expected = distances(query, rows, metric)
    hits = store.search(query, k=len(keys))
    assert sorted(hit.key for hit in hits) == sorted(keys)
    by_key = {hit.key: hit.score for hit in hits}
    np.testing.assert_allclose([by_key[key] for key in keys], expected, rtol=1e-4, atol=1e-5)
    chosen = store.search(query, k=1000, filter={"n": {"$gte": 100}})
    assert {hit.key for hit in chosen} == {key for key, n in tags.items() if n >= 100}


def test_rows_take_half_the_bytes_and_the_log_holds_the_halves(path):
    rows = clusters(500, 100)
    with VectorStore(path, 100, sync_on_write=False, dtype=np.float16) as store:
        store.insert_batch([str(i) for i in range(500)], rows)
        halves = store.stats()
        assert (halves.dtype, halves.row_bytes) == ("float16", 200)
    with VectorStore(path.with_name("f.db"), 100, sync_on_write=False) as store:
        store.insert_batch([str(i) for i in range(500)], rows)
        assert store.stats().row_bytes == 400
        assert store.stats().file_bytes - halves.file_bytes > 500 * 190
    with SynaDB(path) as db:
        assert np.array_equal(np.asarray(db.get("vec/7")).view("f2"), rows[7].astype("f2"))


def test_rows_of_zeros_are_not_lost(path):
    """Halves that would pack well are as safe as others, also through another log."""
    with VectorStore(path, 384, sync_on_write=False, dtype="float16") as store:
        store.insert_batch(["zero", "one"], np.stack([np.zeros(384), np.ones(384)]))
    copy = path.with_name("copy.db")
    with SynaDB(path) as db, SynaDB(copy) as other:
        other.put_text("vec-store/config", db["vec-store/config"])
        for key in ("vec/zero", "vec/one"):
            other.put_vector(key, db[key])
    with VectorStore(copy, 384) as store:
        assert store.keys() == ["zero", "one"]
        assert np.array_equal(store.get("zero"), np.zeros(384))
        assert np.array_equal(store.get("one"), np.ones(384))


def test_what_is_too_large_is_refused_and_changes_nothing(path):
    with VectorStore(path, 2, sync_on_write=False, dtype="float16") as store:
        store.insert("ok", [65504.0, -65519.0])
        assert store.get("ok").tolist() == [65504.0, -65504.0]
        for bad in ([65520.0, 0.0], np.array([0.0, -1e300])):
            with pytest.raises(ArgumentError):
                store.insert("bad", bad)
        with pytest.raises(ArgumentError, match="too large for float16, expected at most 65504"):
            store.insert_batch(["a", "b"], [[1, 2], [3, 1e6]])
        assert store.keys() == ["ok"]
        with pytest.raises(ArgumentError, match="finite"):
            store.insert("nan", [np.nan, 1])


def test_the_file_remembers_dtype_and_quantization(path):
    with VectorStore(path, 4, dtype="bfloat16", quantization="none") as store:
        store.insert("a", np.ones(4))
    with pytest.raises(ArgumentError, match="kept as bfloat16, opened with float16"):
        VectorStore(path, 4, dtype="float16")
    with pytest.raises(ArgumentError, match="quantization is none, opened with int8"):
        VectorStore(path, 4, quantization="int8")
    with VectorStore(path, 4) as store:
        assert (store.stats().dtype, store.stats().quantization) == ("bfloat16", "none")
        with pytest.raises(ArgumentError, match="opened with binary"):
            VectorStore(path, 4, quantization="binary")
        store.delete("a")
        with VectorStore(path, 4, dtype="float32", quantization="binary") as again:  # it is empty
            assert (again.stats().dtype, again.stats().quantization) == ("float32", "binary")
    for wrong in ({"dtype": "float64"}, {"dtype": "int7"}, {"quantization": "int4"}, {"dtype": 3}):
        with pytest.raises((ArgumentError, TypeError)):
            VectorStore(path, 4, **wrong)


def test_a_reader_beside_the_writer_sees_halves(path, python):
    with VectorStore(path, 16, sync_on_write=False, dtype="float16") as store:
        store.insert_batch([str(i) for i in range(50)], clusters(50, 16))
        expected = store.get("7").tolist()
        told = python(
            """
            import sys
            from synadb import VectorStore
            with VectorStore(sys.argv[1], 16, read_only=True) as store:
                print(len(store), store.stats().dtype, store.get("7").tolist())
            """,
            path,
        )
    assert told.strip() == f"50 float16 {expected}"


def test_a_killed_writer_loses_nothing_acknowledged(path, python, tmp_path):
    done = python(
        """
        import os, signal, sys
        import numpy as np
        from synadb import VectorStore
        kept = {"dtype": "float16", "quantization": "binary"}
        store = VectorStore(sys.argv[1], 32, sync_on_write=False, **kept)
        for i in range(30):
            rows = np.full((100, 32), i + 0.1)
            store.insert_batch([f"{i}-{j}" for j in range(100)], rows)
        print(len(store), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    with VectorStore(path, 32) as store:
        assert len(store) == int(done.stdout) == 3000
        for i in range(30):
            assert np.array_equal(store.get(f"{i}-99"), np.full(32, np.float16(i + 0.1), "f4"))


# ---------------------------------------------------------------------------------------- codes


@pytest.mark.parametrize("metric", METRICS)
def test_without_codes_every_search_is_exact(path, metric):
    rows = clusters(3000, 24)
    query = clusters(1, 24, seed=5)[0]
    with VectorStore(path, 24, metric, sync_on_write=False, quantization="none") as store:
        store.insert_batch([str(i) for i in range(3000)], rows)
        assert store.stats().code_bytes == 0
        assert store.explain(query).plan == "scan"
        expected = np.argsort(distances(query, rows, metric), kind="stable")[:10]
        assert [int(hit.key) for hit in store.search(query)] == expected.tolist()
        store.absorb()
        with pytest.raises(ArgumentError, match="without codes there is no graph"):
            store.build_index()
        assert not store.has_index
    with VectorStore(path, 24, metric) as store:
        assert [int(hit.key) for hit in store.search(query)] == expected.tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_bits_find_what_exact_search_finds_with_its_scores(path, metric):
    rows, queries = curved(10500, 64), curved(50, 64, seed=2)
    with VectorStore(
        path, 64, metric, sync_on_write=False, quantization="binary", absorber=False
    ) as store:
        store.insert_batch([str(i) for i in range(10500)], rows)
        assert store.has_index
        assert store.stats().code_bytes == 64
        check_bits(store, queries)
    with VectorStore(path, 64, metric, sync_on_write=False) as store:
        assert store.has_index  # from the snapshot
        check_bits(store, queries)
        store.insert_batch([f"n{i}" for i in range(50)], queries)
        found = [hits[0].key for hits in store.search_batch(queries, k=1)]
        if metric != "dot_product":  # there a longer row may be nearer
            assert found == [f"n{i}" for i in range(50)]


def check_bits(store, queries):
    assert store.explain(queries[0]).plan == "graph"
    right = 0
    for found, true in zip(
        store.search_batch(queries, ef=1000), store.search_batch(queries, exact=True)
    ):
        scores = {hit.key: hit.score for hit in true}
        for hit in found:
            right += hit.key in scores
            assert hit.score == scores.get(hit.key, hit.score)
    assert right >= 0.9 * 10 * len(queries)


@pytest.mark.skipif("SYNADB_DATA" not in os.environ, reason="needs the real data (SYNADB_DATA)")
@pytest.mark.parametrize(
    "name, metric, rows", [("text384", "cosine", 12000), ("sift100k", "euclidean", 15000)]
)
def test_recall_of_bits_on_real_data(path, name, metric, rows):
    data = Path(os.environ["SYNADB_DATA"])
    base = np.load(data / f"{name}_base.npy", mmap_mode="r")[:rows].astype("f4")
    queries = np.load(data / f"{name}_query.npy")[:100].astype("f4")
    how = {"sync_on_write": False, "absorber": False, "dtype": "float16", "quantization": "binary"}
    with VectorStore(path, base.shape[1], metric, **how) as store:
        store.insert_batch([str(i) for i in range(rows)], base)
        exact = [{hit.key for hit in hits} for hits in store.search_batch(queries, exact=True)]

        def recall(**how):
            found = store.search_batch(queries, vectors=False, **how)
            return sum(hit.key in true for hits, true in zip(found, exact) for hit in hits) / 1000

        assert recall() >= 0.93
        assert recall(recall=0.95) >= 0.93  # measured on the store itself
        assert recall(ef=2000) >= 0.98
