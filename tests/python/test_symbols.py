"""What libsynadb shows to the world: exactly the functions that include/ declares, nothing of LZ4,
and nothing of the testing copy. The library looked at is the one that was installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

import synadb

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(synadb.__file__).resolve().parent
LIBRARY = PACKAGE / "lib" / "libsynadb.so"
MAP = ROOT / "csrc" / "api" / "libsynadb.map"
HEADERS = sorted(
    str(path.relative_to(ROOT / "include")) for path in (ROOT / "include").rglob("*.h")
)


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def declared() -> set[str]:
    """The functions that the public headers declare."""
    names: set[str] = set()
    for path in (ROOT / "include").rglob("*.h"):
        text = re.sub(r"^\s*#[^\n]*", "", without_comments(path.read_text("utf-8")), flags=re.M)
        names.update(re.findall(r"\bSYNA_API\b[^;(]*?\b(\w+)\s*\(", text))
    return names


def nm(*options: str) -> list[str]:
    tool = shutil.which("nm")
    assert tool, "binutils' nm is needed to look at the library"
    done = subprocess.run(
        [tool, *options, str(LIBRARY)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def exported() -> set[str]:
    return {line.split()[-1].split("@")[0] for line in nm("-D", "--defined-only")}


def test_the_library_exports_what_the_headers_declare_and_no_more():
    assert declared(), "no declarations found"
    assert exported() == declared()


def test_every_exported_name_is_ours():
    assert {name for name in exported() if not name.startswith("syna_")} == set()


def test_every_declaration_is_marked_for_export():
    """A function that somebody forgot to mark would be missing from the library."""
    for path in (ROOT / "include").rglob("*.h"):
        text = re.sub(r"^\s*#[^\n]*", "", without_comments(path.read_text("utf-8")), flags=re.M)
        for statement in text.split(";"):
            match = re.search(r"\b(syna_\w+)\s*\([^*]", statement)
            if match and "typedef" not in statement:
                assert "SYNA_API" in statement, f"{path.name}: {match.group(1)}"


def test_the_map_lists_the_same_names_in_order():
    text = without_comments(MAP.read_text("utf-8"))
    body = text[text.index("global:") + len("global:") : text.index("local:")]
    names = [name.strip() for name in body.split(";") if name.strip()]
    assert names == sorted(names)
    assert set(names) == declared()
    assert re.search(r"local:\s*\*;", text)


def test_nothing_of_lz4_is_visible_or_missing():
    assert [line for line in nm("-D", "--defined-only") if "LZ4" in line] == []
    undefined = [line for line in nm("-D", "--undefined-only") if "LZ4" in line]
    if undefined:  # linked with the system's shared library
        needed = subprocess.run(
            ["readelf", "-d", str(LIBRARY)], capture_output=True, text=True, check=True
        )
        assert "liblz4" in needed.stdout


def test_the_installed_package_has_nothing_of_the_testing_copy():
    if (PACKAGE / "_core").parent.parent.name == "package":
        pytest.fail("the tests must run on an installed synadb, not on the testing copy")
    assert list(PACKAGE.rglob("_testing*")) == []
    assert [name for name in exported() if "_test" in name] == []
    assert b"syna_test_" not in LIBRARY.read_bytes()


def test_the_installed_package_is_complete_and_small():
    for name in (
        "py.typed", "include/synadb.h", "include/synadb/base.h", "include/synadb/kv.h",
        "lib/pkgconfig/synadb.pc", "lib/cmake/synadb/synadb-config.cmake",
    ):  # fmt: skip
        assert (PACKAGE / name).is_file(), name
    assert list(PACKAGE.rglob("*.pyx")) == []
    size = sum(path.stat().st_size for path in PACKAGE.rglob("*") if path.suffix != ".pyc")
    assert size <= 10 << 20  # unpacked; the wheel, compressed, stays below 5 MB


def test_the_library_is_loaded_once():
    """Every module is linked with the one file, or there would be two error records."""
    modules = list((PACKAGE / "_core").glob("*.so"))
    assert modules
    for module in modules:
        done = subprocess.run(
            ["readelf", "-d", str(module)], capture_output=True, text=True, check=True
        )
        needs = re.findall(r"NEEDED.*\[(.*?)\]", done.stdout)
        defined = subprocess.run(
            ["nm", "-D", "--defined-only", str(module)], capture_output=True, text=True, check=True
        ).stdout
        assert [line for line in defined.splitlines() if " syna_" in line] == []
        if "libsynadb.so" in needs:
            assert re.search(r"(RPATH|RUNPATH).*\[\$ORIGIN/\.\./lib\]", done.stdout), module


PROGRAM = r"""
#include <synadb.h>
int main(int argc, char **argv)
{
    double value = 0;
    if (argc != 2 || syna_open(argv[1]) != SYNA_SUCCESS)
        return 1;
    if (syna_put_float(argv[1], "a", 2.5) < 0)
        return 2;
    if (syna_get_float(argv[1], "a", &value) != SYNA_SUCCESS || value != 2.5)
        return 3;
    return syna_close(argv[1]) == SYNA_SUCCESS ? 0 : 4;
}
"""
STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def compilers(standard_c: str, standard_cpp: str) -> list[list[str]]:
    """The compilers here, each with the oldest standard that the headers promise."""
    found = [[name, f"-std={standard_c}"] for name in ("cc", "gcc", "clang") if shutil.which(name)]
    found += [[name, f"-std={standard_cpp}"] for name in ("c++", "clang++") if shutil.which(name)]
    return found


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("compiler", compilers("c99", "c++11"), ids=" ".join)
def test_every_header_alone_compiles_strictly(compiler, header, tmp_path):
    source = tmp_path / ("one.cpp" if "++" in compiler[0] else "one.c")
    source.write_text(f"#include <{header}>\n#include <{header}>\nint one(void) {{ return 1; }}\n")
    run(*compiler, *STRICT, f"-I{PACKAGE / 'include'}", "-c", source, "-o", tmp_path / "one.o")


@pytest.mark.parametrize("compiler", compilers("c99", "c++11"), ids=" ".join)
def test_a_program_links_with_the_installed_library_by_pkg_config(compiler, tmp_path):
    source = tmp_path / ("program.cpp" if "++" in compiler[0] else "program.c")
    source.write_text(PROGRAM)
    pc = (PACKAGE / "lib" / "pkgconfig" / "synadb.pc").read_text()
    if shutil.which("pkg-config"):
        env = {**os.environ, "PKG_CONFIG_PATH": str(PACKAGE / "lib" / "pkgconfig")}
        flags = subprocess.run(
            ["pkg-config", "--cflags", "--libs", "synadb"],
            env=env, capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
    else:  # the file is simple enough to be read here
        flags = pkg_config_flags(pc)
    run(*compiler, *STRICT, source, *flags, "-o", tmp_path / "program")
    run(tmp_path / "program", tmp_path / "a.db")


def pkg_config_flags(text: str) -> list[str]:
    """Cflags and Libs of a .pc file, with its variables replaced."""
    values = {"pcfiledir": str(PACKAGE / "lib" / "pkgconfig")}

    def filled(value: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda m: values[m.group(1)], value)

    for line in text.splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            values[match.group(1)] = filled(match.group(2))
        elif match := re.match(r"(Libs|Cflags): (.*)", line):
            values[match.group(1)] = filled(match.group(2))
    return (values["Cflags"] + " " + values["Libs"]).split()


def test_a_program_finds_the_installed_library_as_a_cmake_package(tmp_path):
    (tmp_path / "program.c").write_text(PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(program C)\n"
        "find_package(synadb 0.1 REQUIRED CONFIG)\n"
        "add_executable(program program.c)\ntarget_link_libraries(program PRIVATE synadb::synadb)\n"
    )
    cmake = shutil.which("cmake", path=sysconfig.get_path("scripts")) or shutil.which("cmake")
    assert cmake, "cmake is missing: pip install '.[test]'"
    build = tmp_path / "build"
    run(cmake, "-S", tmp_path, "-B", build, f"-Dsynadb_DIR={PACKAGE / 'lib' / 'cmake' / 'synadb'}")
    run(cmake, "--build", build)
    run(build / "program", tmp_path / "a.db")
