"""libsynadb from another runtime: cffi reads the headers as they are and calls through them. What
the headers say about ownership, struct sizes, callbacks and codes is what a caller without Cython
gets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import synadb

cffi = pytest.importorskip("cffi")

PACKAGE = Path(synadb.__file__).resolve().parent
LIBRARY = next((PACKAGE / "lib").glob("libsynadb.*"))
INCLUDE = next(p for p in (PACKAGE / "include", PACKAGE.parent / "include") if p.is_dir())


def declarations() -> str:
    """The headers without what only a preprocessor understands."""
    text = "".join(
        (INCLUDE / "synadb" / name).read_text("utf-8") for name in ("base.h", "kv.h", "vector.h")
    )
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r'extern "C" \{', "", text)
    text = re.sub(r"#ifdef __cplusplus\s*\}\s*#endif", "", text)
    numbers = re.findall(r"^#define (SYNA_\w+) \(?(-?(?:0x)?[0-9a-fA-F]+)u?\)?\s*$", text, re.M)
    text = re.sub(r"^#(?:[^\n]*\\\n)*[^\n]*$", "", text, flags=re.M)
    return text.replace("SYNA_API", "") + "".join(
        f"\n#define {name} {value}" for name, value in numbers
    )


@pytest.fixture(scope="module")
def ffi():
    ffi = cffi.FFI()
    ffi.cdef(declarations())
    return ffi


@pytest.fixture(scope="module")
def lib(ffi):
    return ffi.dlopen(os.fspath(LIBRARY))


@pytest.fixture
def db(ffi, lib, tmp_path):
    handle = ffi.new("syna_db **")
    options = ffi.new("syna_db_options *", {"size": ffi.sizeof("syna_db_options"), "no_sync": 1})
    assert lib.syna_db_open(os.fsencode(tmp_path / "a.db"), options, handle) == lib.SYNA_SUCCESS
    yield handle[0]
    assert lib.syna_db_close(handle[0]) == lib.SYNA_SUCCESS


def test_every_declared_function_is_there(ffi, lib):
    names = set(re.findall(r"\b(syna_\w+)\(", declarations()))
    assert len(names) > 60
    for name in names:
        assert getattr(lib, name), name


def test_the_path_keyed_face(ffi, lib, tmp_path):
    path = os.fsencode(tmp_path / "p.db")
    assert lib.syna_open(path) == lib.SYNA_SUCCESS
    assert lib.syna_put_float(path, b"f", 1.5) >= 0
    assert lib.syna_put_bytes(path, b"b", b"a\0b", 3) > 0
    length = ffi.new("size_t *")
    data = lib.syna_get_bytes(path, b"b", length)
    assert ffi.buffer(data, length[0])[:] == b"a\0b"
    lib.syna_free_bytes(data, 0)
    keys = lib.syna_keys(path, length)
    assert [ffi.string(keys[i]) for i in range(length[0])] == [b"b", b"f"]
    lib.syna_free_keys(keys, 0)
    assert lib.syna_get_bytes(path, b"f", length) == ffi.NULL and length[0] == 0
    assert b"float" in ffi.string(lib.syna_last_error())
    assert lib.syna_put_float(path, b"", 1.0) == lib.SYNA_ERR_EMPTY_KEY
    assert lib.syna_close(path) == lib.SYNA_SUCCESS
    assert lib.syna_exists(path, b"f") == lib.SYNA_ERR_DB_NOT_FOUND


def test_histories_call_back(ffi, lib, db):
    times = ffi.new("uint64_t[]", [10, 20, 30])
    values = ffi.new("double[]", [1.0, 2.0, 4.0])
    assert lib.syna_db_append_floats(db, b"h", 1, values, times, 3) == lib.SYNA_SUCCESS
    seen = []

    @ffi.callback("syna_record_fn")
    def visit(context, record):
        assert record.size == ffi.sizeof("syna_record")
        value = ffi.cast("double *", record.data)[0]
        seen.append((record.time_us, value, record.type))
        return 0

    assert lib.syna_db_history(db, b"h", 1, visit, ffi.NULL) == lib.SYNA_SUCCESS
    assert seen == [(10, 1.0, 1), (20, 2.0, 1), (30, 4.0, 1)]


def test_a_batch_a_scan_and_a_blob(ffi, lib, db):
    batch = ffi.new("syna_batch **")
    assert lib.syna_batch_new(db, batch) == lib.SYNA_SUCCESS
    for key in (b"b", b"a", b"c"):
        assert lib.syna_batch_put(batch[0], key, 1, 3, key, 1, ffi.NULL) == lib.SYNA_SUCCESS
    assert lib.syna_batch_commit(batch[0]) == lib.SYNA_SUCCESS
    lib.syna_batch_free(batch[0])

    blob = ffi.new("syna_blob **")
    assert lib.syna_blob_create(db, b"d", 1, blob) == lib.SYNA_SUCCESS
    assert lib.syna_blob_write(blob[0], b"x" * 100000, 100000) == lib.SYNA_SUCCESS
    assert lib.syna_blob_finish(blob[0]) == lib.SYNA_SUCCESS
    lib.syna_blob_free(blob[0])

    scan = ffi.new("syna_scan **")
    record = ffi.new("syna_record *", {"size": ffi.sizeof("syna_record")})
    null = ffi.NULL
    assert lib.syna_scan_new(db, null, 0, b"b", 1, null, 0, 1, scan) == lib.SYNA_SUCCESS
    seen = []
    while lib.syna_scan_next(scan[0], record) == lib.SYNA_SUCCESS:
        seen.append((ffi.buffer(record.key, record.key_len)[:], record.type, record.len))
    lib.syna_scan_free(scan[0])
    assert seen == [(b"b", 3, 1), (b"c", 3, 1), (b"d", 7, 100000)]


def test_long_calls_can_be_stopped(ffi, lib, db, tmp_path):
    assert lib.syna_db_put_int(db, b"k", 1, 5, ffi.NULL) == lib.SYNA_SUCCESS
    asked = []

    @ffi.callback("syna_progress_fn")
    def stop(context, done, total):
        asked.append((done, total))
        return 1

    assert lib.syna_db_compact(db, 0, stop, ffi.NULL) == lib.SYNA_ERR_GENERIC
    assert lib.syna_last_reason() == 11 and asked  # CANCELLED
    assert lib.syna_db_backup(db, os.fsencode(tmp_path / "b.db"), stop, ffi.NULL) == 0
    assert not (tmp_path / "b.db").exists()


def test_verify_lists_what_it_finds(ffi, lib, tmp_path):
    path = tmp_path / "v.db"
    assert lib.syna_open(os.fsencode(path)) == lib.SYNA_SUCCESS
    for number in range(10):
        assert lib.syna_put_int(os.fsencode(path), b"key %d" % number, number) > 0
    assert lib.syna_close(os.fsencode(path)) == lib.SYNA_SUCCESS
    data = bytearray(path.read_bytes())
    data[data.index(b"key 4") + 1] ^= 1
    path.write_bytes(data)
    findings = []

    @ffi.callback("syna_finding_fn")
    def note(context, offset, text):
        findings.append((offset, ffi.string(text)))
        return 0

    check = ffi.new("syna_check *", {"size": ffi.sizeof("syna_check")})
    null = ffi.NULL
    assert lib.syna_verify(os.fsencode(path), note, null, null, check) == lib.SYNA_SUCCESS
    assert check.damaged == 1 and len(findings) == 1
    assert findings[0][0] == data.index(b"kdy 4") - 15  # the frame's header is 15 bytes
    saved = os.fsencode(tmp_path / "s.db")
    assert lib.syna_salvage(os.fsencode(path), saved, null, null, null, check) == lib.SYNA_SUCCESS
    assert check.records_saved == 9
