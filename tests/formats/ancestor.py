"""The ancestor's files, made byte by byte after what is known of their formats (csrc/FORMATS.md,
section 11): for the tests of what reads and migrates them."""

from __future__ import annotations

import json
import struct

import numpy as np

T0 = 1_700_000_000_000_000  # a time in 2023, in microseconds
DELTA, LZ4, TOMBSTONE = 1, 2, 4

# ------------------------------------------------------------------------------------------- logs


def null():
    return struct.pack("<I", 0)


def real(value):
    return struct.pack("<Id", 1, value)


def integer(value):
    return struct.pack("<Iq", 2, value)


def text(value):
    raw = value.encode()
    return struct.pack("<IQ", 3, len(raw)) + raw


def blob(value):
    return struct.pack("<IQ", 4, len(value)) + value


def vector(values):
    row = np.asarray(values, "<f4")
    return struct.pack("<IQ", 5, len(row)) + row.tobytes() + struct.pack("<H", len(row))


def lz4(atom):
    """The atom as LZ4 has it when nothing repeats: its length, then one run of literals."""
    n = len(atom)
    run = bytes([min(n, 15) << 4])
    if n >= 15:
        run += b"\xff" * ((n - 15) // 255) + bytes([(n - 15) % 255])
    return struct.pack("<I", n) + run + atom


class Log:
    """A log on its way; every entry a millisecond after the one before."""

    def __init__(self):
        self.entries = []
        self.time = T0

    def add(self, key, atom, flags=0, time=None):
        self.time += 1000
        raw = key if isinstance(key, bytes) else key.encode()
        stamp = self.time if time is None else time
        self.entries.append(struct.pack("<QHIB", stamp, len(raw), len(atom), flags) + raw + atom)
        return self

    def json(self, key, value):
        return self.add(key, text(json.dumps(value)))

    @property
    def bytes(self):
        return b"".join(self.entries)


# ------------------------------------------------------------------------------- files of vectors


def rows_of(count, dims, seed=3):
    rng = np.random.default_rng(seed)
    return [(f"key{i}", rng.normal(size=dims).astype("<f4")) for i in range(count)]


def make_mmap(rows, dims, metric=0, *, count=None, end=None, padding=300, absolute=True):
    body = b"".join(
        struct.pack("<H", len(k.encode())) + k.encode() + r.astype("<f4").tobytes() for k, r in rows
    )
    stop = len(body) + (64 if absolute else 0) if end is None else end
    rows_said = len(rows) if count is None else count
    head = struct.pack("<4sIHB5xQQ", b"CEVM", 1, dims, metric, rows_said, stop)
    return head.ljust(64, b"\0") + body + bytes(padding)


def make_gwi(rows, dims, metric=0, *, count=None, start=64 + 40, padding=100):
    body = b"".join(
        struct.pack("<HH", len(k.encode()), i % 3) + k.encode() + r.astype("<f4").tobytes()
        for i, (k, r) in enumerate(rows)
    )
    head = struct.pack(
        "<4sIHHBB2xQQQQQ", b"GWIX", 1, dims, 16, 3, metric, len(rows) if count is None else count,
        start + len(body), 64, 64 + 20, start,
    )  # fmt: skip
    return head.ljust(64, b"\0") + b"\x11" * (start - 64) + body + bytes(padding)


def make_cascade(rows, dims, metric=0, *, count=None, hashes=b"\x07" * 33):
    tuning = (6, 10, 128, 20, 40, 16, 80)
    data = struct.pack("<4sIHB7IQ", b"CASC", 1, dims, metric, *tuning, len(hashes))
    data += hashes + struct.pack("<Q", len(rows) if count is None else count)
    for i, (k, r) in enumerate(rows):
        raw, near = k.encode(), range(max(0, i - 2), i)
        data += struct.pack("<I", len(raw)) + raw + r.astype("<f4").tobytes()
        data += struct.pack("<I", len(near)) + b"".join(struct.pack("<Qf", n, 0.5) for n in near)
    return data


MAKERS = {"mmap": make_mmap, "gwi": make_gwi, "cascade": make_cascade}


def make_svs(vectors, *, ids=None, count=None):
    numbers = list(range(5, 5 + len(vectors))) if ids is None else ids
    data = struct.pack("<4sIQ", b"SVS\0", 1, 1000) + struct.pack("<I", len(vectors))
    for number, (key, _) in zip(numbers, vectors):
        raw = key.encode()
        data += struct.pack("<I", len(raw)) + raw + struct.pack("<Q", number)
    data += struct.pack("<I", len(vectors) if count is None else count)
    for number, (_, terms) in reversed(list(zip(numbers, vectors))):
        body = struct.pack("<I", len(terms)) + b"".join(struct.pack("<If", *t) for t in terms)
        data += struct.pack("<QI", number, len(body)) + body
    return data
