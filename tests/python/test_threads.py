"""Many threads on one database; closing while others work."""

import os
import signal
import threading
import time

import pytest

import synadb
from synadb import SynaDB


def run(*targets):
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_puts_of_many_threads_are_all_there(db):
    def work(n):
        return lambda: [db.put_float(f"t{n}", i) for i in range(500)]

    run(*(work(n) for n in range(4)))
    for n in range(4):
        assert db.get_history_tensor(f"t{n}").tolist() == list(range(500))


def test_synced_commits_of_threads_share_syncs(path):
    with SynaDB(path) as db:
        before = db.stats()

        def work():
            for i in range(25):
                db.put_int(str(threading.get_ident()), i)

        run(*[work] * 8)
        after = db.stats()
        assert after.commits - before.commits == 200
        assert after.syncs - before.syncs <= 200


def test_readers_never_see_half_a_value(db):
    stop = threading.Event()
    wrong = []

    def write():
        for i in range(3000):
            db["k"] = bytes([i % 256]) * (100 + i)
        stop.set()

    def read():
        while not stop.is_set():
            value = db.get("k")
            if value and (len(set(value)) != 1 or (len(value) - 100) % 256 != value[0]):
                wrong.append(value)

    run(write, read, read)
    assert not wrong


@pytest.mark.parametrize("round", range(20))
def test_close_races_with_calls_of_every_kind(path, round):
    db = SynaDB(path, sync_on_write=False)
    db.put_many({f"k{i}": [i] for i in range(200)})
    failures = []
    started = threading.Barrier(7)

    def loop(call):
        def work():
            started.wait()
            try:
                while True:
                    call()
            except synadb.ClosedError:
                pass
            except BaseException as error:
                failures.append(error)

        return work

    def batch():
        with db.batch() as b:
            b["b"] = 1

    def blob():
        with db.open_blob("blob", "wb") as out:
            out.write(b"x" * 1000)
        with db.open_blob("blob") as source:
            source.read()

    def close():
        started.wait()
        time.sleep(0.002 * (round % 5))
        db.close()

    run(loop(lambda: db.put_float("f", 1.0)), loop(lambda: list(db.scan())), loop(batch),
    loop(blob),
        loop(lambda: db.get_history("f")), loop(db.compact), close)  # fmt: skip
    assert not failures, failures
    with SynaDB(path) as db:
        assert db.verify().ok and db["k5"] == [5]


def test_closing_from_many_threads_closes_once(path):
    for _ in range(20):
        db = SynaDB(path)
        run(*[db.close] * 6)
        assert db.closed


def test_close_waits_for_a_long_call(path):
    db = SynaDB(path, sync_on_write=False)
    db.put_many({f"k{i}": os.urandom(1000) for i in range(3000)})
    seen = threading.Event()
    order = []

    def progress(done, total):
        seen.set()
        time.sleep(0.2)

    def work():
        db.compact(progress=progress)
        order.append("compacted")

    worker = threading.Thread(target=work)
    worker.start()
    assert seen.wait(10)
    db.close()
    order.append("closed")
    worker.join()
    assert order == ["compacted", "closed"]


def test_other_threads_run_while_one_waits_for_the_disk(path):
    with SynaDB(path) as db:
        done = threading.Event()
        turns = 0

        def work():
            for i in range(300):
                db.put_int("k", i)
            done.set()

        worker = threading.Thread(target=work)
        worker.start()
        while not done.is_set():
            turns += 1
        worker.join()
        assert turns > 300


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.parametrize("work", ["compact", "backup", "verify"])
def test_ctrl_c_stops_long_work(path, tmp_path, work):
    with SynaDB(path, sync_on_write=False) as db:
        for n in range(20):
            db.put_many({f"k{n}/{i}": os.urandom(20_000) for i in range(200)})
        db.flush()
        # A repeated signal: the first may come before the work begins, or the work may be too fast.
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        try:
            {
                "compact": db.compact,
                "backup": lambda: db.backup(tmp_path / "b.db"),
                "verify": db.verify,
            }[work]()
            interrupted = False
            time.sleep(0.02)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert not interrupted or time.monotonic() - start < 1.0
        assert len(db) == 4000
        if interrupted and work == "compact":
            assert db.stats().generation == 1
        assert db.verify().ok
