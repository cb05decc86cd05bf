"""csrc/FORMATS.md against the library: its dump is a file that the library reads and still writes,
its tables are those of the sources, and a reader made from the page alone reads what the library
wrote."""

from __future__ import annotations

import ctypes
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from formats import reader

import synadb
from synadb import SynaDB

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "csrc" / "FORMATS.md").read_text("utf-8")
FLOATS = [20.1, 20.2, 20.2, 20.4, 20.3, 20.3, 20.1, 19.9]
EXPIRES = 4102444800000000  # 2100-01-01


def dump() -> bytes:
    """The bytes of section 6."""
    lines = re.findall(r"^([0-9a-f]{8})  ((?:[0-9a-f]{2} ?)+)", PAGE, re.M)
    data = b""
    for at, row in lines:
        assert int(at, 16) == len(data)
        data += bytes.fromhex(row)
    return data


class Put(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("when_us", ctypes.c_uint64),
        ("expires_us", ctypes.c_uint64),
    ]


class Library:
    """The C interface, as a program without our Python package would call it."""

    def __init__(self, path: Path) -> None:
        self.lib = ctypes.CDLL(str(Path(synadb.__file__).parent / "lib" / "libsynadb.so"))
        self.lib.syna_last_error.restype = ctypes.c_char_p
        self.db = ctypes.c_void_p()
        self.call("syna_db_open", str(path).encode(), None, ctypes.byref(self.db))

    def call(self, name: str, *arguments) -> None:
        assert getattr(self.lib, name)(*arguments) == 1, self.lib.syna_last_error()

    def put(self, key: bytes, kind: int, data: bytes, when: int = 0, expires: int = 0) -> None:
        how = Put(ctypes.sizeof(Put), when, expires)
        self.call(
            "syna_db_put", self.db, key, ctypes.c_size_t(len(key)), kind, data,
            ctypes.c_size_t(len(data)), ctypes.byref(how), None,
        )  # fmt: skip

    def delete(self, key: bytes) -> None:
        self.call("syna_db_delete", self.db, key, ctypes.c_size_t(len(key)), None)

    def append(self, key: bytes, values: np.ndarray, times: np.ndarray | None = None) -> None:
        kind = "floats" if values.dtype == np.float64 else "ints"
        self.call(
            f"syna_db_append_{kind}", self.db, key, ctypes.c_size_t(len(key)),
            values.ctypes.data_as(ctypes.c_void_p),
            times.ctypes.data_as(ctypes.c_void_p) if times is not None else None,
            ctypes.c_size_t(len(values)),
        )  # fmt: skip

    def close(self) -> None:
        self.call("syna_db_close", self.db)


def write_page_file(path: Path) -> None:
    """The program of section 6."""
    db = Library(path)
    db.put(b"temperature", 1, struct.pack("<d", 23.5))
    db.put(b"note", 3, b"soon gone", expires=EXPIRES)
    db.put(b"poem", 3, b"row, " * 14)
    db.delete(b"poem")
    db.append(b"t", np.array(FLOATS))
    db.close()


# ------------------------------------------------------------------------------------ the dump


def test_the_dump_is_what_the_page_says_of_it():
    header, frames = reader.read_log(dump())
    assert (header.major, header.minor, header.generation) == (1, 0, 1)
    assert header.features == (0, 0, 0)
    assert [f.key for f in frames] == [b"temperature", b"note", b"poem", b"poem", b"t", b""]
    temperature, note, poem, deletion, block, close = frames
    assert reader.read_value(temperature) == reader.Value(1, 23.5)
    assert reader.read_value(note) == reader.Value(3, "soon gone", expires=EXPIRES)
    assert poem.flags & reader.LZ4 and reader.read_value(poem) == reader.Value(3, "row, " * 14)
    assert deletion.flags & reader.TOMBSTONE and reader.read_value(deletion).content is None
    assert reader.read_column(block.field).values() == FLOATS
    assert close.field == b"\x01"
    assert all(f.flags & reader.COMMIT for f in frames)


def test_the_offsets_beside_the_dump_are_those_of_the_frames():
    described = [int(at, 16) for at in re.findall(r"^\| ([0-9a-f]{4}) \| frame: ", PAGE, re.M)]
    assert described == [f.offset for f in reader.read_log(dump())[1]]


def test_the_library_reads_the_dump(path):
    path.write_bytes(dump())
    with SynaDB(path, read_only=True) as db:
        assert db.get("temperature") == 23.5
        assert db.get("note") == "soon gone"
        assert sorted(db.keys()) == ["note", "t", "temperature"]
        assert list(db.get_history_tensor("t")) == FLOATS
    assert path.read_bytes() == dump()


def without_chance(data: bytes) -> bytes:
    """The bytes with everything zeroed that differs from one run to the next."""
    _, frames = reader.read_log(data)
    plain = bytearray(data)
    plain[24:40] = bytes(16)
    plain[72:80] = bytes(8)
    plain[124:128] = bytes(4)
    for f in frames:
        plain[f.offset : f.offset + 8] = bytes(8)
        plain[f.end - 4 : f.end] = bytes(4)
        plain[f.offset + 14] &= ~reader.PRIOR_DURABLE  # of the first frame: who made the file
    return bytes(plain)


def test_the_library_still_writes_the_dump(path):
    write_page_file(path)
    written = path.read_bytes()
    assert without_chance(written) == without_chance(dump())


# ------------------------------------------------------------------------------------ the tables


def enum_of(name: str) -> dict[str, int]:
    """The values of an enum in csrc/store/format.h."""
    text = (ROOT / "csrc" / "store" / "format.h").read_text("utf-8")
    body = re.search(rf"enum {name} \{{(.*?)\}};", text, re.S)[1]
    return {key: int(value, 0) for key, value in re.findall(r"^\s*(\w+) = (\w+)", body, re.M)}


def test_flags_tags_and_kinds_are_those_of_the_source():
    flags = {
        f"FRAME_{name}": int(bit, 16)
        for bit, name in re.findall(r"^\| (0x[0-9a-f]{2}) \| ([A-Z_0-9]+) \|", PAGE, re.M)
    }
    assert flags == enum_of("frame_flags")
    tags = {f"EXT_{n}": int(tag) for tag, n in re.findall(r"^\| (\d) ([A-Z]+) \|", PAGE, re.M)}
    assert tags == enum_of("ext_tag")
    kinds = {
        f"ENGINE_{name}": int(kind)
        for kind, name in re.findall(r"^\| (\d) \| ([A-Z]+) \|", PAGE, re.M)
    }
    assert kinds == enum_of("engine_frame")


def test_the_header_block_lies_as_in_the_source():
    section = PAGE.split("## 1. Header block")[1].split("## 2.")[0]
    places = [int(at) for at in re.findall(r"^\| (\d+) \|", section, re.M)]
    assert places == [0, *enum_of("header_at").values()]


def test_packed_values_are_described_as_in_their_source():
    source = (ROOT / "synadb" / "_core" / "pack.pyx").read_text("utf-8").replace("``", "`")
    ours = re.findall(r"^([0-9a-f]{2}|80\+n) {2,}(\S.*?)(?: {2,}(.+))?$", source, re.M)
    section = PAGE.split("## 9. Packed values")[1].split("## 10.")[0]
    page = re.findall(r"^\| ([0-9a-f]{2}|80\+n) \| (.*?) \| (.*?) ?\|$", section, re.M)
    assert len(page) > 25
    assert [tuple(map(str.strip, row)) for row in page] == ours


# ------------------------------------------------------------------------------------ bigger files


def series() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    count = 3000
    walk = np.cumsum(rng.normal(0, 0.1, count))
    odd = np.round(walk, 2)
    odd[::97] = np.nan
    odd[50::211] = -0.0
    odd[7::301] = 1e300
    return {
        "walk": np.round(walk, 2),
        "odd": odd,
        "noise": rng.normal(0, 1, count),
        "positive": rng.random(count),
        "singles": rng.normal(0, 1, count).astype(np.float32).astype(np.float64),
        "full": walk * np.pi,
        "steps": np.arange(count) * 0.01,
        "sine": np.round(np.sin(np.arange(count) / 300), 6),
        "constant": np.full(count, 23.5),
        "bits": rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64),
        "counter": np.cumsum(rng.integers(1, 300, count)),
        "outliers": np.where(np.arange(count) % 23, 5, 1 << 40) + rng.integers(0, 4, count),
        "random": rng.integers(-(2**63), 2**63, count),
        "small": rng.integers(0, 8, count),
        "millis": 1_700_000_000_000_000 + 1000 * np.cumsum(rng.integers(90, 110, count)),
    }


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """A log of column blocks: its bytes and what was put in."""
    path = tmp_path_factory.mktemp("columns") / "columns.db"
    data, times = series(), 1_600_000_000_000_000 + np.arange(3000, dtype=np.uint64) * 250_000
    db = Library(path)
    for name, values in data.items():
        db.append(name.encode(), values, times)
        db.append(name.encode() + b"/now", values)
    db.close()
    return path.read_bytes(), data, times


def test_a_reader_made_from_the_page_decodes_every_column_block(columns):
    data, expected, times = columns
    bits: dict[str, list[int]] = {}
    stamps: dict[str, list[int]] = {}
    encodings = set()
    for frame in reader.read_log(data)[1]:
        if not frame.key:
            continue
        assert frame.flags & reader.BLOCK
        column = reader.read_column(frame.field)
        key = frame.key.decode()
        bits.setdefault(key, []).extend(column.bits)
        when = column.stamps or [frame.stamp] * len(column.bits)
        if column.events:
            when = [e or s for e, s in zip(column.events, when)]
        stamps.setdefault(key, []).extend(when)
        encodings.add(frame.field[32 if frame.field[1] & 0x10 else 14])
    assert encodings == set(reader.ENCODINGS)
    for name, values in expected.items():
        want = values.view(np.uint64).tolist()
        assert bits[name] == want, name
        assert bits[name + "/now"] == want, name
        assert stamps[name] == times.tolist(), name


def test_a_reader_made_from_the_page_finds_blobs_and_every_type(path):
    content = bytes(range(256)) * 40000
    with SynaDB(path, sync_on_write=False) as db:
        db.put_float("f", -0.5)
        db.put_int("i", -7)
        db.put_text("t", "text " * 100)
        db.put_bytes("b", b"\x00\xff")
        db["p"] = {"a": [1, 2]}
        with db.open_blob("blob", "wb") as blob:
            blob.write(content)
    data = path.read_bytes()
    header, frames = reader.read_log(data)
    values = {f.key: reader.read_value(f) for f in frames if f.key}
    assert values[b"f"].content == -0.5
    assert values[b"i"].content == -7
    assert values[b"t"].content == "text " * 100
    assert values[b"b"].content == b"\x00\xff"
    assert values[b"p"].type == 6
    assert values[b"p"].content == bytes([1, 0x0C, 1, 7, 1, 97, 0x0A, 2, 0x81, 0x82])
    assert values[b"blob"].type == 7
    assert reader.read_blob(data, header.uuid, values[b"blob"].content) == content


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A log that is big enough for a key checkpoint, and the checkpoint."""
    path = tmp_path_factory.mktemp("checkpoint") / "keys.db"
    with SynaDB(path, sync_on_write=False) as db:
        db.put_many({f"key/{i:06}": float(i) for i in range(45000)}.items())
        for i in range(300):
            db.put_int("often", i)
        db.append_floats("column", np.arange(5000.0))
        db.delete("key/000007")
        db.put_text("expiring", "x", ttl=3600)
    return path.read_bytes(), Path(f"{path}.idx").read_bytes()


def test_a_reader_made_from_the_page_reads_the_key_checkpoint(checkpoint):
    log, index = checkpoint
    header, frames = reader.read_log(log)
    snapshot = reader.read_snapshot(index)
    assert snapshot.purpose == b"KEYS"
    assert snapshot.header.uuid == header.uuid
    assert snapshot.header.generation == header.generation
    last = next(f for f in frames if f.end == snapshot.end)
    assert last.crc == snapshot.end_crc

    records: dict[bytes, list[reader.Frame]] = {}
    for f in frames:
        if f.key and f.end <= snapshot.end:
            records.setdefault(f.key, []).append(f)
    entries = reader.read_entries(snapshot)
    assert [log[e.offset + 15 : e.offset + 15 + e.key_len] for e in entries] == list(records)
    for e, (key, own) in zip(entries, records.items()):
        assert e.offset == own[-1].offset, key
        blocks = [
            len(reader.read_column(f.field).bits) if f.flags & reader.BLOCK else 0 for f in own
        ]
        want = list(zip([f.offset for f in own], blocks))
        got = list(reader.read_history(snapshot, e.history)) if e.history else want[:1]
        assert got == want, key
    by_key = dict(zip(records, entries))
    assert by_key[b"key/000007"].flags & 4
    assert by_key[b"expiring"].flags & 2 and by_key[b"expiring"].type == 3
    assert by_key[b"column"].flags & 9 == 9
    assert reader.as_float(by_key[b"column"].payload) == 4999.0
    assert by_key[b"often"].payload == 299 and by_key[b"often"].flags & 1

    meta = struct.unpack("<II11Q", snapshot.sections["meta"])
    assert meta[:2] == (1, len(records))
    assert meta[8] == 1  # deleted
    assert meta[9] == 1  # expiring
    assert meta[10] == sum(map(len, records.values()))
    assert meta[12] == last.offset
    if "old" not in snapshot.sections:
        assert sorted(reader.table_entries(snapshot)) == list(range(len(entries)))
