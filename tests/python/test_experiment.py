"""Experiment and Run: what is logged comes back, whoever logged it, whatever happened meanwhile."""

import base64
import json
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synadb
from synadb import Experiment, Run, RunStatus, SynaDB

# A file of the ancestor's, written through its C interface: one run with a parameter, three points
# of a metric and an artifact.
ANCESTOR = (
    "c-"
    "lMDV{X1LfsMhOVFd#aq*fH@=jLS=m*^Lj=II+7C7YTUCmHCb8Cs<3nxq({>L!_)80s3CrWvOgn;WI2rCI3brj{f!1GUa"
    "!fPiYH%oHUnC1Ug{=_mm$OfAaHP0cHb&r8fr1!@Fa50oh`Nh~T!O^Ht|QL-"
    "{Lw=^{}w6rua1M0|2fr{pp=H!6Ym6R3(H3pUD<z?oj1GN?;7A58ag{o_Hlu8oQfvjky5<{ifTE9MsZ><>w$@DGQX#Jcb"
    "kdIlRJ~q%ZFfg?1hXv#o3IlS*APh*QoFbqE*rQ75foeAa;&TTE9`b!&l$orblV4n{Z@|a^10U>7CsNaBLxj-"
    "}>>DOg(`X}*(V<{))xLEy#Artbelm>)Mp$NAVseRoqFz#F9t+SAW~jpxlal+Vz*5>C3RBt!x~DW`QFwZD&d)8#Nd;;oH"
    "pKw|;zUhe"
)


@pytest.fixture
def exp(tmp_path):
    with Experiment("mnist", tmp_path / "experiments.db") as experiment:
        yield experiment


# ------------------------------------------------------------------------- the seeds' examples

SEED_1 = """
from synadb import Experiment

exp = Experiment("mnist", "experiments.db")

# Start a run with context manager
with exp.start_run(tags=["baseline"]) as run:
    # Log hyperparameters
    run.log_params({"learning_rate": 0.001, "batch_size": 32})
    
    # Log metrics during training
    for epoch in range(100):
        loss = 1.0 / (epoch + 1)
        run.log_metric("loss", loss, step=epoch)
    
    # Log artifacts
    run.log_artifact("model.pt", model_bytes)
    # Run automatically ends when context exits

# Query runs
runs = exp.list_runs()
best_run = exp.get_best_run(metric="loss", minimize=True)
"""  # noqa: W293

SEED_2 = """
exp = Experiment("mnist_classifier", "experiments.db")
with exp.start_run(tags=["baseline", "v1"]) as run:
    run.log_params({
        "learning_rate": 0.001,
        "batch_size": 32,
        "epochs": 100,
        "optimizer": "adam"
    })
    for epoch in range(100):
        loss = 1.0 / (epoch + 1)
        accuracy = 0.5 + 0.005 * epoch
        run.log_metrics({"loss": loss, "accuracy": accuracy}, step=epoch)
    run.log_artifact("model.pt", model.state_dict())
    run.log_artifact("config.json", json.dumps(config).encode())
completed_runs = exp.query(filter={"status": "completed"})
best_runs = exp.query(sort_by="accuracy", ascending=False)
loss_history = exp.get_metric_tensor(run.id, "loss")
baseline_runs = exp.query(filter={"tags": ["baseline"]})
lr_runs = exp.query(filter={"learning_rate": "0.001"})
best_baseline = exp.query(
    filter={"status": "completed", "tags": ["baseline"]},
    sort_by="accuracy",
    ascending=False
)
"""


class FakeModel:
    def state_dict(self):
        return {"weight": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)}


def test_the_first_seeds_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"model_bytes": b"\x80weights"}
    exec(SEED_1, names)
    assert [run.status for run in names["runs"]] == ["completed"]
    assert isinstance(names["runs"][0], Run)
    assert names["best_run"].id == names["run"].id
    assert names["exp"].get_artifact(names["run"].id, "model.pt") == b"\x80weights"
    names["exp"].close()


def test_the_second_seeds_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"Experiment": Experiment, "json": json, "config": {"a": 1}, "model": FakeModel()}
    exec(SEED_2, names)
    run, exp = names["run"], names["exp"]
    for found in ("completed_runs", "best_runs", "baseline_runs", "lr_runs", "best_baseline"):
        assert names[found] == [run], found
    np.testing.assert_array_equal(names["loss_history"], 1.0 / np.arange(1, 101))
    comparison = exp.compare_runs([run.id])
    assert comparison["params"]["optimizer"] == {run.id: "adam"}
    assert set(comparison["metrics"]["accuracy"][run.id]) == {"latest", "min", "max", "mean"}
    state = exp.get_artifact(run.id, "model.pt")
    np.testing.assert_array_equal(state["weight"], np.eye(2))
    assert json.loads(exp.get_artifact(run.id, "config.json")) == {"a": 1}
    exp.close()


def test_both_names_of_the_path_and_its_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Experiment("a", path="x.db"), Experiment("a", db_path="y.db"), Experiment("a"):
        pass
    assert {"x.db", "y.db", "experiments.db"} <= set(os.listdir())
    with pytest.raises(TypeError, match="two names"):
        Experiment("a", "x.db", db_path="y.db")


# --------------------------------------------------------------------------------- a run's life


def test_a_run_ends_as_its_block_does(exp):
    with exp.start_run() as good:
        assert good.status == "running" and good.ended_at is None and good.duration is None
    with pytest.raises(ZeroDivisionError), exp.start_run() as bad:
        _ = 1 / 0
    with exp.start_run() as early:
        early.end("killed")
    assert [good.status, bad.status, early.status] == ["completed", "failed", "killed"]
    assert good.status is RunStatus.COMPLETED and str(good.status) == "completed"
    assert good.started_at <= good.ended_at and good.duration >= 0


def test_nothing_is_logged_after_the_end(exp):
    run = exp.start_run()
    run.end()
    for call in (
        lambda: run.end(),
        lambda: run.end("failed"),
        lambda: run.log_param("a", 1),
        lambda: run.log_metric("a", 1),
        lambda: run.log_metrics({"a": 1}),
        lambda: run.log_artifact("a", b""),
        lambda: run.log_artifact("a", Path(__file__)),
    ):
        with pytest.raises(synadb.SynaError, match="has ended"):
            call()
    assert run.status == "completed" and run.params == {} and exp.list_artifacts(run) == []
    run.set_tags(["late"])  # tags are about the run, not of it
    assert run.tags == ["late"] and run.status == "completed"


def test_a_run_is_resumed(exp):
    with exp.start_run(tags=["t"]) as run:
        run.log_metric("m", 1)
    with exp.resume(run.id) as again:
        assert again == run and run.status == "running" and run.ended_at is None
        again.log_metric("m", 2)
    assert exp.get_metrics(run.id, "m") == [(0, 1.0), (1, 2.0)]
    assert run.status == "completed" and run.tags == ["t"]
    with pytest.raises(KeyError):
        exp.resume("nobody")


def test_nested_runs(exp):
    with exp.start_run() as outer, exp.start_run(parent=outer) as inner:
        pass
    assert inner.parent_id == outer.id and outer.parent_id is None
    assert exp.list_runs(parent=outer) == [inner]
    with pytest.raises(KeyError, match="no run"):
        exp.start_run(parent="nobody")
    assert len(exp.list_runs()) == 2


def test_system_facts_are_recorded_only_when_asked_for(exp):
    assert exp.start_run().system is None
    facts = exp.start_run(system=True).system
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["packages"]["numpy"] == np.__version__ and "git" in facts


def test_a_run_is_deleted_whole(exp):
    run, other = exp.start_run(), exp.start_run()
    run.log_params({"a": 1, "b": 2})
    run.log_metric("m", 1)
    run.log_artifact("x", [1])
    assert exp.delete_run(run.id) == 7
    assert exp.delete_run(run.id) == 0
    assert exp.get_run(run.id) is None and exp.list_runs() == [other]
    assert not [key for key in exp.db if run.id in key]
    with pytest.raises(KeyError):
        run.log_metric("m", 1)
    with pytest.raises(KeyError):
        _ = run.status
    assert "deleted" in repr(run)


def test_a_run_as_plain_data_and_back(exp):
    run = exp.start_run(tags=["a"], params={"p": 1})
    facts = run.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    again = Run.from_dict(facts)
    assert again == run and again.to_dict() == facts and again.status is RunStatus.RUNNING
    with pytest.raises(synadb.SynaError, match="not attached"):
        again.log_metric("m", 1)


# ------------------------------------------------------------------------------------- logging


def test_parameters_are_texts_and_empty_ones_are_kept(exp):
    run = exp.start_run()
    run.log_params({"lr": 0.001, "flag": True, "none": None, "empty": "", "a/b": "x", "é": "ü\n"})
    run.log_param("lr", 0.01)
    assert run.params == {
        "lr": "0.01", "flag": "True", "none": "None", "empty": "", "a/b": "x", "é": "ü\n",
    }  # fmt: skip


def test_steps_are_counted_ordered_and_overwritten(exp):
    run = exp.start_run()
    for value in (1, 2, 3):
        run.log_metric("m", value)
    run.log_metric("m", 10, step=5)
    run.log_metric("m", 20, step=1)
    run.log_metric("m", 6)
    assert exp.get_metrics(run, "m") == [(0, 1), (1, 20), (2, 3), (5, 10), (6, 6)]
    tensor = exp.get_metric_tensor(run.id, "m")
    assert tensor.dtype == np.float64 and tensor.tolist() == [1, 20, 3, 10, 6]
    assert run.metrics["m"] == {"latest": 6, "min": 1, "max": 20, "mean": 8}
    assert exp.get_metric_tensor(run, "absent").tolist() == []
    with pytest.raises(KeyError):
        exp.get_metric_tensor("nobody", "m")


def test_special_values_of_metrics(exp):
    run = exp.start_run()
    for value in (math.nan, 1.0, -math.inf, np.float32(2), True, np.array(3.0)):
        run.log_metric("m", value)
    np.testing.assert_array_equal(
        exp.get_metric_tensor(run, "m"), [math.nan, 1, -math.inf, 2, 1, 3]
    )
    assert run.metrics["m"]["max"] == 3 and math.isnan(run.metrics["m"]["mean"])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.floats(-1e6, 1e6), st.none() | st.integers(0, 12)),
        max_size=25,
    )
)
def test_metrics_against_a_dict(exp, logged):
    run = exp.start_run()
    model = {}
    for name, value, step in logged:
        run.log_metric(name, value, step)
        series = model.setdefault(name, {})
        series[max(series, default=-1) + 1 if step is None else step] = value
    for name, series in model.items():
        points = sorted(series.items())
        values = [value for _, value in points]
        assert exp.get_metrics(run, name) == points
        found = run.metrics[name]
        assert found["latest"] == values[-1]
        assert (found["min"], found["max"]) == (min(values), max(values))
        assert found["mean"] == pytest.approx(sum(values) / len(values), abs=1e-3)
    assert exp.list_metrics(run) == sorted(model)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", bytearray(b"x"), "text", "", None, 7, 2.5, [1, {"b": None}], {"k": (1, 2)},
        np.arange(6).reshape(2, 3), np.float32(1.5), {"w": np.eye(2)}, {1: b"x"},
    ],
    ids=repr,
)  # fmt: skip
def test_artifacts_come_back_as_what_they_were(exp, data):
    run = exp.start_run()
    run.log_artifact("dir/thing", data)
    found = exp.get_artifact(run.id, "dir/thing", default="absent")
    if isinstance(data, np.ndarray):
        np.testing.assert_array_equal(found, data)
    elif isinstance(data, dict) and "w" in data:
        np.testing.assert_array_equal(found["w"], data["w"])
    else:
        assert found == data and type(found) in (type(data), bytes)
    assert exp.list_artifacts(run.id) == ["dir/thing"]


def test_bytes_that_look_like_a_pickle_stay_bytes(exp, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    data = pickle.dumps(Trap())
    run = exp.start_run()
    run.log_artifact("model", data)
    assert exp.get_artifact(run.id, "model") == data
    run.log_artifact("asked", Trap(), serializer="pickle")
    with pytest.raises(Exception, match="allow_pickle"):
        exp.get_artifact(run.id, "asked")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(TypeError):
        run.log_artifact("object", Trap())
    assert exp.list_artifacts(run) == ["asked", "model"]


def test_files_are_streamed_and_replace_what_was_there(exp, tmp_path):
    source = tmp_path / "weights.bin"
    source.write_bytes(os.urandom(3_000_000))
    run = exp.start_run()
    run.log_artifact("w", {"was": "an object"})
    run.log_artifact("w", source)
    assert exp.get_artifact(run, "w") == source.read_bytes()
    with exp.open_artifact(run, "w") as found:
        assert found.seek(1_000_000) == 1_000_000
        assert found.read(10) == source.read_bytes()[1_000_000:1_000_010]
    with open(source, "rb") as file:
        run.log_artifact("v", file)
    assert exp.get_artifact(run, "v") == source.read_bytes()
    with pytest.raises(FileNotFoundError):
        run.log_artifact("w", tmp_path / "absent")
    assert exp.get_artifact(run, "w") == source.read_bytes()


def test_a_large_object_is_streamed_with_its_kind(exp, monkeypatch):
    monkeypatch.setattr(synadb._run, "_STREAM_FROM", 1000)
    run = exp.start_run()
    array = np.arange(10_000)
    run.log_artifact("big", array)
    np.testing.assert_array_equal(exp.get_artifact(run, "big"), array)
    assert exp.db.type_of(f"exp/mnist/run/{run.id}/artifact/big") == "blob"


# --------------------------------------------------------------------------------------- query


@pytest.mark.parametrize("name", ["a/b", "a", "a/run/b", "100%", "a%2Fb", "ü b", ".run", "run"])
def test_any_name_of_an_experiment(tmp_path, name):
    with Experiment("other/x", tmp_path / "e.db") as other, Experiment(name, other.path) as exp:
        other.start_run()
        with exp.start_run() as run:
            run.log_metric("m/n", 1)
        assert exp.list_runs() == [run] and len(other.list_runs()) == 1
        assert run.experiment_name == name and exp.get_best_run("m/n") == run
        assert exp.get_run(other.list_runs()[0].id) is not None  # ids are unique in the file


def test_queries_filter_and_sort(exp):
    runs = []
    for n, accuracy in enumerate([0.5, None, math.nan, 0.9, 0.7]):
        run = exp.start_run(tags=["all", f"n{n}"], params={"n": n, "status": "cold", "tags": "x"})
        if accuracy is not None:
            run.log_metric("accuracy", 0.0)
            run.log_metric("accuracy", accuracy)
        runs.append(run)
    a, none, nan, c, b = runs
    a.end()
    assert exp.query() == exp.list_runs() == runs
    assert exp.query(ascending=False) == runs[::-1]
    assert exp.query(sort_by="accuracy") == [a, b, c, nan, none]
    assert exp.query(sort_by="accuracy", ascending=False) == [c, b, a, nan, none]
    assert (
        exp.query(sort_by="ended_at")[0] == exp.query(sort_by="ended_at", ascending=False)[0] == a
    )
    assert exp.query(sort_by="started_at", ascending=False) == runs[::-1]
    assert exp.query({"status": "completed"}) == exp.query({"status": RunStatus.COMPLETED}) == [a]
    assert exp.query({"tags": ["n1", "all"]}) == [none] and exp.query({"tags": ["x"]}) == []
    assert exp.query({"n": 3}) == exp.query({"n": "3"}) == [c]
    assert exp.query({"params": {"status": "cold", "n": 0, "tags": "x"}}) == [a]
    assert exp.query({"missing": ""}) == []
    assert exp.get_best_run("accuracy") == a
    assert exp.get_best_run("accuracy", minimize=False) == c
    assert exp.get_best_run("absent") is None
    with pytest.raises(ValueError, match="status"):
        exp.query({"status": "done"})
    with pytest.raises(TypeError):
        exp.query({"tags": "all"})


def test_the_best_of_equal_runs_is_the_oldest(exp):
    runs = [exp.start_run() for _ in range(5)]
    for run in reversed(runs):
        run.log_metric("m", 1)
    assert exp.get_best_run("m") == runs[0]


def test_comparison_of_runs(exp):
    a, b = exp.start_run(params={"lr": 1}), exp.start_run(params={"lr": 2, "x": 3})
    a.log_metric("m", 1)
    a.log_metric("m", 3)
    found = exp.compare_runs([a.id, b])
    assert [row["id"] for row in found["runs"]] == [a.id, b.id]
    assert found["params"] == {"lr": {a.id: "1", b.id: "2"}, "x": {b.id: "3"}}
    assert found["metrics"] == {"m": {a.id: {"latest": 3, "min": 1, "max": 3, "mean": 2}}}
    with pytest.raises(KeyError):
        exp.compare_runs([a.id, "nobody"])


def test_tables(exp):
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    with exp.start_run(tags=["t"], params={"lr": 1}) as a:
        a.log_metric("m", 2.5)
    b = exp.start_run()
    frame = exp.to_dataframe()
    assert list(frame["run_id"]) == [a.id, b.id] and frame["params.lr"][0] == "1"
    assert frame["metrics.m"][0] == 2.5 and pandas.isna(frame["metrics.m"][1])
    table = exp.to_arrow()
    assert isinstance(table, arrow.Table) and table["tags"].to_pylist() == [["t"], []]
    points = a.to_dataframe()
    assert list(points["value"]) == [2.5] and list(points["step"]) == [0]


def test_plots(exp):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    runs = [exp.start_run() for _ in range(3)]
    for run in runs[:2]:
        for k in range(4):
            run.log_metric("loss", k, step=k * 10)
    axes = exp.plot("loss")
    assert len(axes.lines) == 2 and axes.get_ylabel() == "loss"
    assert runs[0].plot("loss").lines[0].get_xdata().tolist() == [0, 10, 20, 30]


# ----------------------------------------------------------------------------------- bad input


def test_bad_input_is_refused_and_changes_nothing(exp):
    run = exp.start_run()
    keys = exp.db.keys()
    for error, call in [
        (ValueError, lambda: run.log_metric("m", 1, step=-1)),
        (OverflowError, lambda: run.log_metric("m", 1, step=2**63)),
        (TypeError, lambda: run.log_metric("m", 1, step=1.5)),
        (TypeError, lambda: run.log_metric("m", "x")),
        (TypeError, lambda: run.log_metric(7, 1.0)),
        (ValueError, lambda: run.log_metric("", 1.0)),
        (ValueError, lambda: run.log_metric("a\0b", 1.0)),
        (ValueError, lambda: run.log_metric("\ud800", 1.0)),
        (ValueError, lambda: run.log_metric("x" * 66_000, 1.0)),
        (ValueError, lambda: run.log_param("p", "a\0b")),
        (ValueError, lambda: run.log_params({"p": 1, "": 2})),
        ((TypeError, ValueError), lambda: run.log_metrics({"a": 1, "b": "x"})),
        (TypeError, lambda: run.set_tags("tag")),
        (TypeError, lambda: exp.start_run(tags=[1])),
        (ValueError, lambda: run.end("done")),
        (ValueError, lambda: run.end("running")),
        (ValueError, lambda: Experiment("", exp.path)),
        (ValueError, lambda: Experiment("a\0", exp.path)),
        (TypeError, lambda: Experiment(7, exp.path)),
        (KeyError, lambda: exp.compare_runs([""])),
        (TypeError, lambda: exp.get_metric_tensor(7, "m")),
    ]:
        with pytest.raises(error):
            call()
    assert exp.db.keys() == keys and run.status == "running"
    assert exp.get_run("") is None and exp.get_run("x" * 100) is None


def test_a_closed_experiment_says_so(tmp_path):
    exp = Experiment("e", tmp_path / "e.db")
    run = exp.start_run()
    exp.close()
    for call in (exp.list_runs, exp.start_run, lambda: run.log_metric("m", 1), lambda: run.status):
        with pytest.raises(synadb.ClosedError):
            call()
    assert "closed" in repr(run) and "closed" in repr(exp)
    exp.close()


# ------------------------------------------------------------------- files, processes, crashes


def test_a_file_of_the_ancestor_is_read(tmp_path):
    path = tmp_path / "old.db"
    path.write_bytes(zlib.decompress(base64.b85decode(ANCESTOR)))
    with Experiment("mnist", path) as exp:
        (run,) = exp.list_runs()
        assert run.status == "completed" and run.tags == ["t1"] and run.params == {"lr": "0.001"}
        assert exp.get_metrics(run, "loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
        assert exp.get_best_run("loss") == run and exp.list_metrics(run) == ["loss"]
        assert run.metrics["loss"]["latest"] == 1 / 3
        assert exp.get_artifact(run, "a.bin") == b"abc"
        with pytest.raises(synadb.ReadOnlyError):
            exp.start_run()


def test_a_database_that_is_open_here_is_used_as_it_is(tmp_path):
    with SynaDB(tmp_path / "e.db") as db, Experiment("e", db.path) as exp:
        run = exp.start_run()
        assert db.exists(f"exp/e/run/{run.id}/meta")


LOG_MANY = """
import sys
from synadb import Experiment
path, run_id, number, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Experiment("e", path) as exp:
    run = exp.get_run(run_id)
    for k in range(count):
        run.log_metric("shared", number * 1000 + k)
        run.log_metrics({f"own{number}": k, "both": number}, step=number * count + k)
    with exp.start_run(tags=[str(number)]):
        pass
"""


def log_many(*arguments):
    before, sys.argv = sys.argv, ["", *map(str, arguments)]
    try:
        exec(LOG_MANY, {})
    finally:
        sys.argv = before


def start(method, script, function, arguments):
    """A process of its own; calling what is returned waits for it and gives its exit status."""
    if method == "fork":
        child = multiprocessing.get_context("fork").Process(target=function, args=arguments)
        child.start()
        return lambda: child.join() or child.exitcode
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)]).wait


@pytest.mark.parametrize("method", ["another program", "fork"])
def test_processes_that_log_at_once_lose_nothing(tmp_path, method):
    path, count, workers = str(tmp_path / "e.db"), 40, 3
    with Experiment("e", path) as exp:
        run = exp.start_run()
        waits = [
            start(method, LOG_MANY, log_many, (path, run.id, n, count)) for n in range(workers)
        ]
        for k in range(count):
            run.log_metric("shared", 9000 + k)
        assert [wait() for wait in waits] == [0] * workers
        points = exp.get_metrics(run, "shared")
        assert [step for step, _ in points] == list(range((workers + 1) * count))
        wanted = sorted(n * 1000 + k for n in (*range(workers), 9) for k in range(count))
        assert sorted(value for _, value in points) == wanted
        assert len(exp.get_metrics(run, "both")) == workers * count
        assert len(exp.query({"status": "completed"})) == workers
        assert run.metrics["shared"]["max"] == wanted[-1]


def test_a_forked_child_goes_on_with_the_run_it_was_given(tmp_path):
    with Experiment("e", tmp_path / "e.db") as exp:
        run = exp.start_run()
        run.log_metric("m", 1)
        child = os.fork()
        if child == 0:
            try:
                run.log_metric("m", 2)
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        run.log_metric("m", 3)
        assert exp.get_metric_tensor(run, "m").tolist() == [1, 2, 3]


def test_experiments_and_runs_are_pickled_as_their_place(exp):
    run = exp.start_run(params={"p": 1})
    again = pickle.loads(pickle.dumps(run))
    again.log_metric("m", 1)
    assert again == run and run.metrics["m"]["latest"] == 1
    again._experiment.close()


def test_threads_that_log_at_once_lose_nothing(tmp_path):
    with Experiment("e", tmp_path / "e.db", shared=False) as exp:
        run = exp.start_run()

        def work(number):
            for k in range(200):
                run.log_metric("m", number * 1000 + k)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        values = exp.get_metric_tensor(run, "m").tolist()
        assert sorted(values) == sorted(n * 1000 + k for n in range(4) for k in range(200))


KILLED = """
import os, signal, sys
from synadb import Experiment
exp = Experiment("e", sys.argv[1])
run = exp.start_run(tags=["t"], params={"p": 1})
for k in range(100):
    run.log_metric("m", k)
run.log_artifact("a", [1, 2])
print(run.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_P2_kill_9_leaves_the_run_readable_and_it_is_resumed(tmp_path):
    path = tmp_path / "e.db"
    done = subprocess.run([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    with Experiment("e", path) as exp:
        (run,) = exp.list_runs()
        assert run.id == done.stdout.strip() and run.status == "running" and run.ended_at is None
        assert run.params == {"p": "1"} and run.tags == ["t"]
        assert exp.get_metric_tensor(run, "m").tolist() == list(range(100))
        assert exp.get_artifact(run, "a") == [1, 2]
        with exp.resume(run) as again:
            again.log_metric("m", 100)
        assert run.status == "completed" and run.metrics["m"]["latest"] == 100
        assert exp.db.verify().ok


def test_what_other_processes_log_is_seen(tmp_path):
    with (
        Experiment("e", tmp_path / "e.db") as exp,
        Experiment("e", exp.path, read_only=True) as view,
    ):
        run = exp.start_run()
        run.log_metric("m", 1)
        (seen,) = view.list_runs()
        run.log_metric("m", 2)
        assert view.get_metric_tensor(seen, "m").tolist() == [1, 2]
        run.end()
        assert seen.status == "completed"
        with pytest.raises(synadb.ReadOnlyError):
            view.start_run()
