"""`MmapVectorStore`: a dict in a mapped file that finds the nearest, durable by checkpoint."""

import os
import signal
import struct
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

import synadb
from synadb import (
    ArgumentError,
    ClosedError,
    CorruptionError,
    FormatVersionError,
    InvalidKeyError,
    InvalidPathError,
    LockedError,
    MmapSearchResult,
    MmapVectorStore,
    ReadOnlyError,
    SearchResult,
    SynaDB,
    WrongKindError,
)
from synadb.mmap import MmapStats

METRICS = ["cosine", "euclidean", "dot_product"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "test.mmap"


@pytest.fixture
def store(path):
    with MmapVectorStore(path, 4, metric="euclidean") as store:
        yield store


def crc_step(crc):
    for _ in range(8):
        crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


CRC_TABLE = [crc_step(byte) for byte in range(256)]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def rows_of(store):
    return {key: tuple(store.get(key)) for key in store.keys()}


# ------------------------------------------------------------------------------------ the contract


def test_the_seeds_example(tmp_path):
    """README of the first seed: insert_batch, build_index, search, checkpoint, close."""
    store = MmapVectorStore(str(tmp_path / "vectors.mmap"), dimensions=768, initial_capacity=1000)
    vectors = np.random.default_rng(1).normal(size=(500, 768)).astype(np.float32)
    assert store.insert_batch([f"doc{i}" for i in range(500)], vectors) == 500
    store.build_index()
    results = store.search(vectors[42], k=10)
    assert results[0].key == "doc42" and len(results) == 10
    assert results[0].score == pytest.approx(0, abs=1e-6)
    store.checkpoint()
    store.close()


def test_every_stored_vector_is_found(tmp_path):
    """The ancestor found 30 to 46 per cent of them."""
    for count in (50, 500, 2000):
        rows = np.random.default_rng(count).normal(size=(count, 16)).astype(np.float32)
        with MmapVectorStore(tmp_path / f"{count}.mmap", 16) as store:
            store.insert_batch([str(i) for i in range(count)], rows)
            found = store.search_batch(rows, k=1, vectors=False)
            assert [hits[0].key for hits in found] == [str(i) for i in range(count)]


@pytest.mark.parametrize("metric", METRICS)
def test_searches_agree_with_numpy(tmp_path, metric):
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(300, 33)).astype(np.float32)
    query = rng.normal(size=33).astype(np.float32)
    a, q = rows.astype(float), query.astype(float)
    expected = {
        "cosine": 1 - a @ q / np.linalg.norm(a, axis=1) / np.linalg.norm(q),
        "euclidean": np.linalg.norm(a - q, axis=1),
        "dot_product": -(a @ q),
    }[metric]
    for reopened in (False, True):
        with MmapVectorStore(tmp_path / "m.mmap", 33, metric=metric) as store:
            if not reopened:
                store.insert_batch([str(i) for i in range(300)], rows)
            hits = store.search(query, k=20)
            order = np.argsort(expected)[:20]
            assert [int(h.key) for h in hits] == list(order)
            np.testing.assert_allclose([h.score for h in hits], expected[order], atol=1e-5)
            assert (hits[0].vector == rows[order[0]]).all()
            near = store.search(query, k=None, radius=float(hits[4].score), vectors=False)
            assert [h.key for h in near] == [h.key for h in hits[:5]]
            assert near[0].vector is None
            assert len(store.search(query, k=None)) == 300
            assert store.metric == metric and store.dimensions == 33


def test_a_key_is_replaced_deleted_and_listed_in_the_order_written(store):
    store.insert("a", [1, 0, 0, 0])
    store.insert("b", [2, 0, 0, 0])
    store.insert("a", [3, 0, 0, 0])
    assert store.keys() == ["b", "a"] and len(store) == 2
    assert tuple(store.get("a")) == (3, 0, 0, 0)
    assert store.insert_batch(["b", "c", "c"], np.eye(3, 4)) == 1
    assert store.keys() == ["a", "b", "c"] and tuple(store.get("c")) == (0, 0, 1, 0)
    store.delete("a")
    store.delete("a")
    assert store.get("a") is None and "a" not in store and store.contains("b")
    assert store.get("a", view=True) is None
    assert [h.key for h in store.search([0, 0, 1, 0])] == ["c", "b"]
    assert store.insert_batch([], []) == 0
    assert store.insert_batch([], np.zeros((0, 4))) == 0


def test_what_was_written_is_there_after_closing(path):
    with MmapVectorStore(path, 2) as store:
        store.insert('é\n"', [1, 2])
        uuid = store.stats().uuid
    with MmapVectorStore(path, 2) as store:
        assert store.keys() == ['é\n"'] and store.stats().uuid == uuid
        assert store.verify().ok and store.verify().frames == 1


def test_capacity_is_a_hint(tmp_path):
    rows = np.random.default_rng(2).normal(size=(20000, 8)).astype(np.float32)
    with MmapVectorStore(tmp_path / "small.mmap", 8, 0) as store:
        store.insert_batch([str(i) for i in range(20000)], rows)
        assert len(store) == 20000 and (store.get("19999") == rows[-1]).all()
    with MmapVectorStore(tmp_path / "large.mmap", 8, initial_capacity=50000) as store:
        store.insert("a", rows[0])
        assert store.stats().capacity >= 50000


def test_stats_and_repr(store, path):
    store.insert("a", [1, 2, 3, 4])
    store.insert("a", [1, 2, 3, 5])
    stats = store.stats()
    assert isinstance(stats, MmapStats)
    assert (stats.rows, stats.dead_rows, stats.unsaved_rows, stats.dimensions) == (1, 1, 2, 4)
    assert stats.metric == "euclidean" and stats.generation == 1 and len(stats.uuid) == 32
    store.flush()
    assert store.stats().unsaved_rows == 0
    assert store.stats().file_bytes == path.stat().st_size
    assert repr(store) == f"<MmapVectorStore {str(path)!r}, 1 x 4, euclidean>"
    store.close()
    assert repr(store).endswith(", closed>") and store.closed
    store.close()


def test_results_are_the_ones_of_all_stores():
    assert MmapSearchResult is SearchResult
    assert "MmapVectorStore" in synadb.__all__


# -------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("bad", [0, -1, 65536, 2**40])
def test_bad_dimensions(path, bad):
    with pytest.raises(ValueError):
        MmapVectorStore(path, bad)
    assert not path.exists()


def test_bad_arguments_of_the_constructor(path):
    for arguments in ({"metric": "manhattan"}, {"initial_capacity": -1}):
        with pytest.raises(ArgumentError):
            MmapVectorStore(path, 4, **arguments)
    for arguments in ({"initial_capacity": 1.5}, {"dimensions": "4"}):
        with pytest.raises(TypeError):
            MmapVectorStore(path, **arguments)
    assert not path.exists()


def test_bad_paths(tmp_path):
    for bad in ("", tmp_path, tmp_path / "no" / "folder" / "x"):
        with pytest.raises(InvalidPathError):
            MmapVectorStore(bad, 4)
    with pytest.raises(FileNotFoundError):
        MmapVectorStore(tmp_path / "none", 4, read_only=True)
    with pytest.raises(TypeError):
        MmapVectorStore(5, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_nothing_stored(store, bad):
    store.insert("a", [1, 2, 3, 4])
    with pytest.raises(ValueError):
        store.insert("b", [1, bad, 3, 4])
    rows = np.ones((3, 4))
    rows[2, 1] = bad
    with pytest.raises(ArgumentError, match="row 2, key d"):
        store.insert_batch(["b", "c", "d"], rows)
    with pytest.raises(ValueError):
        store.search([bad, 0, 0, 0])
    assert rows_of(store) == {"a": (1, 2, 3, 4)}


def test_wrong_shapes_and_types(store):
    with pytest.raises(ValueError):
        store.insert("a", [1, 2, 3])
    with pytest.raises(ValueError):
        store.insert_batch(["a"], np.ones((1, 5)))
    with pytest.raises(ValueError):
        store.insert_batch(["a", "b"], np.ones((1, 4)))
    with pytest.raises(ValueError):
        store.search([1, 2])
    with pytest.raises(ValueError):
        store.search([1, 2, 3, 4], k=0)
    with pytest.raises(ValueError):
        store.search([1, 2, 3, 4], radius=float("nan"))
    with pytest.raises(TypeError):
        store.insert("a", ["x", "y", "z", "w"])
    with pytest.raises(TypeError):
        store.insert_batch("abc", np.ones((3, 4)))
    with pytest.raises(TypeError):
        store.insert(5, [1, 2, 3, 4])
    with pytest.raises(TypeError):
        store.search([1, 2, 3, 4], k=1.5)
    assert len(store) == 0


@pytest.mark.parametrize("key", ["", "x" * 65531, "a\0b", "\ud800"])
def test_bad_keys(store, key):
    with pytest.raises((InvalidKeyError, ArgumentError)):
        store.insert(key, [1, 2, 3, 4])
    with pytest.raises((InvalidKeyError, ArgumentError)):
        store.insert_batch(["ok", key], np.ones((2, 4)))
    assert len(store) == 0


def test_a_key_of_the_greatest_length_survives_reopening(path):
    """The ancestor could not open the file again after a key of 70,000 bytes."""
    with MmapVectorStore(path, 1) as store:
        store.insert("k" * 65530, [1])
    with MmapVectorStore(path, 1) as store:
        assert store.keys() == ["k" * 65530]


def test_dimensions_and_metric_are_fixed_by_the_first_row(path):
    MmapVectorStore(path, 4).close()
    with MmapVectorStore(path, 3, metric="euclidean") as store:
        with pytest.raises(ValueError, match="dimensions"):
            MmapVectorStore(path, 4, read_only=True)
        store.insert("a", [1, 2, 3])
        for dims, metric in ((4, "euclidean"), (3, "cosine")):
            with pytest.raises(ValueError):
                MmapVectorStore(path, dims, metric=metric)
    for dims, metric in ((4, "euclidean"), (3, "cosine")):
        with pytest.raises(ValueError):
            MmapVectorStore(path, dims, metric=metric)
    with MmapVectorStore(path, 3, metric="euclidean") as store:
        store.delete("a")
    with MmapVectorStore(path, 5, metric="cosine") as store:
        store.insert("a", [1, 2, 3, 4, 5])


def test_closed_stores_say_so(path):
    store = MmapVectorStore(path, 4)
    store.close()
    for call in (
        lambda: store.insert("a", [1, 2, 3, 4]),
        lambda: store.search([1, 2, 3, 4]),
        lambda: store.get("a"),
        lambda: store.get("a", view=True),
        lambda: len(store),
        store.keys, store.checkpoint, store.compact, store.refresh, store.stats, store.build_index,
    ):  # fmt: skip
        with pytest.raises(ClosedError):
            call()


def test_foreign_and_damaged_files_are_refused_and_left_alone(tmp_path):
    log = tmp_path / "log.db"
    SynaDB(log).close()
    foreign = {
        "text": b"hello world\n" * 500,
        "zip": b"PK\3\4" + bytes(5000),
        "ancestor": b"CEVM" + struct.pack("<IHB", 1, 4, 0) + bytes(100),
        "log": log.read_bytes(),
        "empty": b"",
        "zeros": bytes(70000),
    }
    for name, content in foreign.items():
        file = tmp_path / name
        file.write_bytes(content)
        for read_only in (False, True):
            with pytest.raises(WrongKindError):
                MmapVectorStore(file, 4, read_only=read_only)
        assert file.read_bytes() == content
    mine = tmp_path / "mine.mmap"
    with MmapVectorStore(mine, 4) as store:
        store.insert("a", [1, 2, 3, 4])
    with pytest.raises(WrongKindError):
        SynaDB(mine)
    good = mine.read_bytes()
    for changed, error in (
        (bytes(16) + good[16:], WrongKindError),
        (good[:60] + b"\xff" + good[61:], CorruptionError),
        (good[:4096] + bytes(8192) + good[12288:], CorruptionError),
        (good[:65536], CorruptionError),
        (good[:-1], CorruptionError),
        (good[:65536] + b"\1" + good[65537:], CorruptionError),
    ):
        mine.write_bytes(changed)
        with pytest.raises(error) as caught:
            MmapVectorStore(mine, 4)
        assert caught.value.path == str(mine) and caught.value.offset is not None
        assert mine.read_bytes() == changed


def test_a_file_of_a_later_release_is_refused(path):
    with MmapVectorStore(path, 4) as store:
        store.insert("a", [1, 2, 3, 4])
    content = bytearray(path.read_bytes())
    content[16:18] = struct.pack("<H", 2)
    content[124:128] = struct.pack("<I", crc32c(content[:124]))
    path.write_bytes(content)
    with pytest.raises(FormatVersionError):
        MmapVectorStore(path, 4)


def test_damage_in_a_row_is_reported_and_ends_the_writing(path):
    rows = np.random.default_rng(3).normal(size=(5000, 4)).astype(np.float32)
    with MmapVectorStore(path, 4) as store:
        store.insert_batch([str(i) for i in range(5000)], rows)
    with open(path, "r+b") as file:
        file.seek(65536 + 100)
        file.write(b"\xaa")
    with MmapVectorStore(path, 4) as store:
        report = store.verify()
        assert not report.ok and report.findings[0].offset == 65536
        assert (store.get("4000") == rows[4000]).all()
        with pytest.raises(CorruptionError) as caught:
            store.search(rows[0])
        assert caught.value.offset == 65536
        with pytest.raises(CorruptionError):
            store.get("0")
        with pytest.raises(ReadOnlyError):
            store.insert("x", rows[0])


# ------------------------------------------------------------------------------------------ views


def test_a_view_shows_the_row_without_a_copy(path):
    with MmapVectorStore(path, 4) as store:
        store.insert_batch(["a", "b"], np.arange(8).reshape(2, 4))
        a, b = store.get("a", view=True), store.get("b", view=True)
        assert a.dtype == np.float32 and a.shape == (4,) and not a.flags.owndata
        assert b.ctypes.data - a.ctypes.data == 64  # as they stand in the file
        with pytest.raises(ValueError):
            a[0] = 5
        with pytest.raises(ValueError):
            a.flags.writeable = True
        store.insert("a", [9, 9, 9, 9])
        assert (a == [0, 1, 2, 3]).all()
        store.compact()
        assert (b == [4, 5, 6, 7]).all() and (store.get("a", view=True) == 9).all()
    assert (a == [0, 1, 2, 3]).all() and (b == [4, 5, 6, 7]).all()


def test_a_view_alone_keeps_the_mapping(path):
    def make():
        with MmapVectorStore(path, 1000) as store:
            store.insert("a", np.arange(1000))
            return store.get("a", view=True)

    row = make()
    path.unlink()
    assert (row == np.arange(1000)).all()


# -------------------------------------------------------------------------------------- processes

WRITER = """
    import sys, numpy as np
    from synadb import MmapVectorStore
    store = MmapVectorStore(sys.argv[1], 8, metric="euclidean")
    n = len(store)
    while True:
        rows = np.full((20, 8), n, np.float32)
        store.insert_batch([f"k{(n + i) % 100}" for i in range(20)], rows)
        n += 1
        if n % 7 == 0:
            store.checkpoint()
            print(n, flush=True)
        if n % 50 == 0:
            store.compact()
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_P1_kill_9_loses_nothing_that_a_checkpoint_covers(path):
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "little"))
    for _ in range(6):
        writer = start(WRITER, path)
        said = [writer.stdout.readline()]
        time.sleep(rng.uniform(0, 0.15))
        writer.kill()
        said += writer.stdout.readlines()
        writer.wait()
        durable = int([line for line in said if line.endswith("\n")][-1])
        with MmapVectorStore(path, 8, metric="euclidean") as store:
            assert store.verify().ok
            values = sorted({store.get(key)[0] for key in store.keys()}, reverse=True)
            newest = int(values[0])
            assert newest >= durable - 1
            # A whole batch: the newest value is that of twenty keys.
            assert sum(store.get(key)[0] == newest for key in store.keys()) == 20
        path.unlink()


def test_P9_P10_one_writer_and_readers_that_refresh(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        MmapVectorStore(path, 8, metric="euclidean", read_only=True)
    writer = start(WRITER, path)
    try:
        first = int(writer.stdout.readline())
        with pytest.raises(LockedError):
            MmapVectorStore(path, 8, metric="euclidean")
        with MmapVectorStore(path, 8, metric="euclidean", read_only=True) as reader:
            newest, seen = first, 0
            deadline = time.monotonic() + 60
            while seen < 30 and time.monotonic() < deadline:
                if reader.refresh():
                    seen += 1
                    hits = reader.search_batch(np.full((1, 8), 1e6), k=20)[0]
                    values = {float(h.vector[0]) for h in hits}
                    assert len(values) == 1 and len(hits) == 20
                    assert values.pop() >= newest - 1
                    newest = max(newest, int(hits[0].vector[0]))
            assert seen == 30
            with pytest.raises(ReadOnlyError):
                reader.insert("x", np.zeros(8))
            with pytest.raises(ReadOnlyError):
                reader.checkpoint()
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_two_objects_share_one_store(path, tmp_path):
    with MmapVectorStore(path, 2) as one, MmapVectorStore(str(path), 2) as two:
        os.symlink(path, tmp_path / "other")
        with MmapVectorStore(tmp_path / "other", 2) as three:
            one.insert("a", [1, 2])
            assert two.keys() == three.keys() == ["a"]
        one.close()
        two.insert("b", [1, 2])
    with MmapVectorStore(path, 2) as store:
        assert store.keys() == ["a", "b"]


def test_P11_a_forked_child_searches_and_cannot_write(path, python):
    print_ = python(
        """
        import os, sys
        from synadb import ForkedError, LockedError, MmapVectorStore
        store = MmapVectorStore(sys.argv[1], 2)
        store.insert("a", [1, 2])
        store.checkpoint()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            assert store.search([1, 2])[0].key == "a"
            with MmapVectorStore(sys.argv[1], 2, read_only=True) as reader:
                assert reader.keys() == ["a"]
            try:
                MmapVectorStore(sys.argv[1], 2)
            except LockedError:
                pass
            try:
                store.insert("b", [1, 2])
            except ForkedError:
                store.close()
                os._exit(7)
            os._exit(8)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        pid = os.fork()
        if pid == 0:
            os.read(read_end, 1)  # until the parent has closed
            with MmapVectorStore(sys.argv[1], 2) as mine:  # one of its own
                mine.insert("d", [1, 2])
            store.close()
            os._exit(0)
        store.insert("c", [1, 2])
        store.close()
        os.write(write_end, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        print(MmapVectorStore(sys.argv[1], 2, read_only=True).keys())
        """,
        path,
    )
    assert print_ == "['a', 'c', 'd']\n"


def test_an_unclosed_store_is_closed_at_exit(path, python):
    python(
        """
        import sys
        from synadb import MmapVectorStore
        store = MmapVectorStore(sys.argv[1], 2)
        store.insert("a", [1, 2])
        """,
        path,
    )
    with MmapVectorStore(path, 2) as store:
        assert store.keys() == ["a"]


def test_a_forgotten_store_warns(path):
    store = MmapVectorStore(path, 2)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del store


# ---------------------------------------------------------------------------- limits and progress


def test_a_full_disk_is_an_error_and_changes_nothing(path, python):
    said = python(
        """
        import resource, signal, sys
        import numpy as np
        from synadb import MmapVectorStore, SynaIOError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = MmapVectorStore(sys.argv[1], 64, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
        n = 0
        try:
            while True:
                rows = np.full((500, 64), n, np.float32)
                store.insert_batch([f"{n}-{i}" for i in range(500)], rows)
                n += 1
        except SynaIOError as error:
            print(error.reason.name)
        assert len(store) == 500 * n > 5000, (len(store), n)
        store.checkpoint()
        store.close()
        print(len(MmapVectorStore(sys.argv[1], 64, read_only=True)) == 500 * n)
        """,
        path,
    )
    assert said == "NO_SPACE\nTrue\n"


def test_compaction_tells_how_far_it_is_and_can_be_stopped(path):
    rows = np.zeros((20000, 64), np.float32)
    calls = []
    with MmapVectorStore(path, 64) as store:
        store.insert_batch([str(i) for i in range(20000)], rows)
        store.insert_batch([str(i) for i in range(10000)], rows[:10000])
        store.compact(progress=lambda done, total: calls.append((done, total)))
        assert calls and calls[-1][1] == 20000 and store.stats().dead_rows == 0

        def stop(done, total):
            raise KeyboardInterrupt

        store.delete("5")
        with pytest.raises(KeyboardInterrupt):
            store.compact(progress=stop)
        assert store.stats().dead_rows == 1 and len(store) == 19999

        def again(done, total):
            store.checkpoint()

        with pytest.raises(ArgumentError, match="callback"):
            store.compact(progress=again)
        with pytest.raises(ArgumentError, match="callback"):
            store.compact(progress=lambda done, total: store.close())
        store.build_index(progress=True)
        with pytest.raises(TypeError):
            store.compact(progress=5)
        assert store.verify(progress=lambda done, total: None).ok


def test_P12_threads_insert_search_and_checkpoint(path):
    errors = []

    def guard(work):
        def run():
            try:
                work()
            except BaseException as error:  # shown by the assertion below
                errors.append(error)

        return threading.Thread(target=run)

    with MmapVectorStore(path, 4, metric="euclidean") as store:
        done = threading.Event()

        def write():
            for i in range(150):
                store.insert_batch([f"{j}" for j in range(10)], np.full((10, 4), i))
                if i % 40 == 0:
                    store.checkpoint()
                if i % 70 == 0:
                    store.compact()

        def read():
            while not done.is_set():
                hits = store.search([1e4] * 4, k=10)
                assert len({float(h.vector[0]) for h in hits}) <= 1
                row = store.get("3", view=True)
                assert row is None or row[0] == row[3]

        writers = [guard(write)]
        readers = [guard(read) for _ in range(3)]
        for thread in writers + readers:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        assert errors == []
        assert len(store) == 10 and store.get("0")[0] == 149


# -------------------------------------------------------------------------------------- the model

KEYS = st.sampled_from([f"k{i}" for i in range(8)])
VALUES = st.integers(-50, 50)


class Machine(RuleBasedStateMachine):
    """The store against a dict; a crash takes it back to what the last checkpoint covered."""

    @initialize()
    def begin(self):
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "m.mmap")
        self.rows, self.saved = {}, {}
        self.open()

    def open(self):
        self.store = MmapVectorStore(self.path, 3, 1, metric="euclidean")

    def put(self, key, x):
        self.rows.pop(key, None)
        self.rows[key] = (x, x + 1, 2)

    @rule(key=KEYS, x=VALUES)
    def insert(self, key, x):
        self.store.insert(key, [x, x + 1, 2])
        self.put(key, x)

    @rule(items=st.lists(st.tuples(KEYS, VALUES), max_size=12))
    def batch(self, items):
        new = len({key for key, _ in items} - set(self.rows))
        rows = [[x, x + 1, 2] for _, x in items]
        assert self.store.insert_batch([key for key, _ in items], rows) == new
        for key, x in items:
            self.put(key, x)

    @rule(key=KEYS)
    def delete(self, key):
        self.store.delete(key)
        self.rows.pop(key, None)

    @rule()
    def checkpoint(self):
        self.store.checkpoint()
        self.saved = dict(self.rows)

    @rule()
    def compact(self):
        self.store.compact()
        self.saved = dict(self.rows)

    @rule()
    def reopen(self):
        self.store.close()
        self.saved = dict(self.rows)
        self.open()

    @rule()
    def crash(self):
        """What kill -9 leaves is the file as it is: copy it, and go on with the copy."""
        import shutil

        copy = os.path.join(self.folder.name, f"m{os.urandom(4).hex()}.mmap")
        shutil.copyfile(self.path, copy)
        self.store.close()
        self.path, self.rows = copy, dict(self.saved)
        self.open()

    @rule(x=VALUES, k=st.integers(1, 10))
    def search(self, x, k):
        hits = self.store.search([x, x + 1, 2], k=k)
        keys = list(self.rows)
        near = sorted((abs(self.rows[key][0] - x), keys.index(key), key) for key in self.rows)
        assert [hit.key for hit in hits] == [key for _, _, key in near[:k]]

    @invariant()
    def same(self):
        if hasattr(self, "store"):
            assert self.store.keys() == list(self.rows)
            for key in ("k0", "k7"):
                row = self.store.get(key)
                assert (None if row is None else tuple(row)) == self.rows.get(key)

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            assert synadb.mmap._mmap.verify(self.path, None).ok
            self.folder.cleanup()


TestModel = Machine.TestCase
TestModel.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def test_a_signal_during_compaction_stops_it(path):
    rows = np.zeros((60000, 256), np.float32)
    with MmapVectorStore(path, 256) as store:
        store.insert_batch([str(i) for i in range(60000)], rows)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.005)
                for _ in range(200):
                    store.compact()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(store) == 60000


# ----------------------------------------------------------------------------- the page of formats


class Reader:
    """A second reader of row files, written from csrc/FORMATS.md alone."""

    def __init__(self, data):
        assert data[:16] == b"\x89SYNADB\n" + b"\xff" * 7 + b"\x1a"
        assert struct.unpack_from("<HHI", data, 16) == (1, 0, 2)
        assert struct.unpack_from("<I", data, 124)[0] == crc32c(data[:124])
        self.data, self.uuid = data, data[24:40]
        copies = [data[at : at + 2048] for at in range(4096, 12288, 2048)]
        crcs = [struct.unpack("<I", copy[2044:])[0] for copy in copies]
        good = [c for c, crc in zip(copies, crcs) if crc == crc32c(self.uuid + c[:2044])]
        slot = max(good, key=lambda c: struct.unpack_from("<Q", c)[0])
        self.sequence, self.rows, self.record_bytes, self.last = struct.unpack_from("<4Q", slot)
        self.row_bytes, component, *self.tails = struct.unpack_from("<I4sII", slot, 32)
        segments, config_len = struct.unpack_from("<II", slot, 48)
        assert component == b"MMAP" and config_len == 8
        self.dimensions, self.metric = struct.unpack_from("<II", slot, 56)
        table = [struct.unpack_from("<III", slot, 312 + 12 * i) for i in range(segments)]
        self.row_stream = self.stream(table, 0, self.rows * self.row_bytes)
        self.record_stream = self.stream(table, 1, self.record_bytes)

    def stream(self, table, kind, length):
        """The bytes of a stream, every block checked."""
        found, unit = b"", 65536
        for segment, place, units in table:
            blocks = units - -(-units // 16385)
            for i in range(blocks if segment == kind else 0):
                block = self.data[(place + i) * unit : (place + i + 1) * unit]
                block = block[: length - len(found)]
                crc = struct.unpack_from("<I", self.data, (place + blocks) * unit + 4 * i)[0]
                if len(block) < unit:
                    crc = self.tails[kind] if block else None
                assert crc is None or crc == crc32c(block)
                found += block
        assert len(found) == length
        return found

    def vectors(self):
        rows, at, live, last = [], 0, {}, 0
        while at < self.record_bytes:
            record = struct.unpack_from("<QIIfIHH", self.record_stream, at)
            sequence, row, replaces, length, meta_len, key_len, kind = record
            key = self.record_stream[at + 28 : at + 28 + key_len].decode()
            at += (28 + key_len + meta_len + 3) // 4 * 4
            assert sequence > last
            last = sequence
            if replaces != 0xFFFFFFFF:
                assert live.pop(key)[0] == replaces
            if kind == 1:
                assert row == len(rows)
                start = row * self.row_bytes
                vector = np.frombuffer(self.row_stream, np.float32, self.dimensions, start)
                assert length == pytest.approx(np.linalg.norm(vector), rel=1e-6)
                rows.append(vector)
                live[key] = (row, vector)
        assert len(rows) == self.rows and last == self.last
        return {key: vector for key, (_, vector) in live.items()}


def test_a_reader_written_from_the_page_of_formats_sees_the_same(path):
    rng = np.random.default_rng(4)
    with MmapVectorStore(path, 100, 0, metric="dot_product") as store:
        for i in range(3):
            rows = rng.normal(size=(90, 100)).astype(np.float32)
            store.insert_batch([f"k{n}" for n in range(i * 40, i * 40 + 90)], rows)
            store.delete(f"k{i}")
            store.checkpoint()
        expected = {key: store.get(key) for key in store.keys()}
    reader = Reader(path.read_bytes())
    assert (reader.dimensions, reader.metric, reader.sequence) == (100, 2, 4)
    assert reader.row_bytes == 448 and reader.rows == 270
    found = reader.vectors()
    assert list(found) == list(expected)
    assert all((found[key] == expected[key]).all() for key in found)
