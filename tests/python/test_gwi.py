"""GravityWellIndex: what searches find and what they look at, what survives, what is refused."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synadb import (
    ArgumentError,
    CancelledError,
    ClosedError,
    CorruptionError,
    ForkedError,
    GravityWellIndex,
    LockedError,
    MmapVectorStore,
    NotInitializedError,
    ReadOnlyError,
    SynaError,
    TypeMismatchError,
    WrongKindError,
)

METRICS = ["cosine", "euclidean", "dot_product"]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "vectors.gwi"


def opened(path, dims, **options):
    """An index that takes vectors: where it was given nothing yet, it gets a sample of one row."""
    gwi = GravityWellIndex(path, dims, **options)
    if not gwi.initialized:
        gwi.initialize(np.random.default_rng(0).normal(size=(1, dims)))
    return gwi


def distances(metric, query, rows):
    query, rows = query.astype(np.float64), rows.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((rows - query) ** 2).sum(1))
    dots = rows @ query
    if metric == "dot_product":
        return -dots
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return 1 - np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)


def nearest(metric, query, rows, k=10):
    return set(np.argsort(distances(metric, query, rows), kind="stable")[:k].tolist())


def found(hits):
    return {int(hit.key) for hit in hits}


def mean_recall(index, queries, rows, metric="cosine", k=10, **how):
    """Share of the true nearest found; rows at the same distance as the k-th are as good."""
    a, b = queries.astype(np.float64), rows.astype(np.float64)
    far = -(a @ b.T)
    if metric == "cosine":
        far /= np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    elif metric == "euclidean":
        far = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] + 2 * far
    limits = np.partition(far, k - 1, axis=1)[:, k - 1] + 1e-6
    lists = index.search_batch(queries, k, vectors=False, **how)
    right = [
        sum(far[q, int(hit.key)] <= limits[q] for hit in hits) / k for q, hits in enumerate(lists)
    ]
    return float(np.mean(right))


def clustered(count, dims, clusters, seed, spread=0.35):
    """Rows around centres, cluster by cluster in order."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, dims))
    which = np.sort(rng.integers(clusters, size=count))
    rows = centres[which] + spread * rng.normal(size=(count, dims))
    return rows.astype(np.float32)


def texts(count, first=0):
    return [str(i) for i in range(first, first + count)]


# ------------------------------------------------------------------------- as the seeds have it


def test_the_seeds_example(file):
    rng = np.random.default_rng(1)
    gwi = GravityWellIndex(file, dimensions=96)
    gwi.initialize(rng.standard_normal((1000, 96)).astype(np.float32))
    assert gwi.initialized and gwi.num_clusters > 1 and len(gwi) == 0
    keys = [f"doc_{i}" for i in range(6000)]
    rows = rng.standard_normal((6000, 96)).astype(np.float32)
    gwi.insert("first", rows[0])
    assert gwi.insert_batch(keys, rows) == 6000
    assert len(gwi) == 6001
    results = gwi.search(rows[42], k=10, nprobe=50)
    assert len(results) == 10 and results[0].key == "doc_42"
    assert abs(results[0].score) < 1e-6
    assert [r.score for r in results] == sorted(r.score for r in results)
    np.testing.assert_array_equal(gwi.get("doc_7"), rows[7])
    assert gwi.get("missing") is None
    gwi.save()
    gwi.close()
    with GravityWellIndex(file, dimensions=96) as again:
        assert len(again) == 6001
        assert again.search(rows[42], 10)[0].key == "doc_42"


def test_isotropic_rows_are_found_at_nprobe_50_and_all_of_them_at_100(file):
    """Fault 16 of the ancestor: 0.15 to 0.18 on such data, and fewer than k results."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((9000, 64)).astype(np.float32)
    queries = rng.standard_normal((100, 64)).astype(np.float32)
    with GravityWellIndex(file, 64) as gwi:
        gwi.initialize(rng.standard_normal((1000, 64)))
        gwi.insert_batch(texts(9000), rows)
        assert mean_recall(gwi, queries, rows, nprobe=50) >= 0.98
        assert mean_recall(gwi, queries, rows, nprobe=100) >= 0.999
        assert all(len(hits) == 10 for hits in gwi.search_batch(queries, 10, nprobe=1))


@pytest.mark.parametrize("metric", METRICS)
def test_grouped_rows_are_found_while_most_of_the_index_is_left_alone(file, metric):
    rows = clustered(20000, 48, 300, 3)
    rng = np.random.default_rng(4)
    queries = (rows[rng.integers(20000, size=100)] + 0.2 * rng.normal(size=(100, 48))).astype(
        np.float32
    )
    with opened(file, 48, metric=metric) as gwi:
        gwi.insert_batch(texts(20000), rows)
        assert mean_recall(gwi, queries, rows, metric, nprobe=50) >= 0.98
        assert mean_recall(gwi, queries, rows, metric, nprobe=100) >= 0.999
        fifty = [gwi.explain(q, nprobe=50) for q in queries]
        five = [gwi.explain(q, nprobe=5) for q in queries]
        share = np.mean([plan.share for plan in fifty])
        assert share <= 0.25 and np.mean([plan.share for plan in five]) < share / 2
        assert fifty[0].recall >= 0.98 and not fifty[0].exact


def test_rows_that_come_cluster_after_cluster_are_found_as_well(file):
    """Drift: what the wells were trained from is long past."""
    rows = clustered(24000, 32, 240, 5)
    rng = np.random.default_rng(6)
    queries = (rows[rng.integers(24000, size=100)] + 0.1 * rng.normal(size=(100, 32))).astype(
        np.float32
    )
    with GravityWellIndex(file, 32) as gwi:
        gwi.initialize(rows[:500])
        for first in range(0, 24000, 600):
            gwi.insert_batch(texts(600, first), rows[first : first + 600])
        assert mean_recall(gwi, queries, rows, nprobe=50) >= 0.98
        assert mean_recall(gwi, queries, rows, nprobe=100) >= 0.999
        assert np.mean([gwi.explain(q).share for q in queries]) <= 0.25
        assert gwi.stats().splits > 0 or gwi.stats().trained_rows > 0


def test_recall_is_what_was_asked_for(file):
    rows = clustered(20000, 32, 2000, 7, spread=0.8)
    rng = np.random.default_rng(8)
    queries = (rows[rng.integers(20000, size=200)] + 0.3 * rng.normal(size=(200, 32))).astype(
        np.float32
    )
    with opened(file, 32) as gwi:
        gwi.insert_batch(texts(20000), rows)
        plans = [gwi.explain(queries[0], recall=r) for r in (0.8, 0.9, 0.95, 0.99)]
        assert [p.probed for p in plans] == sorted(p.probed for p in plans)
        for wanted in (0.9, 0.95, 0.99):
            assert mean_recall(gwi, queries, rows, recall=wanted) >= wanted - 0.02
        assert gwi.explain(queries[0], recall=1.0).exact
        assert mean_recall(gwi, queries, rows, recall=1.0) == 1.0


def test_more_probes_look_at_more(file):
    rows = clustered(12000, 16, 500, 9)
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(12000), rows)
        probed = [gwi.explain(rows[5], nprobe=n).probed for n in range(1, 300, 7)]
        assert probed == sorted(probed) and probed[0] < probed[-1]
        everything = gwi.explain(rows[5], nprobe=gwi.num_clusters)
        assert everything.exact and everything.probed == gwi.num_clusters


@pytest.mark.parametrize("metric", METRICS)
def test_exact_searches_are_those_of_the_mapped_store(tmp_path, metric):
    rows = clustered(7000, 24, 50, 10)
    rows[100] = rows[50]  # of equal scores the earlier row comes first
    rows[60] = 0
    with (
        opened(tmp_path / "a.gwi", 24, metric=metric) as gwi,
        MmapVectorStore(tmp_path / "b.mmap", 24, metric=metric) as exact,
    ):
        gwi.insert_batch(texts(7000), rows)
        exact.insert_batch(texts(7000), rows)
        for q in rows[:60:7]:
            want = exact.search(q, 20)
            assert gwi.search(q, 20, exact=True) == want
            assert gwi.search(q, 20, gwi.num_clusters) == want
            near = exact.search(q, None, radius=want[5].score)
            assert gwi.search(q, None, radius=want[5].score) == near
        assert [h.key for h in gwi.search(rows[50], 2, exact=True)] == ["50", "100"]
        assert len(gwi.search(rows[0], None)) == 7000


# ----------------------------------------------------------------------------- rows come and go


def test_a_key_that_is_inserted_again_is_returned_once_with_its_last_vector(file):
    rows = clustered(6000, 16, 40, 11)
    with opened(file, 16) as gwi:
        assert gwi.insert_batch(texts(6000), rows) == 6000
        assert gwi.insert_batch(texts(3000), rows[3000:]) == 0
        assert len(gwi) == 6000
        hits = gwi.search(rows[3000], 50, exact=True)
        assert len({h.key for h in hits}) == 50
        np.testing.assert_array_equal(gwi.get("0"), rows[3000])
        assert gwi.insert_batch(["x", "y", "x"], rows[:3]) == 2
        np.testing.assert_array_equal(gwi.get("x"), rows[2])


def test_every_row_is_found_as_soon_as_it_is_stored(file):
    rng = np.random.default_rng(12)
    rows = rng.normal(size=(5000, 8)).astype(np.float32)
    with opened(file, 8) as gwi:
        for i, row in enumerate(rows):
            gwi.insert(str(i), row)
            if i % 97 == 0 or 4090 < i < 4100:
                assert gwi.search(row, 1, nprobe=1)[0].key == str(i)
        assert gwi.stats().fresh_rows < 64


def test_deleted_rows_are_not_found_and_k_are_still_returned(file):
    rows = clustered(8000, 16, 20, 13)
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(8000), rows)
        near = [h.key for h in gwi.search(rows[7], 500, exact=True)]
        for key in near:
            gwi.delete(key)
        gwi.delete("never there")
        assert len(gwi) == 7500 and near[0] not in gwi and gwi.get(near[0]) is None
        hits = gwi.search(rows[7], 10, nprobe=1)
        assert len(hits) == 10 and not {h.key for h in hits} & set(near)
        for key in gwi.keys():
            gwi.delete(key)
        assert gwi.search(rows[0]) == [] and len(gwi) == 0
        gwi.insert("back", rows[0])
        assert [h.key for h in gwi.search(rows[0])] == ["back"]


def test_initialising_an_index_with_rows_keeps_them(file):
    """Fault 16: re-initialising a filled index hid its content."""
    rows = clustered(5000, 16, 30, 14)
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(5000), rows)
        gwi.initialize(np.random.default_rng(0).normal(size=(300, 16)))
        assert len(gwi) == 5000
        assert mean_recall(gwi, rows[:50], rows, nprobe=50) >= 0.98


def test_lists_do_not_depend_on_how_rows_came_or_on_threads(tmp_path):
    rows = clustered(9000, 16, 60, 15)
    plans = []
    for name, threads in (("a", "1"), ("b", "2")):
        os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[: int(threads)]))
        try:
            with opened(tmp_path / name, 16) as gwi:
                gwi.insert_batch(texts(9000), rows)
                plans.append([gwi.explain(q, nprobe=20) for q in rows[:200]])
        finally:
            os.sched_setaffinity(0, range(os.cpu_count()))
    assert plans[0] == plans[1]


def test_branching_and_levels_bound_the_wells(file):
    rows = clustered(8000, 8, 50, 16)
    with opened(file, 8, branching_factor=4, num_levels=3) as gwi:
        gwi.insert_batch(texts(8000), rows)
        assert gwi.num_clusters == 64
        assert (gwi.branching_factor, gwi.num_levels) == (4, 3)
        assert mean_recall(gwi, rows[:50], rows, nprobe=50) >= 0.98
    with GravityWellIndex(file.with_name("other"), 8) as gwi:
        assert (gwi.branching_factor, gwi.num_levels, gwi.num_clusters) == (16, 3, 0)
        assert not gwi.initialized


OPERATIONS = st.lists(
    st.tuples(st.sampled_from("iidbsocrt"), st.integers(0, 14), st.integers(-3, 3)), max_size=40
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OPERATIONS, st.sampled_from([1, 40]))
def test_it_behaves_as_a_dict_does(tmp_path_factory, operations, sample):
    file = tmp_path_factory.mktemp("model") / "m.gwi"
    gwi, model = GravityWellIndex(file, 3, metric="euclidean"), {}
    gwi.initialize(np.random.default_rng(0).normal(size=(sample, 3)))
    for what, n, x in operations:
        key, row = f"k{n}", np.array([x, n % 4, 1], np.float32)
        if what == "i":
            gwi.insert(key, row)
            model[key] = row
        elif what == "d":
            gwi.delete(key)
            model.pop(key, None)
        elif what == "b":
            block = np.tile(row, (90, 1)) + np.arange(90, dtype=np.float32)[:, None]
            gwi.insert_batch([f"{key}/{i % 80}" for i in range(90)], block)
            model.update({f"{key}/{i % 80}": block[i] for i in range(90)})
        elif what == "s":
            gwi.save()
        elif what == "o":
            gwi.close()
            gwi = GravityWellIndex(file, 3, metric="euclidean")
        elif what == "c":
            gwi.compact()
        elif what == "t":
            gwi.train()
        else:
            hits = gwi.search(row, 5)
            scores = sorted(float(np.linalg.norm(v - row)) for v in model.values())[:5]
            np.testing.assert_allclose([h.score for h in hits], scores, atol=1e-5)
    assert sorted(gwi.keys()) == sorted(model) and len(gwi) == len(model)
    for key, row in model.items():
        np.testing.assert_array_equal(gwi.get(key), row)
    assert {h.key for h in gwi.search(np.zeros(3), None)} == set(model)
    gwi.close()


# ------------------------------------------------------------------------------------- metadata


def tagged(gwi, rows):
    facts = [{"n": i, "lang": "en" if i % 10 else "fr", "rare": True} if i % 1000 == 0
             else {"n": i, "lang": "en" if i % 10 else "fr"} for i in range(len(rows))]  # fmt: skip
    gwi.insert_batch(texts(len(rows)), rows, facts)


@pytest.mark.parametrize(
    ("condition", "admits"),
    [
        ({"lang": "fr"}, lambda i: i % 10 == 0),
        ({"lang": {"$ne": "fr"}}, lambda i: i % 10 != 0),
        ({"rare": True}, lambda i: i % 1000 == 0),
        ({"n": {"$lt": 4}}, lambda i: i < 4),
        ({"$and": [{"n": {"$gte": 500}}, {"lang": "en"}]}, lambda i: i >= 500 and i % 10 != 0),
        ({"n": {"$in": []}}, lambda i: False),
    ],
)
def test_a_filtered_search_returns_k_of_the_matches_and_nothing_else(file, condition, admits):
    rows = clustered(9000, 16, 90, 17)
    with opened(file, 16) as gwi:
        tagged(gwi, rows)
        matching = np.array([i for i in range(9000) if admits(i)], int)
        right = total = 0
        for query in rows[3:9000:450]:
            hits = gwi.search(query, 10, filter=condition)
            assert len(hits) == min(10, len(matching)) and found(hits) <= set(matching.tolist())
            best = {int(matching[i]) for i in nearest("cosine", query, rows[matching])}
            right, total = right + len(best & found(hits)), total + len(best)
            assert found(gwi.search(query, 10, filter=condition, exact=True)) == best
            assert gwi.explain(query, filter=condition).matches == len(matching)
        assert right >= 0.97 * total


def test_metadata_belongs_to_its_row_and_survives(file):
    with opened(file, 2) as gwi:
        gwi.insert("a", [1, 2], {"who": "é", "deep": {"list": [1, 2]}})
        gwi.insert_batch(["b", "c"], np.eye(2), [None, {}])
        gwi.insert("d", [1, 1], {"x": 1})
        gwi.insert("d", [1, 1])
        gwi.delete("c")
        gwi.save()
    for compacted in (False, True):
        with opened(file, 2) as gwi:
            assert gwi.get_metadata("a") == {"who": "é", "deep": {"list": [1, 2]}}
            assert [gwi.get_metadata(k) for k in "bcd"] == [None, None, None]
            hits = gwi.search([1, 2], filter={"deep.list": 2})
            assert [(h.key, h.metadata) for h in hits] == [("a", gwi.get_metadata("a"))]
            assert gwi.search([1, 2], metadata=False)[0].metadata is None
            assert gwi.search([1, 2], filter={"x": 1}) == []
            if not compacted:
                gwi.compact()


@pytest.mark.parametrize("bad", [{"x": float("nan")}, {"x": {1, 2}}, [1], "text"])
def test_metadata_that_is_no_json_object_stores_nothing(file, bad):
    with opened(file, 2) as gwi:
        with pytest.raises((ValueError, TypeError)):
            gwi.insert_batch(["a", "b"], np.eye(2), [None, bad])
        with pytest.raises(ValueError):
            gwi.insert_batch(["a", "b"], np.eye(2), [None])
        with pytest.raises((ArgumentError, TypeError)):
            gwi.search([1, 2], filter={"x": {"$nonsense": 1}})
        assert len(gwi) == 0


# ------------------------------------------------------------------------------- what survives


def test_what_was_saved_survives_a_kill(file, python):
    """Fault 16: a kill after flush left an empty index."""
    script = """
        import os, signal, sys
        import numpy as np
        from synadb import GravityWellIndex
        rng = np.random.default_rng(0)
        gwi = GravityWellIndex(sys.argv[1], 16)
        gwi.initialize(rng.normal(size=(500, 16)))
        rows, facts = rng.normal(size=(5000, 16)), [{"n": i} for i in range(5000)]
        gwi.insert_batch([str(i) for i in range(5000)], rows, facts)
        gwi.save()
        gwi.insert_batch([f"late{i}" for i in range(300)], rng.normal(size=(300, 16)))
        gwi.delete("0")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    assert python(script, file, check=False).returncode == -signal.SIGKILL
    with GravityWellIndex(file, 16) as gwi:
        assert gwi.verify().ok
        assert len(gwi) >= 4999 and all(str(i) in gwi for i in range(1, 5000))
        assert gwi.get_metadata("77") == {"n": 77}
        row = gwi.get("4321")
        assert gwi.search(row, 1)[0].key == "4321"


def test_kills_at_any_moment_leave_a_whole_index(file):
    """Batches of 100 rows each; after every save its number is printed."""
    script = textwrap.dedent("""
        import sys
        import numpy as np
        from synadb import GravityWellIndex
        gwi = GravityWellIndex(sys.argv[1], 8)
        if not gwi.initialized:
            gwi.initialize(np.eye(8))
        batch = len(gwi) // 100
        print(batch, flush=True)
        for batch in range(batch, batch + 1000):
            rows = np.random.default_rng(batch).normal(size=(100, 8))
            gwi.insert_batch([f"{batch}/{i}" for i in range(100)], rows)
            if batch % 3 == 0:
                gwi.save()
                print(batch + 1, flush=True)
            if batch % 25 == 0:
                gwi.compact()
    """)
    saved = 0
    for moment in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", script, file], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2 + 3 * moment):
            saved = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        saved = int(rest[-1]) if rest else saved
        process.wait()
        with opened(file, 8) as gwi:
            count = len(gwi)
            assert count % 100 == 0 and count >= 100 * saved
            assert gwi.verify().ok
            for batch in range(0, count // 100, 7):
                rows = np.random.default_rng(batch).normal(size=(100, 8)).astype(np.float32)
                np.testing.assert_array_equal(gwi.get(f"{batch}/50"), rows[50])
                assert gwi.search(rows[3], 1, nprobe=100)[0].key == f"{batch}/3"


def spoil(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(bytes(data))


def test_lists_that_are_lost_damaged_or_of_another_file_are_made_anew(tmp_path):
    rows = clustered(5000, 16, 30, 18)
    file, lists = tmp_path / "a.gwi", tmp_path / "a.gwi.wells"
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(5000), rows)
        want = gwi.search_batch(rows[:20], 10)
        wells = gwi.num_clusters
    good = lists.read_bytes()
    with opened(tmp_path / "b.gwi", 16) as other:
        other.insert_batch(texts(5000), rows[::-1])
    rng = np.random.default_rng(0)
    spoils = [lambda: lists.unlink(), lambda: lists.write_bytes(b""),
              lambda: lists.write_bytes(good[: len(good) // 2]),
              lambda: lists.write_bytes((tmp_path / "b.gwi.wells").read_bytes())]  # fmt: skip
    spoils += [lambda at=int(at): spoil(lists, at) for at in rng.integers(len(good), size=12)]
    for spoiled in spoils:
        lists.write_bytes(good)
        spoiled()
        with opened(file, 16) as gwi:
            assert gwi.num_clusters == wells
            assert gwi.search_batch(rows[:20], 10) == want


def test_a_damaged_block_is_reported_and_stops_writes(file):
    rows = np.random.default_rng(19).normal(size=(3000, 64)).astype(np.float32)
    with opened(file, 64) as gwi:
        gwi.insert_batch(texts(3000), rows)
    at = file.read_bytes().index(rows[1500].tobytes()) + 10
    spoil(file, at)
    with opened(file, 64) as gwi:
        assert gwi.verify().damaged > 0
        with pytest.raises(CorruptionError):
            gwi.get("1500")
        with pytest.raises(ReadOnlyError):
            gwi.insert("new", rows[0])


def test_a_reader_sees_what_was_saved_and_newer_ones_after_refresh(file):
    rows = clustered(6000, 16, 30, 20)
    with opened(file, 16) as writer:
        writer.insert_batch(texts(3000), rows[:3000], [{"n": i} for i in range(3000)])
        writer.save()
        with GravityWellIndex(file, 16, read_only=True) as reader:
            writer.insert_batch(texts(3000, 3000), rows[3000:])
            writer.insert("0", rows[5], {"n": -1})
            assert len(reader) == 3000 and not reader.refresh()
            with pytest.raises(ReadOnlyError):
                reader.insert("x", rows[0])
            with pytest.raises(ReadOnlyError):
                reader.save()
            writer.save()
            assert reader.refresh() and len(reader) == 6000
            assert reader.search(rows[4000], 1)[0].key == "4000"
            assert reader.get_metadata("0") == {"n": -1}
            assert [h.key for h in reader.search(rows[5], filter={"n": 0})] == []
            writer.compact()
            assert reader.refresh() and len(reader) == 6000
            assert reader.search(rows[4000], 1)[0].key == "4000"
            assert reader.get_metadata("0") == {"n": -1}


def test_one_process_writes(file, python):
    with opened(file, 4) as gwi:
        gwi.insert("a", np.ones(4))
        done = python(
            """
            import sys
            from synadb import GravityWellIndex
            GravityWellIndex(sys.argv[1], 4)
            """,
            file,
            check=False,
        )
        assert done.returncode != 0 and LockedError.__name__ in done.stderr


def test_a_forked_child_searches_and_does_not_write(file):
    rows = clustered(2000, 8, 10, 21)
    with opened(file, 8) as gwi:
        gwi.insert_batch(texts(2000), rows)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ok = gwi.search(rows[9], 1)[0].key == "9"
                try:
                    gwi.insert("x", rows[0])
                except ForkedError:
                    status = 0 if ok else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        gwi.insert("x", rows[0])


def test_compaction_gives_back_the_room_and_changes_no_answer(file):
    rows = clustered(6000, 16, 30, 22)
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(6000), rows, [{"n": i} for i in range(6000)])
        gwi.insert_batch(texts(2000), rows[:2000], [{"n": -i} for i in range(2000)])
        for i in range(2000, 3000):
            gwi.delete(str(i))
        want = gwi.search_batch(rows[:50], 10, exact=True)
        before = gwi.stats()
        calls = []
        gwi.compact(progress=lambda done, total: calls.append((done, total)))
        after = gwi.stats()
        assert before.dead_rows == 3000 and after.dead_rows == 0
        assert after.generation == before.generation + 1 and after.uuid == before.uuid
        assert {(h.key, h.score) for hits in want for h in hits} == {
            (h.key, h.score) for hits in gwi.search_batch(rows[:50], 10, exact=True) for h in hits
        }
        assert gwi.get_metadata("1999") == {"n": -1999} and gwi.get_metadata("5000") == {"n": 5000}
        assert calls


# ------------------------------------------------------------------------------------ refusals


def test_vectors_that_cannot_be_stored_store_nothing(file):
    with GravityWellIndex(file, 2) as gwi:
        for sample in (np.empty((0, 2)), [[np.nan, 0]], np.eye(3)):
            with pytest.raises(ValueError):
                gwi.initialize(sample)
        assert not gwi.initialized
        gwi.initialize([[1, 2]])
        for bad in ([1, np.nan], [np.inf, 0], [1, 2, 3], [1e300, 0]):
            with pytest.raises(ValueError):
                gwi.insert("a", bad)
            with pytest.raises(ValueError):
                gwi.search(bad)
        with pytest.raises(ValueError, match="row 1, key b: element 0"):
            gwi.insert_batch(["a", "b"], [[1, 2], [np.nan, 1]])
        for keys in (["", "b"], ["a", "x" * 70000], ["a", "nul\0"]):
            with pytest.raises(SynaError):
                gwi.insert_batch(keys, np.eye(2))
        with pytest.raises(ValueError):
            gwi.insert_batch(["a"], np.eye(2))
        with pytest.raises(TypeError):
            gwi.insert_batch("ab", np.eye(2))
        assert len(gwi) == 0


@pytest.mark.parametrize(
    "how",
    [{"k": 0}, {"k": -1}, {"nprobe": 0}, {"recall": 0.0}, {"recall": 1.5}, {"recall": np.nan},
     {"radius": np.nan}],
)  # fmt: skip
def test_searches_that_make_no_sense_are_refused(file, how):
    with opened(file, 2) as gwi:
        gwi.insert("a", [1, 2])
        with pytest.raises(ValueError):
            gwi.search([1, 2], **how)


@pytest.mark.parametrize(
    "arguments",
    [{"dimensions": 0}, {"dimensions": 65536}, {"metric": "manhattan"}, {"branching_factor": 1},
     {"num_levels": 0}, {"num_levels": 9}, {"initial_capacity": -1}],
)  # fmt: skip
def test_constructor_arguments_out_of_range_are_refused(file, arguments):
    with pytest.raises(ValueError):
        GravityWellIndex(file, **{"dimensions": 4, **arguments})
    assert not file.exists()


def test_other_dimensions_or_another_metric_are_refused_once_there_are_rows(file):
    """Fault 16: other dimensions on reopening gave empty answers."""
    with GravityWellIndex(file, 8) as gwi:
        gwi.initialize(np.random.default_rng(0).normal(size=(50, 8)))
        assert gwi.initialized
    with GravityWellIndex(file, 4, metric="euclidean") as gwi:
        assert not gwi.initialized
        gwi.initialize(np.ones((1, 4)))
        gwi.insert("a", np.ones(4))
    for dims, metric in ((8, "euclidean"), (4, "cosine")):
        with pytest.raises(ValueError, match="opened with"):
            GravityWellIndex(file, dims, metric=metric)
    with GravityWellIndex(file, 4, metric="euclidean") as gwi:
        assert len(gwi) == 1
        gwi.delete("a")
    with GravityWellIndex(file, 5) as gwi:
        with pytest.raises(NotInitializedError):
            gwi.insert("b", np.ones(5))
        gwi.initialize(np.ones((1, 5)))
        gwi.insert("b", np.ones(5))
        assert gwi.keys() == ["b"]


def test_files_of_another_kind_are_refused_and_left_alone(tmp_path):
    with MmapVectorStore(tmp_path / "m", 4) as other:
        other.insert("a", np.ones(4))
    before = (tmp_path / "m").read_bytes()
    with pytest.raises(WrongKindError):
        GravityWellIndex(tmp_path / "m", 4)
    assert (tmp_path / "m").read_bytes() == before
    (tmp_path / "t").write_text("some text, no index " * 1000)
    with pytest.raises(SynaError):
        GravityWellIndex(tmp_path / "t", 4)
    with pytest.raises((SynaError, TypeMismatchError)):
        GravityWellIndex(tmp_path, 4)


def test_an_initialised_index_remembers_it(file):
    with GravityWellIndex(file, 8) as gwi:
        gwi.initialize(np.random.default_rng(0).normal(size=(200, 8)))
        wells = gwi.num_clusters
    with GravityWellIndex(file, 8) as gwi:
        assert gwi.initialized and gwi.num_clusters == wells


def test_vectors_before_a_sample_are_refused_and_change_nothing(file):
    with GravityWellIndex(file, 4) as gwi:
        before = file.read_bytes()
        for kind in (NotInitializedError, RuntimeError):
            with pytest.raises(kind, match=r"vectors\.gwi: .*call initialize before"):
                gwi.insert("a", np.ones(4), {"n": 1})
            with pytest.raises(kind):
                gwi.insert_batch(["a", "b"], np.ones((2, 4)))
        assert file.read_bytes() == before and sorted(os.listdir(file.parent)) == [file.name]
        gwi.delete("a")
        assert gwi.search(np.ones(4)) == [] and len(gwi) == 0 and gwi.get("a") is None
        assert gwi.keys() == [] and not gwi.initialized and gwi.stats().unsaved_rows == 0
        with pytest.raises(ValueError, match="3"):
            gwi.insert("a", np.ones(3))  # what is wrong with the call itself is told first
        gwi.initialize(np.eye(4))
        gwi.insert("a", np.ones(4))
        assert gwi.insert_batch(["a", "b"], np.ones((2, 4))) == 1 and len(gwi) == 2
    with GravityWellIndex(file, 4) as gwi:
        gwi.delete("a")
        gwi.delete("b")
        gwi.compact()
    with GravityWellIndex(file, 4) as gwi:  # a sample once is a sample for good
        gwi.insert("c", np.ones(4))
        assert gwi.keys() == ["c"]


@pytest.mark.parametrize("end", ["close", "save"])
def test_an_empty_index_that_had_its_sample_takes_vectors_when_reopened(file, python, end):
    script = """
        import os, sys
        import numpy as np
        from synadb import GravityWellIndex
        gwi = GravityWellIndex(sys.argv[1], 4)
        gwi.initialize(np.eye(4))
        getattr(gwi, sys.argv[2])()
        os._exit(0)
    """
    python(script, file, end)
    with GravityWellIndex(file, 4) as gwi:
        assert gwi.initialized and len(gwi) == 0
        gwi.insert("a", np.ones(4))
        assert gwi.insert_batch(["b", "c"], np.eye(4)[:2]) == 2


def test_a_reader_is_told_that_it_reads_and_not_to_initialise(file):
    GravityWellIndex(file, 4).close()
    with GravityWellIndex(file, 4, read_only=True) as reader, pytest.raises(ReadOnlyError):
        reader.insert("a", np.ones(4))


def test_a_training_can_be_stopped_and_leaves_the_wells(file):
    rows = clustered(5000, 16, 30, 23)
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(5000), rows)
        want = [gwi.explain(q) for q in rows[:20]]

        def stop(done, total):
            raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            gwi.train(progress=stop)
        with pytest.raises((CancelledError, RuntimeError)):
            gwi.initialize(rows[:100], progress=stop)
        assert [gwi.explain(q) for q in rows[:20]] == want
        seen = []
        gwi.train(progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (5000, 5000) and all(0 <= d <= t for d, t in seen)
        with pytest.raises(ArgumentError, match="progress callback"):
            gwi.train(progress=lambda done, total: gwi.close())


def test_calls_after_close_raise_and_closing_twice_is_fine(file):
    gwi = GravityWellIndex(file, 2)
    assert "0 x 2" in repr(gwi)
    gwi.close()
    gwi.close()
    assert gwi.closed and "closed" in repr(gwi)
    for call in (lambda: len(gwi), lambda: gwi.search([1, 2]), lambda: gwi.insert("a", [1, 2]),
                 gwi.save, gwi.keys, gwi.compact):  # fmt: skip
        with pytest.raises(ClosedError):
            call()


def test_searches_run_beside_inserts_and_trainings(file):
    rows = clustered(12000, 16, 60, 24)
    wrong, stop = [], threading.Event()
    with opened(file, 16) as gwi:
        gwi.insert_batch(texts(2000), rows[:2000])

        def look():
            while not stop.is_set():
                hits = gwi.search(rows[77], 3, nprobe=50)
                if hits[0].key != "77" or len({h.key for h in hits}) != 3:
                    wrong.append(hits)

        threads = [threading.Thread(target=look) for _ in range(2)]
        for t in threads:
            t.start()
        for first in range(2000, 12000, 500):
            gwi.insert_batch(texts(500, first), rows[first : first + 500])
        gwi.compact()
        gwi.save()
        stop.set()
        for t in threads:
            t.join()
        assert not wrong and len(gwi) == 12000


def test_wide_and_narrow_vectors(tmp_path):
    rng = np.random.default_rng(25)
    for dims in (1, 63, 65, 4096):
        rows = rng.normal(size=(1200 if dims < 100 else 1100, dims)).astype(np.float32)
        with opened(tmp_path / f"{dims}.gwi", dims, metric="euclidean") as gwi:
            gwi.insert_batch(texts(len(rows)), rows)
            assert gwi.search(rows[17], 1)[0].key == "17"
    with opened(tmp_path / "widest.gwi", 65535) as gwi:
        gwi.initialize(rng.normal(size=(4, 65535)))
        gwi.insert_batch(["a", "b"], rng.normal(size=(2, 65535)))
        assert gwi.search(gwi.get("b"), 1)[0].key == "b"
    # Not room for the 100,000 rows that nobody promised.
    assert (tmp_path / "widest.gwi").stat().st_size < 80 << 20


def test_rows_all_alike_and_all_zero(file):
    with opened(file, 4) as gwi:
        gwi.insert_batch(texts(6000), np.ones((6000, 4)))
        assert [h.key for h in gwi.search(np.ones(4), 3)] == ["0", "1", "2"]
        gwi.insert_batch(texts(3000), np.zeros((3000, 4)))
        assert gwi.search(np.zeros(4), 5)[0].score == 1.0
        assert len(gwi.search(np.ones(4), 4000)) == 4000


def test_stats_and_json_shapes(file):
    with opened(file, 2) as gwi:
        gwi.insert("a", [1, 2])
        stats = gwi.stats()
        assert (stats.rows, stats.dead_rows, stats.fresh_rows, stats.wells) == (1, 0, 1, 1)
        assert stats.metric == "cosine" and len(stats.uuid) == 32
        assert json.dumps(stats.__dict__)
        plan = gwi.explain([1, 2])
        assert (plan.total, plan.matches, plan.rows_scored, plan.exact) == (1, 1, 1, True)
        assert gwi.search([1, 2], vectors=False)[0].vector is None
        np.testing.assert_array_equal(gwi.search([1, 2])[0].vector, [1, 2])
