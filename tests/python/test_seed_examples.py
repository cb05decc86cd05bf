"""The examples of the documents that this library was made from, as they stand there."""

import inspect
import os
import textwrap

import numpy as np
import pytest

import synadb
from synadb import SynaDB

QUICK_START = """
from synadb import SynaDB

with SynaDB("my_data.db") as db:
    # Store different types
    db.put_float("temperature", 23.5)
    db.put_int("count", 42)
    db.put_text("name", "sensor-1")
    
    # Read values
    temp = db.get_float("temperature")  # 23.5
    
    # Build history
    db.put_float("temperature", 24.1)
    db.put_float("temperature", 24.8)
    
    # Extract as numpy array for ML
    history = db.get_history_tensor("temperature")  # [23.5, 24.1, 24.8]
"""  # noqa: W293


def run(example, folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {}
    exec(textwrap.dedent(example), names)
    return names


def test_the_quick_start(tmp_path, monkeypatch):
    names = run(QUICK_START, tmp_path, monkeypatch)
    assert names["temp"] == 23.5
    assert names["history"].tolist() == [23.5, 24.1, 24.8]
    assert names["history"].dtype == np.float64
    assert "my_data.db" in os.listdir(tmp_path)
    with SynaDB(tmp_path / "my_data.db") as db:
        assert (db.get_int("count"), db.get_text("name")) == (42, "sensor-1")


# "API Reference: SynaDB (Core Database)": calls with the results that stand behind the arrows.
REFERENCE = [
    ("put_float", ("key", 1.5), int), ("put_int", ("key", 1), int),
    ("put_text", ("key", "text"), int), ("put_bytes", ("key", b"bytes"), int),
    ("get_history_tensor", ("key",), np.ndarray),
    ("delete", ("key",), type(None)), ("exists", ("key",), bool), ("keys", (), list),
    ("compact", (), type(None)), ("close", (), type(None)),
]  # fmt: skip


@pytest.mark.parametrize("method, arguments, result", REFERENCE)
def test_the_api_reference(path, method, arguments, result):
    db = SynaDB(path)
    assert type(getattr(db, method)(*arguments)) is result
    db.close()


@pytest.mark.parametrize(
    "kind, value", [("float", 1.5), ("int", 7), ("text", "x"), ("bytes", b"x")]
)
def test_the_api_reference_of_gets(db, kind, value):
    assert getattr(db, f"get_{kind}")("key") is None
    getattr(db, f"put_{kind}")("key", value)
    assert getattr(db, f"get_{kind}")("key") == value


def test_offsets_are_those_of_records_and_grow(db):
    offsets = [db.put_float("k", i) for i in range(10)]
    assert offsets == sorted(set(offsets)) and offsets[0] >= 0


def test_arguments_have_the_names_of_the_reference(path):
    with SynaDB(path=path, sync_on_write=False) as db:
        assert db.put_float(key="k", value=1.5) >= 0
        assert db.get_float(key="k") == 1.5
        assert db.get_history_tensor(key="k").tolist() == [1.5]
        assert db.exists(key="k") is True
        assert db.delete(key="k") is None
    assert list(inspect.signature(SynaDB).parameters)[:2] == ["path", "sync_on_write"]


def test_syna_error_carries_code_and_message():
    error = synadb.SynaError(-5, "gone")
    assert (error.code, error.message) == (-5, "gone")
