"""Migration of the ancestor's files, made here byte by byte after what is known of their formats:
whole, torn and damaged ones."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import signal
import struct
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from formats.ancestor import (
    DELTA,
    LZ4,
    T0,
    TOMBSTONE,
    Log,
    blob,
    integer,
    lz4,
    make_mmap,
    null,
    real,
    rows_of,
    text,
    vector,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synadb
from synadb import (
    ArgumentError,
    CorruptionError,
    ExperienceCollector,
    Experiment,
    MmapVectorStore,
    ModelRegistry,
    SynaDB,
    SynaError,
    SynaIOError,
    TensorEngine,
    VectorStore,
    WrongKindError,
    verify,
)
from synadb.cli import main
from synadb.migrate import migrate


@pytest.fixture
def old(tmp_path):
    """old(bytes): a file of these; its path."""
    count = itertools.count()

    def write(data):
        path = tmp_path / f"old{next(count)}"
        path.write_bytes(data.bytes if isinstance(data, Log) else data)
        return path

    return write


@pytest.fixture
def new(tmp_path):
    """Where the new file goes; its folder holds nothing else."""
    (tmp_path / "to").mkdir()
    return tmp_path / "to" / "new.db"


def times(db, key):
    return db.get_history(key).timestamps.astype(np.int64).tolist()


# ------------------------------------------------------------------------------------ plain records


def test_every_type_comes_over_with_its_history_and_times(old, new):
    log = Log()
    log.add("f", real(1.5)).add("i", integer(-(2**63))).add("t", text("zwölf"))
    log.add("f", real(-0.0)).add("b", blob(bytes(range(256)))).add("v", vector([1, 2, 3]))
    log.add("n", null()).add("f", integer(7)).add("f", real(2.5)).add("", b"")
    log.entries.pop()
    log.add("long", lz4(text("x" * 1000)), LZ4).add("pi", lz4(real(math.pi)), LZ4)
    source = old(log)
    report = migrate(source, new)
    assert source.read_bytes() == log.bytes
    assert report.complete and report.components == ("SynaDB",)
    assert report.came == {"values": 11, "deletions": 0}
    assert os.listdir(new.parent) == ["new.db"] and verify(new).ok
    with SynaDB(new) as db:
        assert db.get("i") == -(2**63) and db.get("t") == "zwölf"
        assert db.get("b") == bytes(range(256)) and db.get("v").tolist() == [1, 2, 3]
        assert db.type_of("n") == "null" and "n" in db
        assert db.get("long") == "x" * 1000 and db.get("pi") == math.pi
        assert repr([value for _, value in db.get_history("f")]) == "[1.5, -0.0, 7, 2.5]"
        assert times(db, "f") == [T0 + 1000, T0 + 4000, T0 + 8000, T0 + 9000]
        assert db.get("f", at=(T0 + 4500) / 1e6) == 0.0
        assert db.get_history_tensor("f").tolist() == [1.5, -0.0, 2.5]


def test_deletions_and_what_comes_after_them(old, new):
    log = Log().add("a", real(1)).add("a", null(), TOMBSTONE).add("b", real(1))
    log.add("b", null(), TOMBSTONE).add("b", real(2))
    report = migrate(old(log), new)
    assert report.came == {"values": 3, "deletions": 2}
    with SynaDB(new) as db:
        assert db.keys() == ["b"] and db.get_history_tensor("b").tolist() == [1, 2]
        assert db.get_history("a").deletions.astype(np.int64).tolist() == [T0 + 2000]
        assert db.get_history_tensor("a").tolist() == [1]


def test_times_that_go_back_are_kept(old, new):
    log = Log().add("k", real(1), time=T0 + 50).add("k", real(2), time=T0).add("k", real(3), time=0)
    migrate(old(log), new)
    with SynaDB(new) as db:
        assert db.get_history_tensor("k").tolist() == [1, 2, 3]
        assert times(db, "k")[:2] == [T0 + 50, T0]


def as_differences(values, log, key="k"):
    """What a writer of the ancestor's with the delta flag writes, and what a reader of it reads."""
    before, running, read = None, 0.0, []
    for value in values:
        stored = value if before is None else value - before
        running = stored if before is None else running + stored
        log.add(key, real(stored), DELTA if before is not None else 0)
        before = value
        read.append(running)
    return read


def test_differences_become_the_sums_that_the_ancestor_read(old, new):
    log = Log()
    put = np.random.default_rng(1).normal(20, 5, 1000).tolist()
    read = as_differences(put, log)
    log.add("k", text("between")).add("k", null(), TOMBSTONE)
    log.add("k", real(0.5), DELTA)  # across both
    log.add("alone", real(3.25), DELTA)  # with nothing before it
    log.add("z", lz4(real(1.0)), LZ4).add("z", lz4(real(0.5)), DELTA | LZ4)
    report = migrate(old(log), new)
    with SynaDB(new) as db:
        assert db.get_history_tensor("k").tolist() == [*read, read[-1] + 0.5]
        assert db.get("alone") == 3.25 and db.get_history_tensor("z").tolist() == [1.0, 1.5]
    assert report.complete and report.differences == 999 + 2
    errors = np.abs(np.array(read) - put)
    assert 0 < errors.max() <= report.rounding < 1e-9
    assert any("differences" in note for note in report.notes)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=2, max_size=30)
)
def test_no_sum_is_further_off_than_the_report_says(tmp_path_factory, put):
    folder = tmp_path_factory.mktemp("differences")
    log = Log()
    read = as_differences(put, log)
    (folder / "old").write_bytes(log.bytes)
    report = migrate(folder / "old", folder / "new")
    with SynaDB(folder / "new", read_only=True) as db:
        assert repr(db.get_history_tensor("k").tolist()) == repr(read)
    for a, b in zip(read, put):
        assert not math.isfinite(a) or abs(a - b) <= report.rounding * (1 + 1e-12)


def test_a_nan_poisons_the_differences_behind_it_and_is_told_of(old, new):
    log = Log().add("k", real(1.0)).add("k", real(math.nan), DELTA).add("k", real(2.0), DELTA)
    log.add("k", real(5.0)).add("k", real(1.0), DELTA)
    report = migrate(old(log), new)
    assert any("1 of these sums are NaN" in note for note in report.notes)
    with SynaDB(new) as db:
        assert repr(db.get_history_tensor("k").tolist()) == "[1.0, nan, nan, 5.0, 6.0]"


def test_what_no_database_here_can_hold_is_told_of(old, new):
    log = Log().add("good", real(1.0)).add(b"a\0b", real(2.0)).add("torn", b"\x10" + bytes(7), LZ4)
    log.add("nan", vector([1, math.nan])).add("none", vector([])).add("end", real(3.0))
    report = migrate(old(log), new)
    assert not report.complete and report.lost_count == 2 and len(report.lost) == 2
    assert "NUL" in report.lost[0].why and '"torn"' in report.lost[1].why
    assert sum("kept as an array" in note for note in report.notes) == 2
    with SynaDB(new) as db:
        assert db.keys() == ["end", "good", "nan", "none"]
        assert repr(db.get("nan").tolist()) == "[1.0, nan]" and db.get("nan").dtype == np.float32
        assert db.get("none").shape == (0,) and db.type_of("none") == "packed"


# --------------------------------------------------------------------------------- torn and damaged


def test_every_cut(old, tmp_path):
    log = (
        Log().add("a", real(1.0)).add("b", text("two")).add("a", real(3.0)).add("c", blob(b"four"))
    )
    ends = list(itertools.accumulate(map(len, log.entries)))
    for cut in range(ends[0], len(log.bytes) + 1):
        target = tmp_path / f"new{cut}"
        report = migrate(old(log.bytes[:cut]), target)
        whole = sum(end <= cut for end in ends)
        assert report.came["values"] == whole and report.complete
        # Zeros are what a file ends in that was made longer ahead of writing.
        assert report.torn_bytes == len(log.bytes[ends[whole - 1] : cut].rstrip(b"\0"))
        with SynaDB(target, read_only=True) as db:
            assert len(db) == len({"abac"[i] for i in range(whole)})


def test_a_log_cut_in_its_first_entry_is_no_log(old, new):
    log = Log().add("first", text("entry"))
    for cut in (1, 14, 15, 20, len(log.bytes) - 1):
        with pytest.raises(SynaError):
            migrate(old(log.bytes[:cut]), new)
    assert os.listdir(new.parent) == []


def test_damage_in_the_middle_is_told_of_and_the_rest_comes_over(old, new):
    log = Log()
    for i in range(50):
        log.add(f"key{i:02}", real(i))
    data = bytearray(log.bytes)
    size = len(log.entries[0])
    data[20 * size + 8 : 20 * size + 15] = b"\xff" * 7  # the lengths and flags of one entry
    report = migrate(old(bytes(data)), new)
    assert not report.complete and report.lost_count == 1
    assert report.lost[0].where == f"offset {20 * size}" and f"{size} bytes" in report.lost[0].why
    with SynaDB(new) as db:
        assert db.keys() == [f"key{i:02}" for i in range(50) if i != 20]


SMALL = (
    Log().add("vec/a", vector([1, 2])).add("f", real(1.0)).add("f", real(0.5), DELTA)
    .add("exp/m/run/r1/meta", text('{"id":"r1","experiment":"m","status":"completed"}'))
    .add("exp/m/run/r1/metric/loss/3", real(0.5)).add("meta/machine", text("m1"))
    .add("exp/s/1700000000000000_00ff", blob(b'{"state":1,"action":2,"reward":3,"next_state":4}'))
    .add("model/m/v1/data", blob(b"bytes"))
    .add("model/m/v1/meta", text(json.dumps({
        "checksum": hashlib.sha256(b"bytes").hexdigest(), "size_bytes": 5, "stage": "Staging"})))
    .add("w/chunk_0000", blob(bytes(8))).add("z", lz4(text("lz4" * 9)), LZ4)
)  # fmt: skip


def open_all(path):
    """Every component that a log can have opens it; none may fail."""
    with SynaDB(path) as db:
        for key in db.keys():
            db.get(key)
            db.get_history(key)
    with Experiment("m", path) as experiment:
        for run in experiment.list_runs():
            assert run.metrics is not None and run.params is not None
    with ModelRegistry(path) as registry:
        registry.list()
    with ExperienceCollector(path) as collector:
        collector.to_tensors()
        collector.list_sessions()
    with TensorEngine(path) as engine:
        engine.keys("*")


def test_every_component_reads_its_part_of_one_log(old, new):
    report = migrate(old(SMALL), new, tensors={"w/": "<f4"})
    assert report.complete, report.lost
    assert set(report.components) == {
        "SynaDB", "VectorStore", "Experiment", "ExperienceCollector", "ModelRegistry",
        "TensorEngine",
    }  # fmt: skip
    open_all(new)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(SMALL.bytes) - 1), st.integers(0, 255)), min_size=1, max_size=4
    ),
    cut=st.one_of(st.none(), st.integers(0, len(SMALL.bytes))),
)
def test_no_damage_makes_a_migration_fail_otherwise_than_by_an_error_of_ours(
    tmp_path_factory, changes, cut
):
    folder = tmp_path_factory.mktemp("flips")
    data = bytearray(SMALL.bytes)
    for at, byte in changes:
        data[at] = byte
    (folder / "old").write_bytes(bytes(data[:cut]))
    try:
        migrate(folder / "old", folder / "new", tensors={"*": "float32"})
    except SynaError:
        assert os.listdir(folder) == ["old"]
        return
    assert sorted(os.listdir(folder)) == ["new", "old"] and verify(folder / "new").ok
    open_all(folder / "new")


# ------------------------------------------------------------------------------------------ vectors


def test_vectors_and_the_metric_from_the_index_beside_them(old, new):
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(30, 8)).astype(np.float32)
    log = Log()
    for i, row in enumerate(rows):
        log.add(f"vec/doc{i}", vector(row))
    log.add("vec/doc3", null(), TOMBSTONE).add("vec/doc4", vector(-rows[4]))
    log.add("vec/other", vector([1, 2, 3])).add("vec/nan", vector([math.nan] * 8))
    source = old(log)
    source.with_name(source.name + ".hnsw").write_bytes(struct.pack("<4sHHB", b"HNSW", 1, 8, 1))
    report = migrate(source, new)
    assert report.came["vectors"] == 29 and report.components == ("SynaDB", "VectorStore")
    assert [lost.where for lost in report.lost] == ["vec/other"]
    with VectorStore(new, 8, metric="euclidean") as store:
        assert len(store) == 29 and "doc3" not in store and "nan" not in store
        hit = store.search(-rows[4], k=1)[0]
        assert (hit.key, hit.score) == ("doc4", 0.0)
        store.insert("doc3", rows[3])
        assert len(store) == 30
    with SynaDB(new) as db:
        assert db.get("ancestor/vec/other").tolist() == [1, 2, 3] and "vec/other" not in db
        assert np.isnan(db.get("vec/nan")).all()
        assert [v.tolist() for _, v in db.get_history("vec/doc4")] == [
            rows[4].tolist(), (-rows[4]).tolist()
        ]  # fmt: skip


def test_vectors_of_many_lengths_are_no_store(old, new):
    log = Log()
    for n in range(1, 5):
        log.add(f"vec/{n}", vector([1] * n))
    report = migrate(old(log), new)
    assert (
        report.complete
        and "4 lengths" in report.notes[0]
        and "VectorStore" not in report.components
    )
    with SynaDB(new) as db:
        assert len(db) == 4 and db.get("vec/3").tolist() == [1, 1, 1]


def test_a_metric_that_is_given_wins_and_one_that_is_not_is_said_to_be_assumed(old, new, tmp_path):
    source = old(Log().add("vec/a", vector([1, 0])))
    assert any("taken as cosine" in note for note in migrate(source, new).notes)
    report = migrate(source, tmp_path / "b.db", metric="dot_product")
    assert report.notes == ()
    with VectorStore(tmp_path / "b.db", 2, metric="dot_product") as store:
        assert store.search([2, 0], k=1)[0].score == -2
    with pytest.raises(ArgumentError, match="manhattan"):
        migrate(source, tmp_path / "c.db", metric="manhattan")


# ------------------------------------------------------------------------------------------- models


def version(log, name, number, data, stages=("development",), *, record=None, kind=None):
    """A version of a model as Python wrote it (or, with capital stages, Rust)."""
    log.add(f"model/{name}/v{number}/data", blob(data))
    if kind:
        log.add(f"model/{name}/v{number}/format", text(kind))
    for stage in stages:
        log.json(f"model/{name}/v{number}/meta", {
            "name": name, "version": number, "created_at": 1_700_000_000,
            "checksum": hashlib.sha256(data).hexdigest(), "size_bytes": len(data),
            "metadata": {"accuracy": "0.9"}, "stage": stage, **(record or {}),
        })  # fmt: skip


def test_models_of_both_sides_with_the_history_of_their_stages(old, new):
    log = Log()
    version(log, "a", 1, b"one", ["development", "production"], kind="raw")
    version(log, "a", 2, b"two", ["Development", "Production"], record={"metadata": {"n": 5}})
    log.json("model/a/v1/meta", {
        "name": "a", "version": 1, "created_at": 1_700_000_000.5, "size_bytes": 3,
        "checksum": hashlib.sha256(b"one").hexdigest(), "metadata": None, "stage": "Production",
    })  # fmt: skip
    version(log, "team/b", 7, b"", ["Archived"])
    report = migrate(old(log), new)
    assert report.complete and report.came["model versions"] == 3
    with ModelRegistry(new) as registry:
        assert registry.names() == ["a", "team/b"]
        assert registry.load("a", 1) == b"one" and registry.load("team/b", 7) == b""
        # Both are in production; the second was promoted last, whatever was rewritten later.
        assert registry.get_production("a").version == 2
        assert registry.get_version("a", 2).metadata == {"n": "5"}
        assert registry.get_version("a", 1).created_at == 1_700_000_000.5
        history = [(c.version, str(c.stage)) for c in registry.stage_history("a")]
        assert history == [
            (1, "development"), (1, "production"), (2, "development"), (2, "production")
        ]  # fmt: skip
        promoted = registry.stage_history("a")[1].at.timestamp()
        assert promoted == pytest.approx((T0 + 4000) / 1e6, abs=1e-5)
        assert registry.production_at("a", promoted + 0.0001) == 1
        registry.promote("a", 1, "production")
        assert registry.get_production("a").version == 1
        assert registry.save("a", b"three").version == 3
        assert registry.save("team/b", b"eight").version == 8


def test_versions_that_are_not_what_they_say(old, new):
    log = Log()
    version(log, "good", 1, b"good")
    version(log, "changed", 1, b"before", record={"checksum": "0" * 64})
    log.json("model/gone/v1/meta", {"checksum": "1" * 64, "size_bytes": 1, "stage": "staging"})
    log.add("model/torn/v1/meta", text('{"name": "to'))
    report = migrate(old(log), new)
    assert sorted(lost.where for lost in report.lost) == [
        "model/changed/v1/meta", "model/gone/v1/meta", "model/torn/v1/meta"
    ]  # fmt: skip
    with ModelRegistry(new) as registry:
        assert registry.names() == ["changed", "gone", "good"]
        assert registry.load("good", 1) == b"good"
        with pytest.raises(CorruptionError):
            registry.load("changed", 1)
    with SynaDB(new) as db:
        assert db.get("ancestor/model/torn/v1/meta") == '{"name": "to'
        assert "model/torn/v1/meta" not in db


# -------------------------------------------------------------------------------------- experiments


def python_run(log, experiment, run_id, **record):
    """The keys that the ancestor's Python wrote for a run."""
    base = f"exp/{experiment}/run/{run_id}"
    facts = {
        "run_id": run_id, "experiment": experiment, "started_at": 1_700_000_000.25,
        "ended_at": 1_700_000_100.5, "status": "completed", "tags": ["a", "b"],
    }  # fmt: skip
    log.json(f"{base}/meta", {**facts, **record})
    return base


def test_a_run_of_the_ancestors_python(old, new):
    log = Log()
    base = python_run(log, "vision/mnist 100%", "r-1")
    log.add(f"{base}/param/lr", text("0.001")).add(f"{base}/param/status", text("cold"))
    values = [1.0, 0.5, 0.25, 0.75]
    for step, value in enumerate(values):
        log.add(f"{base}/metric/loss/{step}", real(value))
        log.add(f"{base}/metric_ts/loss", real(value))
    for value in (3.0, 4.0):  # only the series
        log.add(f"{base}/metric_ts/speed", real(value))
    log.add(f"{base}/metric/a/b/0", real(9.0)).add(f"{base}/artifact/m/w.bin", blob(b"\x80\x04"))
    report = migrate(old(log), new)
    assert report.complete and not report.notes and report.came["metric points"] == 4 + 2 + 1
    with SynaDB(new) as db:
        assert all(key.startswith(("exp/.run/", "exp/vision%2Fmnist 100%25/")) for key in db)
    with Experiment("vision/mnist 100%", new) as experiment:
        (run,) = experiment.list_runs()
        assert (run.id, run.status, run.tags) == ("r-1", "completed", ["a", "b"])
        assert (run.started_at, run.ended_at) == (1_700_000_000.25, 1_700_000_100.5)
        assert run.params == {"lr": "0.001", "status": "cold"}
        assert set(run.metrics) == {"a/b", "loss", "speed"}
        assert experiment.get_metric_tensor("r-1", "loss").tolist() == values
        assert experiment.get_metric_tensor("r-1", "speed").tolist() == [3.0, 4.0]
        key = "exp/vision%2Fmnist 100%25/run/r-1/metric/loss"
        assert times(experiment.db, key) == [T0 + 1000 * n for n in (4, 6, 8, 10)]
        assert experiment.db.get_bytes(f"{key[:-12]}/artifact/m/w.bin") == b"\x80\x04"
        experiment.resume("r-1")
        run.log_metric("loss", 0.125)  # the next step
        run.end()
        assert experiment.get_metric_tensor("r-1", "loss").tolist() == [*values, 0.125]
        assert experiment.get_best_run("loss").id == "r-1"


def test_a_run_of_the_ancestors_rust(old, new):
    log = Log().json("exp/m/run/abc/meta", {
        "id": "abc", "experiment_name": "m", "started_at": 5, "ended_at": None,
        "status": "Running", "params": {}, "tags": [],
    })  # fmt: skip
    log.json("exp/m/run/abc/meta", {
        "id": "abc", "experiment_name": "m", "started_at": 5, "ended_at": 9,
        "status": "Failed", "params": {"lr": "0.1", "layers": 3}, "tags": ["x"],
    })  # fmt: skip
    log.add("exp/m/run/abc/metric/loss/10", real(2.0))
    report = migrate(old(log), new)
    assert report.complete
    with Experiment("m", new) as experiment:
        (run,) = experiment.list_runs()
        assert (run.status, run.started_at, run.ended_at) == ("failed", 5, 9)
        assert run.params == {"lr": "0.1", "layers": "3"} and run.tags == ["x"]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 6), st.just(2**33), st.just(2**62)),
            st.one_of(st.floats(-10, 10), st.just(math.nan)),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_metrics_in_any_order_and_steps_that_come_again(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("metric")
    log = Log()
    base = python_run(log, "m", "r")
    for step, value in points:
        log.add(f"{base}/metric/x/{step}", real(value))
    (folder / "old").write_bytes(log.bytes)
    migrate(folder / "old", folder / "new")
    last = dict(points)
    wanted = [last[step] for step in sorted(last)]
    with Experiment("m", folder / "new", shared=False) as experiment:
        run = experiment.get_run("r")
        assert repr(experiment.get_metric_tensor("r", "x").tolist()) == repr(wanted)
        stats = run.metrics["x"]
        finite = [value for value in wanted if value == value]
        assert repr(stats["last" if "last" in stats else "latest"]) == repr(wanted[-1])
        assert repr(stats["min"]) == repr(min(finite, default=math.nan))
        assert repr(stats["max"]) == repr(max(finite, default=math.nan))
        experiment.resume("r")
        run.log_metric("x", 42.0, step=3)
        last[3] = 42.0
        assert repr(experiment.get_metric_tensor("r", "x").tolist()) == repr(
            [last[step] for step in sorted(last)]
        )


def test_runs_that_cannot_be_are_kept_aside(old, new):
    log = (
        Log().add("exp/m/run/torn/meta", text('{"id": "to')).add("exp/m/run/list/meta", text("[]"))
    )
    python_run(log, "m", "good")
    python_run(log, "m", "x" * 37)
    python_run(log, "other", "good")
    log.add("exp/m/run/good/metric/loss/none", real(1.0)).add("exp/m/run/good/new/part", real(2.0))
    report = migrate(old(log), new)
    assert (
        report.lost_count == 4 and sum("came over as it is" in note for note in report.notes) == 2
    )
    with Experiment("m", new) as experiment:
        assert [run.id for run in experiment.list_runs()] == ["good"]
        kept = [key for key in experiment.db if key.startswith("ancestor/")]
        assert len(kept) == 4
        assert experiment.db.get("exp/m/run/good/new/part") == 2.0


# ------------------------------------------------------------------------------------------ tensors


def test_tensors_in_chunks_when_their_dtype_is_given(old, new, tmp_path):
    values = np.arange(25, dtype="<f8")
    log = Log()
    for i in range(3):
        log.add(f"train/X/chunk_{i:04}", blob(values[10 * i : 10 * i + 10].tobytes()))
    for i in range(4):
        log.add(f"y/{i:04}", real(i / 2))
    source = old(log)
    report = migrate(source, new)
    assert report.complete and any("migrate with tensors=" in note for note in report.notes)
    with SynaDB(new) as db:
        assert db.get_bytes("train/X/chunk_0002") == values[20:].tobytes()
    report = migrate(source, tmp_path / "b.db", tensors={"train/X/": "float64", "absent/": "i4"})
    assert report.came["tensors"] == 1 and any("'absent/'" in note for note in report.notes)
    with TensorEngine(tmp_path / "b.db") as engine:
        assert engine.get_tensor_chunked("train/X/chunk_*", dtype=None).tolist() == values.tolist()
        assert engine.get_tensor_chunked("train/X/chunk_0001", dtype=None)[0] == 10
        assert engine.get_tensor("y/*", dtype=None).tolist() == [0, 0.5, 1, 1.5]
    with SynaDB(tmp_path / "b.db") as db:
        assert db.get("train/X/chunk_0000") is None


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ({0: 8, 2: 8}, "chunk 1 is missing"),
        ({0: 8, 1: 4, 2: 8}, "chunk 1 has 4 bytes and the first 8"),
        ({0: 8, 1: 7}, "chunk 1 has 7 bytes"),
        ({0: 8, 1: 0}, "chunk 1 has 0 bytes"),
        ({0: 8, 1: 16}, "chunk 1 has 16 bytes"),
    ],
)
def test_chunks_that_are_no_tensor_stay_bytes(old, new, chunks, why):
    log = Log()
    for number, size in chunks.items():
        log.add(f"w/chunk_{number}", blob(bytes(size)))
    report = migrate(old(log), new, tensors={"*": "f4"})
    assert report.lost_count == 1 and why in report.lost[0].why
    with SynaDB(new) as db:
        assert len(db) == len(chunks)


@pytest.mark.parametrize("dtype", ["object", "no dtype", "U5"])
def test_dtypes_that_tensors_do_not_have(old, new, dtype):
    with pytest.raises(ArgumentError, match="tensor 'w/'"):
        migrate(old(Log().add("a", real(1))), new, tensors={"w/": dtype})
    assert os.listdir(new.parent) == []


# -------------------------------------------------------------------------------------- experiences


def transition(reward, session="s", **more):
    return json.dumps({
        "state": [1, 2], "action": "left", "reward": reward, "next_state": {"x": None},
        "session_id": session, "machine_id": "gpu1", "metadata": {"done": False}, **more,
    }).encode()  # fmt: skip


def test_experiences(old, new):
    log = Log().add("meta/machine", text("gpu1"))
    log.json("meta/session/s", {"model": "small"})
    for i in range(3):
        micros = T0 + i
        log.add(f"exp/s/{micros}_abc{i}", blob(transition(i / 2, timestamp=micros)))
        log.add("idx/reward/s", real(i / 2))
    log.add(f"exp/a/b/{T0 + 9}_00", blob(transition(7, "a/b")))  # no time but the key's
    log.add(f"exp/s/{T0 + 1}_twin", blob(transition(0.5, timestamp=T0 + 1)))
    log.add(f"exp/s/{T0 + 5}_bad", blob(b"\xff{")).add(f"exp/s/{T0 + 6}_no", blob(b'{"state": 1}'))
    report = migrate(old(log), new)
    assert report.came["transitions"] == 5 and report.lost_count == 2
    with ExperienceCollector(new) as collector:
        assert collector.machine_id == "gpu1" and collector.list_sessions() == ["a/b", "s"]
        assert sorted(collector.get_rewards_tensor("s").tolist()) == [0, 0.5, 0.5, 1]
        assert collector.get_rewards_tensor("a/b").tolist() == [7]
        columns = collector.to_tensors("s")
        assert columns["timestamps"].tolist() == [T0, T0 + 1, T0 + 2, T0 + 2]
        assert collector.to_tensors("a/b")["timestamps"].tolist() == [T0 + 9]
        assert collector.session_metadata("s") == {"model": "small"}
        collector.log_transition(1, 2, 3.0, 4, session_id="s")
        assert len(collector.get_rewards_tensor("s")) == 5
        assert collector.db.get_history_tensor("idx/reward/s").tolist() == [0, 0.5, 1]
    with SynaDB(new) as db:
        assert len([key for key in db if key.startswith("ancestor/")]) == 2
        (key,) = [key for key in db if key.startswith("exp/a%2Fb/")]
        assert key == db_key(db.get(key))
        assert times(db, key) == [T0 + 9 * 1000]


def db_key(record):
    from synadb import Transition

    return Transition(**record).key()


# ---------------------------------------------------------------------------------- refused, undone


FOREIGN = {
    "empty": b"",
    "text": b"These are no records at all, but a line of text.\n" * 20,
    "zip": b"PK\x03\x04" + bytes(range(200)),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(200)),
    "sqlite": b"SQLite format 3\0" + bytes(200),
    "zeros": bytes(5000),
    "noise": np.random.default_rng(4).bytes(4000),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused_and_left_alone(name, old, new):
    source = old(FOREIGN[name])
    with pytest.raises(WrongKindError):
        migrate(source, new)
    assert source.read_bytes() == FOREIGN[name] and os.listdir(new.parent) == []


def test_our_own_files_are_refused(tmp_path, new):
    with SynaDB(tmp_path / "ours.db") as db:
        db["a"] = 1
    with MmapVectorStore(tmp_path / "ours.mmap", 4) as store:
        store.insert("a", np.ones(4))
    for name in ("ours.db", "ours.mmap"):
        with pytest.raises(WrongKindError):
            migrate(tmp_path / name, new)
    assert os.listdir(new.parent) == []


def test_a_new_file_that_exists_stays_as_it_is(old, new):
    new.write_bytes(b"precious")
    with pytest.raises(SynaIOError) as caught:
        migrate(old(Log().add("a", real(1))), new)
    assert caught.value.errno == errno.EEXIST and new.read_bytes() == b"precious"
    assert os.listdir(new.parent) == ["new.db"]


def test_files_that_are_not_there(tmp_path, old, new):
    with pytest.raises(FileNotFoundError):
        migrate(tmp_path / "absent", new)
    with pytest.raises(FileNotFoundError):
        migrate(old(Log().add("a", real(1))), tmp_path / "absent" / "new.db")
    with pytest.raises(SynaError):
        migrate(tmp_path, new)
    assert os.listdir(new.parent) == []


@pytest.mark.parametrize(
    "make", [lambda: big_log().bytes, lambda: make_mmap(rows_of(9000, 512), 512)]
)
def test_a_migration_that_is_stopped_leaves_nothing(make, old, new):
    calls = []

    def stop(done, total):
        calls.append((done, total))
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        migrate(old(make()), new, progress=stop)
    assert os.listdir(new.parent) == [] and len(calls) == 1 and calls[0][1] > 0


def big_log():
    log = Log()
    for i in range(3000):
        log.add(f"key{i}", blob(bytes(500)))
    return log


KILLED = """
    import os, signal, sys
    from synadb.migrate import migrate
    count = int(sys.argv[3])
    def die(done, total):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    migrate(sys.argv[1], sys.argv[2], progress=die)
"""


def test_a_migration_that_is_killed_leaves_no_new_file(old, new):
    source = old(make_mmap(rows_of(30_000, 64), 64))
    for count in (1, 2):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), source, new, str(count)], timeout=60
        )
        assert done.returncode == -signal.SIGKILL and not new.exists()
    assert migrate(source, new).came == {"vectors": 30_000}


def test_progress_is_a_callable_or_a_bool(old, new):
    with pytest.raises(TypeError):
        migrate(old(make_mmap([], 4)), new, progress=3)
    assert os.listdir(new.parent) == []


# --------------------------------------------------------------------------------- the command line


def test_the_command(old, new, capsys):
    source = old(SMALL)
    assert main(["migrate", str(source), str(new), "--tensor", "w/=float32"]) == 0
    out = capsys.readouterr().out
    assert "everything came over" in out and "1  runs" in out and "1  tensors" in out
    assert main(["migrate", str(source), str(new)]) == 1
    assert "exists" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["migrate", str(source), str(new), "--tensor", "float32"])


def test_the_command_tells_what_was_lost(old, new, capsys):
    source = old(Log().add("a", real(1)).add(b"\0", real(2)))
    assert main(["migrate", "--json", str(source), str(new)]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["complete"] is False and report["lost_count"] == 1
    assert report["came"] == {"values": 1, "deletions": 0}
    assert "NUL" in report["lost"][0]["why"]
    assert main(["migrate", str(source), f"{new}2"]) == 1
    assert "not come over" in capsys.readouterr().out


def test_no_component_is_named_that_is_not_there(old, new):
    for name in migrate(old(SMALL), new).components:
        assert hasattr(synadb, name)


def test_salvage_of_an_ancestors_log_keeps_a_deletion_and_not_what_it_carries(tmp_path):
    log = Log()
    log.add("kept", integer(1))
    log.add("gone", text("before"))
    log.add("gone", text("a deletion that carries a value"), TOMBSTONE)
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    old.write_bytes(log.bytes)
    synadb.salvage(old, new)
    assert not synadb.verify(new).damaged
    with synadb.SynaDB(new, read_only=True) as db:
        assert db.keys() == ["kept"] and db["kept"] == 1
