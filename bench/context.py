"""What every suite is given: how much to do, where, and with whom."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from measure import BenchError, Run, Sample, run_process, run_worker
from workloads import Sizes

PYTHON, C = "Python", "C"


@dataclass
class Context:
    sizes: Sizes
    seed: int
    work: Path  # scratch folder, on the file system that is measured
    peers: list[str]  # Python contestants
    program: Path | None  # c/kvbench, where it could be built
    engines: list[str]  # its contestants
    wheel: Path | None  # to be weighed instead of building one

    def fresh(self, *parts: str) -> Path:
        """An empty folder of this name under the scratch folder."""
        folder = self.work.joinpath(*(part.replace("+", "-") for part in parts))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def discard(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def contestants(self, language: str) -> list[str]:
        return self.peers if language == PYTHON else self.engines

    def languages(self) -> list[str]:
        return [PYTHON, C] if self.program else [PYTHON]

    def task(self, language: str, name: str, task: str, *arguments: object) -> list[Sample]:
        """One task of worker.py or of kvbench; both take the same arguments."""
        if language == PYTHON:
            return run_worker("worker.py", name, task, *arguments)
        if self.program is None:
            raise BenchError("kvbench was not built")
        return run_process([self.program, name, task, *map(str, arguments)])

    def on_fresh_folder(self, language: str, name: str, task: str, *arguments: object) -> Run:
        """A run that makes its own store and throws it away."""

        def run(_repeat: int) -> list[Sample]:
            folder = self.fresh(language, name, task)
            try:
                return self.task(language, name, task, folder, *arguments)
            finally:
                self.discard(folder)

        return run
