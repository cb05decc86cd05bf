"""Fixtures of the Python tests, which run against the installed package."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from synadb import SynaDB


def pytest_collection_modifyitems(items):
    """An exception that nobody could catch, in a finaliser or a thread, fails the test."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            for kind in ("UnraisableException", "UnhandledThreadException"):
                item.add_marker(
                    pytest.mark.filterwarnings(f"error::pytest.Pytest{kind}Warning"), append=False
                )


@pytest.fixture
def path(tmp_path):
    """Where a database can be made."""
    return tmp_path / "test.db"


@pytest.fixture
def db(path):
    """An open, empty database that does not sync every write."""
    with SynaDB(path, sync_on_write=False) as db:
        yield db


@pytest.fixture
def python(tmp_path):
    """python(code, *arguments): run a piece of Python in a process of its own; its output."""

    def run(code, *arguments, check=True, **options):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            **options,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout
        return done

    return run
