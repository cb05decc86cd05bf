"""The database as a mapping, which keeps every value with its own type."""

from collections.abc import MutableMapping

import numpy as np
import pytest

import synadb
from synadb import SynaDB

NATIVE = [(1.5, "float"), (1, "int"), ("text", "text"), (b"bytes", "bytes"), (None, "null")]
PACKED = [True, 2**63, [1, "a"], (1,), {"a": (1, 2)}, {1}, bytearray(b"x"), 1j, range(3),
    np.float64(1.5),
          np.arange(3), "lone \ud800"]  # fmt: skip


@pytest.mark.parametrize("value, kind", NATIVE)
def test_simple_values_are_stored_as_what_they_are(db, value, kind):
    db["k"] = value
    assert db.type_of("k") == kind
    assert db["k"] == value and type(db["k"]) is type(value)


@pytest.mark.parametrize("value", PACKED, ids=lambda v: type(v).__name__)
def test_everything_else_is_packed_and_keeps_its_type(path, value):
    with SynaDB(path) as db:
        db["k"] = value
        assert db.type_of("k") == "packed"
    with SynaDB(path) as db:
        assert type(db["k"]) is type(value)
        assert np.array_equal(db["k"], value)


def test_arrays_come_back_writable(db):
    db["k"] = np.arange(1000.0)
    back = db["k"]
    back[0] = 7
    assert back.flags.owndata and db["k"][0] == 0


def test_a_value_that_cannot_be_stored_changes_nothing(db):
    db["k"] = 1
    with pytest.raises(TypeError, match=r"value\[0\]"):
        db["k"] = [object()]
    assert db["k"] == 1 and len(db.get_history("k")) == 1


def test_a_missing_key_is_a_readable_key_error(db):
    with pytest.raises(KeyError) as caught:
        db["absent"]
    assert isinstance(caught.value, synadb.KeyNotFoundError) and caught.value.code == -5
    assert str(caught.value) == f"{db.path}: no value under key 'absent'"
    with pytest.raises(KeyError):
        del db["absent"]


def test_none_is_a_value_and_not_absence(db):
    db["k"] = None
    assert "k" in db and db["k"] is None and db.get("k", 5) is None and len(db) == 1


def test_it_behaves_like_a_dict(db):
    model = {}
    for key, value in [("b", 1), ("a", [2]), ("c", "x"), ("b", 3.5)]:
        db[key] = model[key] = value
    del db["a"], model["a"]
    assert dict(db) == model == dict(db.items())
    assert list(db) == sorted(model) == db.keys()
    assert list(db.values()) == [model[k] for k in sorted(model)]
    assert len(db) == len(model) and "b" in db and "a" not in db
    assert len(db.items()) == 2 and ("b", 3.5) in db.items() and 3.5 in db.values()
    assert db.get("a") is None and db.get("a", 7) == 7
    assert isinstance(db, MutableMapping)


def test_keys_is_a_sorted_list(db):
    for key in ["\u00fc", "a", "Z", "a/b", "\U0001f600", "\uffff", "aa"]:
        db[key] = 1
    assert type(db.keys()) is list
    assert db.keys() == sorted(db.keys())


def test_pop(db):
    db["k"] = 1
    assert db.pop("k") == 1 and "k" not in db
    assert db.pop("k", 5) == 5
    with pytest.raises(KeyError):
        db.pop("k")


def test_popitem_takes_the_first(db):
    db.update(b=2, a=1)
    assert db.popitem() == ("a", 1) and db.popitem() == ("b", 2)
    with pytest.raises(KeyError):
        db.popitem()


def test_setdefault(db):
    assert db.setdefault("k", [1]) == [1] and db.setdefault("k", [2]) == [1]


def test_update_takes_what_dict_takes(db):
    db.update({"a": 1}, b=2)
    db.update([("c", 3)])
    db.update()
    assert dict(db) == {"a": 1, "b": 2, "c": 3}


def test_clear_deletes_all_and_keeps_histories(db):
    db.update(a=1.0, b=2.0)
    db.clear()
    assert len(db) == 0 and db.keys() == []
    assert db.get_history_tensor("a").tolist() == [1.0]


def test_changing_it_while_iterating_is_allowed(db):
    db.update({f"k{i}": i for i in range(500)})
    for key, value in db.items():
        if value % 2:
            del db[key]
        else:
            db[key] = value + 1
    assert len(db) == 250


def test_equality_is_identity(db, tmp_path):
    with SynaDB(tmp_path / "other.db") as other:
        assert db != other and db == db
    assert hash(db) == hash(db)


def test_many_at_once(db):
    assert db.put_many({"a": 1, "b": "x"}) == 2
    assert db.put_many((f"k{i}", i) for i in range(100)) == 100
    assert db.put_many([]) == 0 and db.put_many({}) == 0
    assert db.get_many(["a", "absent", "b", "k99"]) == [1, None, "x", 99]
    assert db.get_many(iter(["absent"]), default=7) == [7]
    assert db.get_many([]) == []


def test_put_many_writes_all_or_nothing(db):
    def items():
        yield "a", 1
        yield "b", 2
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.put_many(items())
    with pytest.raises(TypeError):
        db.put_many({"a": 1, "b": object()})
    with pytest.raises(ValueError):
        db.put_many({"a": 1, "": 2})
    with pytest.raises(TypeError):
        db.put_many({"a": 1, 5: 2})
    with pytest.raises((TypeError, ValueError)):
        db.put_many(["abc"])
    assert len(db) == 0 and db.stats().frames == 0


def test_another_database_can_be_put(db, tmp_path):
    with SynaDB(tmp_path / "other.db") as other:
        other.update(a=1, b=[2])
        assert db.put_many(other) == 2
    assert dict(db) == {"a": 1, "b": [2]}
