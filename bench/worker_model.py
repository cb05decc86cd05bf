"""One large model in a process of its own: saved, loaded, and streamed from file to file.

    worker_model.py CONTESTANT DIR BYTES SEED

CONTESTANT is synadb (the model registry) or plain (a file, and hashlib.sha256 of its bytes, kept
and compared). One line of JSON each for
    save      from bytes, until on disk
    load      as bytes, checksum compared
    stream    a file saved, and written to another file, piece by piece

CONTESTANT is memory: how much more memory than before ("peak_mb", mapped pages that are present
included) the registry takes, with its file open to other processes as it is by default, while it
    streams   the same
    saves     from bytes that are there already
    loads     as bytes; the bytes themselves count
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from worker import report, timed

PIECE = 1 << 20


def sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


class Plain:
    def __init__(self, folder: Path) -> None:
        self.file, self.copy = folder / "model", folder / "copy"

    def save(self, data: bytes) -> None:
        self.checksum = hashlib.sha256(data).hexdigest()
        self.file.write_bytes(data)
        sync(self.file)

    def load(self) -> bytes:
        data = self.file.read_bytes()
        if hashlib.sha256(data).hexdigest() != self.checksum:
            raise SystemExit("the checksum differs")
        return data

    def close(self) -> None:
        pass

    def stream(self, source: Path) -> None:
        for one, other in ((source, self.file), (self.file, self.copy)):
            digest = hashlib.sha256()
            with open(one, "rb") as come, open(other, "wb") as go:
                while piece := come.read(PIECE):
                    digest.update(piece)
                    go.write(piece)
            sync(other)


class Registry:
    def __init__(self, folder: Path) -> None:
        from synadb import ModelRegistry

        self.copy = folder / "copy"
        self.registry = ModelRegistry(folder / "models.db", shared=False)

    def save(self, data: bytes) -> None:
        self.registry.save("model", data)

    def load(self) -> bytes:
        return self.registry.load("model")

    def close(self) -> None:
        self.registry.close()

    def stream(self, source: Path) -> None:
        self.registry.save_file("file", source)
        self.registry.export("file", None, self.copy)


CONTESTANTS = {"synadb": Registry, "plain": Plain}


def status_kb(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def peak_of(work: Callable[[], object]) -> None:
    before = status_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts over
    work()
    report(0, 0, 0, peak_mb=max(0, status_kb("VmHWM") - before) * 1024 / 1e6)


def save_from(source: Path, registry: Any) -> None:
    data = source.read_bytes()
    peak_of(lambda: registry.save("model", data))


def memory(folder: Path, size: int, seed: int) -> None:
    from synadb import ModelRegistry

    rng, source = np.random.default_rng(seed), folder / "source"
    with open(source, "wb") as file:
        for start in range(0, size, PIECE):
            file.write(rng.bytes(min(PIECE, size - start)))
    with ModelRegistry(folder / "models.db") as registry:

        def stream() -> None:
            registry.save_file("file", source)
            registry.export("file", None, folder / "copy")

        peak_of(stream)
        save_from(source, registry)
        peak_of(lambda: registry.load("model"))


def main() -> None:
    name, folder, size, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    if name == "memory":
        memory(folder, size, seed)
        return
    data = np.random.default_rng(seed).bytes(size)
    source = folder / "source"
    source.write_bytes(data)
    # Once before the measurement: in a virtual machine the page cache's first use of memory costs
    # several times what the writing does.
    warm = folder / "warm"
    warm.mkdir()
    contestant = CONTESTANTS[name](warm)
    contestant.save(data)
    contestant.stream(source)
    contestant.close()
    for file in warm.iterdir():
        file.unlink()
    contestant = CONTESTANTS[name](folder)
    timed(lambda: contestant.save(data), size)
    if contestant.load() != data:
        raise SystemExit("what was loaded is not what was saved")
    timed(contestant.load, size)
    timed(lambda: contestant.stream(source), size)
    if contestant.copy.read_bytes() != data:
        raise SystemExit("what was streamed is not what was saved")
    contestant.close()


if __name__ == "__main__":
    main()
