"""Real files of the ancestor's, against what its writer says that they hold: opened as they are,
and migrated. They lie in a folder `ancestor` that SYNADB_DATA names, or beside the source tree."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from synadb import Experiment, ModelRegistry, ReadOnlyError, SynaDB, VectorStore, verify
from synadb.migrate import migrate

ROOT = Path(__file__).resolve().parents[2]
PLACES = [os.environ.get("SYNADB_DATA"), ROOT.parent / "shared" / "data"]
DATA = next((p for p in (Path(p) / "ancestor" for p in PLACES if p) if p.is_dir()), None)
LOGS = ("kv_basic.db", "kv_history.db", "made_lz4.db", "torn_value.db")

pytestmark = pytest.mark.skipif(
    DATA is None, reason="SYNADB_DATA does not name a folder with the ancestor's files"
)


@pytest.fixture(scope="module")
def expected():
    return json.loads((DATA / "expected.json").read_text("utf-8"))


def same(found, wanted):
    """A value against its description: {"float": "nan"}, {"bytes": hex} ..."""
    ((kind, value),) = wanted.items()
    if kind == "float":
        return same_bits([found], [value])
    if kind == "bytes":
        return found == bytes.fromhex(value)
    if kind == "vector":
        return found.dtype == np.float32 and found.tolist() == value
    return type(found) is {"int": int, "text": str}[kind] and found == value


def same_bits(found, wanted):
    """Floats, -0.0 and NaN told apart from their like."""
    wanted = [float(value) for value in wanted]
    return len(found) == len(wanted) and all(
        (math.isnan(a) and math.isnan(b)) or struct.pack("<d", a) == struct.pack("<d", b)
        for a, b in zip(found, wanted)
    )


def compare(db, wanted):
    assert db.keys() == sorted(wanted["keys"], key=str.encode)
    assert set(wanted["values"]) == set(wanted["keys"])
    for key, value in wanted["values"].items():
        assert same(db.get(key), value), key
        assert db.type_of(key) == next(iter(value))
    for key, floats in wanted["history"].items():
        assert same_bits(db.get_history_tensor(key), floats), key
    for key, floats in wanted.get("deleted", {}).items():
        assert key not in db and same_bits(db.get_history_tensor(key), floats), key


@pytest.mark.parametrize("name", LOGS)
def test_a_log_reads_as_its_writer_says(name, expected):
    before = (DATA / name).read_bytes()
    with SynaDB(DATA / name, read_only=True) as db:
        assert db.open_report.legacy
        compare(db, expected[name])
        with pytest.raises(ReadOnlyError):
            db.put_float("new", 1.0)
    assert (DATA / name).read_bytes() == before


@pytest.mark.parametrize("name", LOGS)
def test_a_log_migrates_as_its_writer_says(name, expected, tmp_path):
    before = (DATA / name).read_bytes()
    report = migrate(DATA / name, tmp_path / "new.db")
    assert (DATA / name).read_bytes() == before and os.listdir(tmp_path) == ["new.db"]
    assert report.complete and report.kind == "log"
    assert verify(tmp_path / "new.db").ok
    with SynaDB(DATA / name, read_only=True) as old, SynaDB(tmp_path / "new.db") as new:
        assert not new.open_report.legacy and not new.read_only
        if "vec/v" not in old:
            compare(new, expected[name])
        keys = [*old.keys(), *expected[name].get("deleted", {})]
        records = 0
        for key in keys:
            a, b = old.get_history(key), new.get_history(key)
            assert a.timestamps.tolist() == b.timestamps.tolist(), key
            assert a.deletions.tolist() == b.deletions.tolist(), key
            assert repr(list(a)) == repr(list(b)), key
            records += len(a.timestamps)
        assert records == report.came["values"]
        new.put_float("temperature", 99.0)
        assert new.get_history_tensor("temperature")[-1] == 99.0


def test_lz4_and_its_vector(expected, tmp_path):
    migrate(DATA / "made_lz4.db", tmp_path / "new.db")
    wanted = expected["made_lz4.db"]
    with SynaDB(tmp_path / "new.db") as db:
        assert db.keys() == sorted([*wanted["keys"], "vec-store/config"])
        for key, value in wanted["values"].items():
            assert same(db.get(key), value), key
    with VectorStore(tmp_path / "new.db", 256) as store:
        assert store.get("v").tolist() == wanted["values"]["vec/v"]["vector"]


def test_a_torn_tail_is_told_of(tmp_path):
    report = migrate(DATA / "torn_value.db", tmp_path / "new.db")
    assert report.torn_bytes == 26 and report.complete


def test_models(expected, tmp_path):
    wanted = expected["app_models.db"]
    report = migrate(DATA / "app_models.db", tmp_path / "new.db")
    assert report.complete and report.came["model versions"] == 3
    assert "ModelRegistry" in report.components
    with ModelRegistry(tmp_path / "new.db") as registry:
        numbers = [v.version for name in registry.names() for v in registry.list_versions(name)]
        assert len(numbers) == len(wanted["versions"])
        for version in wanted["versions"]:
            found = registry.get_version(version["name"], version["version"]).to_dict()
            assert {name: found[name] for name in version} == version
        assert registry.load("classifier", 1) == bytes.fromhex(wanted["classifier_1"])
        assert registry.load("classifier", 2) == bytes.fromhex(wanted["classifier_2"])
        assert registry.load("ranker", allow_pickle=True) == wanted["ranker_1"]
        assert registry.get_production("classifier").version == 2
        changes = [(c.version, str(c.stage)) for c in registry.stage_history("classifier")]
        assert changes == [
            (1, "development"), (2, "development"), (1, "archived"), (2, "production")
        ]  # fmt: skip
        assert registry.save("classifier", b"third").version == 3


def test_experiments(expected, tmp_path):
    wanted = expected["app_experiments_c.db"]
    entries = wanted["entries"]
    report = migrate(DATA / "app_experiments_c.db", tmp_path / "new.db")
    assert report.complete and report.came["runs"] == 1 and report.came["metric points"] == 3
    steps = {
        int(key.rpartition("/")[2]): eval(value)["float"]  # the writer's own repr
        for key, value in entries
        if "/metric/" in key
    }
    with Experiment("mnist", tmp_path / "new.db") as experiment:
        (run,) = experiment.list_runs()
        assert run.id == wanted["run"] and run.status == "completed" and run.tags == ["t1"]
        assert run.params == {"lr": "0.001"}
        assert experiment.get_metric_tensor(run.id, "loss").tolist() == [
            steps[step] for step in sorted(steps)
        ]
        assert experiment.db.get_bytes(f"exp/mnist/run/{run.id}/artifact/a.bin") == b"abc"
        assert experiment.get_best_run("loss") == run
        experiment.resume(run)
        run.log_metric("loss", 0.25)
        assert experiment.get_metric_tensor(run.id, "loss")[-1] == 0.25


def entries_of(blob):
    """The ancestor's entries by a reader of our own."""
    at = 0
    while at < len(blob):
        time, key_len, value_len, flags = struct.unpack_from("<QHIB", blob, at)
        at += 15
        yield blob[at : at + key_len].decode(), time, flags, blob[at + key_len :][:value_len]
        at += key_len + value_len


def test_vectors(tmp_path):
    rows = {
        key[4:]: np.frombuffer(value[12:-2], "<f4")
        for key, _, _, value in entries_of((DATA / "store_vectors.db").read_bytes())
    }
    assert list(rows) == [f"doc{i}" for i in range(20)]
    report = migrate(DATA / "store_vectors.db", tmp_path / "new.db", metric="euclidean")
    assert report.complete and report.came["vectors"] == 20 and not report.notes
    with VectorStore(tmp_path / "new.db", 64, metric="euclidean") as store:
        assert len(store) == 20
        for key, row in rows.items():
            assert store.get(key).tolist() == row.tolist()
            assert store.search(row, k=1)[0].key == key
        store.insert("more", np.ones(64, np.float32))
    with pytest.raises(ValueError):  # the store remembers
        VectorStore(tmp_path / "new.db", 64, metric="cosine")
