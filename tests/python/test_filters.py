"""Filters against a plain evaluator of the same language, and metadata as text."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synadb import VectorStore
from synadb.filters import filter_text, metadata_of, metadata_text, metadata_texts

# ------------------------------------------------------------------------- the plain evaluator

MISSING = object()


def fields(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every field by its dotted name; of two of one name the later counts."""
    found: dict[str, Any] = {}
    for name, field in value.items():
        found[prefix + name] = field
        if isinstance(field, dict):
            found.update(fields(field, prefix + name + "."))
    return found


def kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "other"


def equal(a: Any, b: Any) -> bool:
    return kind(a) == kind(b) != "other" and a == b


def ordered(a: Any, b: Any, operator: str) -> bool:
    if kind(a) != kind(b) or kind(a) == "other":
        return False
    if a is None:
        return operator in ("$lte", "$gte")
    return {"$lt": a < b, "$lte": a <= b, "$gt": a > b, "$gte": a >= b}[operator]


def holds(value: Any, operator: str, operand: Any) -> bool:
    if operator == "$exists":
        return (value is not MISSING) == operand
    if operator == "$ne":
        return not holds(value, "$eq", operand)
    if operator == "$nin":
        return not holds(value, "$in", operand)
    if value is MISSING:
        return False
    items = value if isinstance(value, list) else [value]
    if operator == "$contains":
        if isinstance(value, list):
            return any(equal(item, operand) for item in items)
        return isinstance(value, str) and isinstance(operand, str) and operand in value
    if operator == "$eq":
        return any(equal(item, operand) for item in items)
    if operator == "$in":
        return any(equal(item, one) for item in items for one in operand)
    return any(ordered(item, operand, operator) for item in items)


def matches(filter: dict[str, Any], metadata: dict[str, Any] | None) -> bool:
    known = fields(metadata or {})
    for name, asked in filter.items():
        if name == "$and":
            good = all(matches(one, metadata) for one in asked)
        elif name == "$or":
            good = any(matches(one, metadata) for one in asked)
        elif name == "$not":
            good = not matches(asked, metadata)
        elif isinstance(asked, dict):
            good = all(holds(known.get(name, MISSING), op, x) for op, x in asked.items())
        else:
            good = holds(known.get(name, MISSING), "$eq", asked)
        if not good:
            return False
    return True


# ---------------------------------------------------------------------------------- strategies

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 0.5, -0.0, 1.0, 2.5]),
    st.sampled_from([9007199254740992.0, 9.3e18, -9.3e18, 9223372036854775808.0, 1e300, 5e-324]),
)
TEXTS = st.one_of(
    st.sampled_from(["", "a", "ab", "b", "é", "😀", 'q"\\', "x\ny", "long" * 80]),
    st.text(max_size=3),
)
TEXTS = TEXTS.filter(lambda text: not any(0xD800 <= ord(c) < 0xE000 for c in text))
SCALARS = st.one_of(NUMBERS, TEXTS, st.booleans(), st.none())
NAMES = st.sampled_from(["a", "b", "c", "a.b", "é", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=2)),
    max_leaves=6,
)
METADATA = st.one_of(st.none(), st.dictionaries(NAMES, VALUES, max_size=4))
FIELDS = st.sampled_from(["a", "b", "c", "a.b", "a.a.b", "b.c", "é", "", "nothing"])
ASKED = st.one_of(
    SCALARS,
    st.dictionaries(
        st.sampled_from(["$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$contains"]),
        SCALARS,
        min_size=1,
        max_size=2,
    ),
    st.fixed_dictionaries({"$in": st.lists(SCALARS, max_size=4)}),
    st.fixed_dictionaries({"$nin": st.lists(SCALARS, max_size=4)}),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
FILTERS = st.recursive(
    st.dictionaries(FIELDS, ASKED, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(METADATA, min_size=1, max_size=12),
    filters=st.lists(FILTERS, min_size=3, max_size=8),
)
def test_every_filter_chooses_what_a_plain_evaluator_chooses(tmp_path_factory, rows, filters):
    path = tmp_path_factory.mktemp("f") / "v.db"
    with VectorStore(path, 2, sync_on_write=False) as store:
        keys = [f"k{i}" for i in range(len(rows))]
        store.insert_batch(keys, np.ones((len(rows), 2)), rows)
        for filter in filters:
            want = [key for key, row in zip(keys, rows) if matches(filter, row)]
            assert store.keys(filter) == want, filter
            assert store.count(filter) == len(want)
            assert [hit.key for hit in store.search([1, 1], k=None, filter=filter)] == want
        for key, row in zip(keys, rows):
            got = store.get_metadata(key)
            assert got == row and repr(got) == repr(row)


# --------------------------------------------------------------------------------------- text


def test_values_of_python_and_numpy_become_json():
    value = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": (1, (2.0, None)),
        "d": dt.datetime(2024, 5, 6, 7, 8),
        "e": dt.date(2024, 5, 6),
        "f": np.bool_(True),
        "g": {"h": np.int64(2**62)},
    }
    assert metadata_of(metadata_text(value)) == {
        "a": 0.5,
        "b": [0, 1, 2],
        "c": [1, [2.0, None]],
        "d": "2024-05-06T07:08:00",
        "e": "2024-05-06",
        "f": True,
        "g": {"h": 2**62},
    }
    assert metadata_text(None) is None and metadata_of(None) is None and filter_text(None) is None


@pytest.mark.parametrize(
    "value, error",
    [
        ({"a": math.nan}, ValueError),
        ({"a": [math.inf]}, ValueError),
        ({"a": object()}, TypeError),
        ({1: 2}, TypeError),
        ({"a": {2: 3}}, TypeError),
        ({"a": [{None: 3}]}, TypeError),
        (["a"], TypeError),
        ("text", TypeError),
        ({"a": b"bytes"}, TypeError),
    ],
)
def test_what_is_no_json_is_refused_before_anything_is_written(tmp_path, value, error):
    with VectorStore(tmp_path / "v.db", 2, sync_on_write=False) as store:
        with pytest.raises(error):
            store.insert("a", [1, 2], value)
        with pytest.raises(error):
            store.insert_batch(["a", "b"], np.ones((2, 2)), [None, value])
        with pytest.raises(error):
            store.search([1, 2], filter=value)
        assert len(store) == 0


def test_metadata_that_contains_itself_is_refused():
    loop: dict[str, Any] = {}
    loop["a"] = [loop]
    with pytest.raises((ValueError, RecursionError)):
        metadata_text(loop)


def test_metadata_of_a_batch_is_one_for_each_row():
    assert metadata_texts(None, 3) is None
    assert metadata_texts([None, None], 2) is None
    assert metadata_texts([{"a": 1}, None], 2) == ['{"a":1}', None]
    with pytest.raises(ValueError, match="metadata for 1 rows, expected 2"):
        metadata_texts([{}], 2)
    with pytest.raises(TypeError):
        metadata_texts({"a": 1}, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "filter, message",
    [
        ({"a": {"$foo": 1}}, r"\$foo.*unknown operator"),
        ({"$xor": []}, r"\$xor.*unknown operator"),
        ({"a": [1, 2]}, "expected a string, a number"),
        ({"a": {"$in": 3}}, "expected a list"),
        ({"a": {}}, "expected an operator"),
        ({"$and": {"a": 1}}, "expected a list of filters"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(tmp_path, filter, message):
    with VectorStore(tmp_path / "v.db", 2, sync_on_write=False) as store:
        store.insert("a", [1, 2], {"a": 1})
        for call in (
            lambda: store.search([1, 2], filter=filter),
            lambda: store.search_batch([[1, 2]], filter=filter),
            lambda: store.count(filter),
            lambda: store.keys(filter),
            lambda: store.delete_where(filter),
        ):
            with pytest.raises(ValueError, match=message):
                call()
        assert store.count({}) == 1
        with pytest.raises(TypeError):
            store.delete_where(None)  # type: ignore[arg-type]
