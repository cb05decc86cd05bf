"""ExperienceCollector: transitions come back exactly, merges are sets, samples follow their law."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import synadb
from synadb import ExperienceCollector, SynaDB, Transition

SEED = """
from synadb import ExperienceCollector

# Create collector with machine ID for multi-machine sync
collector = ExperienceCollector("experiences.db", machine_id="gpu_server_1")

# Log transitions
with collector.session(model="Qwen/Qwen3-4B") as session:
    session.log(
        state=(0, 1, 2, 0.5),
        action="analyze_weights",
        reward=0.75,
        next_state=(0, 1, 3, 0.6)
    )

# Get rewards as tensor for training
rewards = collector.get_rewards_tensor("default")

# Merge experiences from multiple machines
ExperienceCollector.merge(
    ["machine1/exp.db", "machine2/exp.db"],
    "master/exp.db"
)

# Export for sharing
collector.export_jsonl("experiences.jsonl")
"""


@pytest.fixture
def collector(tmp_path):
    with ExperienceCollector(tmp_path / "exp.db", machine_id="m1") as collector:
        yield collector


def rows(source):
    """What a file says, as a set that can be compared."""
    with (
        ExperienceCollector(source) if not isinstance(source, ExperienceCollector) else source as c
    ):
        found = [
            json.dumps(c.get_transition(key).to_json(), sort_keys=True)
            for key in c.iterate_transitions()
        ]
    assert len(set(found)) == len(found)
    return set(found)


def test_the_seeds_example(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("machine1", "machine2", "master"):
        os.mkdir(folder)
    for n in (1, 2):
        with ExperienceCollector(f"machine{n}/exp.db") as collector:
            collector.log_transition(0, 1, n, 0)
    names = {}
    exec(SEED, names)
    session = names["session"]
    assert (session.transition_count, session.total_reward, session.mean_reward) == (1, 0.75, 0.75)
    assert names["rewards"].dtype == np.float64 and names["rewards"].tolist() == []
    assert names["collector"].get_rewards_tensor(session.session_id).tolist() == [0.75]
    assert names["collector"].session_metadata(session.session_id) == {"model": "Qwen/Qwen3-4B"}
    line = json.loads(open("experiences.jsonl").read())
    assert line["state"] == [0, 1, 2, 0.5] and line["machine_id"] == "gpu_server_1"
    names["collector"].close()
    with ExperienceCollector("master/exp.db") as master:
        assert sorted(master.get_rewards_tensor()) == [1, 2]  # rewards are merged, too


def test_states_of_any_kind_come_back_exactly(collector):
    states = [
        (0, 1, 2, 0.5), [1, [2]], {"a": (1,), 2: b"x"}, None, "text", b"", 2**70, float("nan"),
        np.arange(6, dtype=np.int16).reshape(2, 3), np.float32(0.1), {"obs": np.zeros((2, 2))},
    ]  # fmt: skip
    for state in states:
        found = collector.get_transition(collector.log_transition(state, 0, 1, state)).state
        assert type(found) is type(state)
        assert repr(found) == repr(state)
    assert collector.count_transitions() == len(states)
    with pytest.raises(TypeError):
        collector.log_transition(object(), 0, 1, 0)
    assert collector.count_transitions() == len(states)


def test_keys_and_what_they_lead_to(collector):
    key = collector.log_transition(1, "go", 2, 3, {"note": "x"})
    assert key.startswith("exp/default/") and len(key.rpartition("_")[2]) == 16
    found = collector.get_transition(key)
    assert isinstance(found, Transition)
    assert (found.state, found.action, found.reward, found.next_state) == (1, "go", 2.0, 3)
    assert (found.session_id, found.machine_id, found.metadata) == ("default", "m1", {"note": "x"})
    assert key.endswith(found.content_hash())
    for absent in ("exp/default/0_0123456789abcdef", "nothing", key + "#1", "meta/machine"):
        assert collector.get_transition(absent) is None


def test_equal_steps_stay_apart_and_in_order(collector):
    for _ in range(3):
        collector.log_transition(0, 0, 1.5, 0)
    for reward in range(100):
        collector.log_transition(0, 0, reward, 0)
    assert collector.get_rewards_tensor().tolist() == [1.5] * 3 + list(range(100))
    assert len(list(collector.iterate_transitions())) == 103


def test_the_machine_id_is_kept_in_the_file(tmp_path):
    ids = []
    for _ in range(2):
        with ExperienceCollector(tmp_path / "a.db") as collector:
            ids.append(collector.machine_id)
            collector.log_transition(0, 0, 0, 0)
    assert ids[0] == ids[1] and ids[0].startswith("machine-")
    with ExperienceCollector(tmp_path / "a.db", machine_id="named") as collector:
        assert collector.machine_id == "named"
        assert collector.get_transition(collector.log_transition(0, 0, 0, 0)).machine_id == "named"
    with pytest.raises(ValueError):
        ExperienceCollector(tmp_path / "a.db", machine_id="")


def test_sessions(collector):
    with collector.session("a/b", model="x", array=np.arange(2)) as session:
        session.log(0, 0, 1, 0, note=1)
        session.log(0, 0, 2, 0)
    with collector.session("a") as other:
        other.log(0, 0, 5, 0)
    with collector.session("empty"):
        pass
    collector.log_transition(0, 0, 7, 0)
    assert collector.list_sessions() == ["a", "a/b", "default", "empty"]
    assert collector.get_rewards_tensor("a/b").tolist() == [1, 2]
    assert collector.get_rewards_tensor("a").tolist() == [5]
    assert collector.get_rewards_tensor(None).tolist() == [1, 2, 5, 7]
    assert (
        collector.session_metadata("a/b")["model"] == "x" and collector.session_metadata("z") == {}
    )
    keys = list(collector.iterate_transitions("a/b"))
    assert len(keys) == 2 and collector.get_transition(keys[0]).metadata == {"note": 1}
    stats = collector.stats()
    assert (stats["transitions"], stats["total_reward"], stats["machine_id"]) == (4, 15.0, "m1")
    with pytest.raises(ValueError):
        collector.session("")


def test_batches_are_the_same_as_single_steps(collector):
    states = np.arange(8, dtype=np.float32).reshape(4, 2)
    assert collector.log_transitions(states, ["a", "b", "c", "d"], [1, 2, 3, 4], states + 1) == 4
    collector.log_transition(states[0], "e", 5, states[1])
    keys = list(collector.iterate_transitions())
    found = [collector.get_transition(key) for key in keys]
    assert [t.reward for t in found] == [1, 2, 3, 4, 5] and [t.action for t in found] == list(
        "abcde"
    )
    np.testing.assert_array_equal(found[2].state, states[2])
    assert len({t.timestamp for t in found}) == 5
    assert collector.get_transition(keys[0].rpartition("#")[0] + "#4") is None
    tensors = collector.to_tensors()
    assert tensors["states"].shape == (5, 2) and tensors["states"].dtype == np.float32
    assert tensors["rewards"].tolist() == [1, 2, 3, 4, 5]
    assert collector.log_transitions([], [], [], []) == 0
    for bad in (([1], [1, 2], [1, 2], [1, 2]), ([1], [1], [[1]], [1]), ([1], [1], [1], [])):
        with pytest.raises(ValueError):
            collector.log_transitions(*bad)
    with pytest.raises(ValueError):
        collector.log_transitions([1], [1], [1], [1], metadata=[])
    assert collector.count_transitions() == 5


def test_large_batches_are_several_records_of_one_commit(collector, monkeypatch):
    monkeypatch.setattr(synadb._transitions, "BATCH_ROWS", 100)
    commits = collector.db.stats().commits
    collector.log_transitions(np.arange(1050), np.zeros(1050), np.arange(1050), np.arange(1050))
    assert collector.db.stats().commits == commits + 1
    assert collector.get_rewards_tensor().tolist() == list(range(1050))


# -------------------------------------------------------------------------------------- columns


def test_columns_widen_and_fall_back_to_objects(collector):
    assert len(collector.to_tensors()["states"]) == 0
    collector.log_transition(1, (1, 2), 0, None)
    assert collector.to_tensors()["states"].dtype == np.int64
    collector.log_transition(2.5, (3, 4), 0, {"a": 1})
    assert collector.to_tensors()["states"].tolist() == [1, 2.5]
    assert collector.to_tensors()["actions"].tolist() == [[1, 2], [3, 4]]
    collector.log_transition("x", (1, 2, 3), 0, [1])
    tensors = collector.to_tensors()
    assert tensors["states"].tolist() == [1, 2.5, "x"]
    assert tensors["next_states"].tolist() == [None, {"a": 1}, [1]]
    assert [tuple(action) for action in tensors["actions"]] == [(1, 2), (3, 4), (1, 2, 3)]
    fresh = ExperienceCollector(collector.path).to_tensors()
    assert fresh["states"].tolist() == [1, 2.5, "x"]


def test_uniform_samples(collector):
    with pytest.raises(ValueError, match="no transitions"):
        collector.sample(1)
    n = 50
    collector.log_transitions(np.arange(n) * 10, np.arange(n), np.arange(n), np.arange(n) * 10 + 1)
    batch = collector.sample(4000, seed=3)
    np.testing.assert_array_equal(batch.states, batch.indices * 10)
    np.testing.assert_array_equal(batch.next_states, batch.indices * 10 + 1)
    np.testing.assert_array_equal(batch.rewards, batch.indices)
    assert set(batch.indices) == set(range(n)) and np.all(batch.weights == 1) and len(batch) == 4000
    assert np.array_equal(collector.sample(9, seed=3).indices, collector.sample(9, seed=3).indices)
    collector.log_transition(500, 50, 50, 501)  # what is logged later is drawn, too
    assert 50 in collector.sample(4000, seed=3).indices
    with pytest.raises(ValueError):
        collector.sample(0)


def test_prioritised_samples_follow_their_priorities(collector):
    n = 37
    collector.log_transitions(np.arange(n), np.arange(n), np.zeros(n), np.arange(n))
    priorities = np.linspace(0.1, 5, n)
    collector.update_priorities(np.arange(n), priorities)
    wanted = priorities**0.6 / (priorities**0.6).sum()
    drawn = collector.sample(40_000, prioritized=True, seed=1)
    counts = np.bincount(drawn.indices, minlength=n) / 40_000
    np.testing.assert_allclose(counts, wanted, atol=0.004)
    weights = (n * wanted) ** -0.4
    np.testing.assert_allclose(
        drawn.weights, weights[drawn.indices] / weights[drawn.indices].max(), rtol=1e-9
    )
    collector.update_priorities([3, 3], [1.0, 1000.0])  # the later one of two counts
    again = collector.sample(1000, prioritized=True, seed=1, alpha=1.0)
    assert np.mean(again.indices == 3) > 0.85
    collector.log_transition(0, 0, 0, 0)  # as important as the most important one
    assert np.mean(collector.sample(1000, True, seed=1, alpha=1.0).indices == n) > 0.4
    for indices, values in (
        ([n + 1], [1]),
        ([-1], [1]),
        ([0], [0]),
        ([0], [np.nan]),
        ([0, 1], [1]),
    ):
        with pytest.raises(ValueError):
            collector.update_priorities(indices, values)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    episodes=st.lists(
        st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=8), min_size=1, max_size=3
    ),
    n=st.integers(1, 4),
    gamma=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_n_step_returns_against_the_definition(tmp_path, episodes, n, gamma):
    name = f"{uuid.uuid4()}.db"  # hypothesis resets what `random` gives
    with ExperienceCollector(tmp_path / name, shared=False) as collector:
        flat = [(s, i, *step) for s, steps in enumerate(episodes) for i, step in enumerate(steps)]
        for s, i, reward, done in sorted(flat, key=lambda row: row[1]):  # sessions interleave
            collector.log_transition(
                (s, i), 0, reward, (s, i + 1), {"done": done}, session_id=f"s{s}"
            )
        found = collector.n_step(n, gamma)
        got = {}
        for k in range(len(found["returns"])):
            state = tuple(found["states"][k])
            got[state] = (
                found["returns"][k], tuple(found["next_states"][k]),
                found["steps"][k], found["done"][k],
            )  # fmt: skip
    for s, steps in enumerate(episodes):
        for i in range(len(steps)):
            total, k, ended = 0.0, 0, False
            while k < n and i + k < len(steps) and not ended:
                total += gamma**k * steps[i + k][0]
                ended = steps[i + k][1]
                k += 1
            assert got[s, i] == (pytest.approx(total), (s, i + k), k, ended)
    assert len(got) == len(flat)


def test_n_step_of_one_session(collector):
    for session in ("a", "b"):
        for reward in (1, 2, 4):
            collector.log_transition(0, 0, reward, 0, session_id=session)
    assert collector.n_step(2, 0.5, session_id="a")["returns"].tolist() == [2, 4, 4]
    assert collector.n_step(2, 0.5, session_id="none")["returns"].tolist() == []
    with pytest.raises(ValueError):
        collector.n_step(0, 0.9)


# ------------------------------------------------------------------------------ JSONL and merging


def fill(path, machine, count, seed=0):
    rng = random.Random(f"{machine}{seed}")
    with ExperienceCollector(path, machine_id=machine) as collector:
        with collector.session("shared", machine=machine) as session:
            for _ in range(count):
                session.log((rng.random(), 1), np.arange(2), rng.random(), {"x": b"y"}, done=False)
        collector.log_transitions(
            np.ones((count, 2)), [machine] * count, np.arange(count), [None] * count
        )
    return path


def test_jsonl_brings_everything_back_once(tmp_path):
    source = fill(tmp_path / "a.db", "m1", 5)
    lines = tmp_path / "a.jsonl"
    with ExperienceCollector(source) as a, ExperienceCollector(tmp_path / "b.db") as b:
        assert a.export_jsonl(lines) == 10
        fields = set(json.loads(lines.read_text().splitlines()[0]))
        assert fields == {
            "state", "action", "reward", "next_state", "timestamp", "session_id", "machine_id",
            "metadata",
        }  # fmt: skip
        assert a.import_jsonl(lines) == 0  # it is all there
        assert b.import_jsonl(lines) == 10 and b.import_jsonl(lines) == 0
        assert b.import_jsonl(lines, deduplicate=False) == 10
        assert b.count_transitions() == 20
        assert b.export_jsonl(lines, "shared") == 10
        np.testing.assert_array_equal(a.get_rewards_tensor(), np.arange(5))
        key = next(b.iterate_transitions("shared"))
        assert b.get_transition(key).next_state == {"x": b"y"}
        np.testing.assert_array_equal(b.get_transition(key).action, np.arange(2))


def test_lines_of_others_are_read(collector, tmp_path):
    lines = tmp_path / "x.jsonl"
    lines.write_text(
        '{"state": [1], "action": 0, "reward": 1, "next_state": null}\n\n'
        '{"state": 1, "action": 0, "reward": 2.5, "next_state": 2, "timestamp": 1700000000.25,'
        ' "session_id": "s", "machine_id": "other", "metadata": {"k": 1}}\n'
    )
    assert collector.import_jsonl(lines) == 2
    (key,) = collector.iterate_transitions("s")
    found = collector.get_transition(key)
    assert found.timestamp == 1700000000250000 and found.machine_id == "other"
    (key,) = collector.iterate_transitions("default")
    assert collector.get_transition(key).machine_id == "m1"


@pytest.mark.parametrize(
    "line",
    [
        "[]", "{", '{"state": 1}', "nonsense",
        '{"state": 1, "action": 1, "reward": "x", "next_state": 1}',
        '{"state": 1, "action": 1, "reward": 1, "next_state": 1, "timestamp": -1}',
        '{"state": 1, "action": 1, "reward": 1, "next_state": 1, "timestamp": "now"}',
        '{"state": 1, "action": 1, "reward": 1, "next_state": 1, "session_id": 7}',
        '{"state": {"__synadb__": "AAAA"}, "action": 1, "reward": 1, "next_state": 1}',
        '{"state": {"__synadb__": "?"}, "action": 1, "reward": 1, "next_state": 1}',
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_nothing_is_imported(collector, tmp_path, line):
    lines = tmp_path / "x.jsonl"
    good = '{"state": 1, "action": 0, "reward": 1, "next_state": 2}\n'
    lines.write_text(good + line + "\n")
    with pytest.raises(ValueError, match="line 2"):
        collector.import_jsonl(lines)
    assert collector.count_transitions() == 0


def test_merging_is_exact_idempotent_and_order_independent(tmp_path):
    sources = [fill(tmp_path / f"{n}.db", f"m{n}", 4) for n in range(3)]
    everything = rows(sources[0]) | rows(sources[1]) | rows(sources[2])
    assert len(everything) == 24
    orders = [[0, 1, 2], [2, 0, 1], [1, 2, 0, 1, 1]]
    metadata = []
    for number, order in enumerate(orders):
        dest = tmp_path / f"dest{number}.db"
        assert ExperienceCollector.merge([sources[n] for n in order], dest) == 24
        assert ExperienceCollector.merge([sources[n] for n in order], dest) == 0
        assert ExperienceCollector.merge([tmp_path / "dest0.db"], dest) == 0
        assert rows(dest) == everything
        with ExperienceCollector(dest) as merged:
            assert sum(merged.get_rewards_tensor("default")) == 18
            metadata.append(merged.session_metadata("shared"))
    assert metadata[0] == metadata[1] == metadata[2]


def test_a_batch_that_is_partly_there_is_completed(tmp_path):
    source = fill(tmp_path / "a.db", "m1", 6)
    lines, dest = tmp_path / "a.jsonl", tmp_path / "dest.db"
    with ExperienceCollector(source) as a, ExperienceCollector(dest) as d:
        a.export_jsonl(lines)
        kept = lines.read_text().splitlines(True)[::2]
        lines.write_text("".join(kept))
        assert d.import_jsonl(lines) == 6
    assert ExperienceCollector.merge([source], dest) == 6
    assert rows(dest) == rows(source)
    assert ExperienceCollector.merge([source], dest, deduplicate=False) == 12
    assert len(rows(dest)) == 24


def test_a_missing_source_is_an_error_and_nothing_is_copied(tmp_path):
    source = fill(tmp_path / "a.db", "m1", 2)
    with pytest.raises(FileNotFoundError):
        ExperienceCollector.merge([source, tmp_path / "absent.db"], tmp_path / "dest.db")
    assert not (tmp_path / "dest.db").exists() and not (tmp_path / "absent.db").exists()
    with pytest.raises(TypeError):
        ExperienceCollector.merge(str(source), tmp_path / "dest.db")


def test_records_of_the_ancestor_are_read(tmp_path):
    line = {"state": [1], "action": "a", "reward": 0.5, "next_state": [2], "timestamp": 1.7e9,
            "session_id": "s", "machine_id": "old", "metadata": {}}  # fmt: skip
    with SynaDB(tmp_path / "a.db") as db:
        db.put_bytes("exp/s/1700000000000000_0123456789abcdef", json.dumps(line).encode())
        db.put_float("idx/reward/s", 0.5)
    with ExperienceCollector(tmp_path / "a.db") as collector:
        assert collector.get_rewards_tensor("s").tolist() == [0.5]
        assert collector.to_tensors()["states"].tolist() == [[1]]
        assert collector.list_sessions() == ["s"]


# ----------------------------------------------------------------------------- processes, crashes


LOG_MANY = """
import sys
from synadb import ExperienceCollector
path, number = sys.argv[1], int(sys.argv[2])
with ExperienceCollector(path) as collector:
    for k in range(60):
        collector.log_transition(k, number, number * 100 + k, k, session_id=f"s{number}")
"""


def log_many(path, number):
    with ExperienceCollector(path) as collector:
        for k in range(60):
            collector.log_transition(k, number, number * 100 + k, k, session_id=f"s{number}")


def test_processes_that_log_at_once_lose_nothing(tmp_path):
    path = str(tmp_path / "e.db")
    with ExperienceCollector(path) as collector:
        others = [subprocess.Popen([sys.executable, "-c", LOG_MANY, path, str(n)]) for n in (0, 1)]
        child = multiprocessing.get_context("fork").Process(target=log_many, args=(path, 2))
        child.start()
        for k in range(60):
            collector.log_transition(k, 9, 900 + k, k)
        child.join()
        assert child.exitcode == 0 and [other.wait() for other in others] == [0, 0]
        for n in range(3):
            assert collector.get_rewards_tensor(f"s{n}").tolist() == [
                n * 100 + k for k in range(60)
            ]
        assert collector.count_transitions() == 240


KILLED = """
import os, signal, sys
import numpy as np
from synadb import ExperienceCollector
collector = ExperienceCollector(sys.argv[1])
for k in range(50):
    collector.log_transition(k, 0, k, k)
collector.log_transitions(np.arange(9), np.arange(9), np.arange(9), np.arange(9), session_id="b")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_P2_kill_9_loses_nothing_that_was_logged(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "e.db"])
    assert done.returncode == -signal.SIGKILL
    with ExperienceCollector(tmp_path / "e.db") as collector:
        assert collector.get_rewards_tensor().tolist() == list(range(50))
        assert collector.get_rewards_tensor("b").tolist() == list(range(9))
        assert collector.db.verify().ok
