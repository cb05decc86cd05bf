"""The processes that are killed, and those that look at what is left.

    worker_recovery.py PEER write DIR                write until killed; acknowledgements on stdout
    worker_recovery.py PEER check DIR ACKNOWLEDGED   open, compare with what must be there
    worker_recovery.py synadb flips DIR TRIES SEED   flip one bit of a closed database, TRIES times
    worker_recovery.py synadb cuts  DIR TRIES SEED   cut its end off

Operation n is fully determined by n, so the checker needs no list: every tenth is a commit of ten
keys, every other one a put; the value of a key is made of its own number.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from peers import ALL, Peer
from worker import report

_COUNT = "operations"  # the key under which the writer leaves where to go on


def value_of(name: str) -> bytes:
    """56 bytes that belong to this key and no other."""
    return blake2b(name.encode(), digest_size=56).digest()


def keys_of(operation: int) -> list[str]:
    if operation % 10:
        return [f"op/{operation:09d}"]
    return [f"op/{operation:09d}/{part}" for part in range(10)]


# ---------------------------------------------------------------- kill -9


def write(peer: type[Peer], folder: Path) -> None:
    """Say what was found (8 bytes), then one number an operation as soon as it has returned."""
    store = peer(folder)
    put = store.writer()
    note = folder / _COUNT
    operation = int(note.read_text()) if note.exists() else 0
    os.write(1, operation.to_bytes(8, "little"))
    while True:
        operation += 1
        pairs = [(peer.key(name), value_of(name)) for name in keys_of(operation)]
        if len(pairs) > 1:
            store.put_many(pairs)
        else:
            put(*pairs[0])
        os.write(1, operation.to_bytes(8, "little"))


def check(peer: type[Peer], folder: Path, acknowledged: int) -> None:
    """Everything acknowledged is there; the operation under way is there whole or not at all."""
    wall = time.perf_counter()
    store = peer(folder)
    wall = time.perf_counter() - wall
    lost = wrong = 0
    for operation in range(1, acknowledged + 1):
        for name in keys_of(operation):
            found = _get(store, peer.key(name))
            lost += found is None
            wrong += found is not None and bytes(found) != value_of(name)
    begun = [(name, _get(store, peer.key(name))) for name in keys_of(acknowledged + 1)]
    wrong += sum(found is not None and bytes(found) != value_of(name) for name, found in begun)
    wrong += len({found is None for _, found in begun}) > 1  # half a commit
    store.close()
    whole = acknowledged + (begun[0][1] is not None)
    (folder / _COUNT).write_text(str(whole))
    report(acknowledged, wall, 0, lost=lost, wrong=wrong)


def _get(store: Peer, key: Any) -> bytes | None:
    try:
        found: bytes | None = store.reader(writes_between=False)(key)
    except (KeyError, TypeError):  # dict, and sqlite's missing row
        return None
    return found


# ---------------------------------------------------------------- flips and cuts


def small_database(path: Path) -> dict[str, list[Any]]:
    """Values of every kind in a closed database; returns what each key may read as."""
    from synadb import SynaDB

    values: dict[str, Any] = {}
    for n in range(200):
        values[f"text/{n}"] = f"value {n} " * (n % 7 + 1)
        values[f"int/{n}"] = n * 7919
        values[f"float/{n}"] = n / 3
        values[f"bytes/{n}"] = value_of(str(n))
    history = [n / 7 for n in range(100)]
    with SynaDB(path) as db:
        db.put_many(values)
        for value in history:
            db.put_float("history", value)
    return {**{key: [value] for key, value in values.items()}, "history": history}


def examine(path: Path, allowed: dict[str, list[Any]]) -> tuple[bool, int]:
    """(noticed, wrong): did anything report a change, and how many values were never put.

    A missing or an older value is not wrong: it was right at its time.
    """
    from synadb import SynaDB, SynaError, verify

    noticed = wrong = 0
    try:
        noticed += verify(path).damaged > 0
    except SynaError:
        noticed += 1
    try:
        with SynaDB(path, read_only=True) as db:
            noticed += not db.open_report.clean
            for key, values in allowed.items():
                try:
                    found = db.get(key)
                except SynaError:
                    noticed += 1
                    continue
                wrong += found is not None and found not in values
    except SynaError:
        noticed += 1
    return noticed > 0, wrong


def damage(folder: Path, variants: Iterator[bytes], allowed: dict[str, list[Any]]) -> None:
    """Examine each variant of the file; what lies beside it (a key checkpoint) stays."""
    tries = noticed = wrong = 0
    path = folder / "small.db"
    for variant in variants:
        path.write_bytes(variant)
        seen, bad = examine(path, allowed)
        tries, noticed, wrong = tries + 1, noticed + seen, wrong + bad
    report(tries, 0, 0, noticed=noticed, wrong=wrong)


def flips(folder: Path, tries: int, seed: int) -> None:
    allowed = small_database(folder / "small.db")
    good = (folder / "small.db").read_bytes()
    rng = random.Random(seed)

    def variants() -> Iterator[bytes]:
        for _ in range(tries):
            changed = bytearray(good)
            changed[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            yield bytes(changed)

    damage(folder, variants(), allowed)


def cuts(folder: Path, tries: int, seed: int) -> None:
    allowed = small_database(folder / "small.db")
    good = (folder / "small.db").read_bytes()
    rng = random.Random(seed)
    damage(folder, (good[: rng.randrange(len(good))] for _ in range(tries)), allowed)


def main(arguments: list[str]) -> None:
    name, task, folder, *numbers = arguments
    if task == "write":
        write(ALL[name], Path(folder))
    elif task == "check":
        check(ALL[name], Path(folder), int(numbers[0]))
    else:
        {"flips": flips, "cuts": cuts}[task](Path(folder), *(int(n) for n in numbers))


if __name__ == "__main__":
    main(sys.argv[1:])
