"""Values as files."""

import gc
import hashlib
import io
import os
import shutil
import zipfile

import pytest

import synadb
from synadb import SynaDB

CHUNK = 4 << 20  # the core's own pieces


def write(db, key, data, piece=1 << 20):
    with db.open_blob(key, "wb") as out:
        for at in range(0, len(data), piece):
            assert out.write(data[at : at + piece]) == len(data[at : at + piece])


@pytest.mark.parametrize("size", [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 12345])
def test_what_was_written_is_read(path, size):
    data = os.urandom(size)
    with SynaDB(path, sync_on_write=False) as db:
        write(db, "blob", data)
        assert db.type_of("blob") == "blob"
    with SynaDB(path) as db:
        with db.open_blob("blob") as source:
            assert source.read() == data and source.read() == b"" and len(source) == size
        assert db.get_bytes("blob") == data and db["blob"] == data and db.get("blob") == data
        assert db.verify().ok
        db.compact()
        assert hashlib.sha256(db["blob"]).digest() == hashlib.sha256(data).digest()


def test_reading_at_every_offset(db):
    data = os.urandom(CHUNK + 1000)
    write(db, "b", data)
    with db.open_blob("b") as source:
        assert source.readable() and source.seekable() and not source.writable()
        for at, length in [
            (0, 10),
            (CHUNK - 5, 10),
            (CHUNK, 1),
            (len(data) - 3, 10),
            (len(data) + 5, 1),
        ]:
            assert source.seek(at) == at == source.tell()
            assert source.read(length) == data[at : at + length]
        assert source.seek(-10, io.SEEK_END) == len(data) - 10
        assert source.seek(5, io.SEEK_CUR) == len(data) - 5
        assert source.readall() == data[-5:]
        for arguments in ((-1,), (-(10**9), io.SEEK_CUR), (0, 7)):
            with pytest.raises(ValueError):
                source.seek(*arguments)


def test_values_of_other_types_can_be_read_as_files(db):
    db.put_text("t", "\u00fcber")
    db.put_bytes("b", b"bytes")
    assert db.open_blob("t").read() == "\u00fcber".encode()
    assert db.open_blob("b").read() == b"bytes"
    db.put_float("f", 1.0)
    with pytest.raises(TypeError):
        db.open_blob("f")
    with pytest.raises(KeyError):
        db.open_blob("absent")


def test_it_works_with_the_standard_library(db, tmp_path):
    source = tmp_path / "in"
    source.write_bytes(os.urandom(3_000_000))
    with open(source, "rb") as file, db.open_blob("copy", "wb") as out:
        shutil.copyfileobj(file, out)
    with db.open_blob("copy") as file, open(tmp_path / "out", "wb") as out:
        shutil.copyfileobj(file, out)
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    with io.BufferedWriter(db.open_blob("lines", "wb")) as out:
        out.writelines(b"line %d\n" % i for i in range(10_000))
    with io.TextIOWrapper(io.BufferedReader(db.open_blob("lines"))) as lines:
        assert [int(line.split()[1]) for line in lines] == list(range(10_000))
    with db.open_blob("zip", "wb") as out, zipfile.ZipFile(out, "w") as archive:
        archive.writestr("name", b"content")
    with db.open_blob("zip") as source, zipfile.ZipFile(source) as archive:
        assert archive.read("name") == b"content"


def test_nothing_is_seen_before_it_is_closed(db):
    db["k"] = "old"
    out = db.open_blob("k", "wb")
    out.write(b"new" * 1000)
    assert db["k"] == "old"
    out.close()
    assert db["k"] == b"new" * 1000
    out.close()
    with pytest.raises(ValueError):
        out.write(b"x")


def test_an_exception_discards_what_was_written(db):
    with pytest.raises(ZeroDivisionError), db.open_blob("k", "wb") as out:
        out.write(b"x" * 100)
        raise ZeroDivisionError
    assert "k" not in db and out.closed


def test_discard(db):
    out = db.open_blob("k", "wb")
    out.write(b"x")
    out.discard()
    out.discard()
    assert "k" not in db and out.closed


def test_a_lost_writer_warns_and_stores_nothing(db):
    out = db.open_blob("k", "wb")
    out.write(b"half")
    with pytest.warns(ResourceWarning, match="'k'"):
        del out
        gc.collect()
    assert "k" not in db


def test_a_reader_keeps_the_version_it_opened(db):
    old = os.urandom(CHUNK + 5)
    write(db, "k", old)
    with db.open_blob("k") as source:
        source.read(10)
        write(db, "k", b"new")
        db.compact()
        assert source.readall() == old[10:]
    assert db["k"] == b"new"


def test_a_writer_survives_a_compaction(db):
    out = db.open_blob("k", "wb")
    first = os.urandom(CHUNK + 5)
    out.write(first)
    db.compact()
    out.write(b"end")
    out.close()
    assert db["k"] == first + b"end" and db.verify().ok


def test_an_empty_reader_is_true(db):
    write(db, "k", b"")
    source = db.open_blob("k")
    assert source and len(source) == 0 and source.read() == b""


def test_closed_files_refuse(db):
    write(db, "k", b"abc")
    source = db.open_blob("k")
    source.close()
    source.close()
    for call in (source.read, source.readall, source.tell, lambda: source.seek(0)):
        with pytest.raises(ValueError):
            call()


def test_closing_the_database_ends_its_blobs(path):
    db = SynaDB(path)
    write(db, "k", b"abc")
    source, out = db.open_blob("k"), db.open_blob("new", "wb")
    out.write(b"x")
    db.close()
    with pytest.raises(synadb.ClosedError):
        source.read()
    with pytest.raises(synadb.ClosedError):
        out.write(b"y")
    with pytest.raises(synadb.ClosedError):
        out.close()
    source.close()
    with SynaDB(path) as db:
        assert db.keys() == ["k"]


@pytest.mark.parametrize("mode", ["r", "w", "ab", "r+b", "", None])
def test_other_modes_are_refused(db, mode):
    with pytest.raises(ValueError, match="mode"):
        db.open_blob("k", mode)


def test_what_is_written_must_be_bytes(db):
    with pytest.raises(TypeError), db.open_blob("k", "wb") as out:
        out.write("text")
    with pytest.raises(TypeError):
        db.open_blob(5, "wb")
    with pytest.raises(ValueError):
        db.open_blob("", "wb")
