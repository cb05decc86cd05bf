"""Histories: every value ever put, bit for bit, with its time; and time travel."""

import datetime as dt
import struct
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synadb
from synadb import SynaDB
from synadb.types import History

UTC = dt.timezone.utc
T0 = 1_700_000_000_000_000  # microseconds


def us(times):
    return times.astype(np.int64).tolist()


def test_all_floats_in_order_and_nothing_else(db):
    db.put_float("k", 1.0)
    db.put_int("k", 2)
    db.put_float("k", 3.0)
    db.delete("k")
    db.put_text("k", "four")
    db.put_float("k", 5.0)
    values = db.get_history_tensor("k")
    assert values.dtype == np.float64 and values.tolist() == [1.0, 3.0, 5.0]
    assert values.flags.owndata and values.flags.writeable


def test_a_missing_key_has_an_empty_history(db):
    assert db.get_history_tensor("absent").shape == (0,)
    history = db.get_history("absent")
    assert len(history) == 0 and history.values.shape == (0,) and len(history.deletions) == 0


def test_a_deleted_key_keeps_its_history(db):
    db.put_float("k", 1.0)
    db.delete("k")
    assert db.get_history_tensor("k").tolist() == [1.0]
    history = db.get_history("k")
    assert history.values.tolist() == [1.0] and len(history.deletions) == 1
    assert history.deletions[0] >= history.timestamps[0]


def test_numbers_come_as_arrays_and_mixtures_as_lists(db):
    for i in range(3):
        db.put_float("floats", i)
        db.put_int("ints", i)
        db["mixed"] = [0.5, "text", {"a": (1,)}][i]
    assert db.get_history("floats").values.dtype == np.float64
    assert db.get_history("ints").values.dtype == np.int64
    assert db.get_history("ints").values.tolist() == [0, 1, 2]
    assert db.get_history("mixed").values == [0.5, "text", {"a": (1,)}]
    assert all(isinstance(db.get_history(k), History) for k in db)


def test_a_history_iterates_over_pairs(db):
    db.put_text("k", "a", when=T0)
    db.put_text("k", "b", when=T0 + 5)
    assert [(int(t.astype(np.int64)), v) for t, v in db.get_history("k")] == [
        (T0, "a"),
        (T0 + 5, "b"),
    ]


def test_histories_hold_every_type(db):
    values = [1.5, 2, "three", b"four", None, [5], np.arange(3), "x" * 2000, b"y" * 2000]
    for value in values:
        db["k"] = value
    db.put_vector("k", [1, 2])
    with db.open_blob("k", "wb") as out:
        out.write(b"blob" * 500)
    back = db.get_history("k").values
    assert len(back) == len(values) + 2
    assert all(type(a) is type(b) and np.array_equal(a, b) for a, b in zip(values, back))
    assert back[-2].dtype == np.float32 and back[-1] == b"blob" * 500


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1023, 1024, 1025, 5000])
def test_appended_floats_come_back_bit_for_bit(path, count):
    rng = np.random.default_rng(count)
    patterns = rng.integers(0, 2**64, count, dtype=np.uint64)  # NaN payloads and denormals too
    values = patterns.view(np.float64)
    with SynaDB(path, sync_on_write=False) as db:
        assert db.append_floats("k", values) == count
        assert db.get_history_tensor("k").tobytes() == patterns.tobytes()
        if count:
            assert struct.pack("<d", db.get_float("k")) == patterns[-1:].tobytes()
    with SynaDB(path) as db:
        assert db.get_history_tensor("k").tobytes() == patterns.tobytes()
        assert db.get_history("k").values.tobytes() == patterns.tobytes()
        db.compact(keep_history=True)
        assert db.get_history_tensor("k").tobytes() == patterns.tobytes()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(st.lists(st.tuples(st.sampled_from("pa"), st.lists(st.floats(), max_size=30)), max_size=8))
def test_any_mixture_of_puts_and_appends(tmp_path_factory, steps):
    expected = []
    with SynaDB(tmp_path_factory.mktemp("h") / "x.db", sync_on_write=False) as db:
        for how, values in steps:
            expected += values
            if how == "a":
                db.append_floats("k", values)
            else:
                for value in values:
                    db.put_float("k", value)
            assert db.get_history_tensor("k").tobytes() == np.array(expected, float).tobytes()


def test_appended_ints(db):
    values = [2**63 - 1, -(2**63), 0, 5]
    assert db.append_ints("k", values) == 4
    assert db.append_ints("k", np.arange(100, dtype=np.uint8)) == 100
    assert db.append_ints("k", []) == 0
    assert db.get_history("k").values.tolist() == values + list(range(100))
    assert db.get_int("k") == 99


@pytest.mark.parametrize(
    "values", [[2**63], [-(2**63) - 1], np.array([2**64 - 1], np.uint64), [1, 10**30]]
)
def test_ints_that_do_not_fit_are_refused(db, values):
    with pytest.raises(OverflowError):
        db.append_ints("k", values)
    assert "k" not in db


@pytest.mark.parametrize("values", [["1.5"], [b"x"], [None], [1j], [object()], "text", ["a", 1]])
def test_what_is_no_number_is_a_type_error(db, values):
    with pytest.raises(TypeError):
        db.append_floats("k", values)
    with pytest.raises(TypeError):
        db.append_ints("k", values)
    assert "k" not in db


def test_floats_are_no_ints(db):
    with pytest.raises(TypeError):
        db.append_ints("k", [1.0])


def test_put_floats_batch_takes_all_elements_of_two_dimensions(db):
    assert db.put_floats_batch("k", np.arange(6.0).reshape(2, 3)) == 6
    assert db.put_floats_batch("k", np.arange(6.0).reshape(2, 3).T) == 6
    assert db.put_floats_batch("k", []) == 0
    assert db.put_floats_batch("k", [1, 2]) == 2
    assert db.get_history_tensor("k").tolist() == [0, 1, 2, 3, 4, 5, 0, 3, 1, 4, 2, 5, 1, 2]


# ------------------------------------------------------------------------------------------ times


def test_times_are_those_of_writing(db):
    before = time.time_ns() // 1000
    db.put_float("k", 1.0)
    after = time.time_ns() // 1000
    assert before <= us(db.get_history("k").timestamps)[0] <= after


@pytest.mark.parametrize(
    "when",
    [
        T0, T0 / 1e6, np.int64(T0), np.float64(T0 / 1e6),
        dt.datetime.fromtimestamp(T0 // 10**6, UTC), dt.datetime.fromtimestamp(T0 // 10**6),
        dt.datetime.fromtimestamp(T0 // 10**6, dt.timezone(dt.timedelta(hours=5))),
        np.datetime64(T0, "us"), np.datetime64(T0 // 10**6, "s"),
    ],
    ids=lambda w: f"{type(w).__name__}-{w}",
)  # fmt: skip
def test_a_time_can_be_given_in_every_form(db, when):
    db.put_float("k", 1.0, when=when)
    assert us(db.get_history("k").timestamps) == [T0]
    assert db.get("k", at=when) == 1.0
    assert db.get("k", at=T0 - 1) is None


def test_times_are_exact_to_the_microsecond(db):
    when = dt.datetime(2024, 5, 6, 7, 8, 9, 123457, UTC)
    db.put_int("k", 1, when=when)
    assert db.get("k", at=when) == 1
    assert db.get("k", at=when - dt.timedelta(microseconds=1)) is None


@pytest.mark.parametrize("when", [0, -1, -5.0, float("nan"), float("inf"), 2**63,
np.datetime64("NaT", "us"),
                                  dt.datetime(1960, 1, 1, tzinfo=UTC)])  # fmt: skip
def test_a_time_that_cannot_be_stored_is_refused(db, when):
    with pytest.raises(ValueError):
        db.put_float("k", 1.0, when=when)
    with pytest.raises(ValueError):
        db.get("k", at=when)
    assert "k" not in db


@pytest.mark.parametrize("when", ["2024-01-01", b"x", True, [1], dt.date(2024, 1, 1)])
def test_what_is_no_time_is_a_type_error(db, when):
    with pytest.raises(TypeError):
        db.put_float("k", 1.0, when=when)


def test_time_travel(db):
    db.put_text("k", "a", when=T0)
    db.put("k", [1], when=T0 + 10)
    db.put_float("k", 2.5, when=T0 + 20)
    assert [db.get("k", "none", at=T0 + d) for d in (-1, 0, 9, 10, 19, 20, 10**9)] == [
        "none", "a", "a", [1], [1], 2.5, 2.5,
    ]  # fmt: skip
    assert db.type_of("k", at=T0 + 10) == "packed" and db.type_of("k", at=T0 - 1) is None
    db.delete("k")
    assert db.get("k") is None and db.get("k", at=T0 + 20) == 2.5


def test_time_travel_to_and_before_appended_floats(db):
    times = T0 + np.arange(3000) * 1000
    db.append_floats("k", np.arange(3000.0), times=times)
    assert db.get("k", at=int(times[-1])) == 2999.0
    assert db.get("k", at=T0 - 1) is None
    assert us(db.get_history("k").timestamps) == times.tolist()


def test_time_travel_survives_a_compaction_that_keeps_history(db):
    for i in range(100):
        db.put_float("k", i, when=T0 + i)
    db.compact(keep_history=True)
    assert [db.get("k", at=T0 + i) for i in range(100)] == list(range(100))
    assert us(db.get_history("k").timestamps) == [T0 + i for i in range(100)]


def test_a_time_before_the_last_keeps_its_place_and_is_shown(db):
    db.put_float("k", 1.0, when=T0 + 100)
    db.put_float("k", 2.0, when=T0)
    history = db.get_history("k")
    assert history.values.tolist() == [1.0, 2.0]
    assert us(history.timestamps) == [T0 + 100, T0]
    assert db.get_float("k") == 2.0


@pytest.mark.parametrize(
    "times",
    [
        np.array([T0, T0 + 10**6], "datetime64[us]"), np.array([T0 // 10**6, T0 // 10**6 + 1],
        "datetime64[s]"),
        [T0 / 1e6, T0 / 1e6 + 1], [T0, T0 + 10**6],
        [dt.datetime.fromtimestamp(T0 // 10**6 + i, UTC) for i in range(2)],
    ],
)  # fmt: skip
def test_times_of_appended_values_in_every_form(db, times):
    db.append_floats("f", [1.0, 2.0], times=times)
    db.append_ints("i", [1, 2], times=times)
    for key in "fi":
        assert us(db.get_history(key).timestamps) == [T0, T0 + 10**6]


def test_bad_times_of_appended_values_are_refused(db):
    for times in ([T0], [T0, T0 - 1], [T0, 0], [T0, np.nan], np.array(["NaT", "NaT"], "M8[us]")):
        with pytest.raises(ValueError):
            db.append_floats("k", [1.0, 2.0], times=times)
    with pytest.raises(TypeError):
        db.append_floats("k", [1.0], times=["yesterday"])
    assert "k" not in db


def test_history_errors(db):
    with pytest.raises(TypeError):
        db.get_history(5)
    with pytest.raises(synadb.InvalidKeyError):
        db.get_history("")
    with pytest.raises(synadb.InvalidKeyError):
        db.get_history_tensor("")
