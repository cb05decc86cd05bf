"""Values that expire."""

import datetime as dt
import time

import pytest

from synadb import SynaDB

SHORT = 0.05
PAUSE = 0.1


def test_a_value_expires(db):
    db.put_float("f", 1.0, ttl=SHORT)
    db.put_int("i", 1, ttl=SHORT)
    db.put_text("t", "x", ttl=dt.timedelta(seconds=SHORT))
    db.put_bytes("b", b"x", ttl=SHORT)
    db.put_vector("v", [1], ttl=SHORT)
    db.put("p", [1], ttl=SHORT)
    db.put_numpy("n", [1.0], ttl=SHORT)
    db.put_many({"m": 1}, ttl=SHORT)
    with db.batch() as batch:
        batch.put("batch", 1, ttl=SHORT)
    db["stays"] = 1
    assert len(db.keys()) == 10
    time.sleep(PAUSE)
    assert db.keys() == ["stays"] and list(db.scan()) == [("stays", 1)]
    for key in ("f", "i", "t", "b", "v", "p", "n", "m", "batch"):
        assert key not in db and db.get(key) is None
    assert db.get_float("f") is None and db.get_text("t") is None


def test_it_does_not_fall_back_to_an_older_value(db):
    db.put_int("k", 1)
    db.put_int("k", 2, ttl=SHORT)
    time.sleep(PAUSE)
    assert db.get_int("k") is None
    assert db.get_history("k").values.tolist() == [1, 2]
    db.put_int("k", 3)
    assert db.get_int("k") == 3


def test_time_travel_sees_it_while_it_lived(db):
    db.put_int("k", 1, ttl=SHORT)
    at = time.time()
    time.sleep(PAUSE)
    assert db.get("k") is None and db.get("k", at=at) == 1


def test_a_long_ttl_lasts_over_reopening_and_compaction(path):
    with SynaDB(path) as db:
        db.put_int("k", 1, ttl=3600)
        db.put_int("short", 1, ttl=SHORT)
        time.sleep(PAUSE)
        db.compact()
        assert db.keys() == ["k"]
    with SynaDB(path) as db:
        assert db.get_int("k") == 1 and len(db) == 1


@pytest.mark.parametrize("ttl", [0, -1, -0.5, float("nan"), float("inf"), dt.timedelta(0), 1e30])
def test_a_ttl_that_makes_no_sense_is_refused(db, ttl):
    with pytest.raises(ValueError, match="ttl"):
        db.put_int("k", 1, ttl=ttl)
    assert "k" not in db


@pytest.mark.parametrize("ttl", ["1", True, [1], dt.datetime(2030, 1, 1)])
def test_a_ttl_of_the_wrong_type_is_a_type_error(db, ttl):
    with pytest.raises(TypeError, match="ttl"):
        db.put_int("k", 1, ttl=ttl)
