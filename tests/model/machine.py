"""T9: a hypothesis state machine that drives SynaDB beside a plain dict.

Run over the testing copy of the core (test_model.py does): files live in memory, the clock is
ours, and the database can die at any step, as a process (everything written stays) or with the
machine (a state is chosen among those that a power loss could leave). After each step the whole
contents are compared: values, histories with their times, deletions, order, time travel.

    CHECK_SEED=n   another run; a failure prints it      CHECK_SCALE=x   x times as many examples
"""

from __future__ import annotations

import copy
import gc
import os
import time
import unittest
from dataclasses import dataclass

import numpy as np
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from synadb import SynaDB
from synadb._core import _testing

PATH = "/mem/model.db"
KEYS = ["a", "b/1", "b/2", "b/3", "cé", "z" * 300]
# Ahead of the real clock, by which a ttl is turned into the moment of expiry.
START_US = (int(time.time()) + 100_000_000) * 1_000_000
STEP_US = 10_000_000  # between two operations
MISSING = "(missing)"

keys = st.sampled_from(KEYS)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=80),
    st.sampled_from(["x", b"\0", "naïve "]).map(lambda piece: piece * 500),
)
values = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.text(max_size=3), scalars, max_size=3),
)
changes = st.lists(st.tuples(keys, st.one_of(st.just(MISSING), values)), min_size=1, max_size=6)


def plain(value):
    """A value as text that tells 1 from 1.0 from True, and -0.0 from 0.0."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return repr(value)


@dataclass
class Record:
    value: str  # plain(); MISSING for a deletion
    time: int  # what histories show
    stamp: int | None  # its place in time; None: as early as the one before, whenever that was
    expires: int = 0


class Model:
    """What the database should hold: the records of every key, oldest first."""

    def __init__(self):
        self.records = {key: [] for key in KEYS}

    def live(self, key, now):
        newest = self.records[key][-1] if self.records[key] else None
        alive = newest and newest.value != MISSING and not 0 < newest.expires <= now
        return newest if alive else None

    def at(self, key, when):
        """Its value at a moment; None when the model cannot tell."""
        found = MISSING
        for record in self.records[key]:
            if record.stamp is None:
                return None
            if record.stamp <= when:
                found = MISSING if 0 < record.expires <= when else record.value
        return found

    def observe(self, now):
        seen = {}
        for key, records in self.records.items():
            newest = self.live(key, now)
            seen[key] = (
                newest.value if newest else MISSING,
                [(r.time, r.value) for r in records if r.value != MISSING],
                [r.time for r in records if r.value == MISSING],
            )
        return seen

    def compact(self, now, keep_history):
        if keep_history is True:
            return
        for key, records in self.records.items():
            first = len(records)
            if self.live(key, now):
                first -= 1
                while keep_history and first > 0 and records[first - 1].value != MISSING:
                    first -= 1
            self.records[key] = records[first:]


def observe(db):
    seen = {}
    for key in KEYS:
        history = db.get_history(key)
        seen[key] = (
            plain(db[key]) if key in db else MISSING,
            [
                (
                    int(moment.astype("int64")),
                    plain(value.item() if isinstance(value, np.generic) else value),
                )
                for moment, value in zip(history.timestamps, history.values)
            ],
            [int(moment.astype("int64")) for moment in history.deletions],
        )
    return seen


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        _testing.use_vfs("record", seed=1, clock_us=START_US)
        gc.collect()
        self.blocks = _testing.counters()["live_blocks"]
        self.now = START_US
        self.model = Model()
        self.past = []  # states that a power loss may go back to, the oldest one durable
        self.sync = True
        self.reader = None
        self.db = None
        self.backups = 0
        self.open()

    # ---- helpers

    def tick(self):
        self.now += STEP_US
        _testing.set_clock(self.now, 0)

    def open(self, **options):
        self.tick()
        self.db = SynaDB(PATH, sync_on_write=self.sync, **options)
        self.durable()

    def durable(self):
        self.past = [copy.deepcopy(self.model)]

    def wrote(self):
        self.past.append(copy.deepcopy(self.model))
        if self.sync:
            self.durable()

    def add(self, key, value, **more):
        self.model.records[key].append(
            Record(plain(value), **{"time": self.now, "stamp": self.now, **more})
        )

    def remove(self, key):
        self.model.records[key].append(Record(MISSING, self.now, self.now))

    def close_reader(self):
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    # ---- writing

    @rule(key=keys, value=values, ttl=st.sampled_from([None, None, None, 5.5, 25.5, 10**6]))
    def put(self, key, value, ttl):
        self.tick()
        expires = self.now + int(ttl * 1_000_000) if ttl else 0
        self.db.put(key, value, ttl=expires / 1_000_000 - time.time() if ttl else None)
        self.add(key, value, expires=expires)
        self.wrote()

    @rule(key=keys, value=values, ancient=st.booleans())
    def put_with_a_time(self, key, value, ancient):
        self.tick()
        when = self.now - (START_US // 2 if ancient else 1_000_000)
        self.db.put(key, value, when=when)
        self.add(key, value, time=when, stamp=None if ancient else when)
        self.wrote()

    @rule(key=keys)
    def delete(self, key):
        self.tick()
        there = self.model.live(key, self.now)
        self.db.delete(key)
        if there:
            self.remove(key)
            self.wrote()

    @rule(items=st.dictionaries(keys, values, min_size=1, max_size=4))
    def put_many(self, items):
        self.tick()
        assert self.db.put_many(items) in (None, len(items))
        for key, value in items.items():
            self.add(key, value)
        self.wrote()

    @rule(items=changes, commits=st.booleans())
    def batch(self, items, commits):
        self.tick()
        batch = self.db.batch()
        for key, value in items:
            if value == MISSING:
                batch.delete(key)
            else:
                batch[key] = value
        if not commits:
            batch.discard()
            return
        batch.commit()
        for key, value in items:
            if value == MISSING:
                self.remove(key)
            else:
                self.add(key, value)
        self.wrote()

    @rule(key=keys, numbers=st.lists(st.floats(width=64, allow_nan=False), max_size=40))
    def append_floats(self, key, numbers):
        self.tick()
        self.db.append_floats(key, numbers)
        for number in numbers:
            self.add(key, number)
        if numbers:
            self.wrote()

    @rule(
        key=keys,
        first=st.integers(-(2**62), 2**62),
        step=st.integers(-50, 50),
        count=st.integers(1, 40),
    )
    def append_ints(self, key, first, step, count):
        self.tick()
        numbers = [first + step * i for i in range(count)]
        self.db.append_ints(key, numbers)
        for number in numbers:
            self.add(key, number)
        self.wrote()

    @rule(key=keys, pieces=st.lists(st.binary(max_size=300), max_size=4), finish=st.booleans())
    def blob(self, key, pieces, finish):
        self.tick()
        try:
            with self.db.open_blob(key, "wb") as out:
                for piece in pieces:
                    out.write(piece)
                if not finish:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            return
        self.add(key, b"".join(pieces))
        self.wrote()

    # ---- upkeep

    @rule()
    def flush(self):
        self.tick()
        self.db.flush()
        self.durable()

    @rule(keep_history=st.sampled_from([False, True, "live"]))
    def compact(self, keep_history):
        self.tick()
        self.db.compact(keep_history=keep_history)
        self.model.compact(self.now, keep_history)
        self.durable()

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds):
        self.now += seconds * 1_000_000
        self.tick()

    @rule()
    def backup(self):
        self.tick()
        self.backups += 1
        path = f"/mem/backup{self.backups}.db"
        self.db.backup(path)
        with SynaDB(path, read_only=True) as copied:
            assert observe(copied) == self.model.observe(self.now)
        _testing.remove(path)

    @rule()
    def verify(self):
        assert self.db.verify().ok

    # ---- ends and beginnings

    @rule(sync=st.booleans(), mmap=st.booleans())
    def close_and_open(self, sync, mmap):
        self.db.close()
        self.sync = sync
        self.open(mmap=mmap)
        assert self.db.open_report.clean

    @rule(sync=st.booleans())
    def the_process_dies(self, sync):
        self.close_reader()
        left = _testing.snapshot()
        self.db.close()
        _testing.restore(left)
        self.sync = sync
        self.open()

    @rule(which=st.integers(0, 2**32), sync=st.booleans())
    def the_power_fails(self, which, sync):
        self.close_reader()
        left = _testing.crash(which)
        possible = self.past
        self.db.close()
        _testing.restore(left)
        self.sync = sync
        self.open()
        found = observe(self.db)
        matching = [state for state in possible if state.observe(self.now) == found]
        assert matching, f"none of {len(possible)} states fits {found}"
        self.model = copy.deepcopy(matching[-1])
        self.durable()

    # ---- readers

    @rule()
    def open_a_reader(self):
        self.close_reader()
        self.reader = SynaDB(PATH, read_only=True)

    @precondition(lambda self: self.reader is not None)
    @rule()
    def refresh(self):
        self.reader.refresh()
        assert observe(self.reader) == self.model.observe(self.now)

    # ---- looking

    @rule(back=st.integers(0, 40), key=keys)
    def travel_in_time(self, back, key):
        when = self.now - back * STEP_US
        want = self.model.at(key, when)
        if want is not None:
            got = self.db.get(key, MISSING, at=when)
            assert (MISSING if isinstance(got, str) and got == MISSING else plain(got)) == want

    @rule(prefix=st.sampled_from(["", "b", "b/", "c", "zz", "x"]))
    def scan(self, prefix):
        want = [
            key for key in sorted(KEYS) if key.startswith(prefix) and self.model.live(key, self.now)
        ]
        assert list(self.db.scan(prefix, keys_only=True)) == want
        assert [(key, plain(value)) for key, value in self.db.scan(prefix)] == [
            (key, self.model.live(key, self.now).value) for key in want
        ]

    @invariant()
    def same_contents(self):
        if self.db is None:
            return
        assert observe(self.db) == self.model.observe(self.now)
        live = [key for key in KEYS if self.model.live(key, self.now)]
        assert len(self.db) == len(live)
        assert sorted(self.db) == sorted(live)

    def teardown(self):
        self.close_reader()
        self.db.close()
        assert _testing.faults() == ""
        assert _testing.counters()["open_files"] == 0
        gc.collect()
        assert _testing.counters()["live_blocks"] == self.blocks, "memory was not given back"


def main():
    scale = float(os.environ.get("CHECK_SCALE", "1"))
    number = int(os.environ.get("CHECK_SEED", "20260101"), 0)
    chosen = settings(
        max_examples=max(1, int(200 * scale)),
        stateful_step_count=40 if scale <= 1 else 100,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )

    class Run(unittest.TestCase):
        def runTest(self):
            run_state_machine_as_test(seed(number)(Machine), settings=chosen)

    result = unittest.TextTestRunner().run(Run())
    print(f"seed {number}, {chosen.max_examples} examples")
    raise SystemExit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
