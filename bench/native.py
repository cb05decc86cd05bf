"""Builds c/kvbench against the installed libsynadb and the peers that have C headers here.

LMDB comes from the source distribution of the installed py-lmdb (the same version on both sides of
a table); where that cannot be had, from pkg-config. RocksDB and SQLite come from pkg-config.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from measure import BENCH_DIR, BenchError

_SOURCES = ["kvbench.c", "limit.c", "engine_synadb.c", "engine_table.c"]
_FLAGS = ["-std=gnu11", "-O2", "-DNDEBUG", "-Wall", "-Wextra"]


def build(folder: Path) -> Path:
    """Compile into `folder`; returns the program."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "kvbench"
    sources = [BENCH_DIR / "c" / name for name in _SOURCES]
    compile_flags, link_flags = _synadb()
    for macro, source, found in (
        ("HAVE_LMDB", "engine_lmdb.c", _lmdb(folder)),
        ("HAVE_SQLITE", "engine_sqlite.c", _pkg_config("sqlite3")),
        ("HAVE_ROCKSDB", "engine_rocksdb.c", _pkg_config("rocksdb")),
    ):
        if found is None:
            print(f"bench: no C headers for {source}: left out of the C tables", file=sys.stderr)
            continue
        compile_flags += [f"-D{macro}", *found[0]]
        link_flags += found[1]
        sources.append(BENCH_DIR / "c" / source)
    _compile(*_FLAGS, *compile_flags, "-o", program, *sources, *link_flags, "-lpthread")
    return program


def _compile(*arguments: str | Path) -> None:
    command = [os.environ.get("CC", "cc"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}:\n{done.stderr}")


def engines(program: Path) -> list[str]:
    done = subprocess.run([program, "list"], capture_output=True, text=True, check=True)
    return done.stdout.split()


Flags = tuple[list[str], list[str]]  # to compile, to link


def _synadb() -> Flags:
    import synadb

    package = Path(synadb.__file__).parent
    lib = package / "lib"
    return [f"-I{package / 'include'}"], [f"-L{lib}", f"-Wl,-rpath,{lib}", "-lsynadb"]


def _pkg_config(name: str) -> Flags | None:
    try:
        run = [
            subprocess.run(["pkg-config", option, name], capture_output=True, text=True, check=True)
            for option in ("--cflags", "--libs")
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return run[0].stdout.split(), run[1].stdout.split()


def _lmdb(folder: Path) -> Flags | None:
    source = _lmdb_source(folder)
    if source is None:
        return _pkg_config("lmdb")
    objects = []
    for name in ("mdb", "midl"):
        target = folder / f"{name}.o"
        _compile("-O2", "-DNDEBUG", "-w", "-c", source / f"{name}.c", "-o", target)
        objects.append(str(target))
    return [f"-I{source}"], objects


def _lmdb_source(folder: Path) -> Path | None:
    """The folder lib/ of py-lmdb's source distribution, downloaded once."""
    try:
        version = importlib.metadata.version("lmdb")
    except importlib.metadata.PackageNotFoundError:
        return None
    source = folder / f"lmdb-{version}" / "lib"
    if not (source / "mdb.c").exists():
        archive = folder / f"lmdb-{version}.tar.gz"
        options = ["--quiet", "--no-deps", "--no-binary", "lmdb", f"lmdb=={version}", "-d"]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", *options, str(folder)], capture_output=True
        )
        if not archive.exists():
            return None
        with tarfile.open(archive) as tar:
            members = [
                m
                for m in tar.getmembers()
                if m.isfile() and m.name.startswith(f"lmdb-{version}/lib/") and ".." not in m.name
            ]
            tar.extractall(folder, members)
    return source if (source / "mdb.c").exists() else None
