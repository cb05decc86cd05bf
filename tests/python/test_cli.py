"""The command line."""

import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest

import synadb
from synadb import Experiment, SynaDB, TensorEngine
from synadb.cli import main

ALL = ["info", "get", "put", "delete", "keys", "history", "compact", "stats", "verify", "check",
    "salvage",
       "backup", "demo", "completion"]  # fmt: skip


@pytest.fixture
def cli(capsys):
    """cli(*arguments): (status, standard output, standard error)."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def ok(cli):
    """The output of a command that must succeed."""

    def run(*arguments):
        status, out, err = cli(*arguments)
        assert status == 0, err
        return out

    return run


@pytest.fixture
def file(path):
    """A small database, closed."""
    with SynaDB(path) as db:
        db.put_float("room/temperature", 20.5, when=1_700_000_000.0)
        db.put_float("room/temperature", 21.5, when=1_700_000_060.0)
        db.put_int("room/visitors", -7)
        db.put_text("name", "line\nbreak \u00fc")
        db.put_bytes("raw", b"\x00\xff")
        db["config"] = {"rate": float("nan"), "layers": (1, 2), 3: b"\x01", "when": None}
        db.put_vector("vector", [1, 2.5])
    return path


def shell(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "synadb", *map(str, arguments)],
        capture_output=True,
        timeout=60,
        **options,
    )


# ------------------------------------------------------------------------------ put and get

PUTS = [
    ("float", "1.5", 1.5), ("f", "-2", -2.0), ("f64", "inf", float("inf")), ("int", "42", 42),
    ("i", "-1", -1),
    ("i64", "9223372036854775807", 2**63 - 1), ("text", "x", "x"), ("string", "y", "y"), ("str",
    "", ""),
    ("t", "z", "z"), ("bytes", "00ff", b"\0\xff"), ("b", "", b""), ("hex", "a1 b2", b"\xa1\xb2"),
    ("json", '{"a": [1, null, true]}', {"a": [1, None, True]}), ("json", "1.5", 1.5),
]  # fmt: skip


@pytest.mark.parametrize("kind, text, value", PUTS)
def test_put_stores_what_it_says(ok, path, kind, text, value):
    offset = int(ok("put", path, "k", "-t", kind, "--", text))
    assert offset > 0
    with SynaDB(path) as db:
        assert db["k"] == value and type(db["k"]) is type(value)


def test_put_is_text_unless_told_otherwise(ok, path):
    ok("put", path, "k", "12")
    assert ok("get", path, "k") == "12\n"
    assert json.loads(ok("put", path, "k", "x", "--json"))["key"] == "k"


def test_put_with_a_ttl(ok, cli, path):
    ok("put", path, "k", "x", "--ttl", "3600")
    assert ok("get", path, "k") == "x\n"
    assert cli("put", path, "k", "x", "--ttl", "-1")[0] == 1


@pytest.mark.parametrize(
    "kind, text", [("float", "x"), ("int", "1.5"), ("bytes", "xyz"), ("json", "{")]
)
def test_values_that_do_not_parse_are_refused_and_create_nothing(cli, path, kind, text):
    status, out, err = cli("put", path, "k", text, "-t", kind)
    assert status == 1 and out == "" and text in err
    assert not path.exists()


def test_an_int_that_is_too_large_is_refused_or_kept(cli, path):
    assert cli("put", path, "k", str(2**70), "-t", "int")[0] in (0, 1)
    if path.exists():
        with SynaDB(path) as db:
            assert db.get("k") in (None, 2**70)


GETS = [
    ("room/temperature", "21.5 [float]"), ("room/visitors", "-7 [int]"), ("raw", "00ff [bytes]"),
    ("vector", "[1. , 2.5] [vector]"), ("name", "line\nbreak \u00fc"),
]  # fmt: skip


@pytest.mark.parametrize("key, text", GETS)
def test_get_shows_value_and_type(ok, file, key, text):
    assert ok("get", file, key) == text + "\n"


def test_get_as_json(ok, file):
    assert json.loads(ok("get", file, "raw", "--json")) == {
        "key": "raw",
        "type": "bytes",
        "value": "00ff",
    }
    assert json.loads(ok("get", file, "vector", "--json"))["value"] == [1.0, 2.5]
    config = json.loads(ok("get", file, "config", "--json"))
    assert config["value"] == {"rate": "NaN", "layers": [1, 2], "3": "01", "when": None}


def test_get_of_another_time(ok, cli, file):
    assert cli("get", file, "room/temperature", "--at", "2000-01-01")[0] == 1
    assert cli("get", file, "room/temperature", "--at", "someday")[0] == 2
    assert ok("get", file, "room/temperature", "--at", "0s") == "21.5 [float]\n"


def test_bytes_travel_through_standard_input_and_output(path, tmp_path):
    data = os.urandom(100_000)
    assert shell("put", path, "k", "-", "-t", "bytes", input=data).returncode == 0
    assert shell("get", path, "k", "-o", "-").stdout == data
    assert shell("get", path, "k", "-o", tmp_path / "out").returncode == 0
    assert (tmp_path / "out").read_bytes() == data
    assert shell("put", path, "t", "-", input="\u00fcber".encode()).returncode == 0
    assert shell("get", path, "t", "-o", "-").stdout == "\u00fcber".encode()
    assert shell("put", path, "t", "-", input=b"\xff").returncode == 1
    assert shell("put", path, "n", "5", "-t", "int").returncode == 0
    assert shell("get", path, "n", "-o", "-").returncode == 1


def test_a_missing_key_is_status_1_with_a_suggestion(cli, file):
    status, out, err = cli("get", file, "room/temprature")
    assert (status, out) == (1, "") and "did you mean 'room/temperature'" in err
    assert cli("history", file, "absent")[0] == 1
    assert cli("delete", file, "absent")[0] == 1


# ---------------------------------------------------------------------------- keys, history


def test_keys(ok, file):
    assert ok("keys", file).splitlines() == [
        "config",
        "name",
        "raw",
        "room/temperature",
        "room/visitors",
        "vector",
    ]
    assert ok("keys", file, "-p", "room/").splitlines() == ["room/temperature", "room/visitors"]
    assert ok("keys", file, "-p", "*m*/v*").splitlines() == ["room/visitors"]
    assert ok("keys", file, "-p", "ra[vw]").splitlines() == ["raw"]
    assert ok("keys", file, "-p", "Room/") == ""
    assert ok("keys", file, "--limit", "2").splitlines() == ["config", "name"]
    assert json.loads(ok("keys", file, "--json", "-p", "r"))["keys"][0] == "raw"
    assert json.loads(ok("keys", file, "--json", "-p", "zzz")) == {"keys": []}


def test_keys_of_tensors(ok, tmp_path):
    file = tmp_path / "tensors.db"
    with TensorEngine(file) as engine:
        engine.put_tensor("x/", np.arange(3))
        engine.put_tensor_chunked("y/", np.arange(5), chunk_size=2)
    assert "0000" not in ok("keys", file)
    assert ok("keys", file, "--tensors", "-p", "x/").splitlines() == ["x/0000", "x/0001", "x/0002"]
    assert ok("keys", file, "--tensors", "-p", "*_*1").splitlines() == ["y/chunk_0001"]
    assert json.loads(ok("keys", file, "--tensors", "--json", "--limit", "1"))["keys"] == ["x/0000"]


def test_keys_with_values(ok, file):
    lines = ok("keys", file, "-l").splitlines()
    assert lines[0].split() == ["key", "type", "value"]
    assert "name              text    line\\nbreak \u00fc" in lines
    rows = json.loads(ok("keys", file, "-l", "--json"))
    assert [row["type"] for row in rows] == ["packed", "text", "bytes", "float", "int", "vector"]
    assert json.loads(ok("keys", file, "-l", "--json", "-p", "zzz")) == []


def test_control_characters_do_not_reach_the_terminal(ok, path):
    with SynaDB(path) as db:
        db["a\x1b[31m"] = "b\x1b[0m"
    for arguments in (["keys", path], ["keys", path, "-l"], ["info", path]):
        assert "\x1b" not in ok(*arguments)


def test_history_is_a_table_with_numbers_to_the_right(ok, file):
    lines = ok("history", file, "room/temperature").splitlines()
    assert lines == [
        "time                         value",
        "2023-11-14T22:13:20.000000Z   20.5",
        "2023-11-14T22:14:20.000000Z   21.5",
    ]
    assert ok("history", file, "room/temperature", "--limit", "1").splitlines()[1:] == lines[2:]
    assert ok("history", file, "room/temperature", "--limit", "0").splitlines() == ["time  value"]
    since = ok("history", file, "room/temperature", "--since", "2023-11-14T22:14:00Z")
    assert since.splitlines()[1:] == lines[2:]
    assert ok("history", file, "room/temperature", "--since", "1h").splitlines() == ["time  value"]


def test_history_shows_deletions_and_every_type(ok, path):
    with SynaDB(path) as db:
        for value in (1, "text", b"\x01", None, [1], float("inf"), np.float32(2)):
            db["k"] = value
        del db["k"]
    assert [line.split(None, 1)[1] for line in ok("history", path, "k").splitlines()] == [
        "value", "1", "text", "01", "None", "[1]", "inf", "2.0", "(deleted)",
    ]  # fmt: skip
    rows = json.loads(ok("history", path, "k", "--json"))
    assert [row["value"] for row in rows] == [1, "text", "01", None, [1], "Infinity", 2.0, None]
    assert [row["deleted"] for row in rows] == [False] * 7 + [True]


# ------------------------------------------------------------------------------------ facts


def test_info(ok, file):
    out = ok("info", file)
    assert str(file) in out and "room/" in out
    facts = json.loads(ok("info", file, "--json"))
    assert facts["keys"] == 6 and facts["bytes"] == os.path.getsize(file)
    assert facts["prefixes"] == [{"prefix": "room/", "keys": 2}]


def test_info_lists_the_ten_most_frequent_prefixes(ok, path):
    with SynaDB(path, False) as db:
        db.put_many({f"p{n:02}/{i}": i for n in range(15) for i in range(n)})
    prefixes = json.loads(ok("info", path, "--json"))["prefixes"]
    assert prefixes == [{"prefix": f"p{n:02}/", "keys": n} for n in range(14, 4, -1)]


def test_stats(ok, file):
    assert "keys             6" in ok("stats", file)
    assert json.loads(ok("stats", file, "--json"))["keys"] == 6


# ----------------------------------------------------------------------------------- upkeep


def test_delete(ok, cli, file):
    assert ok("delete", file, "raw", "name") == "2 deleted\n"
    assert cli("delete", file, "config", "absent")[0] == 1
    assert "config" in ok("keys", file)
    assert json.loads(ok("delete", file, "config", "--json")) == {"deleted": ["config"]}


def test_compact_tells_sizes(ok, path):
    with SynaDB(path, False) as db:
        for i in range(1000):
            db.put_float("k", i)
    sizes = json.loads(ok("compact", path, "--keep-history", "--json"))
    assert sizes["saved"] == sizes["bytes_before"] - sizes["bytes_after"] > 0
    with SynaDB(path) as db:
        assert len(db.get_history("k")) == 1000
    assert "saved" in ok("compact", path)
    with SynaDB(path) as db:
        assert len(db.get_history("k")) == 1


def test_compact_drops_metrics_and_features_only_when_told_to(ok, cli, path):
    with Experiment("mnist", path) as exp, exp.start_run() as run:
        for step in range(100):
            run.log_metric("loss", 1.0 / (step + 1), step=step)
    before = open(path, "rb").read()
    status, _, complaint = cli("compact", path)
    assert status == 1 and "--keep-history" in complaint
    assert open(path, "rb").read() == before
    ok("compact", path, "--keep-history")
    with Experiment("mnist", path) as exp:
        assert len(exp.get_metric_tensor(run.id, "loss")) == 100
    with SynaDB(path) as db:
        db.put_text("old", "gone")
        db.delete("old")
    ok("compact", path, "--live-history")
    with Experiment("mnist", path) as exp:
        assert len(exp.get_metric_tensor(run.id, "loss")) == 100
        assert exp.db.stats().deleted_keys == 0
    ok("compact", path, "--drop-history")
    with Experiment("mnist", path) as exp:
        assert len(exp.get_metric_tensor(run.id, "loss")) == 1


@pytest.mark.parametrize("command", ["verify", "check"])
def test_verify_says_sound_damaged_or_cannot_tell(cli, file, tmp_path, command):
    status, out, _ = cli(command, file)
    assert status == 0 and out.startswith("sound: ")
    assert json.loads(cli(command, file, "--json")[1])["ok"] is True
    data = bytearray(file.read_bytes())
    data[200] ^= 1
    file.write_bytes(data)
    status, out, _ = cli(command, file)
    assert status == 1 and "damaged" in out and "offset" in out
    assert json.loads(cli(command, file, "--json")[1])["findings"]
    assert cli(command, tmp_path / "missing")[0] == 2
    (tmp_path / "foreign").write_bytes(b"hello" * 100)
    assert cli(command, tmp_path / "foreign")[0] == 2
    assert file.read_bytes() == data


def test_backup_and_salvage(ok, cli, file, tmp_path):
    assert "6 keys" in ok("backup", file, tmp_path / "b.db")
    assert "7 records" in ok("salvage", file, tmp_path / "s.db")
    for copy in ("b.db", "s.db"):
        with SynaDB(tmp_path / copy) as db:
            assert db.get_int("room/visitors") == -7 and db["raw"] == b"\x00\xff"
    assert cli("backup", file, tmp_path / "b.db")[0] == 1
    assert json.loads(ok("backup", file, tmp_path / "c.db", "--json"))["keys"] == 6


# ------------------------------------------------------------------------- errors and manners

READING = [["info"], ["get", "k"], ["keys"], ["history", "k"], ["stats"], ["verify"], ["backup",
    "out"],
           ["salvage", "out"], ["delete", "k"], ["compact"]]  # fmt: skip


@pytest.mark.parametrize("command", READING, ids=lambda c: c[0])
def test_no_command_but_put_creates_a_file(cli, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    status, out, err = cli(command[0], "missing.db", *command[1:])
    assert status in (1, 2) and out == "" and "missing.db" in err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", READING[:6], ids=lambda c: c[0])
def test_reading_works_beside_a_writer(file, command):
    with SynaDB(file) as db:
        db["k"] = 1
        done = shell(command[0], file, *command[1:])
        assert done.returncode == 0, done.stderr
        db["k"] = 2


def test_a_writer_elsewhere_is_named(file):
    with SynaDB(file):
        done = shell("put", file, "k", "v", "--json")
    assert done.returncode == 1
    assert json.loads(done.stderr)["reason"] == "LOCKED"


def test_bad_keys_and_foreign_files_are_errors_without_a_traceback(cli, file, tmp_path):
    (tmp_path / "foreign").write_bytes(b"hello" * 100)
    for arguments in (["get", file, ""], ["put", file, "", "x"], ["info", tmp_path / "foreign"],
                      ["keys", tmp_path]):  # fmt: skip
        status, _out, err = cli(*arguments)
        assert status == 1 and err.startswith("synadb: ") and "Traceback" not in err


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "COMMAND"), (["gte", "x"], "did you mean get"), (["get"], "PATH"), (["nonsense"],
        "unknown command"),
        (["put", "x", "k", "v", "-t", "flaot"], "TYPE|choice"), (["keys", "x", "--limit", "-1"],
        "limit"),
        (["keys", "x", "--wrong"], "wrong"), (["completion", "tcsh"], "choice"),
    ],
)  # fmt: skip
def test_a_command_line_that_makes_no_sense_is_status_2(cli, arguments, message):
    import re

    status, out, err = cli(*arguments)
    assert (status, out) == (2, "") and re.search(message, err)


def test_every_command_has_help_and_json(cli):
    status, out, _ = cli("--help")
    assert status == 0 and all(command in out for command in ALL)
    for command in set(ALL) - {"demo"}:
        status, out, _ = cli(command, "--help")
        assert status == 0 and "--json" in out
    assert cli("--version")[1] == f"synadb {synadb.__version__}\n"


def test_a_reader_that_goes_away_is_no_error(path):
    with SynaDB(path, False) as db:
        db.put_many({f"key{i:06}": i for i in range(50_000)})
    with subprocess.Popen(
        [sys.executable, "-m", "synadb", "keys", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"key000000\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_synadb_and_syna_are_commands():
    from importlib.metadata import PackageNotFoundError, entry_points

    try:
        from importlib.metadata import distribution

        distribution("synadb")
    except PackageNotFoundError:
        pytest.skip("the package runs from a folder, without an installation")
    scripts = entry_points()
    scripts = (
        scripts.select(group="console_scripts")
        if hasattr(scripts, "select")
        else scripts["console_scripts"]
    )
    found = {script.name: script.value for script in scripts}
    assert found["synadb"] == found["syna"] == "synadb.cli:main"


# ------------------------------------------------------------------------------- completion


@pytest.fixture
def programs(tmp_path):
    """A folder with `synadb` in it, for the search path."""
    folder = tmp_path / "programs"
    folder.mkdir()
    program = folder / "synadb"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m synadb "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    "words, expected",
    [
        (["co"], {"compact", "completion"}), (["get", "@", "room/"], {"room/temperature",
        "room/visitors"}),
        (["keys", "@", "--l"], {"--limit", "--long"}), (["completion", "z"], {"zsh"}),
        (["delete", "@", "ra"], {"raw"}), (["keys", "@", "zzz"], set()),
    ],
)  # fmt: skip
def test_bash_completes_commands_options_and_keys(ok, file, programs, words, expected):
    script = ok("completion", "bash")
    words = ["synadb", *(str(file) if word == "@" else word for word in words)]
    quoted = " ".join(f"'{word}'" for word in words)
    state = f"COMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}"
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{state}\n_synadb\nprintf "%s\\n" "${{COMPREPLY[@]}}"'],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=programs,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_the_other_shells_scripts_name_every_command(ok, name):
    script = ok("completion", name)
    assert all(command in script for command in ALL)
    if shutil.which(name):
        checked = subprocess.run([name, "-n", "-c", script], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def test_json_may_be_asked_for_before_the_command(ok, file):
    assert json.loads(ok("--json", "get", file, "room/visitors")) == json.loads(
        ok("get", file, "room/visitors", "--json")
    )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_terminal_that_knows_ascii_only_gets_all_of_the_output(path, options):
    with SynaDB(path) as db:
        db.put_many({"a": 1, "caf\u00e9": 2, "z": 3})
    done = subprocess.run(
        [sys.executable, "-m", "synadb", "keys", str(path), *options],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    keys = json.loads(done.stdout)["keys"] if options else done.stdout.split()
    assert keys == ["a", "caf\u00e9" if options else "caf\\xe9", "z"]
