"""Hugging Face datasets over tensors, and kept in a file."""

import numpy as np
import pytest

datasets = pytest.importorskip("datasets", reason="needs datasets: pip install 'synadb[datasets]'")

import synadb  # noqa: E402
from synadb import SynaDB  # noqa: E402
from synadb import datasets as ours  # noqa: E402
from synadb.datasets import (  # noqa: E402
    load_dataset,
    save_dataset,
    stream_dataset,
    tensor_dataset,
)
from synadb.tensor import TensorEngine  # noqa: E402

X = np.arange(101 * 3, dtype=np.float32).reshape(101, 3)
Y = np.arange(101)


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def filled(path):
    with TensorEngine(path) as engine:
        engine.put_tensor("x/", X)
        engine.put_tensor("y/", Y)
        engine.put_tensor("image/", np.arange(101 * 8, dtype=np.uint8).reshape(101, 2, 4))
    return path


# ----------------------------------------------------------------------------- over tensors


def test_tensors_are_columns(filled):
    columns = {"x": "x/*", "label": "y/*", "image": "image/*"}
    dataset = tensor_dataset(filled, columns)
    assert dataset.column_names == list(columns) and len(dataset) == 101
    assert dataset.features["x"] == datasets.List(datasets.Value("float32"), length=3)
    assert dataset.features["image"] == datasets.Array2D((2, 4), "uint8")
    row = dataset[100]
    assert row["x"] == [300.0, 301.0, 302.0] and row["label"] == 100
    assert row["image"] == [[32, 33, 34, 35], [36, 37, 38, 39]]
    arrays = dataset.with_format("numpy")[:]
    assert np.array_equal(arrays["x"], X) and arrays["image"].shape == (101, 2, 4)
    assert dataset.filter(lambda row: row["label"] > 90, keep_in_memory=True).num_rows == 10
    assert dataset.select([5, 1])["label"][:] == [5, 1]
    assert dataset.train_test_split(0.2, seed=1)["train"].num_rows == 80


def test_one_pattern_is_the_column_data(filled):
    assert tensor_dataset(filled, "y/*")["data"][:] == Y.tolist()


def test_large_columns_come_in_several_arrays(filled, monkeypatch):
    monkeypatch.setattr(ours, "_ELEMENTS", 40)
    dataset = tensor_dataset(filled, {"image": "image/*", "x": "x/*"})
    assert dataset.data.column("image").num_chunks == 21
    assert np.array_equal(dataset.with_format("numpy")["x"][:], X)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "float64"])
def test_dtypes(path, dtype):
    values = (np.arange(8).reshape(4, 2) % 2).astype(dtype)
    with TensorEngine(path) as engine:
        engine.put_tensor("t/", values)
        engine.put_tensor("s/", values[:, 0])
    dataset = tensor_dataset(path, {"t": "t/*", "s": "s/*"})
    assert dataset.features["s"] == datasets.Value(dtype)
    assert dataset.with_format("numpy")["t"][:].tolist() == values.tolist()


def test_what_arrow_has_no_type_for(path):
    with TensorEngine(path) as engine:
        engine.put_tensor("c/", np.ones(3, np.complex64))
        engine.put_tensor("d/", np.ones((1,) * 7))
    with pytest.raises(TypeError, match="complex64"):
        tensor_dataset(path, "c/*")
    with pytest.raises(synadb.ArgumentError, match="6 dimensions"):
        tensor_dataset(path, "d/*")


@pytest.mark.parametrize("make", [tensor_dataset, stream_dataset])
def test_bad_columns(filled, make):
    with pytest.raises(synadb.ArgumentError, match="no columns"):
        make(filled, {})
    with pytest.raises(synadb.KeyNotFoundError):
        make(filled, "nothing/*")
    with TensorEngine(filled) as engine:
        engine.put_tensor("few/", np.arange(3))
    with pytest.raises(synadb.ArgumentError, match="expected as many"):
        make(filled, {"x": "x/*", "few": "few/*"})


@pytest.mark.parametrize("shards", [1, 3, 200])
def test_a_stream_has_every_row_once(filled, shards):
    stream = stream_dataset(filled, {"x": "x/*", "y": "y/*"}, num_shards=shards)
    rows = list(stream)
    assert [int(row["y"]) for row in rows] == Y.tolist()
    assert all(list(row["x"]) == X[int(row["y"])].tolist() for row in rows)
    assert stream.num_shards == min(shards, 101)


def test_a_stream_is_split_and_resumed(filled):
    stream = stream_dataset(filled, {"y": "y/*"}, num_shards=6)
    shares = [stream.shard(num_shards=3, index=index) for index in range(3)]
    assert sorted(int(row["y"]) for share in shares for row in share) == Y.tolist()
    rows = iter(stream)
    for _ in range(50):
        next(rows)
    state = stream.state_dict()
    other = stream_dataset(filled, {"y": "y/*"}, num_shards=6)
    other.load_state_dict(state)
    assert [int(row["y"]) for row in other] == list(range(50, 101))


# ------------------------------------------------------------------------------- whole ones

FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["no", "yes"]),
        "score": datasets.Value("float64"),
        "maybe": datasets.Value("int32"),
        "vector": datasets.List(datasets.Value("float32"), length=2),
        "grid": datasets.Array2D((2, 2), "int16"),
        "words": datasets.List(datasets.Value("string")),
        "person": {"name": datasets.Value("string"), "age": datasets.Value("int8")},
        "odd/[name]*": datasets.Value("bool"),
    }
)


def some(count):
    return datasets.Dataset.from_dict(
        {
            "text": [f"text {n} ö" for n in range(count)],
            "label": [n % 2 for n in range(count)],
            "score": [n / 3 for n in range(count)],
            "maybe": [None if n % 3 else n for n in range(count)],
            "vector": [[n, -n] for n in range(count)],
            "grid": [[[n, 1], [2, 3]] for n in range(count)],
            "words": [["w"] * (n % 4) for n in range(count)],
            "person": [{"name": f"p{n}", "age": n % 100} for n in range(count)],
            "odd/[name]*": [n % 5 == 0 for n in range(count)],
        },
        features=FEATURES,
    )


@pytest.mark.parametrize("count", [0, 1, 3, 25])
@pytest.mark.parametrize("rows", [10, 8192])
def test_a_dataset_comes_back_as_it_was(path, count, rows, monkeypatch):
    monkeypatch.setattr(ours, "_ROWS", rows)
    made = some(count)
    assert save_dataset(made, path, "train/") == count
    got = load_dataset(path, "train/")
    assert got.features == FEATURES and got.num_rows == count
    assert got.to_list() == made.to_list()


def test_numeric_columns_are_tensors(path):
    save_dataset(some(25), path, "train/")
    with TensorEngine(path) as engine:
        assert engine.info("train/vector/").shape == (25, 2)
        assert engine.info("train/grid/").dtype == np.int16
        assert engine.get_tensor("train/label/*", dtype=np.int64).tolist() == [0, 1] * 12 + [0]
        assert "train/maybe/" not in engine.names()  # it has missing values


def test_a_selection_is_stored_as_it_shows(path):
    save_dataset(some(25).select([7, 3, 3]), path)
    assert load_dataset(path)["text"][:] == ["text 7 ö", "text 3 ö", "text 3 ö"]


def test_several_datasets_in_a_file(path):
    save_dataset(some(5), path, "a/")
    save_dataset(some(3), path, "b/")
    assert (len(load_dataset(path, "a/")), len(load_dataset(path, "b/"))) == (5, 3)


def test_nothing_is_overwritten_unasked(path):
    save_dataset(some(25), path, "a/")
    with pytest.raises(synadb.ArgumentError, match="already"):
        save_dataset(some(3), path, "a/")
    assert len(load_dataset(path, "a/")) == 25
    save_dataset(some(3).remove_columns("vector"), path, "a/", overwrite=True)
    got = load_dataset(path, "a/")
    assert len(got) == 3 and "vector" not in got.column_names
    with TensorEngine(path) as engine:
        assert "a/vector/" not in engine.names()


def test_an_interrupted_one_is_not_there_and_can_be_made_again(path, monkeypatch):
    save_dataset(some(25), path)
    monkeypatch.setattr(ours, "_ROWS", 10)
    real, calls = SynaDB.put_bytes, []

    def failing(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "no space left on device")
        return real(self, *arguments, **options)

    monkeypatch.setattr(SynaDB, "put_bytes", failing)
    with pytest.raises(OSError):
        save_dataset(some(30), path, overwrite=True)
    with pytest.raises(synadb.KeyNotFoundError, match="there is no dataset"):
        load_dataset(path)
    save_dataset(some(12), path)
    assert load_dataset(path).to_list() == some(12).to_list()


def test_a_later_format_is_refused(path):
    save_dataset(some(3), path)
    with SynaDB(path) as db:
        text = db.get_text("dataset.json")
        db.put_text("dataset.json", text.replace('"format": 1', '"format": 2'))
    with pytest.raises(synadb.FormatVersionError, match="format 2"):
        load_dataset(path)


def test_something_else_is_not_saved(path):
    with pytest.raises(TypeError, match=r"expected a datasets\.Dataset"):
        save_dataset([1, 2], path)
