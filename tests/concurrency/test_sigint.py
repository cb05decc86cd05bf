"""T13: Ctrl-C at random moments in long calls: KeyboardInterrupt soon, nothing changed (P13)."""

import os
import random
import signal
import statistics
import threading
import time

import pytest

from synadb import SynaDB, salvage, verify

ROUNDS = max(1, int(20 * float(os.environ.get("CHECK_SCALE", "1"))))
VALUES = 400
dice = random.Random(int(os.environ.get("CHECK_SEED", "20260101"), 0))


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A database whose compaction takes a while: 100 MB that do not compress."""
    path = tmp_path_factory.mktemp("sigint") / "big.db"
    noise = random.Random(1)
    with SynaDB(path, sync_on_write=False) as db:
        for i in range(VALUES):
            db.put_bytes(f"key {i}", noise.randbytes(256 << 10))
        db.append_floats("numbers", range(100_000))
        db.flush()
        yield db


@pytest.fixture(autouse=True)
def heard():
    """What a shell starts in the background has SIGINT ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupter(delay):
    """A thread that sends us SIGINT; the moment it was sent is put into the list returned."""
    sent = []

    def send():
        time.sleep(delay)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    return sent, threading.Thread(target=send)


def duration(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def try_to_interrupt(call, delay):
    """Seconds from the signal to KeyboardInterrupt; None when the call was over before it."""
    sent, thread = interrupter(delay)
    finished = False
    try:
        thread.start()  # on a busy machine the signal comes before this returns
        call()
        finished = True
        thread.join()
        time.sleep(1)  # the signal may still be on its way
    except KeyboardInterrupt:
        noticed = time.perf_counter()
    thread.join()
    return None if finished else noticed - sent[0]


def interrupt_often(call, rounds, check):
    """How long each interruption took to be noticed."""
    whole = duration(call)
    took = []
    for _ in range(rounds):
        seconds = try_to_interrupt(call, dice.uniform(0, whole * 0.9))
        if seconds is not None:
            took.append(seconds)
            check()
    assert took, "no call was interrupted"
    print(f"{len(took)} of {rounds} interrupted, noticed after {max(took) * 1000:.0f} ms at most")
    assert statistics.median(took) < 0.2
    assert max(took) < 1.5  # machines that run the tests do other things as well


def facts(db):
    return len(db), db.get_bytes("key 7"), db.get_history_tensor("numbers").sum()


def test_P13_compaction_is_interrupted_and_nothing_changed(big):
    before = facts(big)

    def unchanged():
        assert facts(big) == before
        assert not [name for name in os.listdir(os.path.dirname(big.path)) if ".tmp-" in name]

    interrupt_often(lambda: big.compact(keep_history=True), ROUNDS, unchanged)
    assert big.verify().ok


def test_P13_verify_is_interrupted(big):
    interrupt_often(lambda: verify(big.path), ROUNDS // 2 + 1, lambda: None)


def test_P13_backup_is_interrupted_and_leaves_no_file(big, tmp_path):
    copy = tmp_path / "copy.db"

    def back_up():
        big.backup(copy)
        copy.unlink()

    def no_copy():
        if copy.exists():  # the signal came behind the call, before unlink
            copy.unlink()
        assert os.listdir(tmp_path) == []

    interrupt_often(back_up, ROUNDS // 2 + 1, no_copy)


def test_P13_salvage_is_interrupted(big, tmp_path):
    saved = tmp_path / "saved.db"

    def rescue():
        salvage(big.path, saved)
        saved.unlink()

    def no_copy():
        if saved.exists():
            saved.unlink()
        assert os.listdir(tmp_path) == []

    interrupt_often(rescue, ROUNDS // 4 + 1, no_copy)


def test_P13_the_callback_of_progress_may_raise(big):
    class Enough(Exception):
        pass

    def stop(done, total):
        raise Enough

    before = facts(big)
    with pytest.raises(Enough):
        big.compact(progress=stop)
    assert facts(big) == before
