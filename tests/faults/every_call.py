"""T5 and T6 through Python: every method of SynaDB with its k-th allocation, and its k-th call of
the system, failing, for k = 1, 2, ... until it passes. Run by test_every_call.py.

What must come out: MemoryError or OSError with errno and file name, nothing else; the contents as
they were; the same call succeeds afterwards, or, once a sync has failed, after opening again."""

from __future__ import annotations

import errno
import gc

import numpy as np

import synadb
from synadb import SynaDB
from synadb._core import _testing

PATH = "/mem/faults.db"


def fill(db):
    db["config"] = {"lr": 0.5, "tags": ["a", "b"]}
    db.put_float("x", 1.5)
    db.put_text("t", "text " * 50)
    db.append_floats("h", np.arange(20.0))
    with db.open_blob("blob", "wb") as out:
        out.write(b"piece" * 100)


def write_batch(db):
    with db.batch() as batch:
        batch["new"] = 1
        batch.delete("x")


def write_blob(db):
    with db.open_blob("blob", "wb") as out:
        out.write(b"other" * 300)


def read_blob(db):
    with db.open_blob("blob") as source:
        assert len(source.read()) in (500, 1500)


def back_up(db):
    db.backup("/mem/copy.db")
    _testing.remove("/mem/copy.db")


def reopen(db):
    db.close()
    with SynaDB(PATH) as again:
        again["again"] = 1


WRITES = {
    "put_int": lambda db: db.put_int("n", 7),
    "setitem": lambda db: db.__setitem__("config", [1, 2.5, None, "x" * 300]),
    "put_many": lambda db: db.put_many({f"key {i}": i for i in range(10)}),
    "put_vector": lambda db: db.put_vector("v", [1.0, 2.0]),
    "append_floats": lambda db: db.append_floats("h", np.linspace(0, 1, 50)),
    "delete": lambda db: db.delete("x"),
    "batch": write_batch,
    "blob": write_blob,
    "compact": lambda db: db.compact(),
    "compact with history": lambda db: db.compact(keep_history=True),
    "compact with live histories": lambda db: db.compact(keep_history="live"),
    "flush": lambda db: db.flush(),
    "close and open": reopen,
}
READS = {
    "get": lambda db: [db["config"], db.get_text("t"), db.get_float("x")],
    "get at": lambda db: db.get("config", at=1e9),
    "get_many": lambda db: db.get_many(["x", "t", "none"]),
    "history": lambda db: [db.get_history("h"), db.get_history_tensor("h"), db.get_history("t")],
    "scan": lambda db: list(db.scan()),
    "keys": lambda db: [db.keys(), len(db), "x" in db],
    "read a blob": read_blob,
    "stats": lambda db: db.stats(),
    "verify": lambda db: db.verify(),
    "backup": back_up,
    "a reader": lambda db: dict(SynaDB(PATH, read_only=True)),
}


def contents(db):
    return {key: repr(db[key]) for key in db}, [repr(v) for v in db.get_history("h").values]


def check_error(error, system):
    if system == 0:
        assert isinstance(error, MemoryError), repr(error)
        assert isinstance(error, synadb.OutOfMemoryError), repr(error)
    elif not isinstance(error, MemoryError):  # address space that could not be reserved
        assert isinstance(error, OSError) and isinstance(error, synadb.SynaIOError), repr(error)
        assert error.errno == system, repr(error)
        assert error.filename and error.filename.startswith("/mem/"), repr(error.filename)


def arm(system, k):
    if system:
        _testing.fail_io(k, system)
    else:
        _testing.fail_alloc(k)


def disarm():
    fired, what = _testing.fired()
    _testing.fail_alloc(0)
    _testing.fail_io(0, 0)
    return fired, what


def attempt(name, call, writes, system, k):
    """False: the call passed before its k-th."""
    _testing.use_vfs("mem")
    gc.collect()
    blocks = _testing.counters()["live_blocks"]
    db = SynaDB(PATH)
    fill(db)
    before = contents(db)
    arm(system, k)
    try:
        call(db)
        error = None
    except Exception as caught:  # whatever comes out is looked at
        error = caught.with_traceback(None)
    fired, what = disarm()
    where = f"{name}, {errno.errorcode.get(system, 'no memory')}, k = {k} ({what}): {error!r}"
    if error is not None:
        assert fired, where
        check_error(error, system)
        after_failure(db, call, before, writes, what, where)
    db.close()
    with SynaDB(PATH) as again:
        again["works"] = True
        assert again.verify().ok, where
    del error, call
    gc.collect()
    counters = _testing.counters()
    assert counters["open_files"] == 0 and counters["live_blocks"] == blocks, where
    assert _testing.faults() == "", where
    return fired


def after_failure(db, call, before, writes, what, where):
    if db.closed:  # closing is final, whatever it reported
        return
    # Only a compaction whose new file has its name already cannot go back: values stay the same.
    now, whole = contents(db), what != "sync_dir"
    assert now == before if whole else now[0] == before[0], where
    try:
        call(db)
    except synadb.SynaIOError as error:
        final = error.reason == synadb.errors.Reason.SYNC_FAILED
        assert writes and final, f"{where}; then {error!r}"


def main():
    for system in (0, errno.EIO, errno.ENOSPC):
        total = 0
        for calls, writes in ((WRITES, True), (READS, False)):
            for name, call in calls.items():
                k = 1
                while attempt(name, call, writes, system, k):
                    k += 1
                total += k - 1
        print(f"{errno.errorcode.get(system, 'no memory')}: {total} failures")
    _testing.use_vfs("posix")


if __name__ == "__main__":
    main()
