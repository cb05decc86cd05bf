"""The model registry: versions, checksums, stages, aliases, formats, files, several processes."""

import hashlib
import io
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import synadb
from synadb import ModelRegistry, ModelStage, ModelVersion, SynaDB, SynaError, _serial
from synadb.errors import ArgumentError, CorruptionError, InvalidKeyError, LockedError
from synadb.models import ModelNotFoundError

LARGE = 5 << 20  # more than one chunk


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "models.db")


@pytest.fixture
def registry(path):
    with ModelRegistry(path, sync_on_write=False) as registry:
        yield registry


def model_keys(registry):
    return registry.db.keys()


# ------------------------------------------------------------------------------------ the seeds


def test_the_example_of_the_python_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"weights" * 100)
    names = {}
    exec(
        """
from synadb import ModelRegistry

registry = ModelRegistry("models.db")

# Save model with metadata (auto-versions, returns ModelVersion)
model_bytes = open("model.pt", "rb").read()
version = registry.save("classifier", model_bytes, {"accuracy": "0.95"})
print(f"Saved v{version.version}, checksum: {version.checksum}")

# Load with automatic checksum verification
model = registry.load("classifier")  # Latest version
model = registry.load("classifier", version=1)  # Specific version

# Promote to production
registry.promote("classifier", version.version, "production")

# Get production model directly
prod_model = registry.get_production_model("classifier")
""",
        names,
    )
    digest = hashlib.sha256(b"weights" * 100).hexdigest()
    assert capsys.readouterr().out == f"Saved v1, checksum: {digest}\n"
    assert names["model"] == names["prod_model"] == b"weights" * 100
    names["registry"].close()


def test_the_example_of_the_other_readme(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"weights")
    names = {}
    exec(
        """
from synadb import ModelRegistry
# Create a model registry
registry = ModelRegistry("models.db")
# Save a model with metadata
model_data = open("model.pt", "rb").read()
metadata = {"accuracy": "0.95", "framework": "pytorch"}
version = registry.save_model("classifier", model_data, metadata)
print(f"Saved version {version.version} with checksum {version.checksum}")
# Load the latest version (with automatic checksum verification)
data, info = registry.load_model("classifier")
print(f"Loaded {info.size_bytes} bytes, stage: {info.stage}")
# Load a specific version
data, info = registry.load_model("classifier", version=1)
# List all versions
versions = registry.list_versions("classifier")
for v in versions:
    print(f"v{v.version}: {v.stage} ({v.size_bytes} bytes)")
# Promote to production
registry.set_stage("classifier", version.version, "Production")
# Get the production model
prod = registry.get_production("classifier")
if prod:
    print(f"Production version: {prod.version}")
""",
        names,
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "Loaded 7 bytes, stage: development",
        "v1: development (7 bytes)",
        "Production version: 1",
    ]
    assert names["data"] == b"weights" and names["info"].metadata == names["metadata"]
    names["registry"].close()


# ----------------------------------------------------------------------------- versions, lists


def test_what_is_known_of_a_version(registry):
    before = time.time()
    saved = registry.save("m", b"abc", {"a": "1", "é": '"\\\n'}, run_id="run-7")
    assert (saved.name, saved.version, saved.size_bytes) == ("m", 1, 3)
    assert saved.checksum == hashlib.sha256(b"abc").hexdigest()
    assert saved.metadata == {"a": "1", "é": '"\\\n'}
    assert (saved.format, saved.run_id) == ("raw", "run-7")
    assert saved.stage is ModelStage.DEVELOPMENT
    assert before - 1 <= saved.created_at <= time.time() + 1
    assert saved == registry.get_version("m", 1) == registry.get_version("m")
    assert ModelVersion.from_dict(json.loads(json.dumps(saved.to_dict()))) == saved
    hash(saved)


@pytest.mark.parametrize("data", [b"", b"x", bytes(1 << 20), os.urandom(LARGE + 17)])
def test_bytes_of_every_size_come_back(path, data):
    with ModelRegistry(path) as registry:
        saved = registry.save("m", data)
        assert registry.load("m") == data
        assert registry.load_model("m") == (data, saved)
        assert saved.checksum == hashlib.sha256(data).hexdigest()
    with ModelRegistry(path, read_only=True) as registry:
        assert registry.load("m", 1) == data
    assert synadb.verify(path).ok


def test_version_numbers_are_never_given_twice(path):
    with ModelRegistry(path) as registry:
        assert [registry.save("m", b"x").version for _ in range(12)] == list(range(1, 13))
        assert [v.version for v in registry.list("m")] == list(range(1, 13))
        assert registry.delete("m", 12) == 1
        assert registry.save("m", b"x").version == 13
        assert registry.delete("m") == 12
        assert registry.list("m") == [] and registry.names() == []
        registry.compact()
    with ModelRegistry(path) as registry:
        assert registry.save("m", b"x").version == 14
        assert registry.delete("m", 99) == registry.delete("nobody") == 0
        for missing in (0, -1, 2**40):
            assert registry.delete("m", missing) == 0


AWKWARD = ["a", "a/v1", "a/v1/meta", "a/registry", "a/stage", "a/@x", "v1", "/", "a/v1/v1",
           "ключ 🚀", "%s%n"]  # fmt: skip


def test_names_with_slashes_and_every_letter_are_apart(registry):
    for name in AWKWARD:
        registry.save(name, name.encode())
        registry.save(name, name.encode() + b"2")
        registry.set_alias(name, "x", 1)
        registry.promote(name, 2, "production")
    for name in AWKWARD:
        assert [v.version for v in registry.list(name)] == [1, 2]
        assert registry.load(name, "x") == name.encode()
        assert registry.get_production_model(name) == name.encode() + b"2"
        assert registry.aliases(name) == {"x": 1}
        assert [c.version for c in registry.stage_history(name)] == [1, 2, 2]
    assert registry.names() == sorted(AWKWARD, key=str.encode)
    assert [v.version for v in registry.list()] == [2] * len(AWKWARD)
    assert len(registry) == len(AWKWARD) and "a/v1" in registry and "b" not in registry
    registry.delete("a")
    assert registry.names() == sorted(set(AWKWARD) - {"a"}, key=str.encode)
    assert registry.load("a/v1", 1) == b"a/v1"


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 65001, "\ud800", 7, None])
def test_bad_names(registry, name):
    for call in (lambda: registry.save(name, b""), lambda: registry.load(name)):
        with pytest.raises((InvalidKeyError, SynaError, TypeError)):
            call()
    assert model_keys(registry) == []
    registry.save("x" * 65000, b"")
    assert registry.load("x" * 65000) == b""


def test_what_is_not_there(registry):
    registry.save("m", b"x")
    for call in (
        lambda: registry.load("nobody"),
        lambda: registry.load("m", 2),
        lambda: registry.load_model("m", 2**33),
        lambda: registry.load("m", "alias"),
        lambda: registry.open("m", -1),
        lambda: registry.promote("m", 2, "production"),
        lambda: registry.set_alias("m", "a", 2),
        lambda: registry.compare("m", 1, 2),
    ):
        with pytest.raises(ModelNotFoundError) as error:
            call()
        assert isinstance(error.value, ValueError) and isinstance(error.value, SynaError)
    assert registry.get_version("m", 2) is registry.get_version("nobody") is None
    assert registry.get_production("m") is registry.get_production_model("m") is None
    assert registry.get_by_alias("m", "a") is None


@pytest.mark.parametrize("metadata", [{"a": None}, {"a": [1]}, {1: "a"}, {"a": b"x"}])
def test_bad_metadata_saves_nothing(registry, metadata):
    with pytest.raises(TypeError, match="dict of str to str"):
        registry.save("m", b"x", metadata)
    assert model_keys(registry) == []


def test_numbers_in_metadata_become_text(registry):
    assert registry.save("m", b"", {"a": 0.5, "b": 3}).metadata == {"a": "0.5", "b": "3"}


# --------------------------------------------------------------------------- stages and aliases


def test_the_latest_promoted_is_the_production_version(registry):
    for i in range(3):
        registry.save("m", bytes([i]))
    registry.promote("m", 3, "production")
    registry.promote("m", 1, "PRODUCTION")
    assert registry.get_production("m").version == 1
    assert registry.get_version("m", 3).stage == "production"  # promoting demotes nobody
    registry.promote("m", 1, "archived")
    assert registry.get_production("m").version == 3
    registry.delete("m", 3)
    assert registry.get_production("m") is None


def test_stages_in_any_case(registry):
    registry.save("m", b"")
    for stage in ("development", "Staging", "PRODUCTION", ModelStage.ARCHIVED):
        registry.promote("m", 1, stage)
        found = registry.get_version("m").stage
        assert found == stage and found is ModelStage(stage)
    assert str(ModelStage.STAGING) == f"{ModelStage.STAGING}" == "staging"
    assert ModelStage("Staging") != "production"
    for bad in ("live", "", None, 2):
        with pytest.raises(ValueError, match="expected one of"):
            registry.promote("m", 1, bad)
    with pytest.raises(ArgumentError):
        registry.search(stage="live")


def test_who_was_production_when(registry):
    for _ in range(2):
        registry.save("m", b"")
    registry.promote("m", 1, "production")
    registry.promote("m", 2, "production")
    registry.promote("m", 2, "archived")
    registry.delete("m", 1)
    registry.compact()
    history = registry.stage_history("m")
    assert [(c.version, c.stage and str(c.stage)) for c in history] == [
        (1, "development"), (2, "development"), (1, "production"), (2, "production"),
        (2, "archived"), (1, None),
    ]  # fmt: skip
    times = [c.at for c in history]
    assert times == sorted(set(times))
    assert [registry.production_at("m", when) for when in times] == [None, None, 1, 2, 1, None]
    assert registry.production_at("m", times[0].timestamp() - 1) is None


def test_aliases(registry):
    for i in range(2):
        registry.save("m", bytes([i]))
    registry.set_alias("m", "champion", 1)
    registry.set_alias("m", "champion", 2)
    registry.set_alias("m", "challenger", 1)
    assert registry.aliases("m") == {"challenger": 1, "champion": 2}
    assert registry.get_by_alias("m", "champion").version == 2
    assert registry.load("m", "challenger") == b"\0"
    registry.promote("m", "champion", "production")
    assert registry.get_production("m").version == 2
    assert registry.delete("m", "champion") == 1  # the alias goes with its version
    assert registry.aliases("m") == {"challenger": 1}
    assert registry.delete_alias("m", "challenger") is True
    assert registry.delete_alias("m", "challenger") is False
    for bad in ("", "a/b", "x" * 201):
        with pytest.raises(ValueError):
            registry.set_alias("m", bad, 1)


def test_search(registry):
    registry.save("a", b"", {"lang": "en", "kind": "x"}, run_id="r1")
    registry.save("a", b"", {"lang": "de"}, run_id="r2")
    registry.save("b/c", b"", {"lang": "en"})
    registry.promote("a", 1, "staging")

    def found(*args, **kwargs):
        return [(v.name, v.version) for v in registry.search(*args, **kwargs)]

    assert found() == [("a", 1), ("a", 2), ("b/c", 1)]
    assert found(metadata={"lang": "en"}) == [("a", 1), ("b/c", 1)]
    assert found({"lang": "en", "kind": "x"}) == [("a", 1)]
    assert found(stage="Staging") == found(run_id="r1") == [("a", 1)]
    assert found(name="b*") == [("b/c", 1)] and found({"lang": "fr"}) == []
    assert registry.compare("a", 1, 2)["metadata"] == {"kind": ("x", None), "lang": ("en", "de")}
    assert registry.compare("a", 1, 2)["same_bytes"] is True


# ---------------------------------------------------------------------------------- the objects

OBJECTS = [
    ("text", "text é"), ("text", ""), ("json", None), ("json", True), ("json", 3), ("json", 0.5),
    ("json", {"weights": [1, 2, 3], "é": None}), ("json", [[], {}, "x"]),
    ("packed", (1, 2)), ("packed", 2**70), ("packed", {1: 2}), ("packed", float("inf")),
    ("packed", {"a": (1,)}), ("packed", "\ud800"), ("packed", {"a": np.int8(3)}),
]  # fmt: skip


@pytest.mark.parametrize("kind, value", OBJECTS)
def test_plain_values_come_back_exactly(registry, kind, value):
    assert registry.save("m", value).format == kind
    back = registry.load("m")
    assert back == value and type(back) is type(value)
    assert _serial.unpack(*_serial.pack(value)) == value


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array(1.5), np.empty((0, 3)), np.arange(10)[::2], np.array(["a", "bc"]),
    np.array([1, 2], ">i4"), np.array([1 + 2j]), np.array([True, False]),
    np.zeros(3, [("a", "f4"), ("é", "i8", (2,))]),
    np.array(["2020-01-01"], "datetime64[s]"),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_arrays_come_back_exactly(registry, array):
    assert registry.save("m", array).format == "npy"
    back = registry.load("m")
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype and back.flags.writeable
    many = {"x": array, "y/é": array[..., None]}
    kind = registry.save("m", many).format
    assert kind == ("safetensors" if array.dtype.kind in "fiub" else "npz")
    back = registry.load("m")
    assert list(back) == list(many)
    for name in many:
        np.testing.assert_array_equal(back[name], many[name])
        assert back[name].shape == many[name].shape and back[name].flags.writeable


def test_safetensors_is_the_format_of_others():
    kind, data = _serial.pack({"w": np.array([[1, 2]], np.float32), "b": np.array([3], np.int8)})
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert kind == "safetensors" and size % 8 == 0
    assert header["w"] == {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    assert data[8 + size :] == np.array([1, 2], "<f4").tobytes() + b"\3"


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-1], lambda d: d + b"x", lambda d: d[:4], lambda d: b"\xff" * 8 + d[8:],
        lambda d: d.replace(b"[2]", b"[3]"), lambda d: d.replace(b"F32", b"F64"),
        lambda d: d.replace(b"[0,8]", b"[1,9]"), lambda d: d.replace(b"[2]", b"-22"),
        lambda d: d.replace(b'"dtype"', b'"dtypo"'), lambda d: d.replace(b"{", b"[", 1),
    ],
)  # fmt: skip
def test_bytes_that_are_no_safetensors(damage):
    _, data = _serial.pack({"w": np.array([1, 2], np.float32)})
    with pytest.raises(ValueError):
        _serial.unpack("safetensors", damage(bytes(data)))


class Custom:
    loaded = 0

    def __setstate__(self, state):
        Custom.loaded += 1

    def __getstate__(self):
        return {"a": 1}


def test_nothing_is_pickled_or_unpickled_unasked(registry):
    Custom.loaded = 0
    with pytest.raises(TypeError, match="serializer='pickle'"):
        registry.save("m", Custom())
    with pytest.raises(TypeError, match="pickle"):
        registry.save("m", np.array([Custom()]))
    with pytest.raises(TypeError, match="pickle"):
        registry.save("m", {"a": np.array([Custom()])})
    with pytest.raises(ValueError, match="serializer is 'dill'"):
        registry.save("m", Custom(), serializer="dill")
    assert model_keys(registry) == []
    registry.save("m", Custom(), serializer="pickle")
    registry.promote("m", 1, "production")
    for call in (lambda: registry.load("m"), lambda: registry.get_production_model("m")):
        with pytest.raises(ValueError, match="allow_pickle=True"):
            call()
    assert Custom.loaded == 0
    assert isinstance(registry.load("m", allow_pickle=True), Custom)
    assert isinstance(registry.get_production_model("m", allow_pickle=True), Custom)
    assert Custom.loaded == 2
    # Bytes that are a pickle stay bytes.
    data = pickle.dumps(Custom())
    registry.save("raw", data)
    assert registry.load("raw") == data and Custom.loaded == 2


def test_an_unknown_kind_says_so(registry):
    with pytest.raises(ValueError, match="kind 'zebra'"):
        _serial.unpack("zebra", b"")


def test_a_damaged_pickle_is_not_run(path):
    Custom.loaded = 0
    with ModelRegistry(path) as registry:
        registry.save("m", Custom(), serializer="pickle")
        other = pickle.dumps(Custom(), protocol=5)
        registry.db.put_bytes("model/m/v1/data", other[:-1] + b"!")
        with pytest.raises(CorruptionError, match="checksum"):
            registry.load("m", allow_pickle=True)
    assert Custom.loaded == 0


# ------------------------------------------------------------------------------- torch, if there


def test_torch_state_dicts():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = torch.nn.Linear(3, 2)
    kind, data = _serial.pack(model)
    back = _serial.unpack(kind, data)
    assert kind == "safetensors" and list(back) == ["weight", "bias"]
    model.load_state_dict(back)
    half = torch.tensor([[1.5, -2]], dtype=torch.bfloat16)
    back = _serial.unpack(*_serial.pack(half))
    assert back.dtype == torch.bfloat16 and torch.equal(back, half)
    with pytest.raises(TypeError, match="Linear"):
        _serial.pack({"w": torch.ones(1), "model": model})


# ------------------------------------------------------------------------------ files, streaming


def test_files_in_and_out(registry, tmp_path):
    data = os.urandom(LARGE)
    (tmp_path / "in.bin").write_bytes(data)
    assert registry.save_file("m", tmp_path / "in.bin", {"from": "file"}).size_bytes == LARGE
    assert registry.save_file("m", io.BytesIO(data[:100])).version == 2
    out = tmp_path / "out.bin"
    out.write_bytes(b"old")
    assert registry.export("m", 1, out).version == 1
    assert out.read_bytes() == data
    registry.export("m", None, str(out))
    assert out.read_bytes() == data[:100]
    assert sorted(os.listdir(tmp_path)) == ["in.bin", "models.db", "out.bin"]
    with pytest.raises(TypeError, match="binary mode"):
        registry.save_file("m", io.StringIO("text"))
    with pytest.raises(FileNotFoundError):
        registry.save_file("m", tmp_path / "nobody")
    assert [v.version for v in registry.list("m")] == [1, 2]


def test_a_reader_is_a_binary_file(registry):
    data = os.urandom(LARGE)
    registry.save("m", data)
    with registry.open("m") as file:
        assert (len(file), file.info.version) == (LARGE, 1)
        assert file.readable() and file.seekable() and not file.writable()
        assert file.seek(-10, os.SEEK_END) == LARGE - 10 and file.read() == data[-10:]
        assert file.seek(4) == 4 and file.read(8) == data[4:12] and file.tell() == 12
        assert file.seek(LARGE + 5) and file.read() == b""
        registry.delete("m")
        registry.compact()
        file.seek(0)
        assert io.BufferedReader(file).read() == data
    with pytest.raises(ValueError):
        file.read()


class Failing(io.BytesIO):
    def read(self, size=-1):
        data = super().read(size)
        if not data:
            raise OSError("the source broke")
        return data


def test_a_failed_save_leaves_nothing(path):
    with ModelRegistry(path) as registry:
        registry.save("m", b"x")
        registry.compact()
        size = os.path.getsize(path)
        with pytest.raises(OSError, match="the source broke"):
            registry.save_file("m", Failing(os.urandom(3 * LARGE)))
        assert [v.version for v in registry.list("m")] == [1]
        assert registry.save("m", b"y").version == 2
        registry.compact()
        assert os.path.getsize(path) < size + 65536
        assert registry.db.verify().ok


def test_a_failed_export_leaves_the_old_file(registry, tmp_path):
    registry.save("m", os.urandom(LARGE))
    registry.db.put_text(
        "model/m/v1/meta",
        registry.db.get_text("model/m/v1/meta").replace('"checksum": "', '"checksum": "0123')[:],
    )
    out = tmp_path / "out.bin"
    out.write_bytes(b"old")
    with pytest.raises(CorruptionError):
        registry.export("m", 1, out)
    record = json.loads(registry.db.get_text("model/m/v1/meta"))
    record["checksum"] = "0" * 64
    registry.db.put_text("model/m/v1/meta", json.dumps(record))
    with pytest.raises(CorruptionError, match="checksum"):
        registry.export("m", 1, out)
    assert out.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["models.db", "out.bin"]


def test_other_bytes_than_were_saved_are_refused(registry):
    for value in (b"abc", {"a": 1}, np.arange(3), bytes(LARGE)):
        registry.save("m", value)
        version = registry.get_version("m")
        record = json.loads(registry.db.get_text(f"model/m/v{version.version}/meta"))
        registry.db.put_text(
            f"model/m/v{version.version}/meta", json.dumps({**record, "checksum": "0" * 64})
        )
        with pytest.raises(CorruptionError, match="checksum"):
            registry.load("m")
        with pytest.raises(CorruptionError, match="checksum"):
            registry.load_model("m")
        np.testing.assert_array_equal(registry.load("m", verify_checksum=False), value)
        registry.db.put_text(
            f"model/m/v{version.version}/meta", json.dumps({**record, "size_bytes": 7})
        )
        with pytest.raises(CorruptionError, match="expected 7"):
            registry.load("m")


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"stage": "live"}', "\x00"])
def test_a_record_that_no_registry_wrote(registry, record):
    registry.save("m", b"x")
    registry.db.put_text("model/m/v1/meta", record)
    with pytest.raises(CorruptionError, match="record"):
        registry.load("m")
    registry.save("n", b"x")
    registry.db.put_text("model/n/registry", record)
    with pytest.raises(CorruptionError, match="record"):
        registry.save("n", b"y")


# ----------------------------------------------------------------------- processes and threads


def test_many_threads_get_different_versions(registry):
    found = []

    def work(i):
        for _ in range(5):
            found.append(registry.save("m", bytes([i]) * (1 << 20 if i else 10)).version)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 21))
    assert [v.version for v in registry.list("m")] == list(range(1, 21))


SAVE_FIVE = """
import sys
from synadb import ModelRegistry
with ModelRegistry(sys.argv[1], sync_on_write=False) as registry:
    print(*[registry.save("m", bytes([7]) * (2 << 20)).version for _ in range(5)])
"""


def test_processes_share_a_registry(path):
    with ModelRegistry(path, sync_on_write=False) as registry:
        registry.save("m", b"first")
        command = [sys.executable, "-c", SAVE_FIVE, path]
        workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        numbers = [int(n) for worker in workers for n in worker.communicate()[0].split()]
        assert sorted(numbers) == list(range(2, 12))
        assert [v.version for v in registry.list("m")] == list(range(1, 12))
        assert registry.load("m") == bytes([7]) * (2 << 20)


def test_a_forked_child_saves_through_the_registry_it_got(path):
    context = multiprocessing.get_context("fork")
    with ModelRegistry(path, sync_on_write=False) as registry:
        registry.save("m", b"parent")
        child = context.Process(target=registry.save, args=("m", b"child"))
        child.start()
        child.join()
        assert child.exitcode == 0 and registry.load("m") == b"child"
        assert registry.save("m", b"parent").version == 3


def test_a_reader_beside_a_writer_sees_new_versions(path):
    with ModelRegistry(path, shared=False) as writer, ModelRegistry(path, read_only=True) as reader:
        assert reader.list("m") == []
        writer.save("m", b"x")
        writer.promote("m", 1, "production")
        assert reader.get_production_model("m") == b"x"
        with pytest.raises(SynaError):
            reader.save("m", b"y")
        with pytest.raises(SynaError):
            reader.promote("m", 1, "archived")
    script = f"import synadb; synadb.ModelRegistry({path!r}, shared=False)"
    with ModelRegistry(path, shared=False):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert LockedError.__name__ in done.stderr


def test_a_killed_save_leaves_no_version(path):
    script = f"""
import os, signal
from synadb import ModelRegistry
registry = ModelRegistry({path!r})
registry.save("m", b"x")
class Killing:
    n = 0
    def read(self, size):
        self.n += 1
        if self.n == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return bytes(size)
registry.save_file("m", Killing())
"""
    done = subprocess.run([sys.executable, "-c", script])
    assert done.returncode == -signal.SIGKILL
    with ModelRegistry(path) as registry:
        assert [v.version for v in registry.list("m")] == [1]
        registry.compact()
        assert os.path.getsize(path) < 1 << 20
        assert registry.save("m", b"y").version == 2
    assert synadb.verify(path).ok


def test_the_file_is_an_ordinary_log_that_others_use(path):
    with ModelRegistry(path, shared=False) as registry, SynaDB(path) as db:
        registry.save("m", b"x")
        db["other"] = 1
        assert db.get_bytes("model/m/v1/data") == b"x"
        assert db.get_text("model/m/v1/format") == "raw"
    with SynaDB(path) as db, ModelRegistry(path) as registry:  # as this process has it open
        assert registry.load("m") == b"x"
        assert pickle.loads(pickle.dumps(registry)).path == registry.path
    with pytest.raises(SynaError):
        registry.load("m")
    assert "closed" in repr(registry)


# -------------------------------------------------------------------------- the ancestor's files


def test_the_ancestors_file(tmp_path):
    folder = os.environ.get("SYNADB_DATA")
    if not folder:
        pytest.skip("SYNADB_DATA does not name the folder with the ancestor's files")
    source = os.path.join(folder, "ancestor", "app_models.db")
    expected = json.load(open(os.path.join(folder, "ancestor", "expected.json")))["app_models.db"]
    copy = tmp_path / "old.db"
    copy.write_bytes(open(source, "rb").read())
    with ModelRegistry(copy, read_only=True) as registry:
        found = [v for name in registry.names() for v in registry.list(name)]
        for version, want in zip(found, expected["versions"]):
            have = version.to_dict()
            assert {key: have[key] for key in want} == want
        assert registry.load("classifier", 2) == bytes.fromhex(expected["classifier_2"])
        assert registry.get_production("classifier").version == 2
        with pytest.raises(ValueError, match="allow_pickle"):
            registry.load("ranker")
        assert registry.load("ranker", allow_pickle=True) == expected["ranker_1"]


def test_records_of_the_ancestors_two_sides(registry):
    """Python wrote small letters and a format, C capital letters and none."""
    record = {
        "name": "m", "version": 3, "created_at": 1795219946, "size_bytes": 1, "metadata": {},
        "checksum": hashlib.sha256(b"x").hexdigest(), "stage": "Production",
    }  # fmt: skip
    registry.db.put_bytes("model/m/v3/data", b"x")
    registry.db.put_text("model/m/v3/meta", json.dumps(record))
    assert registry.get_production_model("m") == b"x"
    assert registry.get_version("m").stage_since is None
    assert registry.save("m", b"y").version == 4
    registry.promote("m", 4, "production")
    assert registry.get_production("m").version == 4
