"""What all vector components promise in the same words: scores, arguments, errors, files beside."""

import os
import signal
import sys

import numpy as np
import pytest
from vector_stores import keep, names, opened

from synadb import SynaError
from synadb.errors import ArgumentError, FilePermissionError, InvalidKeyError

TESTS = os.path.dirname(os.path.dirname(__file__))
KINDS = ("vector", "mmap", "gwi", "cascade", "hybrid")
METRICS = ("cosine", "euclidean", "dot_product")
LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


# ---------------------------------------------------------------------------------------- scores


def scores(metric, rows, query):
    """The seeds' definitions, in double precision."""
    rows, query = rows.astype(np.float64), query.astype(np.float64)
    if metric == "euclidean":
        return np.linalg.norm(rows - query, axis=1)
    if metric == "dot_product":
        return -(rows @ query)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(query)
    return 1 - (rows @ query) / np.where(lengths > 0, lengths, np.inf)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("dimensions", "count"), [(1, 1500), (2, 1500), (65535, 9)])
def test_the_fewest_and_the_most_dimensions(kind, path, metric, dimensions, count):
    rows = np.random.default_rng(dimensions).normal(size=(count, dimensions)).astype(np.float32)
    rows[1], rows[2], rows[4] = 0, rows[3], -rows[5]
    with opened(kind, path, dimensions, metric=metric) as store:
        store.insert_batch(names(count), rows)
        for moved in range(2 if kind == "hybrid" else 1):
            if moved:
                assert store.promote_to_cold() == count
            for query in rows[[0, 1, 2, 5]]:
                hits = store.search(query, k=8, exact=True)
                assert len({hit.key for hit in hits}) == 8
                expected = np.sort(scores(metric, rows, query))[:8]
                np.testing.assert_allclose([h.score for h in hits], expected, rtol=1e-4, atol=2e-5)
                for hit in hits:
                    np.testing.assert_array_equal(hit.vector, rows[int(hit.key)])
    with opened(kind, path, dimensions, metric=metric) as store:
        assert len(store) == count
        np.testing.assert_array_equal(store.get("5"), rows[5])


def test_sums_beyond_float32_saturate_and_vanish(kind, path):
    """Finite vectors whose squares are not: they stay, at the far end, and are never NaN."""
    rows = np.array([[3e38, 3e38], [1e-42, 1e-42], [1, 1], [-1, 1]], np.float32)
    with opened(kind, path, 2, metric="euclidean") as store:
        store.insert_batch(names(4), rows)
        hits = store.search([1, 1], k=None, exact=True)
        assert [hit.key for hit in hits] == ["2", "1", "3", "0"]
        assert hits[-1].score == np.float32(LARGEST)
        np.testing.assert_array_equal(store.get("0"), rows[0])
    with opened(kind, path + "2", 2, metric="cosine") as store:
        store.insert_batch(names(4), rows)
        near = {hit.key: hit.score for hit in store.search([1, 1], k=None, exact=True)}
        assert near["2"] == pytest.approx(0, abs=1e-6) and near["3"] == pytest.approx(1)
        assert near["1"] == 1  # as a zero vector
        assert near["0"] == np.float32(LARGEST)


def test_equal_rows_come_in_the_order_written(kind, path):
    with opened(kind, path, 3, metric="euclidean") as store:
        store.insert_batch(names(50), np.ones((50, 3)))
        store.insert("7", [1, 1, 1])  # written again: the last one now
        order = [str(i) for i in range(50) if i != 7] + ["7"]
        assert [hit.key for hit in store.search([1, 1, 1], k=None)] == order
        assert [hit.key for hit in store.search([1, 1, 1], k=5)] == order[:5]


# ------------------------------------------------------------------------------------- arguments


NUMBERS = [
    [1, 2, 3, 4],
    (1.0, 2, True + 2, 4),
    np.array([1, 2, 3, 4], "f2"),
    np.array([1, 2, 3, 4], ">f4"),
    np.array([1, 2, 3, 4], ">f8"),
    np.array([1, 2, 3, 4], ">i2"),
    np.array([1, 2, 3, 4], "u8"),
    np.longdouble([1, 2, 3, 4]),
    np.arange(1, 9, 2, dtype="f4")[::-1][::-1] / 2 + 0.5,
    np.array([4, 3, 2, 1], "f4")[::-1],
    np.array([1, 0, 2, 0, 3, 0, 4, 0], "f4")[::2],
    np.array([[1, 2], [3, 4]], "f4", order="C"),
    np.array([[1, 3], [2, 4]], "f4").T,
    memoryview(np.array([1, 2, 3, 4], "f4")),
    np.frombuffer(b"\0" + np.array([1, 2, 3, 4], "<f4").tobytes(), np.uint8)[1:].view("<f4"),
    np.ma.array([1, 2, 3, 4], mask=False),
]


def test_numbers_of_every_kind_are_taken(kind, path):
    with opened(kind, path, 4) as store:
        for n, given in enumerate(NUMBERS):
            store.insert(f"a{n}", given)
            np.testing.assert_array_equal(store.get(f"a{n}"), np.array([1, 2, 3, 4], np.float32))
            assert store.search(given, k=1)[0].key == "a0"


NO_VECTORS = [
    [1, 2, 3], [1, 2, 3, 4, 5], [], 1, [1, 2, np.nan, 4], [1, 2, -np.inf, 4], [1e39, 0, 0, 0],
    ["1", "2", "3", "4"], [1j, 0, 0, 0], None, [None] * 4, b"\0" * 16, "1234", [10**400, 1, 1, 1],
    np.array([1, 2, 3, 4], "M8[s]"), np.array([1, 2, 3, 4], object), {"a": 1},
    np.ma.array([1, 2, 3, 4], mask=[0, 1, 0, 0]),
]  # fmt: skip


def test_what_is_no_vector_is_refused_and_changes_nothing(kind, path):
    with opened(kind, path, 4) as store:
        store.insert("a", [1, 2, 3, 4])
        for bad in NO_VECTORS:
            one = bad[None] if isinstance(bad, np.ma.MaskedArray) else [bad]
            for call, what in (
                (store.insert, ("a", bad)),
                (store.insert, ("b", bad)),
                (store.insert_batch, (["b"], one)),
                (store.search, (bad,)),
                (store.search_batch, (one,)),
            ):
                with pytest.raises((ValueError, TypeError)):
                    call(*what)
            assert store.keys() == ["a"], bad
            np.testing.assert_array_equal(store.get("a"), np.array([1, 2, 3, 4], np.float32))


def test_limits_of_a_search(kind, path):
    with opened(kind, path, 4) as store:
        store.insert_batch(names(20), np.random.default_rng(2).normal(size=(20, 4)))
        query = np.ones(4)
        for k, found in ((1, 1), (20, 20), (21, 20), (2**70, 20), (None, 20), (np.uint8(3), 3)):
            assert len(store.search(query, k)) == found
            assert [len(hits) for hits in store.search_batch([query] * 2, k)] == [found] * 2
        for k in (0, -1, -(2**70)):
            with pytest.raises(ArgumentError, match=f"k is {k}"):
                store.search(query, k)
            with pytest.raises(ArgumentError, match=f"k is {k}"):
                store.search_batch([query], k)
        for k in (1.5, "3", [1]):
            with pytest.raises(TypeError):
                store.search(query, k)
        for recall in (0, -0.1, 1.0001, np.nan, np.inf):
            with pytest.raises(ArgumentError, match=f"recall is {recall}"):
                store.search(query, recall=recall)
        with pytest.raises(TypeError):
            store.search(query, recall="high")
        with pytest.raises(ArgumentError, match="radius"):
            store.search(query, radius=np.nan)
        assert len(store.search(query, None, radius=np.inf)) == 20
        assert len(store.search(query, None, radius=-np.inf)) == 0
        assert store.search_batch(np.empty((0, 4)), 3) == [] == store.search_batch([], 3)
        assert store.insert_batch([], []) == 0


def test_a_radius_is_a_limit_and_k_another(kind, path):
    rows = np.random.default_rng(4).normal(size=(1500, 6)).astype(np.float32)
    with opened(kind, path, 6, metric="euclidean") as store:
        store.insert_batch(names(1500), rows)
        for radius in (0, 0.5, 0.9, 1.3):
            inside = {str(i) for i in np.flatnonzero(scores("euclidean", rows, rows[3]) <= radius)}
            assert {hit.key for hit in store.search(rows[3], None, radius=radius)} == inside
            assert len(store.search(rows[3], 2, radius=radius)) == min(2, len(inside))
            assert all(hit.score <= radius for hit in store.search(rows[3], 9, radius=radius))


def test_any_text_is_a_key(kind, path):
    keys = ["x", " ", "..", "a/b", "%s%n", "a\nb", "\U0001f980" * 9, "é" * 32765]
    with opened(kind, path, 2, metric="euclidean") as store:
        for n, key in enumerate(keys):
            store.insert(key, [n, 2])
    with opened(kind, path, 2, metric="euclidean") as store:
        assert store.keys() == keys
        for n, key in enumerate(keys):
            assert key in store and store.search([n, 2])[0].key == key
            store.delete(key)
            assert key not in store and store.get(key) is None
        assert len(store) == 0


def test_what_is_no_key_is_refused_by_every_call(kind, path):
    with opened(kind, path, 2) as store:
        store.insert("a", [1, 2])
        for key in ("", "a\0b", "\ud800", "x" * 65531, "x" * 70000):
            with pytest.raises(InvalidKeyError):
                store.insert(key, [3, 4])
            with pytest.raises(InvalidKeyError):
                store.insert_batch(["a", key], [[5, 6], [3, 4]])
            if len(key) == 65531:  # that one can stand in a log, as no vector's
                continue
            for call in (store.get, store.delete, store.contains):
                with pytest.raises(InvalidKeyError):
                    call(key)
        np.testing.assert_array_equal(store.get("a"), np.array([1, 2], np.float32))
        assert store.keys() == ["a"]
        for other in (b"a", 1, None):
            with pytest.raises(TypeError):
                store.insert(other, [1, 2])
            with pytest.raises(TypeError):
                store.get(other)


# ---------------------------------------------------------------------------- files and processes


def test_other_dimensions_or_another_metric_are_refused(kind, path):
    options = {"dimensions": 8, "metric": "cosine"}
    with opened(kind, path, **options) as store:
        store.insert("a", np.ones(8))
    for other in ({"dimensions": 9}, {"metric": "euclidean"}):
        for read_only in (False, True):
            with pytest.raises(ValueError):
                opened(kind, path, **{**options, **other}, read_only=read_only)
    with opened(kind, path, **options) as store:
        assert store.search(np.ones(8))[0].key == "a"


def test_bad_constructor_arguments_create_nothing(kind, path, tmp_path):
    for bad in (
        {"dimensions": 0}, {"dimensions": -1}, {"dimensions": 65536}, {"dimensions": 8.0},
        {"dimensions": "8"}, {"metric": "l2"}, {"metric": 0}, {"metric": None},
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            opened(kind, path, **{"dimensions": 8, **bad})
        assert list(tmp_path.iterdir()) == []


def test_a_reader_of_nothing_creates_nothing(kind, path, tmp_path):
    with pytest.raises(FileNotFoundError):
        opened(kind, path, 8, read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_second_process_may_read_and_not_write(kind, path, python):
    code = f"""
        import sys
        sys.path.insert(0, {TESTS!r})
        from synadb.errors import LockedError
        from vector_stores import opened
        try:
            opened({kind!r}, {path!r}, 2)
        except LockedError:
            print("locked")
        with opened({kind!r}, {path!r}, 2, read_only=True) as store:
            print(sorted(store.keys()), store.search([1, 2], 1)[0].key)
    """
    with opened(kind, path, 2) as store:
        store.insert_batch(["a", "b"], [[1, 2], [2, 1]])
        keep(store)
        assert python(code) == "locked\n['a', 'b'] a\n"
        store.insert("c", [1, 1])  # the lock is still ours
        assert len(store) == 3


def as_nobody(call):
    """Run in a child that has no rights over our files, since root has all; its exit status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        call()
        os._exit(0)
    except BaseException as error:
        print(error, file=sys.stderr)
    os._exit(1)


def test_a_folder_that_cannot_be_written_can_be_read(kind, tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    with opened(kind, folder / "s", 8) as store:
        store.insert_batch(names(2000), np.random.default_rng(1).normal(size=(2000, 8)))
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    above = [parent for parent in folder.parents if os.stat(parent).st_uid == os.getuid()]
    before = [(parent, parent.stat().st_mode) for parent in above if str(parent) != "/"]
    for parent, mode in before:
        parent.chmod(mode | 0o111)
    files = sorted(folder.iterdir())

    def look():
        with opened(kind, folder / "s", 8, read_only=True) as store:
            assert len(store) == 2000 and len(store.search(np.ones(8), 5)) == 5
            store.refresh()
        for name in ("s", "new"):
            with pytest.raises(FilePermissionError):
                opened(kind, folder / name, 8)

    try:
        assert as_nobody(look) == 0
        assert sorted(folder.iterdir()) == files
    finally:
        folder.chmod(0o755)
        for parent, mode in before:
            parent.chmod(mode)


SUFFIXES = {
    "vector": [".hnsw"], "mmap": [".hnsw"], "gwi": [".wells"], "cascade": [".index"],
    "hybrid": [".hot.wells", ".cold.index"],
}  # fmt: skip


def test_rows_become_durable_where_the_index_cannot_be_saved(kind, path, python):
    """What is derived has no room beside the rows: a folder stands in its place."""
    code = f"""
        import os, sys
        import numpy as np
        sys.path.insert(0, {TESTS!r})
        from vector_stores import opened, names
        with opened({kind!r}, {path!r}, 8) as store:
            store.insert_batch(names(3000), np.random.default_rng(3).normal(size=(3000, 8)))
            if hasattr(store, "promote_to_cold"):
                assert store.promote_to_cold() == 3000
            if hasattr(store, "build_index"):
                store.build_index()
            store.insert("late", np.ones(8))
            for name in ("checkpoint", "flush", "flush_hot"):
                if hasattr(store, name):
                    getattr(store, name)()
            os._exit(0)
    """
    for suffix in SUFFIXES[kind]:
        os.makedirs(path + suffix + "/in the way")
    python(code)
    with opened(kind, path, 8) as store:
        assert len(store) == 3001
        assert store.search(np.ones(8), 1)[0].key == "late"
        store.delete("late")
    with opened(kind, path, 8) as store:  # closing was no error either
        assert len(store) == 3000 and len(store.search(np.ones(8), 5)) == 5


# ----------------------------------------------------------------------------------------- signals

LONG_CALLS = {
    "vector": lambda store: store.build_index(),
    "mmap": lambda store: store.build_index(),
    "gwi": lambda store: store.train(),
}


@pytest.mark.parametrize("kind", LONG_CALLS)
def test_a_signal_ends_a_long_call_and_keeps_the_rows(kind, path):
    rows = np.random.default_rng(6).normal(size=(9000, 64)).astype(np.float32)
    options = {"sync_on_write": False, "absorber": False} if kind == "vector" else {}
    with opened(kind, path, 64, **options) as store:
        store.insert_batch(names(9000), rows)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                for _ in range(500):
                    LONG_CALLS[kind](store)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(store) == 9000
        assert store.search(rows[77], k=1)[0].key == "77"
        LONG_CALLS[kind](store)  # and it can be done again
        assert store.search(rows[77], k=1)[0].key == "77"


def test_every_error_is_one_of_ours(kind, path):
    """One except clause is enough for what a store refuses."""
    with opened(kind, path, 2) as store:
        store.insert("a", [1, 2])
        for call in (
            lambda: store.insert("b", [1]),
            lambda: store.insert("b", [np.nan, 1]),
            lambda: store.insert("", [1, 2]),
            lambda: store.insert_batch(["a"], np.eye(2)),
            lambda: store.search([1, 2], 0),
            lambda: store.search([np.inf, 2]),
        ):
            with pytest.raises(SynaError):
                call()
