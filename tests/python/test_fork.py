"""Databases and processes made by fork, spawn and forkserver."""

import multiprocessing
import operator
import os
import threading

import pytest

import synadb
from synadb import SynaDB

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork"),
]


def in_child(work):
    """Run `work` in a forked child; what it returned as text, or the exception's name."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = str(work())
        except BaseException as error:
            result = type(error).__name__
        os.write(write, result.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        result = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return result


def test_a_child_reads(db):
    db["k"] = [1, "a"]
    db.append_floats("f", range(100))
    assert in_child(lambda: db["k"]) == "[1, 'a']"
    assert in_child(lambda: db.get_history_tensor("f").sum()) == "4950.0"
    assert in_child(lambda: list(db.scan("k"))) == "[('k', [1, 'a'])]"


def test_a_child_that_opens_a_shared_database_again_writes(tmp_path):
    path = tmp_path / "shared.db"

    def again():
        with SynaDB(path, shared=True) as mine:
            mine["child"] = parent["parent"] + 1
            return mine["child"]

    with SynaDB(path, shared=True) as parent:
        parent["parent"] = 1
        assert in_child(again) == "2"
        parent["parent"] = 2
        parent.refresh()
        assert dict(parent.items()) == {"child": 2, "parent": 2}


def test_a_child_may_not_write(db):
    db["k"] = 1

    def batch():
        with db.batch() as b:
            b["k"] = 2

    for write in (lambda: db.put_int("k", 2), lambda: db.delete("k"), db.compact, batch,
                  lambda: db.put_many({"a": 1}), lambda: db.append_floats("k", [1.0]),
                  lambda: db.open_blob("b", "wb")):  # fmt: skip
        assert in_child(write) == "ForkedError"
    assert db["k"] == 1
    db["k"] = 2
    assert db.verify().ok


def test_a_child_that_closes_takes_nothing_from_the_parent(path, python):
    with SynaDB(path, sync_on_write=False) as db:
        db["k"] = 1
        assert in_child(db.close) == "None"
        done = python(
            """
            import sys, synadb
            try:
                synadb.SynaDB(sys.argv[1])
            except OSError as error:
                print(error.reason.name)
            """,
            path,
        )
        assert done.strip() == "LOCKED"
        db["k"] = 2
    with SynaDB(path) as db:
        assert db["k"] == 2 and db.open_report.clean


def test_a_child_closes_although_another_thread_was_in_a_call(path, tmp_path):
    db = SynaDB(path, sync_on_write=False)
    db.put_many({f"k{i}": os.urandom(1000) for i in range(2000)})
    go_on, seen = threading.Event(), threading.Event()

    def progress(done, total):
        seen.set()
        go_on.wait(20)

    worker = threading.Thread(target=lambda: db.backup(tmp_path / "b.db", progress=progress))
    worker.start()
    assert seen.wait(10)
    assert in_child(db.close) == "None"
    go_on.set()
    worker.join()
    db.close()


@pytest.mark.parametrize("round", range(10))
def test_forking_while_another_thread_writes(path, round):
    with SynaDB(path, sync_on_write=False) as db:
        stop = threading.Event()

        def work():
            i = 0
            while not stop.is_set():
                db.put_int("k", i)
                i += 1

        worker = threading.Thread(target=work)
        worker.start()
        try:
            for _ in range(5):
                assert int(in_child(lambda: db.get("k", -1))) >= -1
        finally:
            stop.set()
            worker.join()
        assert db.verify().ok


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_database_can_be_handed_to_a_new_process(path, method):
    with SynaDB(path) as db, multiprocessing.get_context(method).Pool(1) as pool:
        db["k"] = [1]
        assert pool.apply(operator.getitem, (db, "k")) == [1]
        assert pool.apply(getattr, (db, "read_only")) is True
        with pytest.raises(synadb.ReadOnlyError):
            pool.apply(operator.setitem, (db, "k", 2))
        db["k"] = 2
        assert pool.apply(operator.getitem, (db, "k")) == 2
