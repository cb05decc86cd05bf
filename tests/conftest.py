"""The compiled half of the tests.

`pytest` alone runs everything: the C tests are items like others, one for each executable, and
tests in Python get the copy of the core that can be made to fail. Both come from one build, made
once and outside the tree (cmake, ninja and cython are in the extra `test`). Not being able to build
is a failure of every test that needs it, never a skip.

Environment: SYNADB_TEST_BUILD names the folder to build in (default: one for this tree and this
interpreter under the system's temporary folder, kept so that the next run builds only what
changed); SYNADB_LZ4_SOURCE_DIR is passed on to cmake.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
# Seconds for one executable; they take a few, or CHECK_SCALE times that.
C_TEST_TIMEOUT = 600 * max(1.0, float(os.environ.get("CHECK_SCALE", "1")))

# `python -m pytest` puts the current folder first, where the package lies without what is compiled.
if not list((ROOT / "synadb").glob("lib/libsynadb*")):
    sys.path[:] = [entry for entry in sys.path if Path(entry or os.curdir).resolve() != ROOT]


class BuildError(Exception):
    """The testing copy could not be built; the text is what the build said."""


def build_folder() -> Path:
    given = os.environ.get("SYNADB_TEST_BUILD")
    if given:
        return Path(given)
    what = f"{ROOT}\n{sys.executable}\n{sys.version}\n{os.environ.get('CC', '')}"
    key = hashlib.sha256(what.encode()).hexdigest()[:16]
    ours = Path(tempfile.gettempdir()) / f"synadb-tests-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    if ours.stat().st_uid != os.getuid():
        raise BuildError(f"{ours} belongs to somebody else; set SYNADB_TEST_BUILD")
    return ours / key


def run_tool(command: list[str], env: dict[str, str]) -> None:
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{done.stdout}")


@functools.cache
def _build() -> Path | BuildError:
    """Build the C tests and the testing copy of the package; what goes wrong is kept, so that it is
    not tried again for every test."""
    try:
        folder = build_folder()
        folder.mkdir(parents=True, exist_ok=True)
        env = dict(os.environ)
        env["PATH"] = sysconfig.get_path("scripts") + os.pathsep + env.get("PATH", "")
        cmake = shutil.which("cmake", path=env["PATH"])
        if not cmake or not shutil.which("ninja", path=env["PATH"]):
            raise BuildError("cmake or ninja is missing: pip install '.[test]'")
        lz4 = os.environ.get("SYNADB_LZ4_SOURCE_DIR")
        with open(folder / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # other sessions, other pytest workers
            run_tool(
                [
                    cmake, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja",
                    "-DCMAKE_BUILD_TYPE=RelWithDebInfo",
                    "-DSYNADB_TESTING=ON", "-DSYNADB_PYTHON=ON",
                    f"-DPython_EXECUTABLE={sys.executable}",
                    *([f"-DSYNADB_LZ4_SOURCE_DIR={lz4}"] if lz4 else []),
                ],
                env,
            )  # fmt: skip
            run_tool(
                [cmake, "--build", str(folder), "--target", "synadb_tests", "synadb_package"], env
            )
        return folder
    except (BuildError, OSError) as error:
        return error if isinstance(error, BuildError) else BuildError(str(error))


def testing_build() -> Path:
    """The build folder of the testing copy, built if needed."""
    folder = _build()
    if isinstance(folder, BuildError):
        raise folder
    return folder


# ---------------------------------------------------------------- the C tests as items


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix == ".c" and file_path.name.startswith("test_"):
        return CFile.from_parent(parent, path=file_path)
    return None


class CFile(pytest.File):
    """One file of C tests, which is one executable."""

    def collect(self):
        yield CTest.from_parent(self, name=self.path.stem)


class CTest(pytest.Item):
    """A run of one C test executable."""

    def runtest(self) -> None:
        folder = self.path.parent.relative_to(TESTS)
        program = testing_build() / "tests" / folder / self.path.stem
        try:
            done = subprocess.run(
                [program],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=C_TEST_TIMEOUT,
            )
        except subprocess.TimeoutExpired as late:
            said = (late.output or b"").decode(errors="replace")
            raise CTestFailure(f"{program}: still runs after {C_TEST_TIMEOUT} s\n{said}") from None
        if done.returncode != 0:
            raise CTestFailure(f"{program}: exit status {done.returncode}\n{done.stdout}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style: str | None = None):
        if isinstance(excinfo.value, (CTestFailure, BuildError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self):
        return self.path, None, self.name


class CTestFailure(Exception):
    pass


# ---------------------------------------------------------------- fixtures


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory):
    """Tests run outside the tree: a process that they start with `python -m synadb` would otherwise
    find the sources, which lack what is compiled, before the installed package."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def c_build() -> Path:
    """The build folder of the testing copy: programs lie in tests/<folder>/<name>."""
    return testing_build()


@pytest.fixture(scope="session")
def testing_env(c_build: Path) -> dict[str, str]:
    """The environment in which `import synadb` gives the copy that can be made to fail, with
    `synadb._core._testing`. Only for processes of their own: the two copies never meet."""
    path = [str(c_build / "package"), str(TESTS)]
    if os.environ.get("PYTHONPATH"):
        path.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}


@pytest.fixture(scope="session")
def run_testing(testing_env: dict[str, str]):
    """run_testing(script, *arguments, timeout=300): run a Python file over the testing copy, in a
    process of its own; its output is returned, and a failure is one with that output."""

    def run(script: str | os.PathLike[str], *arguments: object, timeout: float = 300) -> str:
        done = subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            env=testing_env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        if done.returncode != 0:
            pytest.fail(f"{script}: exit status {done.returncode}\n{done.stdout}", pytrace=False)
        return done.stdout

    return run
