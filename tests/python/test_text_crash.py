"""TextIndex: kills, threads and forks."""

import os
import signal
import threading

import pytest

import synadb
from synadb import TextIndex
from synadb.text import Document


def found(index, query, **options):
    return {hit.key for hit in index.search(query, k=None, **options)}


@pytest.mark.parametrize("at", [50, 700])
def test_P1_what_was_acknowledged_survives_kill_9(path, python, at):
    done = python(
        """
        import os, signal, sys
        from synadb import TextIndex
        path, at = sys.argv[1], int(sys.argv[2])
        with TextIndex(path, sync_on_write=False) as index:
            index.add_batch([f"b{i}" for i in range(1500)], ["batch text"] * 1500)
        index = TextIndex(path, sync_on_write=False)
        for i in range(10_000):
            index.add(f"d{i % 500}", f"word{i} text", {"i": i})
            if i % 7 == 0:
                index.delete(f"d{i % 500}")
            print(i, flush=True)
            if i == at:
                os.kill(os.getpid(), signal.SIGKILL)
        """,
        path,
        at,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    last = int(done.stdout.split()[-1])
    want = {}
    for i in range(last + 1):
        want[f"d{i % 500}"] = i
        if i % 7 == 0:
            del want[f"d{i % 500}"]
    with TextIndex(path) as index:
        assert len(index) == 1500 + len(want)
        for key, i in want.items():
            assert index.get(key) == Document(key, f"word{i} text", {"i": i})
        assert found(index, "batch", filter={"i": 1}) == set()
        assert found(index, f"word{last - 1}") == (
            {f"d{(last - 1) % 500}"} if (last - 1) % 7 else set()
        )
        assert found(index, "text", filter={"i": {"$gte": 0}}) == set(want)


def test_writers_of_one_key_and_searches_at_the_same_time(path):
    with TextIndex(path, sync_on_write=False) as index:
        errors = []

        def write(thread):
            try:
                for i in range(300):
                    index.add(f"k{i % 10}", f"common t{thread}n{i}", {"t": thread})
                    if i % 50 == 49:
                        index.delete(f"k{i % 10}")
            except Exception as error:
                errors.append(error)

        def read():
            try:
                while any(t.is_alive() for t in writers):
                    for hit in index.search("common", k=None):
                        assert hit.key.startswith("k")
            except Exception as error:
                errors.append(error)

        writers = [threading.Thread(target=write, args=(t,)) for t in range(3)]
        reader = threading.Thread(target=read)
        for thread in [*writers, reader]:
            thread.start()
        for thread in [*writers, reader]:
            thread.join()
        assert not errors
        live = {key: index.get(key) for key in index.keys()}
        for key, document in live.items():
            assert found(index, document.text.split()[1]) == {key}
            assert found(index, "common", filter=document.metadata) >= {key}
    with TextIndex(path) as again:
        assert {key: again.get(key) for key in again.keys()} == live


def test_a_child_may_search_and_not_write(path):
    with TextIndex(path) as index:
        index.add("a", "word")
        pid = os.fork()
        if pid == 0:
            ok = found(index, "word") == {"a"}
            try:
                index.add("b", "word")
                ok = False
            except synadb.ForkedError:
                pass
            os._exit(0 if ok else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert index.keys() == ["a"]
