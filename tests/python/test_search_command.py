"""``synadb search``: what it prints, and its exit status."""

import json

import pytest

from synadb import SynaDB, TextIndex
from synadb.cli import main


@pytest.fixture
def notes(path):
    with TextIndex(path) as index:
        index.add("a", "Shared libraries\nin Python", {"year": 2023})
        index.add("b", "A library of shared memory", {"year": 2024})
        index.add("c\x1b[31m", "something \x1b[31m else")
    return path


def run(capsys, *arguments):
    status = main(["search", *map(str, arguments)])
    return status, capsys.readouterr()


def test_documents_are_shown_best_first(notes, capsys):
    status, said = run(capsys, notes, "shared", "memory")
    assert status == 0 and said.err == ""
    lines = said.out.splitlines()
    assert lines[0].split()[1] == "b" and lines[1].strip() == "A library of shared memory"
    assert lines[2].split()[1] == "a" and lines[3].strip() == "Shared libraries in Python"


def test_json(notes, capsys):
    status, said = run(capsys, notes, "--json", '"shared library"')
    (hit,) = json.loads(said.out)
    assert status == 0 and hit["key"] == "a" and hit["metadata"] == {"year": 2023}
    assert hit["snippet"] == "<b>Shared</b> <b>libraries</b>\nin Python" and hit["score"] > 0


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (["library", "-k", "1"], 1),
        (["library memory", "--all"], 1),
        (["shared", "--filter", '{"year": {"$gte": 2024}}'], 1),
        (["--", "shared", "-memory"], 1),
    ],
)
def test_options(notes, capsys, arguments, keys):
    status, said = run(capsys, "--json", notes, *arguments)
    assert status == 0 and len(json.loads(said.out)) == keys


def test_nothing_found_has_a_status(notes, capsys):
    status, said = run(capsys, notes, "nowhere")
    assert status == 1 and said.out == "" and "nothing found" in said.err
    status, said = run(capsys, "--json", notes, "nowhere")
    assert status == 1 and json.loads(said.out) == []


def test_no_terminal_obeys_a_document(notes, capsys):
    _, said = run(capsys, notes, "something")
    assert "\x1b" not in said.out and "\\x1b[31m" in said.out


def test_other_files_are_refused(path, capsys):
    with SynaDB(path) as db:
        db["x"] = 1
    status, said = run(capsys, path, "words")
    assert status == 1 and "holds no documents" in said.err
    status, said = run(capsys, path.parent / "missing.db", "words")
    assert status == 1 and "missing.db" in said.err and not (path.parent / "missing.db").exists()


@pytest.mark.parametrize("wrong", [["-k", "0"], ["--filter", "[1]"], ["--filter", "{"], []])
def test_bad_arguments(notes, capsys, wrong):
    with pytest.raises(SystemExit) as left:
        run(capsys, notes, *wrong, *(["words"] if wrong else []))
    assert left.value.code == 2
