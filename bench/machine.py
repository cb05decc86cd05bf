"""Facts about the machine and the libraries, without which a figure means nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import sys
import time
from pathlib import Path

BUSY_LIMIT = 0.1  # processors that others keep busy
_LOOK_SECONDS = 2.0

_LIBRARIES = ("synadb", "numpy", "lmdb", "rocksdict", "pcodec", "pyarrow")


def facts(data_dir: Path) -> dict[str, object]:
    """Everything that a reader needs to judge or repeat a run."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "filesystem": _filesystem(data_dir),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libraries": {**_versions(), "sqlite": sqlite3.sqlite_version},
    }


def load_warning() -> str | None:
    """A sentence when something else is using the machine, else None. It is looked at for a moment
    in which the bench does nothing: a load average would count what was measured before."""
    before = _busy_seconds()
    time.sleep(_LOOK_SECONDS)
    busy = (_busy_seconds() - before) / _LOOK_SECONDS
    if busy <= BUSY_LIMIT:
        return None
    return f"others keep {busy:.2f} processors busy: the figures are not to be trusted"


def _busy_seconds() -> float:
    """What all processors together have worked since the start; 0 where nobody counts."""
    try:
        user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    except OSError:
        return 0.0
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def describe(found: dict[str, object]) -> str:
    libraries = found["libraries"]
    assert isinstance(libraries, dict)
    versions = ", ".join(f"{name} {version}" for name, version in libraries.items())
    return (
        f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['kernel']} "
        f"{found['architecture']}, {found['filesystem']}; {found['python']}, {versions}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Hardware", "Processor")):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _filesystem(path: Path) -> str:
    """Type of the file system that holds `path`: the longest mount point that is a parent of it."""
    best, kind = "", "unknown"
    target = str(path.resolve())
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, fstype = line.split()[:3]
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fstype
    return kind


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            print(f"bench: {name} is not installed", file=sys.stderr)
    return found
