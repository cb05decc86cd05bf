"""The stubs say what the compiled modules offer, and the annotations hold."""

import ast
import importlib
import importlib.util
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import synadb

PACKAGE = Path(synadb.__file__).parent
STUBS = sorted((PACKAGE / "_core").glob("*.pyi"))
COMPILED = sorted(
    p for p in (PACKAGE / "_core").iterdir() if p.suffix == ".so" and "_testing" not in p.name
)


def test_every_compiled_module_has_a_stub():
    assert {p.stem for p in STUBS} == {p.name.split(".")[0] for p in COMPILED}
    assert (PACKAGE / "py.typed").exists()


def stubbed_functions():
    """(module, qualified name, definition) of every function in the stubs, once."""
    for stub in STUBS:
        module = f"synadb._core.{stub.stem}"
        tree = ast.parse(stub.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef):
                yield pytest.param(module, node.name, node, id=f"{stub.stem}.{node.name}")
            if isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("__"):
                        name = f"{node.name}.{inner.name}"
                        yield pytest.param(module, name, inner, id=f"{stub.stem}.{name}")


@pytest.mark.parametrize("module, name, stub", list(stubbed_functions()))
def test_the_stub_matches_the_compiled_function(module, name, stub):
    thing = importlib.import_module(module)
    for part in name.split("."):
        thing = inspect.getattr_static(thing, part)
    if any(isinstance(d, ast.Name) and d.id == "property" for d in stub.decorator_list):
        assert inspect.isdatadescriptor(thing)
        return
    if any(isinstance(d, ast.Name) and d.id == "overload" for d in stub.decorator_list):
        return
    parameters = inspect.signature(getattr(thing, "__func__", thing)).parameters
    arguments = stub.args
    expected = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    given = [p for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert [p.name for p in given] == expected
    keyword = {p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert keyword == {a.arg for a in arguments.kwonlyargs}
    optional = sum(p.default is not p.empty for p in given)
    assert optional == len(arguments.defaults)


def test_nothing_public_is_missing_from_the_stubs():
    for stub in STUBS:
        module = importlib.import_module(f"synadb._core.{stub.stem}")
        tree = ast.parse(stub.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                cls = getattr(module, node.name)
                said = {
                    n.name if isinstance(n, ast.FunctionDef) else getattr(n.target, "id", "")
                    for n in node.body
                    if isinstance(n, (ast.FunctionDef, ast.AnnAssign))
                }
                public = {name for name in vars(cls) if not name.startswith("_")}
                assert public <= said, f"{stub.name}: {node.name} lacks {public - said}"


needs_mypy = pytest.mark.skipif(
    not importlib.util.find_spec("mypy"), reason="mypy is not installed"
)


def mypy(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(cwd / "mypy-cache"), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=600,
    )


@needs_mypy
def test_the_package_passes_strict_type_checking(tmp_path):
    # A copy: beside the package stand others, which mypy would take for its own libraries shadowed.
    copy = tmp_path / "checked" / "synadb"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so*", "__pycache__"))
    done = mypy("--strict", "--warn-unreachable", str(copy), cwd=tmp_path)
    assert done.returncode == 0, done.stdout


PROGRAM = """
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from synadb import History, SynaDB, SynaError
from synadb.types import Stats

with SynaDB(Path("x.db"), sync_on_write=False, timeout=1) as db:
    offset: int = db.put_float("k", np.float32(1))
    number: float | None = db.get_float("k")
    text: str | None = db.get_text("k")
    raw: bytes | None = db.get_bytes("k")
    keys: list[str] = db.keys()
    history: History = db.get_history("k")
    stats: Stats = db.stats()
    for name, value in db.scan(prefix="k"):
        print(name.upper(), value)
    for name in db.scan(keys_only=True):
        print(name.upper())
    with db.batch() as batch:
        batch["a"] = [1]
    with db.open_blob("b", "wb") as out, open("f", "rb") as source:
        shutil.copyfileobj(source, out)
    db.put_many({"a": 1})
    db.put_many([("a", 1)])
    try:
        db.compact(progress=lambda done, total: print(done, total))
    except SynaError as error:
        print(error.code, error.reason.name, error.offset)
"""

WRONG = """
from synadb import SynaDB

db = SynaDB("x.db")
db.put_int("k", "text")
db.put_text(5, "text")
length: int = db.get_text("k")
"""


@needs_mypy
def test_programs_are_checked_against_the_annotations(tmp_path):
    (tmp_path / "right.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    done = mypy("--strict", "right.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    done = mypy("--strict", "wrong.py", cwd=tmp_path)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [int(line.split(":")[1]) for line in errors] == [5, 6, 7]
