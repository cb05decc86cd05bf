"""Facts about the machine and the program that a run was started on, for those who ask for them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

_GIT_SECONDS = 5.0


def facts() -> dict[str, Any]:
    """What is known without asking anybody: Python, platform, program, packages, git commit.

    ``git`` is None outside a repository and where git is not installed. No names of users or
    hosts, no environment variables.
    """
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "program": sys.argv[0] if sys.argv else "",
        "packages": packages(),
        "git": git(),
    }


def packages() -> dict[str, str]:
    """Name and version of every installed distribution, sorted by name."""
    from importlib import metadata

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found[str(name)] = distribution.version
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def git() -> dict[str, Any] | None:
    """Commit, branch and whether tracked files differ from it, of the repository around the current
    folder."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": commit,
        "branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "dirty": None if changes is None else bool(changes),
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").strip()
