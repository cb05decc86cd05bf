"""pandas DataFrames out of histories and into them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from synadb import ArgumentError, ReadOnlyError, SynaDB, TypeMismatchError

pd = pytest.importorskip("pandas", reason="the data frames are pandas'")


def test_to_dataframe_has_a_column_a_float_key(db):
    db.append_floats("s/a", [1.0, 2.0, 3.0])
    db.append_floats("s/b", [5.0])
    db["s/text"] = "no float"
    db.put_float("other", 1.0)
    frame = db.to_dataframe("s/*")
    assert list(frame.columns) == ["s/a", "s/b"]
    assert frame["s/a"].tolist() == [1.0, 2.0, 3.0]
    assert frame["s/b"].tolist()[0] == 5.0 and frame["s/b"].isna().tolist() == [False, True, True]
    assert list(db.to_dataframe().columns) == ["other", "s/a", "s/b"]
    assert db.to_dataframe("none*").shape == (0, 0)


def test_from_dataframe_appends_each_column_with_its_type(db):
    frame = pd.DataFrame({
        "f": [1.5, np.nan, 2.5], "i": [1, 2, 3], "t": ["x", None, "z"], "b": [True, False, True],
    })  # fmt: skip
    assert db.from_dataframe(frame, "p/") == 2 + 3 + 2 + 3
    assert db.get_history("p/f").values.tolist() == [1.5, 2.5]
    assert db.get_history("p/i").values.dtype == np.int64
    assert db.get_history("p/t").values == ["x", "z"]
    assert db.get_history("p/b").values == [True, False, True]
    assert db.to_dataframe("p/*")["p/f"].tolist() == [1.5, 2.5]
    assert db.from_dataframe(pd.DataFrame({"n": pd.array([1, None], dtype="Int64")})) == 1
    assert db.get_int("n") == 1
    assert db.from_dataframe(pd.DataFrame({"empty": [np.nan]})) == 0
    assert "empty" not in db


def test_a_datetime_index_gives_the_times(db):
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="Europe/Berlin")
    db.from_dataframe(pd.DataFrame({"f": [1.0, np.nan, 3.0], "t": list("abc")}, index=index))
    frame = db.to_timeseries_dataframe("f")
    assert frame.index.name == "time" and str(frame.index.tz) == "UTC"
    assert frame["value"].tolist() == [1.0, 3.0]
    assert (frame.index == index[[0, 2]]).all()
    assert (db.get_history("t").timestamps == index.tz_convert("UTC").tz_localize(None)).all()
    assert frame.resample("1h").mean()["value"].isna().sum() == 1


def test_to_timeseries_dataframe_has_real_times_and_floats_only(db):
    db.put_float("k", 1.5, when=1_700_000_000.0)
    db.put_text("k", "not a number")
    db.put_float("k", 2.5, when=1_700_000_060.0)
    db.delete("k")
    frame = db.to_timeseries_dataframe("k")
    assert frame["value"].tolist() == [1.5, 2.5]
    assert frame.index[0] == pd.Timestamp("2023-11-14 22:13:20", tz="UTC")
    assert db.to_timeseries_dataframe("absent").empty


def test_what_cannot_be_stored_is_refused_before_anything_is(db, path):
    index = pd.to_datetime(["2024-01-02", "2024-01-01"])
    twice = pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])
    for frame, error in (
        (pd.DataFrame({"a": [1.0], "b": [object()]}), TypeMismatchError),
        (pd.DataFrame({"a": [1.0, 2.0]}, index=index), ArgumentError),
        (twice, ArgumentError),
        (pd.DataFrame({"a": [1.0], "": [2.0]}), ArgumentError),
        ([1], TypeError),
    ):
        with pytest.raises(error):
            db.from_dataframe(frame)
        assert len(db) == 0
    db.flush()
    with SynaDB(path, read_only=True) as reader, pytest.raises(ReadOnlyError):
        reader.from_dataframe(pd.DataFrame({"a": [1.0]}))


def test_without_pandas_the_error_names_the_extra(db, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (
        db.to_dataframe,
        lambda: db.from_dataframe(None),
        lambda: db.to_timeseries_dataframe("a"),
    ):
        with pytest.raises(ImportError, match=r"synadb\[pandas\]"):
            call()
