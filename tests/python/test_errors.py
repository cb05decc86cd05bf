"""Bad input of every kind gets its typed error and changes nothing."""

import copy
import os
import pickle

import numpy as np
import pytest

import synadb
from synadb import SynaDB, errors
from synadb.errors import Reason, SynaError, make_error

# --------------------------------------------------------------------------------------- keys

BAD_KEYS = [
    ("", synadb.InvalidKeyError, -7),
    ("x" * 65535, synadb.InvalidKeyError, -8),
    ("\u00fc" * 40000, synadb.InvalidKeyError, -8),
    ("a\ud800", synadb.InvalidKeyError, 0),
]


def everything(db, key):
    """Every method that takes a key."""
    return [
        lambda: db.put_float(key, 1.0), lambda: db.put_int(key, 1), lambda: db.put_text(key, "x"),
        lambda: db.put_bytes(key, b"x"), lambda: db.put_vector(key, [1]), lambda: db.put(key, [1]),
        lambda: db.__setitem__(key, 1), lambda: db.put_many({key: 1}),
        lambda: db.append_floats(key, [1.0]),
        lambda: db.append_ints(key, [1]), lambda: db.put_numpy(key, [1]),
        lambda: db.put_floats_batch(key, [1]),
        lambda: db.open_blob(key, "wb"), lambda: db.delete(key), lambda: db.__delitem__(key),
        lambda: db.get_float(key), lambda: db.get_int(key), lambda: db.get_text(key),
        lambda: db.get_bytes(key),
        lambda: db.get_vector(key), lambda: db.get_numpy(key), lambda: db.get(key), lambda: db[key],
        lambda: db.get_many([key]), lambda: db.exists(key), lambda: key in db,
        lambda: db.type_of(key),
        lambda: db.get_history(key), lambda: db.get_history_tensor(key), lambda: db.open_blob(key),
        lambda: db.pop(key, 1), lambda: db.setdefault(key, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "key, error, code", BAD_KEYS, ids=["empty", "long", "long utf-8", "surrogate"]
)
def test_bad_keys_are_refused_everywhere(db, key, error, code):
    for call in everything(db, key):
        with pytest.raises(error) as caught:
            call()
        assert caught.value.code == code and isinstance(caught.value, ValueError)
    assert len(db) == 0 and db.stats().frames == 0


def test_a_key_with_nul_is_refused_everywhere(db):
    db["a"] = 1
    for call in everything(db, "a\0b"):
        with pytest.raises(ValueError, match="NUL"):
            call()
    assert dict(db) == {"a": 1}


@pytest.mark.parametrize(
    "key", [b"bytes", 5, None, 1.5, ("a",), ["a"], bytearray(b"x"), np.float64(1)]
)
def test_keys_are_text(db, key):
    for call in everything(db, key):
        with pytest.raises(TypeError):
            call()
    assert len(db) == 0


# ------------------------------------------------------------------------------------- values

BAD_VALUES = [
    ("put_float", "1.5"), ("put_float", None), ("put_float", b"x"), ("put_float", 1j),
    ("put_float", [1]),
    ("put_int", 1.0), ("put_int", "1"), ("put_int", None), ("put_int", np.float64(1)),
    ("put_text", b"x"), ("put_text", 5), ("put_text", None),
    ("put_bytes", "x"), ("put_bytes", 5), ("put_bytes", None), ("put_bytes", [1]),
    ("put_vector", ["x"]), ("put_vector", [1j]), ("put_vector", [None]),
    ("put_many", 5), ("get_many", "key"), ("get_many", 5),
]  # fmt: skip


@pytest.mark.parametrize("method, value", BAD_VALUES)
def test_values_of_the_wrong_type_are_a_type_error(db, method, value):
    with pytest.raises(TypeError):
        getattr(db, method)(*([value] if "many" in method else ["k", value]))
    assert len(db) == 0 and db.stats().frames == 0


BAD_VECTORS = [[], [[1, 2]], 5, [np.nan], [np.inf], [1e39], np.zeros(65536)]


@pytest.mark.parametrize("value", BAD_VECTORS, ids=lambda v: str(v)[:20])
def test_vectors_that_cannot_be_stored_are_refused(db, value):
    with pytest.raises(ValueError):
        db.put_vector("k", value)
    assert len(db) == 0


def test_text_that_utf8_cannot_encode_is_refused_by_put_text(db):
    with pytest.raises(synadb.ArgumentError, match="UTF-8"):
        db.put_text("k", "lone \ud800")
    assert len(db) == 0


def test_bytes_that_are_not_contiguous_are_refused(db):
    with pytest.raises((BufferError, ValueError)):
        db.put_bytes("k", memoryview(b"abcdef")[::2])
    assert len(db) == 0


# --------------------------------------------------------------------------------- paths, files


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_paths_that_name_nothing(path):
    with pytest.raises(synadb.InvalidPathError) as caught:
        SynaDB(path)
    assert isinstance(caught.value, ValueError) and caught.value.code == -2


@pytest.mark.parametrize("path", [None, 5, 1.5, ["a"]])
def test_paths_of_the_wrong_type(path):
    with pytest.raises(TypeError):
        SynaDB(path)


def test_a_folder_is_no_database(tmp_path):
    with pytest.raises(SynaError) as caught:
        SynaDB(tmp_path)
    assert caught.value.code in (-2, -3) and os.listdir(tmp_path) == []


def test_a_missing_folder_is_not_created(tmp_path):
    with pytest.raises(SynaError):
        SynaDB(tmp_path / "missing" / "x.db")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"text file\n" * 50, b"PK\x03\x04" + b"\0" * 500, os.urandom(3000), b"\x89SYNADB\n" * 50],
)
def test_a_foreign_file_is_refused_and_left_untouched(path, content):
    path.write_bytes(content)
    for options in ({}, {"read_only": True}, {"shared": True}):
        with pytest.raises(SynaError) as caught:
            SynaDB(path, **options)
        assert caught.value.code == -4
    assert path.read_bytes() == content and os.listdir(path.parent) == [path.name]


def test_a_file_without_permission(python):
    done = python(
        """
        import os, tempfile, synadb
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            path = os.path.join(folder, "x.db")
            synadb.SynaDB(path).close()
            for mode in (0, 0o444):
                os.chmod(path, mode)
                pid = os.fork()
                if pid == 0:
                    if os.geteuid() == 0:
                        os.setuid(65534)
                    try:
                        synadb.SynaDB(path)
                    except PermissionError as error:
                        right = isinstance(error, synadb.SynaIOError) and error.filename == path
                        os.write(1, b"refused\\n" if right and error.code == -3 else b"wrong\\n")
                    os._exit(0)
                os.waitpid(pid, 0)
        """
    )
    assert done.split() == ["refused", "refused"]


def test_a_second_writer_in_another_process_is_refused_at_once(path, python):
    with SynaDB(path) as db:
        db["k"] = 1
        done = python(
            """
            import sys, synadb
            try:
                synadb.SynaDB(sys.argv[1])
            except OSError as error:
                print(type(error).__name__, error.code, error.reason.name, error.filename)
            """,
            path,
        )
    assert done.split() == ["LockedError", "-3", "LOCKED", str(path)]


def test_a_reader_in_another_process_sees_what_is_new_after_refresh(path, python):
    import subprocess
    import sys

    code = (
        "import sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1], read_only=True) as db:\n"
        "    for line in sys.stdin:\n"
        "        print(db.refresh(), db['k'], flush=True)\n"
    )
    with SynaDB(path) as db:
        db["k"] = 1
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as reader:  # fmt: skip

            def ask():
                reader.stdin.write("\n")
                reader.stdin.flush()
                return reader.stdout.readline().split()

            assert ask()[1] == "1"
            db["k"] = 2
            assert ask() == ["True", "2"]
            assert ask() == ["False", "2"]
            db.compact()
            db["k"] = 3
            assert ask() == ["True", "3"]
            reader.stdin.close()
            assert reader.wait(timeout=30) == 0


def test_several_processes_write_to_a_shared_file(path):
    import subprocess
    import sys

    code = (
        "import sys, synadb\n"
        "with synadb.SynaDB(sys.argv[1], False, shared=True, timeout=30) as db:\n"
        "    for i in range(200):\n"
        "        db.put_int('count/' + sys.argv[2], i)\n"
        "        db.put_float('all', float(i))\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(3)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0]
    with SynaDB(path) as db:
        assert [db.get_int(f"count/{n}") for n in range(3)] == [199] * 3
        assert len(db.get_history_tensor("all")) == 600
        assert db.verify().ok


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_a_timeout_that_makes_no_sense_is_refused(path, timeout):
    with pytest.raises(ValueError, match="timeout"):
        SynaDB(path, timeout=timeout)
    assert not path.exists()


def test_damage_under_an_open_handle_is_reported_with_its_place(path):
    with SynaDB(path) as db:
        for i in range(100):
            db.put_text(f"k{i:02}", "value " * 10)
    with open(path, "r+b") as file:
        file.seek(3000)
        file.write(b"\xff" * 8)
    with pytest.raises(synadb.CorruptionError) as caught:
        with SynaDB(path, read_only=True) as db:
            for key in db:
                db[key]
    assert caught.value.path == str(path) and 0 < caught.value.offset <= 3000
    assert caught.value.code == -4 and caught.value.reason == Reason.CORRUPT


# ------------------------------------------------------------------------------------- classes

BUILTIN = {
    "ArgumentError": ValueError, "InvalidKeyError": ValueError, "IntegerRangeError": OverflowError,
    "InvalidPathError": ValueError, "SynaIOError": OSError, "LockedError": OSError,
    "FileMissingError": FileNotFoundError, "FilePermissionError": PermissionError,
    "KeyNotFoundError": KeyError, "TypeMismatchError": TypeError, "InternalError": RuntimeError,
    "OutOfMemoryError": MemoryError, "ForkedError": RuntimeError,
    "NotInitializedError": RuntimeError,
}  # fmt: skip


def all_classes():
    return [getattr(errors, name) for name in errors.__all__ if name not in ("Reason",)]


@pytest.mark.parametrize("cls", all_classes(), ids=lambda c: c.__name__)
def test_every_error_carries_what_is_known_and_survives_pickling(cls):
    error = cls(-3, "message", path="/p", offset=7, errno=28, reason=Reason.NO_SPACE)
    assert issubclass(cls, BUILTIN.get(cls.__name__, SynaError))
    for twin in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is cls and str(twin) == "message"
        assert (twin.code, twin.message, twin.path, twin.offset, twin.errno) == (
            -3,
            "message",
            "/p",
            7,
            28,
        )
        assert twin.reason is Reason.NO_SPACE
        if isinstance(twin, OSError):
            assert twin.filename == "/p" and twin.errno == 28
    assert str(cls(0, "only")) == "only"


EXPECTED = {
    (0, 0): "SynaError", (0, 1): "ArgumentError", (0, 5): "ForkedError", (0, 11): "CancelledError",
    (0, 12): "ReadOnlyError", (0, 13): "NotInitializedError", (-1, 0): "NotOpenError",
    (-1, 6): "ClosedError", (-2, 1): "InvalidPathError",
    (-3, 0): "SynaIOError", (-3, 2): "LockedError", (-3, 3): "SynaIOError", (-3, 4): "SynaIOError",
    (-4, 7): "CorruptionError", (-4, 8): "FormatVersionError", (-4, 9): "WrongKindError",
    (-5, 0): "KeyNotFoundError", (-6, 0): "TypeMismatchError", (-7, 1): "InvalidKeyError",
    (-8, 1): "InvalidKeyError", (-100, 0): "InternalError", (-100, 10): "OutOfMemoryError",
    (-3, 99): "SynaIOError",
}  # fmt: skip


@pytest.mark.parametrize("code, reason", EXPECTED)
def test_the_class_follows_from_code_and_reason(code, reason):
    assert type(make_error(code, "m", reason)).__name__ == EXPECTED[code, reason]


def test_the_table_in_the_documentation_is_complete():
    for cls in all_classes()[1:]:
        assert f"`{cls.__name__}`" in errors.__doc__ or cls is SynaError
