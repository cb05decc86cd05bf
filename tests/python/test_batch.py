"""Batches: together or not at all."""

import threading

import numpy as np
import pytest

import synadb
from synadb import SynaDB


def test_a_batch_writes_everything_with_one_sync(path):
    with SynaDB(path) as db:
        db["old"] = 1
        before = db.stats()
        with db.batch() as batch:
            for i in range(100):
                batch[f"k{i}"] = i
            batch.put("packed", [1, (2,)])
            batch.put_float("float", 1.5)
            batch.put_int("int", 2)
            batch.put_text("text", "t")
            batch.put_bytes("bytes", bytearray(b"b"))
            batch.put_vector("vector", [1, 2])
            batch.update({"u": 1, "v": None})
            batch.delete("old")
            del batch["never there"]
            assert len(batch) == 110
            assert len(db) == 1 and "float" not in db
        after = db.stats()
        assert (after.commits - before.commits, after.syncs - before.syncs) == (1, 1)
        check(db)
    with SynaDB(path) as db:
        check(db)


def check(db):
    assert len(db) == 108 and "old" not in db
    assert db["packed"] == [1, (2,)] and db["u"] == 1 and db["v"] is None
    assert (db.get_float("float"), db.get_int("int"), db.get_text("text")) == (1.5, 2, "t")
    assert db.get_bytes("bytes") == b"b" and db.get_vector("vector").tolist() == [1, 2]


def test_an_exception_writes_nothing(db):
    with pytest.raises(ZeroDivisionError), db.batch() as batch:
        batch["k"] = 1
        raise ZeroDivisionError
    assert "k" not in db and db.stats().frames == 0


@pytest.mark.parametrize(
    "bad",
    [
        lambda b: b.put_float("k", "x"), lambda b: b.put_int("k", 2**63),
        lambda b: b.put_text("k", b"x"),
        lambda b: b.put_bytes("k", "x"), lambda b: b.put_vector("k", [np.nan]),
        lambda b: b.put("k", object()),
        lambda b: b.put("", 1), lambda b: b.put(5, 1), lambda b: b.delete(""),
        lambda b: b.update([1]),
        lambda b: b.put("k", 1, ttl=-1), lambda b: b.put("a\0b", 1),
    ],
)  # fmt: skip
def test_a_refused_value_leaves_the_batch_as_it_was(db, bad):
    with db.batch() as batch:
        batch["before"] = 1
        with pytest.raises((TypeError, ValueError)):
            bad(batch)
        assert len(batch) == 1
        batch["after"] = 2
    assert dict(db) == {"before": 1, "after": 2}


def test_the_last_write_to_a_key_wins(db):
    with db.batch() as batch:
        batch["k"] = 1
        batch.delete("k")
        batch["k"] = 2.5
    assert db["k"] == 2.5 and db.get_history("k").values == [1, 2.5]


def test_a_batch_can_be_committed_and_filled_again(db):
    batch = db.batch()
    batch["a"] = 1
    batch.commit()
    assert len(batch) == 0 and db["a"] == 1
    batch["b"] = 2
    batch.discard()
    assert "b" not in db
    with pytest.raises(synadb.ClosedError):
        batch["c"] = 3
    batch.discard()


def test_discarding_inside_the_block_is_no_error(db):
    with db.batch() as batch:
        batch["a"] = 1
        batch.discard()
    assert "a" not in db


def test_an_empty_batch_writes_nothing(db):
    with db.batch():
        pass
    assert db.stats().frames == 0


def test_options_hold_in_batches(db):
    with db.batch() as batch:
        batch.put_float("k", 1.0, when=1_700_000_000.0, ttl=3600)
    assert db.get_history("k").timestamps.astype(np.int64).tolist() == [1_700_000_000_000_000]


def test_closing_the_database_ends_its_batches(path):
    db = SynaDB(path)
    batch = db.batch()
    batch["k"] = 1
    db.close()
    with pytest.raises(synadb.ClosedError):
        batch.commit()
    with SynaDB(path) as db:
        assert "k" not in db


def test_leaving_the_block_after_the_database_closed_is_an_error(path):
    db = SynaDB(path)
    with pytest.raises(synadb.ClosedError), db.batch() as batch:
        batch["k"] = 1
        db.close()


def test_batches_of_many_threads_do_not_mix(db):
    def work(n):
        for round in range(20):
            with db.batch() as batch:
                for i in range(20):
                    batch[f"t{n}/{i}"] = round

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for n in range(4):
            seen = [value for _, value in db.scan(f"t{n}/")]
            assert len(seen) in (0, 20)
    assert all(value == 19 for value in db.values()) and len(db) == 80
