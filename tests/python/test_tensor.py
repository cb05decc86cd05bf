"""`TensorEngine`: the seeds' calls, every dtype, patterns against a model, replacement, damage."""

import fnmatch
import itertools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synadb
from synadb import SynaDB, TensorEngine
from synadb.errors import ClosedError, CorruptionError, KeyNotFoundError, ReadOnlyError

DTYPES = [
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool", "complex64", "complex128",
]  # fmt: skip
MIB4 = 4 << 20


@pytest.fixture
def engine(tmp_path):
    with TensorEngine(tmp_path / "t.db", sync_on_write=False) as opened:
        yield opened


def random_array(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


# ---------------------------------------------------------------------------------- the seeds


def test_the_seeds_examples_run_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = TensorEngine("training.db")
    X_train = np.random.randn(10000, 784).astype(np.float32)
    assert engine.put_tensor("train/X/", X_train) == X_train.size
    X = engine.get_tensor("train/X/*", dtype=np.float32, shape=(10000, 784))
    np.testing.assert_array_equal(X, X_train)
    large_tensor = np.random.randn(1000, 100)
    assert engine.put_tensor_chunked("train/large/", large_tensor, chunk_size=10000) == 10
    X = engine.get_tensor_chunked("train/large/chunk_*")
    np.testing.assert_array_equal(X, large_tensor.astype(np.float32))
    flat = engine.get_tensor("train/X/*", dtype=np.float32)
    assert flat.shape == (7840000,) and flat.flags.writeable and flat.flags.owndata
    engine.close()


def test_keys_have_four_digits_or_as_many_as_the_last_needs(engine):
    engine.put_tensor("a/", np.zeros(12))
    assert engine.keys("a/*") == [f"a/{i:04d}" for i in range(12)]
    engine.put_tensor("b/", np.zeros(10001))
    assert engine.keys("b/*")[0] == "b/00000" and engine.keys("b/*")[-1] == "b/10000"
    engine.put_tensor("c/", np.zeros(10000))
    assert engine.keys("c/*")[-1] == "c/9999"
    engine.put_tensor_chunked("d/", np.zeros(25), chunk_size=10)
    assert engine.keys("d/*") == ["d/chunk_0000", "d/chunk_0001", "d/chunk_0002"]


def test_element_keys_are_virtual(engine):
    engine.put_tensor("x/", np.zeros(100_000))
    with SynaDB(engine.path) as db:
        assert db.keys() == ["tensor/x/"]


# -------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("codec", [None, "lz4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back_bit_by_bit(engine, dtype, codec):
    array = random_array(dtype, (7, 5, 3))
    engine.put_tensor("t/", array, codec=codec)
    back = engine.get_tensor("t/*", dtype=None, shape="stored")
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
    assert engine.info("t/").shape == (7, 5, 3) and engine.info("t/").dtype == array.dtype


def test_nan_payloads_signed_zeros_and_infinities_keep_their_bits(engine):
    bits = np.array([0x7FF8000000000001, 0x8000000000000000, 0x7FF0000000000000, 1], np.uint64)
    engine.put_tensor("t/", bits.view(np.float64))
    assert engine.get_tensor("t/*", dtype=None).view(np.uint64).tolist() == bits.tolist()


def test_small_floats_of_ml_dtypes(engine):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        array = np.linspace(-3, 3, 50).astype(getattr(ml_dtypes, name))
        engine.put_tensor(f"{name}/", array)
        back = engine.get_tensor(f"{name}/*", dtype=None)
        assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
        wide = engine.get_tensor(f"{name}/*")
        np.testing.assert_array_equal(wide, array.astype(np.float32))


def test_big_endian_fortran_order_and_strides_are_converted(engine):
    base = np.arange(24, dtype=">i4").reshape(4, 6)
    for array in (base, np.asfortranarray(base), base[::2, ::-3], base.T):
        engine.put_tensor("t/", array)
        back = engine.get_tensor("t/*", dtype=None, shape="stored")
        np.testing.assert_array_equal(back, array)
        assert back.dtype == np.int32


@pytest.mark.parametrize(
    "bad", [np.array([object()]), np.array(["text"]), np.array(["2020"], "M8[Y]"), [1, "a", None]]
)
def test_what_cannot_be_stored_is_refused_and_changes_nothing(engine, bad):
    engine.put_tensor("t/", [1.0])
    with pytest.raises(TypeError):
        engine.put_tensor("t/", bad)
    assert engine.get_tensor("t/*").tolist() == [1.0]


def test_values_are_converted_never_reinterpreted(engine):
    engine.put_tensor("i/", np.array([1, 2, 2**53 + 1]))
    assert engine.get_tensor("i/*", dtype=np.int64).tolist() == [1, 2, 2**53 + 1]
    assert engine.get_tensor("i/*").dtype == np.float32
    engine.put_tensor_chunked("f/", np.array([0.5, 1.5]))
    assert engine.get_tensor_chunked("f/*").tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    "values, wanted",
    [
        ([0.5], np.int32), ([np.nan], np.int64), ([2.0**63], np.int64), ([300], np.uint8),
        ([-1], np.uint64), ([2], np.bool_), ([1 + 1j], np.float32), ([np.inf], np.int8),
    ],
)  # fmt: skip
def test_an_integer_dtype_that_cannot_hold_a_value_is_refused(engine, values, wanted):
    engine.put_tensor("t/", np.array(values))
    with pytest.raises(ValueError):
        engine.get_tensor("t/*", dtype=wanted)


def test_odd_shapes(engine):
    for array in (
        np.float64(3.5),
        np.zeros((0, 3)),
        np.zeros((2, 0, 4), np.int8),
        np.zeros((1,) * 20),
    ):
        count = engine.put_tensor("t/", array)
        back = engine.get_tensor("t/*", dtype=None, shape="stored")
        assert count == np.size(array) and back.shape == np.shape(array)
        assert back.dtype == np.asarray(array).dtype


def test_shapes_that_do_not_fit(engine):
    engine.put_tensor("t/", np.zeros(6))
    assert engine.get_tensor("t/*", shape=(2, -1)).shape == (2, 3)
    for shape in ((4, 2), (5,), "else"):
        with pytest.raises(ValueError):
            engine.get_tensor("t/*", shape=shape)
    assert engine.get_tensor("nothing/*").shape == (0,)
    with pytest.raises(ValueError):
        engine.get_tensor("nothing/*", shape=(2, 3))


# ------------------------------------------------------------------------------------ patterns


def test_plain_floats_and_ints_of_the_same_file_belong_to_it(engine):
    with SynaDB(engine.path) as db:
        for i, value in enumerate([1.5, 2.5, 3.5]):
            db.put_float(f"sensor/{i}", value)
        db.put_int("count/a", 2**53 + 1)
        db.put_text("sensor/note", "no number")
    assert engine.get_tensor("sensor/*", dtype=np.float64).tolist() == [1.5, 2.5, 3.5]
    assert engine.get_tensor("count/*", dtype=np.int64).tolist() == [2**53 + 1]
    assert engine.keys("sensor/*") == ["sensor/0", "sensor/1", "sensor/2"]
    engine.put_tensor("sensor/", [9.0])
    assert engine.keys("sensor/*") == ["sensor/0", "sensor/0000", "sensor/1", "sensor/2"]
    assert engine.get_tensor("sensor/*").tolist() == [1.5, 9.0, 2.5, 3.5]


def test_an_element_hides_a_plain_value_of_its_name(engine):
    with SynaDB(engine.path) as db:
        db.put_float("x/0001", -1.0)
    engine.put_tensor("x/", [5.0, 6.0, 7.0])
    assert engine.keys("x/*") == ["x/0000", "x/0001", "x/0002"]
    assert engine.get_tensor("x/*").tolist() == [5, 6, 7]


def test_plain_ints_and_a_tensor_of_floats_together(engine):
    engine.put_tensor("m/", np.array([0.5, 1.5], np.float32))
    with SynaDB(engine.path) as db:
        db.put_int("m/0000a", 7)
    assert engine.get_tensor("m/*", dtype=None).tolist() == [0.5, 7.0, 1.5]
    assert engine.get_rows("m/*", [1, 0]).tolist() == [7.0, 0.5]
    assert [b.tolist() for b in engine.stream("m/*", 2)] == [[0.5, 7.0], [1.5]]
    with pytest.raises(ValueError):
        engine.get_tensor("m/*", dtype=np.int64)


PREFIXES = ["", "a", "a/", "a/0", "b/", "b/x", "ä/"]
PATTERNS = ["*", "a*", "a/*", "a/0*", "*0", "a/000[13]", "a/00?1", "?/*", "b/*3", "b/x0002", "ä/*",
            "a/0000", "[", "*1*", "zz*", "a/1*"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(PREFIXES), st.integers(0, 30), max_size=4),
    st.dictionaries(st.sampled_from(["a/0003", "a/1", "b", "b/x", "0001", "a/0000x"]),
                    st.integers(-9, 9), max_size=4),
    st.sampled_from(PATTERNS),
)  # fmt: skip
def test_patterns_against_a_dict(tmp_path_factory, tensors, plain, pattern):
    path = tmp_path_factory.mktemp("model") / "t.db"
    model = {}
    with TensorEngine(path, sync_on_write=False) as engine:
        with SynaDB(path) as db:
            for key, value in plain.items():
                db.put_int(key, value)
                model[key] = [value]
        seen = set()
        for prefix, count in tensors.items():
            values = np.arange(count, dtype=np.int64) + 100 * len(seen)
            engine.put_tensor(prefix, values)
            for i, value in enumerate(values):
                key = f"{prefix}{i:04d}"
                # Two prefixes can make one name; then both elements count.
                model[key] = (model[key] if key in seen else []) + [int(value)]
                seen.add(key)
        names = sorted(k for k in model if fnmatch.fnmatchcase(k, pattern))
        assert engine.keys(pattern) == [k for k in names for _ in model[k]]
        got = engine.get_tensor(pattern, dtype=np.int64).tolist()
        assert [sorted(got)] == [sorted(v for k in names for v in model[k])]
        if all(len(model[k]) == 1 for k in names):
            assert got == [model[k][0] for k in names]


def test_chunks_are_found_when_no_element_matches(engine):
    engine.put_tensor_chunked("c/", np.arange(10), chunk_size=4)
    assert engine.get_tensor("c/*").tolist() == list(range(10))
    assert engine.get_tensor_chunked("c/chunk_000[12]").tolist() == [4, 5, 6, 7, 8, 9]
    assert [b.tolist() for b in engine.stream("c/*", 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    engine.put_tensor("c/", [1.0])
    assert engine.get_tensor("c/*").tolist() == [1.0]
    assert engine.get_tensor_chunked("c/*", dtype=None).tolist() == list(range(10))


def test_millions_of_elements_cost_nothing_each(engine):
    engine.put_tensor("x/", np.arange(3_000_000))
    assert engine.get_tensor("x/2999999", dtype=np.int64).tolist() == [2_999_999]
    assert engine.get_tensor("x/12345??", dtype=np.int64).tolist() == list(range(1234500, 1234600))
    assert os.path.getsize(engine.path) < 3_000_000 * 8 + (20 << 20)
    assert engine.delete("x/*") == 3_000_000


# --------------------------------------------------------------------------------- replacement


def test_storing_again_replaces_and_leaves_no_old_elements(engine):
    engine.put_tensor("t/", np.arange(100.0))
    engine.put_tensor("t/", np.array([[7, 8]], np.int16))
    assert engine.keys("t/*") == ["t/0000", "t/0001"]
    assert engine.get_tensor("t/*", dtype=None).tolist() == [7, 8]
    engine.put_tensor_chunked("t/", np.arange(100.0), chunk_size=10)
    engine.put_tensor_chunked("t/", np.arange(5.0), chunk_size=10)
    assert engine.get_tensor_chunked("t/chunk_*").tolist() == [0, 1, 2, 3, 4]


def test_delete_takes_whole_tensors_only(engine):
    engine.put_tensor("a/", np.arange(20))
    engine.put_tensor_chunked("a/", np.arange(20), chunk_size=5)
    with SynaDB(engine.path) as db:
        db.put_float("a/z", 1.0)
    before = engine.keys()
    with pytest.raises(ValueError, match="20 keys"):
        engine.delete("a/000*")
    assert engine.keys() == before
    assert engine.delete("a/*") == 25 and engine.keys() == []
    assert engine.delete("a/*") == 0
    assert engine.get_tensor("a/*").size == 0


def test_readers_never_see_two_generations_mixed(tmp_path):
    size = 3 * MIB4 // 8
    wrong = []
    with TensorEngine(tmp_path / "t.db", sync_on_write=False) as engine:
        engine.put_tensor("t/", np.zeros(size))
        done = threading.Event()

        def read():
            while not done.is_set():
                got = engine.get_tensor("t/*", dtype=None)
                if got[0] != got[-1] or not (got == got[0]).all():
                    wrong.append(got)

        thread = threading.Thread(target=read)
        thread.start()
        for i in range(12):
            engine.put_tensor("t/", np.full(size - i, float(i)))
        done.set()
        thread.join()
    assert not wrong


def test_a_put_that_is_killed_leaves_the_old_tensor(tmp_path):
    path = tmp_path / "t.db"
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", np.full(MIB4, 1.0))
    script = (
        "import sys, threading, os, time, numpy as np\n"
        "from synadb import TensorEngine\n"
        "e = TensorEngine(sys.argv[1], sync_on_write=False)\n"
        "threading.Timer(float(sys.argv[2]), lambda: os.kill(os.getpid(), 9)).start()\n"
        "for i in range(2, 10**6): e.put_tensor('t/', np.full(MIB4 := 1 << 22, float(i)))\n"
    )
    for delay in ("0.02", "0.07", "0.13"):
        subprocess.run([sys.executable, "-c", script, str(path), delay], check=False)
        with TensorEngine(path) as engine:
            got = engine.get_tensor("t/*", dtype=None)
            assert len(got) == MIB4 and (got == got[0]).all() and got[0] >= 1
        assert not synadb.verify(path).damaged


# ------------------------------------------------------------------------------- rows, streams


@pytest.mark.parametrize("codec", [None, "lz4"])
@pytest.mark.parametrize("columns", [3, 1000, 700_001])
def test_rows_are_those_of_numpy(engine, columns, codec):
    rows = max(5, 3_000_000 // columns)
    array = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    engine.put_tensor("x/", array, codec=codec)
    wanted = np.random.default_rng(0).integers(-rows, rows, 7)
    got = engine.get_rows("x/*", wanted)
    np.testing.assert_array_equal(got, array[wanted])
    assert got.flags.writeable and engine.row_count("x/*") == rows
    assert engine.get_rows("x/*", []).shape == (0, columns)
    for bad in (rows, -rows - 1):
        with pytest.raises(IndexError):
            engine.get_rows("x/*", [0, bad])
    with pytest.raises(TypeError):
        engine.get_rows("x/*", [0.5])


def test_rows_of_several_tensors_are_numbered_on(engine):
    engine.put_tensor("x/a/", np.arange(6).reshape(2, 3))
    engine.put_tensor("x/b/", np.arange(6, 15).reshape(3, 3))
    assert engine.row_count("x/*") == 5
    assert engine.get_rows("x/*", [4, 1]).tolist() == [[12, 13, 14], [3, 4, 5]]


def test_streams(engine):
    array = np.arange(20, dtype=np.int32).reshape(10, 2)
    engine.put_tensor("x/", array)
    assert [b.tolist() for b in engine.stream("x/*", 8)][2] == [16, 17, 18, 19]
    rows = list(engine.stream("x/*", 4, dtype=None, rows=True))
    assert [b.shape for b in rows] == [(4, 2), (4, 2), (2, 2)] and rows[0].dtype == np.int32
    assert len(list(engine.stream("x/*", 4, rows=True, drop_last=True))) == 2
    once, again, other = (
        [b.tolist() for b in engine.stream("x/*", 4, rows=True, shuffle=True, seed=s)]
        for s in (1, 1, 2)
    )
    assert once == again != other
    assert sorted(itertools.chain(*once)) == array.tolist()
    for bad in (0, -1):
        with pytest.raises(ValueError):
            engine.stream("x/*", bad)
    assert list(engine.stream("nothing/*", 3)) == []


def test_a_stream_shows_what_matched_at_its_start(engine):
    engine.put_tensor("x/", np.arange(6.0))
    stream = engine.stream("x/*", 2)
    first = next(stream)
    engine.put_tensor("x/", np.zeros(3))
    assert [first.tolist(), *(b.tolist() for b in stream)] == [[0, 1], [2, 3], [4, 5]]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, 900_000), min_size=1, max_size=8),
    st.booleans(), st.sampled_from([None, "lz4"]),
)  # fmt: skip
def test_appending_against_concatenation(tmp_path_factory, lengths, chunked, codec):
    path = tmp_path_factory.mktemp("append") / "t.db"
    pieces = [np.arange(n * 2, dtype=np.int32).reshape(n, 2) + i for i, n in enumerate(lengths)]
    with TensorEngine(path, sync_on_write=False) as engine:
        if chunked:
            engine.put_tensor_chunked("t/", pieces[0], codec=codec)
        else:
            engine.put_tensor("t/", pieces[0], codec=codec)
        total = len(pieces[0])
        for piece in pieces[1:]:
            total += len(piece)
            assert engine.append_rows("t/", piece) == total
        expected = np.concatenate(pieces)
        for view in (False, True):
            got = engine.get_tensor("t/*", dtype=None, shape="stored", view=view)
            np.testing.assert_array_equal(got, expected)
    assert not synadb.verify(path).damaged
    with TensorEngine(path, read_only=True) as engine:
        got = engine.get_tensor("t/*", dtype=None, shape="stored")
        np.testing.assert_array_equal(got, expected)


def test_append_rows_refuses_what_does_not_fit(engine):
    assert engine.append_rows("t/", np.zeros((2, 3), np.int8)) == 2
    for bad in (np.zeros((2, 4)), np.zeros(3), np.full((1, 3), 300), np.full((1, 3), 0.5)):
        with pytest.raises(ValueError):
            engine.append_rows("t/", bad)
    assert engine.append_rows("t/", [[1.0, 2.0, 3.0]]) == 3
    assert engine.get_tensor("t/*", dtype=None).dtype == np.int8


def test_racing_appends_all_get_their_rows_in(engine):
    engine.put_tensor("t/", np.zeros((0, 2), np.int64))

    def work(number):
        for i in range(40):
            engine.append_rows("t/", [[number, i]])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = engine.get_tensor("t/*", dtype=None, shape="stored").tolist()
    assert sorted(rows) == [[n, i] for n in range(4) for i in range(40)]


# --------------------------------------------------------------------------------------- views


@pytest.mark.parametrize("elements", [10, 200_000, 3 * MIB4 // 8 + 17])
def test_a_view_is_one_mapped_array_that_outlives_everything(tmp_path, elements):
    path = tmp_path / "t.db"
    array = np.arange(elements, dtype=np.float64)
    engine = TensorEngine(path, sync_on_write=False)
    engine.put_tensor("t/", array)
    view = engine.get_tensor("t/*", dtype=None, view=True)
    again = engine.get_tensor("t/*", dtype=None, view=True)
    assert not view.flags.writeable and not view.flags.owndata
    assert view.ctypes.data == again.ctypes.data and view.ctypes.data % 64 == 0
    engine.put_tensor("t/", np.zeros(5))
    with SynaDB(path) as db:
        db.compact()
    engine.close()
    path.unlink()
    np.testing.assert_array_equal(view, array)
    assert np.from_dlpack(view.copy()).sum() == array.sum()


def test_a_view_where_it_cannot_be_is_a_read_only_copy(engine):
    array = np.arange(10.0)
    engine.put_tensor("a/", array, codec="lz4")
    engine.put_tensor("b/", array)
    for pattern, dtype in (("a/*", None), ("b/*", np.float32), ("?/*", None)):
        view = engine.get_tensor(pattern, dtype=dtype, view=True)
        assert not view.flags.writeable and view[:10].tolist() == array.tolist()


def test_tensors_go_through_compaction_backup_and_salvage(tmp_path):
    path = tmp_path / "t.db"
    array = random_array("float32", (3_000_000,))
    with TensorEngine(path, sync_on_write=False) as engine, SynaDB(path) as db:
        engine.put_tensor("t/", np.zeros(100_000))
        engine.put_tensor("t/", array)
        engine.put_tensor_chunked("c/", array[:5000], codec="lz4")
        before = os.path.getsize(path)
        for keep in (True, False):
            db.compact(keep_history=keep)
            np.testing.assert_array_equal(engine.get_tensor("t/*", dtype=None), array)
            view = engine.get_tensor("t/*", dtype=None, view=True)
            np.testing.assert_array_equal(view, array)
            assert view.ctypes.data == engine.get_tensor("t/*", dtype=None, view=True).ctypes.data
        db.backup(tmp_path / "backup.db")
        engine.append_rows("t/", array[:10])
        assert os.path.getsize(path) < before + (20 << 20)
    assert not synadb.verify(path).damaged
    synadb.salvage(path, tmp_path / "saved.db")
    for name, extra in (("backup.db", 0), ("saved.db", 10)):
        with TensorEngine(tmp_path / name) as engine:
            got = engine.get_tensor("t/*", dtype=None)
            np.testing.assert_array_equal(got, np.concatenate([array, array[:extra]]))
            np.testing.assert_array_equal(engine.get_tensor_chunked("c/*"), array[:5000])


# -------------------------------------------------------------------------------- damage, state


@pytest.mark.parametrize("codec", [None, "lz4"])
def test_a_flipped_bit_names_tensor_and_chunk(tmp_path, codec):
    path = tmp_path / "t.db"
    # Numbers that compress, to more than what opening would read anyway.
    array = np.random.default_rng(0).integers(0, 2**40, 3 * MIB4 // 8).astype(np.float64)
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", array, codec=codec)
        middle = engine.info("t/").stored_bytes // 2
    with open(path, "r+b") as file:
        file.seek(middle)
        byte = file.read(1)
        file.seek(middle)
        file.write(bytes([byte[0] ^ 0x10]))
    for call in (
        lambda e: e.get_tensor("t/*"),
        lambda e: e.get_tensor("t/*", dtype=None, view=True),
        lambda e: e.get_rows("t/*", [0, len(array) // 2]),
        lambda e: list(e.stream("t/*", 1 << 20)),
    ):
        with TensorEngine(path, read_only=True) as engine:
            with pytest.raises(CorruptionError, match=r'tensor "t/" chunk \d+ of \d+'):
                call(engine)
            assert engine.get_rows("t/*", [0]).tolist() == [array[0]]


def test_closed_read_only_and_forked(tmp_path):
    path = tmp_path / "t.db"
    engine = TensorEngine(path)
    engine.put_tensor("t/", [1.0, 2.0])
    stream = engine.stream("t/*", 1)
    assert next(stream).tolist() == [1.0]
    child = os.fork()
    if child == 0:
        good = engine.get_tensor("t/*").tolist() == [1.0, 2.0]
        try:
            engine.put_tensor("t/", [3.0])
            good = False
        except synadb.ForkedError:
            pass
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    engine.close()
    engine.close()
    for call in (lambda: engine.keys(), lambda: next(stream), lambda: engine.put_tensor("t/", [1])):
        with pytest.raises(ClosedError):
            call()
    with TensorEngine(path, read_only=True) as reader:
        assert reader.get_tensor("*").tolist() == [1.0, 2.0]
        for write in (
            lambda: reader.put_tensor("t/", [1.0]), lambda: reader.delete("t/*"),
            lambda: reader.append_rows("t/", [1.0]),
        ):  # fmt: skip
            with pytest.raises(ReadOnlyError):
                write()


def test_bad_arguments(engine):
    engine.put_tensor("t/", [1.0])
    for call, error in (
        (lambda: engine.put_tensor(b"t/", [1.0]), TypeError),
        (lambda: engine.put_tensor("t\0", [1.0]), ValueError),
        (lambda: engine.put_tensor("x" * 70_000, [1.0]), ValueError),
        (lambda: engine.put_tensor("\ud800", [1.0]), ValueError),
        (lambda: engine.put_tensor("t/", [1.0], codec="zip"), ValueError),
        (lambda: engine.put_tensor_chunked("t/", [1.0], chunk_size=0), ValueError),
        (lambda: engine.get_tensor("t/*", dtype="U5"), TypeError),
        (lambda: engine.get_tensor(5), TypeError),
        (lambda: engine.info("none/"), KeyNotFoundError),
    ):
        with pytest.raises(error):
            call()
    assert engine.keys() == ["t/0000"]


def test_a_key_of_the_users_that_only_looks_like_a_tensor_is_left_alone(engine):
    with SynaDB(engine.path) as db:
        db.put_text("tensor/a/", "mine")
        with db.open_blob("tensor/b/", "wb") as blob:
            blob.write(b"not a tensor" * 10)
    assert engine.keys() == [] and engine.get_tensor("*").size == 0
    with pytest.raises(KeyNotFoundError):
        engine.info("b/")


def test_frameworks_that_are_missing_are_named_with_their_extra(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    for call in (engine.get_tensor_torch, engine.get_tensor_tf):
        with pytest.raises(ImportError, match=r"synadb\[ml\]"):
            call("t/*")


def test_torch_gets_the_values(engine):
    torch = pytest.importorskip("torch")
    engine.put_tensor("t/", np.arange(6.0).reshape(2, 3))
    tensor = engine.get_tensor_torch("t/*", shape=(2, 3))
    assert tensor.dtype == torch.float32 and tensor.tolist() == [[0, 1, 2], [3, 4, 5]]
