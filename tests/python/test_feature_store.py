"""FeatureStore: values with the times of their events."""

import datetime as dt

import numpy as np
import pytest

from synadb import FeatureStore, SynaDB


@pytest.fixture
def features(tmp_path):
    with FeatureStore(tmp_path / "f.db", sync_on_write=False) as store:
        yield store


def test_the_newest_values_keep_their_types(features):
    given = {"int": 3, "float": 0.5, "text": "a", "none": None, "list": [1, (2,)], "flag": True}
    assert features.ingest("user", "anna", 1000.0, given) == 6
    found = features.serve("user", "anna", [*given, "absent"])
    assert found == {**given, "absent": None}
    assert [type(found[name]) for name in given] == [type(value) for value in given.values()]
    features.ingest("user", "anna", 1001.0, {"int": 4})
    assert features.serve("user", "anna", ["int"]) == {"int": 4}


def test_a_late_event_does_not_become_the_newest(features):
    features.ingest("g", "e", 2000.0, {"x": "new"})
    features.ingest("g", "e", 1000.0, {"x": "old"})
    features.ingest("g", "e", 2000.0, {"x": "corrected"})
    assert features.serve("g", "e", ["x"]) == {"x": "corrected"}
    for moment, wanted in [(999.0, None), (1000.0, "old"), (1999.0, "old"), (2000.0, "corrected")]:
        assert features.get_at_timestamp("g", "e", "x", moment) == wanted
    when = dt.datetime.fromtimestamp(1500, dt.timezone.utc)
    assert features.get_at_timestamp("g", "e", "x", when) == "old"
    assert features.get_at_timestamp("g", "e", "x", np.datetime64(1500, "s")) == "old"
    assert features.get_at_timestamp("g", "e", "x", 1500_000_000) == "old"


def test_versions_are_counted_from_the_first(features):
    for n in range(3):
        features.ingest("g", "e", 1000.0 + n, {"x": n})
    assert [features.get_at_version("g", "e", "x", v) for v in (1, 2, 3, 4, 0)] == [
        0,
        1,
        2,
        None,
        2,
    ]
    assert features.get_at_version("g", "e", "absent") is None
    with pytest.raises(ValueError):
        features.get_at_version("g", "e", "x", -1)


def test_names_with_slashes_stay_apart(features):
    features.ingest("a/b", "c", 1.0, {"d": 1})
    features.ingest("a", "b/c", 1.0, {"d": 2})
    features.ingest("a", "b%2Fc", 1.0, {"d": 3})
    assert features.serve("a/b", "c", ["d"]) == {"d": 1}
    assert features.serve("a", "b/c", ["d"]) == {"d": 2}
    assert features.serve("a", "b%2Fc", ["d"]) == {"d": 3}


def test_bad_input_is_refused_whole(features, tmp_path):
    with pytest.raises(TypeError):
        features.ingest("g", "e", 1.0, {"good": 1, "bad": object()})
    with pytest.raises(ValueError):
        features.ingest("", "e", 1.0, {"x": 1})
    with pytest.raises(TypeError):
        features.ingest("g", 7, 1.0, {"x": 1})
    with pytest.raises(TypeError):
        features.serve("g", "e", "x")
    assert features.serve("g", "e", ["good", "x"]) == {"good": None, "x": None}
    features.close()
    with SynaDB(tmp_path / "f.db") as db:
        assert len(db) == 0
