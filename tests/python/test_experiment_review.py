"""Runs, registries, collectors and feature stores: promises that were once not kept."""

import io
import os
import sys

import numpy as np
import pytest

from synadb import (
    ExperienceCollector,
    Experiment,
    FeatureStore,
    ModelRegistry,
    SynaDB,
    SynaError,
    _serial,
)
from synadb.errors import ClosedError, ReadOnlyError

# -------------------------------------------------------------------------------------------- runs


def test_the_error_that_ends_a_block_is_the_one_that_is_told(tmp_path):
    exp = Experiment("e", tmp_path / "e.db")
    with pytest.raises(ZeroDivisionError), exp.start_run():
        exp.close()  # so that the run cannot be ended
        raise ZeroDivisionError
    with ExperienceCollector(tmp_path / "c.db") as collector:
        with pytest.raises(ZeroDivisionError), collector.session():
            collector.close()
            raise ZeroDivisionError


def test_an_error_while_a_run_is_ended_is_raised(tmp_path):
    exp = Experiment("e", tmp_path / "e.db")
    with pytest.raises(ClosedError), exp.start_run():
        exp.close()


def test_one_run_is_not_taken_for_a_list_of_runs(tmp_path):
    with Experiment("e", tmp_path / "e.db") as exp:
        run = exp.start_run()
        for one in (run, run.id):
            with pytest.raises(TypeError, match="list of runs"):
                exp.compare_runs(one)
            with pytest.raises(TypeError, match="list of runs"):
                exp.plot("loss", one)


def test_an_arrow_table_has_the_same_types_however_few_runs_there_are(tmp_path):
    pytest.importorskip("pyarrow")
    with Experiment("e", tmp_path / "e.db") as exp:
        schemas = [exp.to_arrow().schema]
        parent = exp.start_run()
        schemas.append(exp.to_arrow().schema)
        exp.start_run(tags=["a"], parent=parent).end()
        schemas.append(exp.to_arrow().schema)
    assert schemas[0] == schemas[1] == schemas[2]


# ------------------------------------------------------------------------------------------ models


@pytest.fixture
def registry(tmp_path):
    with ModelRegistry(tmp_path / "m.db", sync_on_write=False) as registry:
        yield registry


def test_numbers_of_numpy_in_metadata_become_text(registry):
    saved = registry.save("m", b"", {"a": np.float32(0.5), "n": np.int64(3), "t": np.bool_(True)})
    assert saved.metadata == {"a": "0.5", "n": "3", "t": "True"}
    assert registry.search({"n": np.int8(3)}) == [saved]


@pytest.mark.parametrize("metadata", ["abc", ["a"], 5])
def test_metadata_that_is_no_dict(registry, metadata):
    with pytest.raises(TypeError, match="metadata is a dict"):
        registry.save("m", b"", metadata)
    assert len(registry) == 0


def test_a_path_or_an_open_file_is_saved_by_its_bytes(registry, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "in.bin").write_bytes(data)
    assert registry.save("m", tmp_path / "in.bin").format == "raw"
    assert registry.save_model("m", io.BytesIO(data[:10])).version == 2
    assert registry.load("m", 1) == data
    assert registry.load("m", 2) == data[:10]


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_small_floats_keep_their_type(registry, name, monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    whole = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, name))
    for array in (whole, whole.T, whole[:0], whole[0, 1]):
        array = np.asarray(array)
        registry.save("one", array)
        back = registry.load("one")
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.tobytes() == array.tobytes()
    registry.save("two", {"w": whole, "b": np.ones(2, np.int32)})
    back = registry.load("two")
    assert list(back) == ["w", "b"]
    assert back["w"].dtype == whole.dtype
    with monkeypatch.context() as without:  # then their bits are what can be had
        without.setitem(sys.modules, "ml_dtypes", None)
        bits = registry.load("two")["w"]
        assert bits.dtype.kind == "u"
        assert bits.tobytes() == whole.tobytes()


def test_arrays_of_which_a_part_would_be_lost_are_refused(registry):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    small = np.ones(2, ml_dtypes.bfloat16)
    for model in (
        np.ma.array([1, 2], mask=[0, 1]),
        {"w": np.ma.array([1, 2])},
        np.ones(2, ml_dtypes.int4),
        {"w": small, "c": np.ones(2, complex)},
    ):
        with pytest.raises(TypeError):
            registry.save("m", model)
    assert len(registry) == 0


def test_a_checkpoint_of_torch_comes_back_without_a_pickle(registry):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.8, 0.9))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": (0.5, [None, "x"]),
        7: torch.ones(2, dtype=torch.bfloat16),
        "scale": np.arange(3),
    }
    assert registry.save("m", checkpoint).format == "safetensors"
    back = registry.load("m")
    _assert_alike(torch, checkpoint, back)
    torch.nn.Linear(3, 2).load_state_dict(back["model"])
    torch.optim.Adam(torch.nn.Linear(3, 2).parameters()).load_state_dict(back["optimizer"])


def _assert_alike(torch, one, two):
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert list(one) == list(two)
        for key in one:
            _assert_alike(torch, one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert (type(one), len(one)) == (type(two), len(two))
        for a, b in zip(one, two):
            _assert_alike(torch, a, b)
    else:
        np.testing.assert_array_equal(one, two)


def test_what_no_checkpoint_may_hold_is_refused(registry):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    endless = [torch.ones(1)]
    endless.append(endless)
    for model in (
        {"w": torch.ones(1), "o": object()},
        {"w": torch.ones(1), "__tensor__": 1},
        endless,
    ):
        with pytest.raises(TypeError):
            registry.save("m", model)
    assert len(registry) == 0


def test_a_tree_that_names_a_tensor_that_is_not_there():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    kind, data = _serial.pack({"w": torch.ones(1), "n": 1})
    damaged = bytes(data).replace(b'"0.w"', b'"0.v"')
    assert damaged != data
    with pytest.raises(ValueError, match=r"0\.w"):
        _serial.unpack(kind, damaged)


# -------------------------------------------------------------------------------------- experience


@pytest.fixture
def collector(tmp_path):
    with ExperienceCollector(tmp_path / "c.db", shared=False) as collector:
        yield collector


def test_numbers_of_numpy_are_numbers_in_columns(collector):
    """As `action_space.sample()` of gymnasium gives them."""
    for i in range(4):
        collector.log_transition((np.float32(i), 0), np.int64(i), 1.0, [i, i + 1])
    collector.log_transition((0.5, 1), 3, 1.0, [np.int32(4), 5])
    batch = collector.sample(8, seed=1)
    assert (batch.states.dtype, batch.states.shape) == (np.float64, (8, 2))
    assert batch.actions.dtype == np.int64
    assert batch.next_states.dtype == np.int64
    collector.log_transition((0, 1), np.bool_(True), 1.0, (0, 1))
    assert collector.sample(1).actions.dtype == object  # a truth value is no number


def test_columns_of_several_types_grow_in_place(collector):
    collector.log_transitions(
        np.zeros((5, 2), np.float32), np.zeros(5, np.int32), np.ones(5), [0] * 5
    )
    collector.sample(1)
    kept = None
    for i in range(100):  # float64 and int64 into columns of float32 and int32
        collector.log_transition((i, 0.5), i, 1.0, None if i == 50 else i)
        tensors = collector.to_tensors()
        room = collector._buffer._columns["actions"]._room
        if kept is not None and len(tensors["actions"]) <= len(kept):
            assert room is kept
        kept = room
    assert tensors["states"].dtype == np.float64
    assert tensors["actions"].tolist() == [0] * 5 + list(range(100))
    assert tensors["next_states"].tolist() == [0] * 5 + list(range(50)) + [None, *range(51, 100)]


def test_priorities_follow_what_is_logged_between_draws(collector):
    """The tree of sums takes in new rows one by one; it has what a new one would have."""
    rng = np.random.default_rng(3)
    for i in range(200):
        collector.log_transition(i, 0, 0.0, i)
        batch = collector.sample(4, prioritized=True, alpha=0.7)
        collector.update_priorities(batch.indices, rng.random(4) + 0.1)
    buffer = collector._buffer
    powers = buffer._priorities.array() ** 0.7
    tree = buffer._tree
    np.testing.assert_allclose(tree.sums[tree.leaves : tree.leaves + 200], powers)
    np.testing.assert_allclose(tree.sums[1], powers.sum())
    assert not tree.sums[tree.leaves + 200 :].any()


@pytest.mark.parametrize(
    "wrong", [{"alpha": -1}, {"alpha": np.nan}, {"beta": -0.1}, {"beta": np.inf}]
)
def test_exponents_that_mean_nothing_are_refused(collector, wrong):
    collector.log_transition(0, 0, 0.0, 0)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        collector.sample(1, prioritized=True, **wrong)


def test_priorities_whose_sum_is_beyond_a_float_are_an_error(collector):
    collector.log_transitions([1, 2], [0, 0], [0, 0], [1, 2])
    collector.update_priorities([0, 1], [1e308, 1.0])
    with pytest.raises(ValueError, match="sum"):
        collector.sample(1, prioritized=True, alpha=2.0)
    assert len(collector.sample(1, prioritized=True, alpha=0.5)) == 1


def test_steps_beyond_every_episode_cost_nothing(collector):
    collector.log_transitions([0, 1, 2], [0] * 3, [1.0, 2.0, 4.0], [1, 2, 3])
    assert collector.n_step(10**12, 2.0)["returns"].tolist() == [21.0, 10.0, 4.0]


def test_opening_a_session_again_keeps_what_is_known_of_it(collector):
    collector.session("s", model="small", seed=1)
    collector.session("s")
    assert collector.session_metadata("s") == {"model": "small", "seed": 1}
    collector.session("s", seed=2)
    assert collector.session_metadata("s") == {"model": "small", "seed": 2}


def test_a_line_that_is_not_utf8_is_named(collector, tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(
        b'{"state": 1, "action": 1, "reward": 1, "next_state": 1}\n\xff\xfe\n'
    )
    with pytest.raises(ValueError, match="line 2"):
        collector.import_jsonl(tmp_path / "bad.jsonl")
    assert collector.count_transitions() == 0


def test_a_closed_collector_samples_no_more(tmp_path):
    collector = ExperienceCollector(tmp_path / "c.db")
    collector.log_transition(0, 0, 0.0, 0)
    collector.sample(1)
    collector.close()
    for call in (lambda: collector.sample(1), collector.to_tensors, lambda: collector.n_step(1, 1)):
        with pytest.raises(ClosedError):
            call()


def test_a_collector_that_only_reads(tmp_path):
    path = tmp_path / "c.db"
    with ExperienceCollector(path, machine_id="m") as writer:
        writer.log_transition(0, 0, 1.5, 0)
    before = path.read_bytes()
    with ExperienceCollector(path, read_only=True) as reader:
        assert (reader.machine_id, reader.sample(1).rewards.tolist()) == ("m", [1.5])
        with pytest.raises(ReadOnlyError):
            reader.log_transition(0, 0, 0.0, 0)
    assert path.read_bytes() == before
    with pytest.raises(SynaError):
        ExperienceCollector(tmp_path / "missing.db", read_only=True)


# ---------------------------------------------------------------------------------------- features


def test_compacting_a_feature_store_keeps_every_value_at_every_time(tmp_path):
    with FeatureStore(tmp_path / "f.db", sync_on_write=False) as features:
        for event, value in ((100.0, 1), (200.0, "b"), (150.0, 3)):
            features.ingest("g", "e", event, {"x": value})
        for i in range(1000):  # numbers, which are folded into columns; every other one late
            features.ingest("g", "n", 1000.0 + (i ^ 1), {"y": float(i)})
        features.compact()
        late = [features.get_at_timestamp("g", "n", "y", 1000.0 + i) for i in range(1000)]
        assert late == [float(i ^ 1) for i in range(1000)]
        at = [features.get_at_timestamp("g", "e", "x", t) for t in (99.0, 100.0, 170.0, 300.0)]
        assert at == [None, 1, 3, "b"]
        assert [features.get_at_version("g", "e", "x", n) for n in (0, 1, 2, 3)] == ["b", 1, "b", 3]
    with SynaDB(tmp_path / "f.db") as db:
        assert db.verify().ok


def test_features_that_are_no_dict_are_refused(tmp_path):
    with FeatureStore(tmp_path / "f.db") as features:
        for wrong in (["x"], "x", None):
            with pytest.raises(TypeError, match="dict by feature"):
                features.ingest("g", "e", 1.0, wrong)
