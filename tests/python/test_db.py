"""Typed puts and gets, opening and closing, upkeep."""

import array
import math
import os
import pickle
import struct
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synadb
from synadb import SynaDB

SHARED_DB = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def bits(number):
    return struct.pack("<d", number)


# ------------------------------------------------------------------------- the types, exactly

FLOATS = [
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    5e-324,
    2.2250738585072014e-308,
    1.7976931348623157e308,
]
NANS = [struct.unpack("<d", struct.pack("<Q", b))[0]
        for b in (0x7FF8000000000000, 0xFFF8000000000000, 0x7FF80000DEADBEEF,
            0x7FF0000000000001)]  # fmt: skip


@pytest.mark.parametrize("value", FLOATS + NANS)
def test_floats_come_back_bit_for_bit(path, value):
    with SynaDB(path) as db:
        offset = db.put_float("k", value)
        assert type(offset) is int and offset >= 0
        assert bits(db.get_float("k")) == bits(value)
    with SynaDB(path) as db:
        assert bits(db.get_float("k")) == bits(value)
        assert bits(db.get_history_tensor("k")[0]) == bits(value)


def test_an_int_put_as_float_is_a_float(db):
    db.put_float("k", 3)
    assert type(db.get_float("k")) is float and db.get_float("k") == 3.0


@pytest.mark.parametrize("value", [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_ints_come_back_exactly(db, value):
    db.put_int("k", value)
    assert type(db.get_int("k")) is int and db.get_int("k") == value


def test_whatever_is_an_index_is_an_int(db):
    db.put_int("k", np.int32(-7))
    assert db.get_int("k") == -7
    db.put_int("k", True)
    assert db.get_int("k") == 1


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**64 + 5, 10**100])
def test_an_int_beyond_64_bits_is_refused_and_changes_nothing(db, value):
    db.put_int("k", 5)
    with pytest.raises(synadb.IntegerRangeError) as caught:
        db.put_int("k", value)
    assert isinstance(caught.value, (OverflowError, ValueError))
    assert db.get_int("k") == 5 and len(db.get_history("k")) == 1


TEXTS = ["", "text", "nul\0inside", "\u00fc\u4e2d\U0001f600", "a\nb", "x" * 511, "x" * 512,
    "x" * 513,
         "ab" * 100_000]  # fmt: skip


@pytest.mark.parametrize("value", TEXTS, ids=lambda t: f"{len(t)}")
def test_texts_come_back(db, value):
    db.put_text("k", value)
    assert db.get_text("k") == value


@pytest.mark.parametrize("size", [0, 1, 64, 511, 512, 513, 100_000])
def test_bytes_come_back(db, size):
    value = os.urandom(size)
    db.put_bytes("k", value)
    back = db.get_bytes("k")
    assert type(back) is bytes and back == value


@pytest.mark.parametrize(
    "value",
    [
        bytearray(b"abc"),
        memoryview(b"abc"),
        array.array("b", b"abc"),
        np.frombuffer(b"abc", np.uint8),
    ],
    ids=lambda v: type(v).__name__,
)
def test_whatever_has_contiguous_bytes_can_be_put_as_bytes(db, value):
    db.put_bytes("k", value)
    assert db.get_bytes("k") == b"abc"


def test_a_vector_comes_back_as_float32(db):
    db.put_vector("k", [1, 2.5, -3])
    back = db.get_vector("k")
    assert back.dtype == np.float32 and back.tolist() == [1, 2.5, -3]
    assert back.flags.owndata and back.flags.writeable


@pytest.mark.parametrize("size", [1, 128, 129, 65535])
def test_vectors_of_every_length(db, size):
    vector = np.random.default_rng(1).standard_normal(size).astype(np.float32)
    db.put_vector("k", vector)
    assert db.get_vector("k").tobytes() == vector.tobytes()


def test_numpy_bytes_and_back(db):
    matrix = np.arange(6, dtype=np.int16).reshape(2, 3)
    db.put_numpy("m", matrix.T)
    assert db.get_numpy("m", np.int16, (3, 2)).tolist() == matrix.T.tolist()
    assert db.get_numpy("m", np.int16).tolist() == matrix.T.ravel().tolist()
    assert db.get_numpy("m", np.int16).flags.writeable
    assert db.get_numpy("absent") is None
    with pytest.raises(ValueError):
        db.get_numpy("m", np.int16, (5,))
    with pytest.raises(ValueError):
        db.get_numpy("m", np.float64)
    with pytest.raises(TypeError):
        db.put_numpy("m", np.array([object()]))
    with pytest.raises(TypeError):
        db.get_numpy("m", object)


GETTERS = ["get_float", "get_int", "get_text", "get_bytes", "get_vector", "get"]


@pytest.mark.parametrize("getter", GETTERS)
def test_a_missing_or_deleted_key_reads_as_none(db, getter):
    assert getattr(db, getter)("k") is None
    db.put_float("k", 1.0)
    db.delete("k")
    assert getattr(db, getter)("k") is None


def put_one_of_each(db):
    db.put_float("float", 1.0)
    db.put_int("int", 1)
    db.put_text("text", "1")
    db.put_bytes("bytes", b"1")
    db.put_vector("vector", [1])
    db.put("null", None)
    db.put("packed", [1])


@pytest.mark.parametrize("getter", GETTERS[:-1])
def test_the_wrong_type_is_an_error_that_names_both(db, getter):
    put_one_of_each(db)
    own = getter.split("_")[1]
    for key in db.keys():
        if key == own:
            continue
        with pytest.raises(synadb.TypeMismatchError, match=f"{key}.*{own}") as caught:
            getattr(db, getter)(key)
        assert isinstance(caught.value, TypeError) and caught.value.code == -6


def test_type_of_tells_the_stored_type(db):
    put_one_of_each(db)
    with db.open_blob("blob", "wb") as out:
        out.write(b"x")
    assert {key: db.type_of(key) for key in db.keys()} == {key: key for key in db.keys()}
    assert db.type_of("absent") is None


def test_the_newest_value_wins_whatever_its_type(db):
    db.put_float("k", 1.0)
    db.put_text("k", "two")
    assert db.get("k") == "two"
    with pytest.raises(TypeError):
        db.get_float("k")


@SHARED_DB
@given(key=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
       value=st.floats() | st.integers(-(2**63), 2**63 - 1) | st.text(
           st.characters(exclude_categories=["Cs"])) | st.binary())  # fmt: skip
def test_any_key_and_value(db, key, value):
    put = {float: db.put_float, int: db.put_int, str: db.put_text, bytes: db.put_bytes}[type(value)]
    put(key, value)
    back = db.get(key)
    assert type(back) is type(value)
    assert bits(back) == bits(value) if isinstance(value, float) else back == value


@pytest.mark.parametrize(
    "key", ["k", "\u00fc", "a/b c", "\x01", "\U0001f600", "x" * 65534], ids=len
)
def test_keys_of_every_kind(path, key):
    with SynaDB(path) as db:
        db.put_int(key, 1)
        assert key in db and db.keys() == [key]
    with SynaDB(path) as db:
        assert db.get_int(key) == 1 and db.keys() == [key]


# --------------------------------------------------------------------------- opening, closing


def test_values_are_there_after_reopening(path):
    with SynaDB(path) as db:
        db.put_many({"a": 1, "b": "two", "c": [3]})
        assert db.open_report.created
    with SynaDB(path) as db:
        assert dict(db.items()) == {"a": 1, "b": "two", "c": [3]}
        assert db.open_report.clean and not db.open_report.created


@pytest.mark.parametrize(
    "make", [str, os.fspath, lambda p: p, os.fsencode], ids=["str", "fspath", "Path", "bytes"]
)
def test_a_path_can_be_given_in_every_form(path, make):
    with SynaDB(make(path)) as db:
        db.put_int("k", 1)
        assert db.path == str(path)
    assert path.exists()


def test_a_relative_path_is_where_it_was_when_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    with SynaDB("rel.db") as db:
        monkeypatch.chdir(tmp_path / "other")
        db.put_int("k", 1)
        assert db.path == str(tmp_path / "rel.db")
    assert not (tmp_path / "other" / "rel.db").exists()


def test_close_is_idempotent_and_later_calls_raise(path):
    db = SynaDB(path)
    assert not db.closed
    db.close()
    db.close()
    assert db.closed
    for call in (db.keys, db.flush, db.stats, db.compact, lambda: db.put_float("k", 1),
        lambda: db["k"],
                 lambda: len(db), lambda: "k" in db, db.verify, db.batch, lambda: list(db.scan()),
                 lambda: db.append_floats("k", []), lambda: db.open_report):  # fmt: skip
        with pytest.raises(synadb.ClosedError) as caught:
            call()
        assert caught.value.code == -1 and isinstance(caught.value, synadb.NotOpenError)
        assert str(path) in str(caught.value)


def test_with_closes_and_lets_exceptions_through(path):
    with pytest.raises(ZeroDivisionError), SynaDB(path) as db:
        db.put_int("k", 1)
        raise ZeroDivisionError
    assert db.closed
    with SynaDB(path) as db:
        assert db.get_int("k") == 1


def test_two_openings_of_one_file_are_one_database(path):
    with SynaDB(path) as a:
        with SynaDB(path.parent / "." / path.name) as b:
            a.put_int("k", 1)
            assert b.get_int("k") == 1
            b.put_int("k", 2)
        assert b.closed
        assert a.get_int("k") == 2
        a.put_int("k", 3)


def test_a_lost_database_warns_and_is_closed(path):
    db = SynaDB(path)
    db.put_int("k", 1)
    with pytest.warns(ResourceWarning, match="unclosed database"):
        del db
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with SynaDB(path) as db:
            assert db.open_report.clean and db.get_int("k") == 1


def test_what_is_open_at_exit_is_closed_without_a_warning(python, path):
    python(
        """
        import sys
        from synadb import SynaDB
        db = SynaDB(sys.argv[1], sync_on_write=False)
        db.put_int("k", 1)
        """,
        path,
    )
    with SynaDB(path) as db:
        assert db.open_report.clean and db.get_int("k") == 1


def test_repr_tells_path_count_and_mode_and_never_raises(path):
    with SynaDB(path) as db:
        db.put_many({str(i): i for i in range(1234)})
        assert repr(db) == f"<SynaDB '{path}', 1,234 keys, writer>"
    assert repr(db) == f"<SynaDB '{path}', closed>"
    with SynaDB(path, read_only=True) as db:
        assert repr(db) == f"<SynaDB '{path}', 1,234 keys, read-only>"
    with SynaDB(path, shared=True) as db:
        assert "shared" in repr(db)
    assert "never opened" in repr(SynaDB.__new__(SynaDB))


def test_a_database_that_was_never_opened_is_refused_politely():
    with pytest.raises(synadb.ClosedError, match="never opened"):
        SynaDB.__new__(SynaDB).keys()


def test_opening_an_open_object_again_is_refused(db):
    with pytest.raises(ValueError, match="already open"):
        db.__init__(db.path)


def test_must_exist_creates_nothing(path):
    for options in ({"must_exist": True}, {"read_only": True}):
        with pytest.raises(FileNotFoundError) as caught:
            SynaDB(path, **options)
        assert isinstance(caught.value, synadb.SynaIOError) and caught.value.filename == str(path)
    assert not path.exists()


def test_read_only_reads_and_refuses_to_write(path):
    with SynaDB(path) as db:
        db.put_int("k", 1)
    before = path.read_bytes()
    with SynaDB(path, read_only=True) as db:
        assert db.read_only and db.get_int("k") == 1
        for write in (lambda: db.put_int("k", 2), lambda: db.delete("k"), db.compact,
                      lambda: db.put_many({"a": 1}), db.batch, lambda: db.append_floats("k", [1.0]),
                      lambda: db.open_blob("b", "wb")):  # fmt: skip
            with pytest.raises(synadb.ReadOnlyError):
                write()
    assert path.read_bytes() == before


def test_a_database_pickles_as_its_path_and_opens_when_used(db):
    db.put_int("k", 1)
    twin = pickle.loads(pickle.dumps(db))
    assert type(twin) is SynaDB and not twin.closed
    assert twin["k"] == 1 and not twin.read_only
    twin["k"] = 2
    twin.close()
    assert db["k"] == 2
    unused = pickle.loads(pickle.dumps(db))
    unused.close()
    with pytest.raises(synadb.ClosedError):
        unused.keys()


def test_a_copy_in_another_process_is_read_only_unless_shared(path, python):
    code = """
        import pickle, sys
        db = pickle.loads(bytes.fromhex(sys.argv[1]))
        print(db["k"], db.read_only)
        if not db.read_only:
            db["k"] = 2
        """
    with SynaDB(path) as db:
        db["k"] = 1
        assert python(code, pickle.dumps(db).hex()).split() == ["1", "True"]
    with SynaDB(path, shared=True) as db:
        assert python(code, pickle.dumps(db).hex()).split() == ["1", "False"]
        db.refresh()
        assert db["k"] == 2


def test_a_closed_database_does_not_pickle(db):
    db.close()
    with pytest.raises(synadb.ClosedError, match="pickle"):
        pickle.dumps(db)


def test_subclasses_work(path):
    class Mine(SynaDB):
        def __init__(self, path):
            super().__init__(path, False)
            self.extra = 1

    with Mine(path) as db:
        db["k"] = db.extra
        assert db["k"] == 1 and "Mine" in repr(db)


def test_a_file_grows_little_for_small_values(path):
    with SynaDB(path) as db:
        for i in range(10):
            db.put_int(f"k{i}", i)
    assert os.path.getsize(path) <= 4096


# -------------------------------------------------------------------------------------- upkeep


def test_compact_keeps_the_newest_value_of_live_keys(path):
    with SynaDB(path, sync_on_write=False) as db:
        for i in range(500):
            db.put_float("f", i)
            db.put_text("gone", "x" * 100)
        db.delete("gone")
        before = db.stats().file_bytes
        db.compact()
        assert db.stats().file_bytes < before / 10
        assert db.get_history_tensor("f").tolist() == [499.0]
        assert db.keys() == ["f"] and len(db.get_history("gone")) == 0
        db.put_float("f", 500)
    with SynaDB(path) as db:
        assert db.get_history_tensor("f").tolist() == [499.0, 500.0]


def test_compact_can_keep_the_history(path):
    with SynaDB(path, sync_on_write=False) as db:
        for i in range(3000):
            db.put_float("f", i / 10)
        db.put_text("t", "one")
        db.put_text("t", "two")
        before = db.get_history("f")
        size = db.stats().file_bytes
        db.compact(keep_history=True)
        after = db.get_history("f")
        assert after.values.tobytes() == before.values.tobytes()
        assert (after.timestamps == before.timestamps).all()
        assert db.get_history("t").values == ["one", "two"]
        assert db.stats().file_bytes < size / 2


def test_compact_can_keep_the_history_of_live_keys(path):
    with SynaDB(path, sync_on_write=False) as db:
        for key in ("live", "dead", "revived"):
            db.append_floats(key, np.arange(3000.0))
        db.delete("dead")
        db.delete("revived")
        db.append_floats("revived", [1.0, 2.0])
        before = db.get_history("live")
        db.compact(keep_history="live")
        after = db.get_history("live")
        assert after.values.tobytes() == before.values.tobytes()
        assert (after.timestamps == before.timestamps).all()
        assert db.get_history_tensor("revived").tolist() == [1.0, 2.0]
        assert len(db.get_history("revived").deletions) == 0
        assert len(db.get_history("dead")) == len(db.get_history("dead").deletions) == 0


@pytest.mark.parametrize("given", ["", "Live", "all"])
def test_compact_refuses_other_words(path, given):
    with SynaDB(path) as db, pytest.raises(ValueError, match="expected False, True or 'live'"):
        db.compact(keep_history=given)


def test_backup_is_a_database_of_its_own(path, tmp_path):
    copy = tmp_path / "copy.db"
    with SynaDB(path) as db:
        for i in range(5):
            db.put_float("f", i)
        db["x"] = {"a": 1}
        db.backup(copy)
        db.put_float("f", 99)
    with SynaDB(copy) as other:
        assert other.get_history_tensor("f").tolist() == [0, 1, 2, 3, 4]
        assert other["x"] == {"a": 1}
        other["x"] = 2
    with SynaDB(path) as db:
        assert db["x"] == {"a": 1}


def test_backup_overwrites_nothing(db, tmp_path):
    target = tmp_path / "precious"
    target.write_text("keep")
    with pytest.raises(synadb.SynaError):
        db.backup(target)
    assert target.read_text() == "keep"


def test_stats_are_plausible(db):
    db.put_many({f"k{i}": i for i in range(10)})
    db.delete("k0")
    stats = db.stats()
    assert (stats.keys, stats.deleted_keys, stats.frames) == (9, 1, 11)
    assert stats.generation == 1 and len(stats.uuid) == 32 and stats.format == "1.0"
    assert stats.file_bytes <= stats.allocated_bytes
    db.flush()
    assert db.stats().durable_bytes >= stats.file_bytes
    db.compact()
    assert db.stats().generation == 2 and db.stats().uuid == stats.uuid


def test_every_write_is_synced_unless_told_otherwise(path, tmp_path):
    with SynaDB(path) as db:
        before = db.stats().syncs
        for i in range(5):
            db.put_int("k", i)
        assert db.stats().syncs == before + 5
        db.put_many({str(i): i for i in range(100)})
        assert db.stats().syncs == before + 6
        assert db.stats().commits >= 6
    with SynaDB(tmp_path / "other.db", False) as db:
        before = db.stats().syncs
        for i in range(5):
            db.put_int("k", i)
        assert db.stats().syncs == before


def test_verify_finds_a_sound_file_sound_and_a_damaged_one_not(path):
    with SynaDB(path) as db:
        for i in range(20):
            db.put_text(f"k{i}", "text" * 20)
        assert db.verify().ok
    assert synadb.verify(path).ok
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    report = synadb.verify(path)
    assert not report.ok and report.damaged >= 1 and report.findings
    assert all(finding.text for finding in report.findings)
    assert path.read_bytes() == data


def test_salvage_saves_what_is_readable_and_leaves_the_original(path, tmp_path):
    with SynaDB(path) as db:
        for i in range(50):
            db.put_text(f"k{i:02}", f"value {i}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(synadb.CorruptionError) as caught:
        SynaDB(path)
    assert caught.value.path == str(path) and caught.value.offset > 0
    report = synadb.salvage(path, tmp_path / "saved.db")
    assert path.read_bytes() == data
    assert report.damaged >= 1 and report.records_saved >= 48
    with SynaDB(tmp_path / "saved.db") as db:
        assert len(db) >= 48
        assert all(db[key] == f"value {int(key[1:])}" for key in db)


# ------------------------------------------------------------------------------------ progress


def test_progress_reports_to_a_callable(db, tmp_path):
    calls = []
    db.put_many({f"k{i}": "x" * 1000 for i in range(2000)})
    db.compact(progress=lambda done, total: calls.append((done, total)))
    db.backup(tmp_path / "b.db", progress=lambda done, total: calls.append((done, total)))
    assert calls and all(type(n) is int for pair in calls for n in pair)


@pytest.mark.parametrize("work", ["compact", "backup", "verify", "salvage"])
def test_an_exception_in_the_callback_stops_the_work_and_comes_through(db, tmp_path, work):
    db.put_many({f"k{i}": os.urandom(1000) for i in range(2000)})
    db.flush()
    target = tmp_path / "target.db"

    def stop(done, total):
        raise ZeroDivisionError("stop")

    call = {
        "compact": lambda: db.compact(progress=stop),
        "backup": lambda: db.backup(target, progress=stop),
        "verify": lambda: db.verify(progress=stop),
        "salvage": lambda: synadb.salvage(db.path, target, progress=stop),
    }[work]
    with pytest.raises(ZeroDivisionError, match="stop"):
        call()
    assert not target.exists()
    assert len(db) == 2000 and db.stats().generation == 1
    db.put_int("more", 1)
    assert db.verify().ok


def test_the_bar_is_drawn_on_standard_error(db, capsys):
    db.put_many({f"k{i}": os.urandom(1000) for i in range(2000)})
    db.compact(progress=True)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.endswith("\n") and "[" in captured.err


def test_progress_of_another_kind_is_a_type_error(db):
    with pytest.raises(TypeError, match="callable"):
        db.compact(progress=5)


def test_closing_from_the_callback_is_refused_instead_of_waiting_for_itself(db):
    db.put_many({f"k{i}": os.urandom(1000) for i in range(2000)})
    with pytest.raises(ValueError, match="callback"):
        db.compact(progress=lambda done, total: db.close())
    assert len(db) == 2000
