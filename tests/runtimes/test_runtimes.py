"""The same program in three runtimes gives the same answers, and Python reads what each wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import synadb
from synadb import SynaDB, VectorStore, verify

HERE = Path(__file__).resolve().parent
PACKAGE = Path(synadb.__file__).resolve().parent
LIBRARY = PACKAGE / "lib" / "libsynadb.so"
INCLUDE = next(p for p in (PACKAGE / "include", PACKAGE.parent / "include") if p.is_dir())
START = 1_700_000_000_000_000

# Codes and reasons are those of include/synadb/base.h.
EXPECTED = {
    "missing": {"code": -5, "reason": 0},
    "empty_key": {"code": -7, "reason": 1},
    "history": {"values": [23.5, 24.1, 24.8], "times": [START + s * 10**6 for s in (0, 60, 120)]},
    "name": "Fühler 1 \U0001f680",
    "bytes": [0, 1, 255],
    "count": 3,
    "read_only": {"code": 0, "reason": 12},
    "wrong_length": {"code": 0, "reason": 1},
    # cosine distances: 1 - 1.5 / sqrt(1.25 * 2), 1 - 1 / sqrt(1.25)
    "hits": [["doc2", "0.0513"], ["doc0", "0.1056"]],
}


STRUCTS = ("syna_db_options", "syna_vectors_options", "syna_search", "syna_hit")


def fields(body):
    """The names of a struct's fields, in order."""
    body = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    return re.findall(r"(\w+)(?:\[\d+\])?\s*[;,]", body)


@pytest.mark.parametrize("name", STRUCTS)
def test_the_structs_are_those_of_the_headers(name):
    headers = "".join(path.read_text("utf-8") for path in sorted((INCLUDE / "synadb").glob("*.h")))
    wanted = fields(re.search(rf"typedef struct {name} {{(.*?)}} {name};", headers, re.S)[1])
    cffi = (HERE / "example_cffi.py").read_text("utf-8")
    found = re.search(rf"typedef struct {{([^}}]*)}} {name};", cffi)[1]
    assert fields(found) == wanted
    node = (HERE / "example.cjs").read_text("utf-8")
    found = re.search(rf'koffi\.struct\("{name}", {{(.*?)\n}}\);', node, re.S)[1]
    assert re.findall(r"(\w+):", found) == wanted


def compare(command, folder, **options):
    """Run one example; what it prints and what it leaves behind are as they should be."""
    done = subprocess.run(
        [*map(str, command), str(folder)], capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == EXPECTED
    assert sorted(path.name for path in folder.glob("*.db")) == ["sensors.db", "vectors.db"]
    assert verify(folder / "sensors.db").ok and verify(folder / "vectors.db").ok
    with SynaDB(folder / "sensors.db") as db:
        assert db.open_report.clean  # it was closed, not left
        assert db.get_history_tensor("temperature").tolist() == EXPECTED["history"]["values"]
        assert db.get_text("name") == EXPECTED["name"]
        assert db.get_bytes("schlüssel/é") == bytes(EXPECTED["bytes"])
    with VectorStore(folder / "vectors.db", 4) as store:
        assert sorted(store.keys()) == ["doc0", "doc1", "doc2"]
        assert store.search(np.array([1, 0.5, 0, 0]), k=1)[0].key == "doc2"


def test_cffi(tmp_path):
    pytest.importorskip("cffi")
    compare([sys.executable, HERE / "example_cffi.py", LIBRARY], tmp_path)


def test_cpp(tmp_path):
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    program = tmp_path / "example"
    subprocess.run(
        [
            compiler, "-std=c++17", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-I", INCLUDE,
            HERE / "example.cpp", LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}", "-o", program,
        ],
        check=True,
    )  # fmt: skip
    compare([program], tmp_path)


def test_node(tmp_path):
    node = shutil.which("node")
    reason = "node is not installed" if node is None else koffi_missing(node)
    if reason and os.environ.get("SYNADB_NEED_NODE"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    compare([node, HERE / "example.cjs", LIBRARY], tmp_path)


def koffi_missing(node):
    done = subprocess.run(
        [node, "-e", "require('koffi')"], capture_output=True, text=True, timeout=60, cwd=HERE
    )
    return None if done.returncode == 0 else "node has no package koffi (npm install koffi)"
