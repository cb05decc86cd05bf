"""The shape of the source tree: who may include whom, where the heap and the kernel are called, and
that every C file says at its top what it is for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"

# What each layer may include besides itself.
BELOW = {
    "base": [],
    "math": ["base"],
    "io": ["base"],
    "store": ["io", "base"],
    "index": ["store", "math", "base"],
    "engine": ["index", "store", "io", "math", "base"],
    "api": ["engine", "index", "store", "io", "math", "base"],
}
# Derived data sees of the store its snapshots, and the formats they are made of.
INDEX_MAY_SEE = {"store/snapshot.h", "store/format.h"}

SOURCES = sorted(path for path in CSRC.rglob("*.[ch]"))
HEADERS = sorted((ROOT / "include").rglob("*.h"))
TOP = {
    "pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", ".ci", ".clang-format",
    ".gitignore", "include", "csrc", "synadb", "tests", "bench",
}  # fmt: skip


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_of(path: Path) -> str:
    """The text without comments, strings and character constants."""
    text = path.read_text(encoding="utf-8")
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: " " + "\n" * m.group().count("\n"), text, flags=re.DOTALL)


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text("utf-8"), re.MULTILINE)


def upward(path: Path, layer: str, names: list[str]) -> list[str]:
    """The names among `names` that a file of this layer may not include."""
    wrong = []
    for name in names:
        other = name.split("/")[0]
        if "/" not in name or other not in BELOW or other == layer:
            continue
        if other not in BELOW[layer]:
            wrong.append(name)
        elif layer == "index" and other == "store" and name not in INDEX_MAY_SEE:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_layer_includes_only_what_is_below_it(path):
    layer = path.relative_to(CSRC).parts[0]
    assert layer in BELOW, f"{path}: no such layer"
    assert upward(path, layer, includes(path)) == []


def test_an_upward_include_is_found():
    assert upward(Path("x.c"), "store", ["engine/db.h", "io/file.h", "stdio.h"]) == ["engine/db.h"]
    assert upward(Path("x.c"), "io", ["math/topk.h"]) == ["math/topk.h"]
    assert upward(Path("x.c"), "index", ["store/kvlog.h", "store/snapshot.h"]) == ["store/kvlog.h"]


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_files_are_included_by_their_path_from_csrc(path):
    for name in includes(path):
        if re.search(rf'#\s*include\s*"{re.escape(name)}"', path.read_text("utf-8")):
            assert (CSRC / name).is_file(), f"{named(path)} includes {name}"


def test_public_headers_include_only_each_other_and_the_c_library():
    allowed = {"stddef.h", "stdint.h"}
    for path in HEADERS:
        for name in includes(path):
            ours = (path.parent / name).is_file() and name not in allowed
            assert ours or name in allowed, f"{named(path)} includes {name}"


@pytest.mark.parametrize("path", [p for p in SOURCES if p.suffix == ".c"], ids=named)
def test_the_first_include_poisons_heap_and_kernel(path):
    """internal.h comes first; only the compiler's header of vector instructions, which names the
    heap, may come before it."""
    before = []
    for name in includes(path):
        if name == "base/internal.h":
            break
        before.append(name)
    else:
        pytest.fail(f"{named(path)} does not include base/internal.h")
    assert set(before) <= {"immintrin.h"}


HEAP = "malloc calloc realloc free strdup strndup posix_memalign aligned_alloc".split()
KERNEL = (
    "open openat creat close read write pread pwrite pwritev preadv lseek fsync fdatasync "
    "ftruncate fallocate posix_fallocate mmap munmap msync mremap madvise rename link unlink "
    "stat fstat lstat fstatat fchmod fchown fcntl flock mkdir opendir readdir"
).split()


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_heap_and_kernel_are_called_in_their_file_only(path):
    """The poison in internal.h makes a slip a compile error; here: nobody switched it off."""
    code = code_of(path)
    if path != CSRC / "base" / "internal.h":
        homes = {"HEAP": ["base/mem.c"], "KERNEL": ["base/mem.c", "io/vfs_posix.c"]}
        for switch, files in homes.items():
            used = f"SYNA_MAY_CALL_{switch}" in code
            assert used == (path.relative_to(CSRC).as_posix() in files), f"{named(path)}: {switch}"
    banned = set()
    if path == CSRC / "base" / "mem.c":
        banned |= set(KERNEL) - {"mmap", "munmap", "madvise"}  # memory that is no file's
    else:
        banned |= set(HEAP)
        if path != CSRC / "io" / "vfs_posix.c":
            banned |= set(KERNEL)
    pragma = re.sub(r"#\s*pragma GCC poison[^\n]*", "", code)
    found = {word for word in re.findall(r"\b[a-z_]+(?=\s*\()", pragma) if word in banned}
    assert found == set()


def test_the_poisoned_names_are_the_ones_listed_here():
    text = (CSRC / "base" / "internal.h").read_text("utf-8")
    poisoned = " ".join(re.findall(r"#pragma GCC poison ([^\n]*)", text)).split()
    assert sorted(poisoned) == sorted(HEAP + KERNEL)


@pytest.mark.parametrize("path", SOURCES + HEADERS, ids=named)
def test_every_file_says_first_what_it_is_for(path):
    text = path.read_text("utf-8")
    assert text.startswith("/*"), f"{named(path)} does not begin with a comment"
    words = text[2 : text.index("*/")].split()
    assert len(words) >= 8, f"{named(path)}: that is not a description"


@pytest.mark.parametrize("path", SOURCES + HEADERS, ids=named)
def test_no_file_is_too_long_to_have_one_job(path):
    assert len(path.read_text("utf-8").splitlines()) <= 900


def test_nothing_is_left_unfinished():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    for folder in ("csrc", "include", "synadb", "bench"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".c", ".h", ".py", ".pyx", ".pxd", ".md"}:
                assert not marks.search(path.read_text("utf-8")), named(path)


def test_every_c_file_of_base_and_io_has_its_tests():
    for layer in ("base", "io"):
        for path in (CSRC / layer).glob("*.c"):
            assert (ROOT / "tests" / "c" / layer / f"test_{path.name}").is_file(), named(path)


def test_the_top_level_is_the_one_that_the_style_page_draws():
    if not (ROOT / ".git").exists():
        return  # an unpacked archive beside somebody's own files
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {name.split("/")[0] for name in tracked} <= TOP


def test_cython_sees_only_the_public_headers():
    """Modules other than the testing one declare nothing from csrc."""
    for path in (ROOT / "synadb" / "_core").glob("*.p[yx][xd]"):
        if path.stem == "_testing":
            continue
        for name in re.findall(r'cdef extern from\s*[<"]+([^">]+)', path.read_text("utf-8")):
            ours = (ROOT / "include" / name).is_file()
            assert ours or not (CSRC / name).is_file(), f"{named(path)} uses {name}"
