"""kill -9 while rows come, change and go, indexes are built and files are compacted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from killed_stores import CLASSES, DIMS, kill_and_check, opened, rows_of

HERE = str(Path(__file__).parents[1])


@pytest.mark.parametrize("kind", CLASSES)
def test_killed_at_any_moment_nothing_covered_is_lost_and_nothing_is_there_twice(kind, tmp_path):
    kill_and_check(kind, tmp_path / "store", rounds=3, folder=HERE)


def test_the_check_notices_a_row_that_is_lost(tmp_path, monkeypatch):
    """A check that cannot fail is none: a value that was covered is taken away behind its back."""
    import killed_stores

    def forget(kind, path, **options):
        store = opened(kind, path, **options)
        store.delete("stay7")
        return store

    monkeypatch.setattr(killed_stores, "opened", forget)
    with pytest.raises(AssertionError):
        kill_and_check("vector", tmp_path / "store", rounds=1, folder=HERE)


READER = """
import sys
sys.path.insert(0, sys.argv[1])
from killed_stores import check_whole, opened
kind, path = sys.argv[2:]
last = 0
with opened(kind, path, read_only=True) as store:
    print("ready", flush=True)
    for line in sys.stdin:
        store.refresh()
        check_whole(kind, store)
        rounds = {int(k[1:].split("/")[0]) for k in store.keys() if k[0] == "r"}
        assert rounds == set(range(len(rounds))) and len(rounds) >= last, sorted(rounds)
        last = len(rounds)
        print(last, flush=True)
"""


@pytest.mark.parametrize("kind", CLASSES)
def test_readers_beside_a_writer_see_whole_batches_and_all_that_is_durable(kind, tmp_path):
    path = str(tmp_path / "store")
    with opened(kind, path) as store:
        store.insert_batch(["first"], rows_of([1]), *([] if kind == "mmap" else [[{"v": 1}]]))
        keep = getattr(store, "checkpoint", None) or store.flush
        keep()
        readers = [
            subprocess.Popen(
                [sys.executable, "-c", READER, HERE, kind, path],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(3)
        ]  # fmt: skip
        try:
            for reader in readers:
                assert reader.stdout.readline() == "ready\n"
            for n in range(8):
                for reader in readers:  # they look while the next batch comes
                    print("look", file=reader.stdin, flush=True)
                values = np.arange(40) + 40 * n
                facts = [] if kind == "mmap" else [[{"v": int(v)} for v in values]]
                store.insert_batch([f"r{n}/{i}" for i in range(40)], rows_of(values), *facts)
                keep()
                seen = [int(reader.stdout.readline()) for reader in readers]
                assert all(n <= rounds <= n + 1 for rounds in seen), (n, seen)
                if n == 4 and hasattr(store, "compact"):
                    store.compact()
        finally:
            for reader in readers:
                reader.stdin.close()
                reader.stdout.close()
        assert [reader.wait() for reader in readers] == [0, 0, 0]
        assert len(store) == 1 + 8 * 40 and store.get("r3/5").shape == (DIMS,)
