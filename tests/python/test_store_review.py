"""What whoever keeps files beside the store expects: a path that was given to another file is left
to it, permissions stay as they were set, what is refused is refused in the same way everywhere."""

import os
import stat
import subprocess
import sys
import tempfile

import numpy as np
import pytest

from synadb import MmapVectorStore, SynaDB, salvage
from synadb.cli import main
from synadb.errors import ClosedError, FileMissingError, InvalidKeyError, SynaIOError

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def access(path):
    found = os.stat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


# ---------------------------------------------------------------- a path that was given away


@pytest.mark.parametrize("keep_history", [False, True])
def test_P6_compaction_leaves_a_file_alone_that_has_the_name_now(tmp_path, keep_history):
    path, moved = tmp_path / "a.db", tmp_path / "moved.db"
    with SynaDB(path) as db:
        db["mine"] = 1
        os.rename(path, moved)
        code = f"import synadb; d = synadb.SynaDB({str(path)!r}); d['theirs'] = 2; d.close()"
        subprocess.run([sys.executable, "-c", code], check=True)
        theirs = path.read_bytes()
        with pytest.raises(SynaIOError, match="another file has this name now"):
            db.compact(keep_history)
        assert path.read_bytes() == theirs
        db["mine"] = 3  # writing goes on, to the file that was opened
    assert sorted(os.listdir(tmp_path)) == ["a.db", "moved.db"]
    with SynaDB(path) as db, SynaDB(moved) as other:
        assert dict(db) == {"theirs": 2} and dict(other) == {"mine": 3}


def test_compaction_of_a_file_that_was_deleted_brings_nothing_back(tmp_path):
    path = tmp_path / "a.db"
    with SynaDB(path) as db:
        db["a"] = 1
        path.unlink()
        with pytest.raises(FileMissingError):
            db.compact()
        assert db["a"] == 1 and os.listdir(tmp_path) == []


def test_P6_a_row_file_that_has_the_name_now_stays_as_it_is_too(tmp_path):
    path, moved = tmp_path / "a.mmap", tmp_path / "moved.mmap"
    with MmapVectorStore(path, dimensions=2) as store:
        store.insert("mine", [1.0, 2.0])
        store.checkpoint()
        os.rename(path, moved)
        path.write_bytes(b"theirs")
        with pytest.raises(SynaIOError, match="another file has this name now"):
            store.compact()
        assert path.read_bytes() == b"theirs" and store.keys() == ["mine"]
    with MmapVectorStore(moved, dimensions=2) as store:
        assert store.keys() == ["mine"]


# ---------------------------------------------------------------------------- permissions


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_compaction_keeps_permissions_and_owner(tmp_path, mode):
    path = tmp_path / "a.db"
    with SynaDB(path) as db:
        db["a"] = 1
    os.chmod(path, mode)
    if ROOT:
        os.chown(path, 1234, 2345)
    before = access(path)
    with SynaDB(path) as db:
        inode = os.stat(path).st_ino
        db.compact()
        assert os.stat(path).st_ino != inode
    assert access(path) == before and before[0] == mode


@pytest.mark.skipif(not ROOT, reason="only root can give a file to a group it is not in")
def test_permissions_of_a_group_go_when_the_new_file_cannot_be_given_to_it():
    nobody, theirs, before = 65534, 2345, (os.getgroups(), os.getegid())
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.db")
        SynaDB(path).close()
        os.chown(folder, nobody, nobody)
        os.chown(path, nobody, theirs)
        os.chmod(path, 0o664)
        os.setgroups([])
        os.setegid(nobody)
        os.seteuid(nobody)
        try:
            with SynaDB(path) as db:
                db.compact()
        finally:
            os.seteuid(0)
            os.setegid(before[1])
            os.setgroups(before[0])
        assert access(path) == (0o604, nobody, nobody)


def test_what_is_made_of_a_private_database_is_private(tmp_path):
    path = tmp_path / "a.db"
    SynaDB(path).close()
    os.chmod(path, 0o600)
    with SynaDB(path, sync_on_write=False) as db:
        db.put_many({f"key/{i}": i for i in range(40_000)})
        db.backup(tmp_path / "copy.db")
    assert access(tmp_path / "a.db.idx")[0] == 0o600  # the key checkpoint
    assert access(tmp_path / "copy.db")[0] == 0o600


def test_a_tail_that_is_set_aside_is_as_private_as_its_file(tmp_path):
    path = tmp_path / "a.db"
    with SynaDB(path) as db:
        db["a"] = 1
        offset = db.put_text("secret", "not for others")
        torn = bytearray(path.read_bytes())
    torn[offset + 30] ^= 1
    path.write_bytes(torn)
    os.chmod(path, 0o600)
    with SynaDB(path) as db:
        assert db.open_report.cut_saved and dict(db) == {"a": 1}
    assert access(tmp_path / "a.db.cut")[0] == 0o600


def test_what_is_salvaged_from_a_private_database_is_private(tmp_path):
    path = tmp_path / "a.db"
    with SynaDB(path) as db:
        db["a"] = 1
    os.chmod(path, 0o600)
    salvage(path, tmp_path / "saved.db")
    assert access(tmp_path / "saved.db")[0] == 0o600


# -------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda db: db.exists("a\0b"), lambda db: "a\0b" in db, lambda db: db["a\0b"],
        lambda db: db.put("a\0b", 1), lambda db: db.delete("a\0b"), lambda db: db.get("a\0b"),
        lambda db: db.put_many({"a": 1, "a\0b": 2}), lambda db: db.open_blob("a\0b", "wb"),
        lambda db: db.append_floats("a\0b", [1.0]), lambda db: list(db.scan("a\0b")),
    ],
)  # fmt: skip
def test_a_key_with_nul_is_an_invalid_key_for_every_method(tmp_path, call):
    with SynaDB(tmp_path / "a.db") as db:
        with pytest.raises(InvalidKeyError, match="NUL"):
            call(db)
        assert len(db) == 0 and db.stats().frames == 0


def test_texts_of_subclasses_are_texts(tmp_path):
    text = type("Text", (str,), {})("sub")
    with SynaDB(tmp_path / "a.db") as db:
        db.put_text("a", np.str_("numpy"))
        db.put_text("b", text)
        with db.batch() as batch:
            batch.put_text("c", np.str_("batch"))
        found = [db.get_text(key) for key in "abc"]
        for wrong in (b"x", 5, None):
            with pytest.raises(TypeError, match=type(wrong).__name__):
                db.put_text("a", wrong)
    assert found == ["numpy", "sub", "batch"] and {type(one) for one in found} == {str}


def test_a_closed_database_is_not_entered_again(tmp_path):
    db = SynaDB(tmp_path / "a.db")
    db.close()
    with pytest.raises(ClosedError), db:
        pass
    with pytest.raises(ClosedError):
        db.get_many([])


# ----------------------------------------------------------------------------- command line


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_put_int_refuses_what_no_get_int_could_read(tmp_path, capsys, number):
    path = tmp_path / "a.db"
    assert main(["put", str(path), "k", "-t", "int", "--", str(number)]) == 1
    assert "64 signed bits" in capsys.readouterr().err and not path.exists()


@pytest.mark.parametrize(
    "wrong, right",
    [("serch", "search"), ("exprt", "export"), ("imprt", "import"), ("inf", "info")],
)
def test_every_command_is_suggested(capsys, wrong, right):
    with pytest.raises(SystemExit) as left:
        main([wrong, "a.db"])
    assert left.value.code == 2
    assert f"unknown command '{wrong}'; did you mean {right}" in capsys.readouterr().err


def test_a_key_that_was_not_there_yet_is_not_suggested_for_itself(tmp_path, capsys):
    path = tmp_path / "a.db"
    with SynaDB(path) as db:
        db["k"] = 1
    assert main(["get", str(path), "k", "--at", "1h"]) == 1
    err = capsys.readouterr().err
    assert "no value under key 'k' at that time" in err and "did you mean" not in err
