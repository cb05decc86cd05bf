"""Every example in the README, the docstrings and the headers runs and gives what it says."""

import ctypes
import doctest
import importlib.util
import inspect
import os
import pkgutil
import re
import shutil
import subprocess
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import synadb
from synadb import SynaDB

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(synadb.__file__).parent


# ---------------------------------------------------------------------------------- the README


def python_blocks():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for found in re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M):
        line = text.count("\n", 0, found.start()) + 2
        yield pytest.param(found[1], line, id=f"line-{line}")


@pytest.mark.parametrize("code, line", list(python_blocks()))
def test_the_readme(code, line, tmp_path, monkeypatch, capsys):
    """Each block runs by itself in an empty folder, and prints what its comments announce."""
    monkeypatch.chdir(tmp_path)
    # Blank lines before it, so that a traceback shows the line of the README.
    exec(
        compile("\n" * (line - 1) + code, str(ROOT / "README.md"), "exec"), {"__name__": "__main__"}
    )
    printed = re.sub(r"\s+", " ", capsys.readouterr().out)
    for comment in re.findall(r"^\s*print\(.*\)\s*#\s*(.*)$", code, re.M):
        for announced in re.findall(r"^(\[[^\]]*\]|-?\d[\d.]*(?=[,:;]|$))", comment):
            assert announced in printed, f"README line {line}: {comment!r} is not in {printed!r}"


# ------------------------------------------------------------------------------- the docstrings


def modules():
    yield synadb
    for found in pkgutil.walk_packages([str(PACKAGE)], "synadb."):
        if not found.name.endswith((".__main__", "._testing")):
            yield import_module(found.name)


def docstrings():
    """(name, text) of every docstring with an example. Compiled functions too, which
    doctest.DocTestFinder does not see. A module's ``__doctest_requires__`` names the packages
    without which its examples cannot run."""
    for module in modules():
        missing = [
            package
            for package in getattr(module, "__doctest_requires__", ())
            if importlib.util.find_spec(package) is None
        ]
        marks = [pytest.mark.skip(reason=f"needs {', '.join(missing)}")] if missing else []
        things = {module.__name__: module}
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__:
                continue
            things[f"{module.__name__}.{name}"] = thing
            if inspect.isclass(thing):
                members = vars(thing).items()
                things.update({f"{module.__name__}.{name}.{m}": member for m, member in members})
        for name, thing in things.items():
            text = getattr(thing, "__doc__", None)
            if isinstance(text, str) and ">>>" in text:
                yield pytest.param(name, text, id=name, marks=marks)


@pytest.mark.parametrize("name, text", list(docstrings()))
def test_the_docstrings(name, text, tmp_path):
    """`tmp` is an empty folder; `db`, `store`, `registry` and, in their own modules, others are an
    open database, vector store, model registry ..."""
    vectors = synadb.VectorStore(tmp_path / "vectors.db", dimensions=64, sync_on_write=False)
    models = synadb.ModelRegistry(tmp_path / "registry.db", sync_on_write=False)
    log = SynaDB(tmp_path / "doc.db", sync_on_write=False)
    with log as db, vectors as store, models as registry, ExitStack() as stack:
        names = {"tmp": tmp_path, "db": db, "store": store, "registry": registry, "np": np}
        names["synadb"] = synadb
        if name.startswith("synadb.text."):
            names["index"] = stack.enter_context(synadb.TextIndex(tmp_path / "texts.db"))
        if name.startswith("synadb.sparse."):
            sparse = synadb.SparseVectorStore(tmp_path / "sparse.svs", sync_on_write=False)
            names["sparse"] = stack.enter_context(sparse)
        names.update({export: getattr(synadb, export) for export in synadb.__all__})
        names.update(vars(import_module(module_of(name))))
        example = doctest.DocTestParser().get_doctest(text, names, name, name, 0)
        said = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        runner.run(example, out=said.append)
        assert runner.summarize(verbose=False).failed == 0, "".join(said)


def module_of(name):
    while True:
        try:
            return import_module(name).__name__
        except ImportError:
            name = name.rpartition(".")[0]


def test_the_examples_are_found():
    names = {parameters.values[0] for parameters in docstrings()}
    assert {
        "synadb._core.kv.Database.put_float",
        "synadb.db.SynaDB",
        "synadb.db.SynaDB.scan",
    } <= names


# --------------------------------------------------------------------------------- the headers


def programs():
    """Complete C programs out of the comments of the headers."""
    for header in sorted((ROOT / "include").rglob("*.h")):
        text = header.read_text(encoding="utf-8")
        for found in re.finditer(
            r"^ \*     #include <stdio\.h>\n(?:^ \*(?:     .*)?\n)+", text, re.M
        ):
            lines = [line[7:] for line in found[0].splitlines()]
            yield pytest.param("\n".join(lines) + "\n", id=str(header.relative_to(ROOT)))


def compile_and_run(compiler, flags, source, folder):
    lib = PACKAGE / "lib"
    include = next(p for p in (PACKAGE / "include", ROOT / "include") if p.is_dir())
    subprocess.run(
        [compiler, *flags, str(source), "-o", str(folder / "program"), f"-I{include}", f"-L{lib}",
         "-lsynadb", f"-Wl,-rpath,{lib}"],
        check=True, cwd=folder,
    )  # fmt: skip
    done = subprocess.run(
        [str(folder / "program")], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize("code", list(programs()))
def test_the_programs_in_the_headers(code, tmp_path):
    (tmp_path / "program.c").write_text(code)
    strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    out = compile_and_run("cc", strict, tmp_path / "program.c", tmp_path)
    assert out == "now 24.1\nwas 23.5\nwas 24.1\n"
    with SynaDB(tmp_path / "sensors.db") as db:
        assert db.get_history_tensor("temperature").tolist() == [23.5, 24.1]


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_the_headers_are_cpp_too(tmp_path):
    (tmp_path / "program.cpp").write_text(
        "#include <synadb.h>\n"
        "int main() { return syna_abi_version() == SYNA_ABI_VERSION ? 0 : 1; }\n"
    )
    strict = ["-std=c++11", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    assert compile_and_run("c++", strict, tmp_path / "program.cpp", tmp_path) == ""


# ---------------------------------------------------------------- the seeds' program for ctypes

CTYPES = """
import ctypes
from ctypes import c_char_p, c_double, c_int64, c_int32, c_size_t, POINTER, byref
# Load the library
lib = ctypes.CDLL("./target/release/libsynadb.so") # or .dylib/.dll
# Define function signatures
lib.syna_open.argtypes = [c_char_p]
lib.syna_open.restype = c_int32
lib.syna_close.argtypes = [c_char_p]
lib.syna_close.restype = c_int32
lib.syna_put_float.argtypes = [c_char_p, c_char_p, c_double]
lib.syna_put_float.restype = c_int64
lib.syna_get_float.argtypes = [c_char_p, c_char_p, POINTER(c_double)]
lib.syna_get_float.restype = c_int32
lib.syna_get_history_tensor.argtypes = [c_char_p, c_char_p, POINTER(c_size_t)]
lib.syna_get_history_tensor.restype = POINTER(c_double)
lib.syna_free_tensor.argtypes = [POINTER(c_double), c_size_t]
lib.syna_free_tensor.restype = None
lib.syna_delete.argtypes = [c_char_p, c_char_p]
lib.syna_delete.restype = c_int32
# Usage
db_path = b"my_data.db"
# Open database
result = lib.syna_open(db_path)
assert result == 1, f"Failed to open database: {result}"
# Write float values
lib.syna_put_float(db_path, b"temperature", 23.5)
lib.syna_put_float(db_path, b"temperature", 24.1)
lib.syna_put_float(db_path, b"temperature", 24.8)
# Read latest value
value = c_double()
result = lib.syna_get_float(db_path, b"temperature", byref(value))
if result == 1:
    print(f"Temperature: {value.value}")
# Get history as numpy-compatible array
length = c_size_t()
ptr = lib.syna_get_history_tensor(db_path, b"temperature", byref(length))
if ptr:
    # Convert to Python list (or use numpy.ctypeslib for zero-copy)
    history = [ptr[i] for i in range(length.value)]
    print(f"History: {history}")
    # Free the tensor memory
    lib.syna_free_tensor(ptr, length)
# Close database
lib.syna_close(db_path)
"""


def test_the_seeds_program_for_ctypes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    library = next((PACKAGE / "lib").glob("libsynadb.*"))
    exec(CTYPES.replace("./target/release/libsynadb.so", os.fspath(library)), {})
    assert capsys.readouterr().out == "Temperature: 24.8\nHistory: [23.5, 24.1, 24.8]\n"


def test_one_library_serves_python_and_ctypes(tmp_path):
    """A database that Python has open is open for ctypes too: there is one handle table."""
    library = ctypes.CDLL(os.fspath(next((PACKAGE / "lib").glob("libsynadb.*"))))
    library.syna_put_float.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_double]
    library.syna_put_float.restype = ctypes.c_int64
    with SynaDB(tmp_path / "x.db") as db:
        assert library.syna_put_float(os.fsencode(db.path), b"k", 1.5) > 0
        assert db.get_float("k") == 1.5
