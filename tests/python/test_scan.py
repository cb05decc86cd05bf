"""Ordered scans."""

import gc
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synadb
from synadb import SynaDB

KEYS = ["", "a", "a/", "a/1", "a/2", "aa", "b", "\u00fc", "\uffff", "\U0001f600"][1:]


@pytest.fixture
def filled(db):
    db.put_many({key: f"value of {key}" for key in KEYS})
    return db


def test_a_scan_yields_pairs_in_order(filled):
    assert list(filled.scan()) == [(key, f"value of {key}") for key in sorted(KEYS)]


def test_a_scan_of_keys_yields_keys(filled):
    assert list(filled.scan(keys_only=True)) == sorted(KEYS)
    assert list(filled) == sorted(KEYS)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/1", "b", "zz", "\u00fc"])
def test_a_prefix(filled, prefix):
    assert list(filled.scan(prefix, keys_only=True)) == [
        k for k in sorted(KEYS) if k.startswith(prefix)
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from([None, *KEYS, "a0", "zz"]), st.sampled_from([None, *KEYS, "a0", "zz"]),
       st.sampled_from([None, "", "a", "a/"]))  # fmt: skip
def test_ranges_are_half_open(filled, start, end, prefix):
    expected = [
        k for k in sorted(KEYS)
        if (start is None or k >= start) and (end is None or k < end) and k.startswith(prefix or "")
    ]  # fmt: skip
    assert list(filled.scan(prefix, start=start, end=end, keys_only=True)) == expected


def test_every_type_of_value_is_read(db):
    values = {"a": 1.5, "b": 2, "c": "x", "d": b"y", "e": None, "f": {"g": [1]}, "h": "z" * 5000}
    db.put_many(values)
    db.put_vector("v", [1, 2])
    with db.open_blob("w", "wb") as out:
        out.write(b"w" * 3000)
    found = dict(db.scan())
    assert found.pop("v").tolist() == [1, 2] and found.pop("w") == b"w" * 3000
    assert found == values


def test_deleted_keys_are_not_seen(filled):
    for key in KEYS[::2]:
        del filled[key]
    assert list(filled.scan(keys_only=True)) == sorted(KEYS[1::2])


def test_a_scan_over_many_keys_with_changes_in_between(db):
    db.put_many({f"{i:05}": i for i in range(3000)})
    seen = []
    for key, value in db.scan():
        assert int(key) == value
        seen.append(key)
        if value % 3 == 0 and value + 1 < 3000:
            db.delete(f"{value + 1:05}")
        db["zzz"] = value
    assert seen[:3000:1][0] == "00000" and len(set(seen)) == len(seen) >= 2000
    assert [k for k in seen if k != "zzz"] == sorted(k for k in seen if k != "zzz")


def test_a_scan_outlives_a_compaction(db):
    db.put_many({f"{i:04}": np.arange(i % 5) for i in range(1000)})
    scan = db.scan()
    first = [next(scan)[0] for _ in range(10)]
    db.compact()
    rest = [key for key, _ in scan]
    assert first + rest == [f"{i:04}" for i in range(1000)]


def test_a_finished_scan_stays_finished(filled):
    scan = filled.scan("b")
    assert len(list(scan)) == 1 and list(scan) == []
    with pytest.raises(StopIteration):
        next(scan)


def test_closing_the_database_ends_its_scans(path):
    db = SynaDB(path)
    db["k"] = 1
    scan = db.scan()
    db.close()
    with pytest.raises(synadb.ClosedError):
        next(scan)
    del scan
    gc.collect()


def test_scans_that_are_dropped_in_the_middle_release_their_database(path):
    for _ in range(50):
        with SynaDB(path, sync_on_write=False) as db:
            db.put_many({f"k{i}": i for i in range(300)})
            scans = [db.scan() for _ in range(5)]
            for scan in scans:
                next(scan)
            del scans[::2]


def test_one_scan_used_by_two_threads_is_refused_or_correct(db):
    db.put_many({f"{i:05}": i for i in range(5000)})
    scan = db.scan()
    seen, errors = [], []

    def work():
        while True:
            try:
                seen.append(next(scan))
            except StopIteration:
                return
            except ValueError as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(k for k, _ in seen) == [f"{i:05}" for i in range(5000)]
    assert all("two threads" in str(error) for error in errors)


@pytest.mark.parametrize("bad", [b"a", 5, ["a"]])
def test_bounds_that_are_no_text_are_a_type_error(db, bad):
    for options in ({"prefix": bad}, {"start": bad}, {"end": bad}):
        with pytest.raises(TypeError):
            db.scan(**options)
