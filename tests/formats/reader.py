"""A second reader of our files, written from csrc/FORMATS.md and from nothing else.

It is slow, strict and short: whatever it does not expect is a ValueError. The tests compare what it
reads with what the library reads, so that page, library and files on disk cannot drift apart.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC = bytes.fromhex("8953594e4144420affffffffffffff1a")
DELTA, LZ4, TOMBSTONE, EXT, BLOCK, RESERVED, COMMIT, PRIOR_DURABLE = (1 << n for n in range(8))
MASK = (1 << 64) - 1


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


# ------------------------------------------------------------------------------------ numbers


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(*pieces: bytes, start: int = 0) -> int:
    crc = start ^ 0xFFFFFFFF
    for piece in pieces:
        for byte in piece:
            crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


class Cursor:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data)
        self.at = 0

    def take(self, count: int) -> bytes:
        expect(0 <= count <= len(self.data) - self.at, f"{count} bytes at {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        n = shift = 0
        while True:
            byte = self.number(1)
            n |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                expect(n <= MASK, "a varint beyond 64 bits")
                return n

    def zigzag(self) -> int:
        return unzigzag(self.varint())

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


def unzigzag(n: int) -> int:
    return (n >> 1 ^ -(n & 1)) & MASK


def signed(n: int) -> int:
    return n - (1 << 64) if n >> 63 else n


def as_float(bits: int) -> float:
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def as_bits(number: float) -> int:
    return struct.unpack("<Q", struct.pack("<d", number))[0]


# ------------------------------------------------------------------------------------ 1, 2


@dataclass
class Header:
    major: int
    minor: int
    kind: int
    uuid: bytes
    generation: int
    features: tuple[int, int, int]
    created: int
    crc: int


def read_header(data: bytes) -> Header:
    c = Cursor(data[:128])
    expect(c.take(16) == MAGIC, "magic")
    header = Header(
        c.number(2), c.number(2), c.number(4), c.take(16), c.number(8),
        (c.number(8), c.number(8), c.number(8)), c.number(8), 0,
    )  # fmt: skip
    expect(c.take(44) == bytes(44), "reserved bytes of the header block")
    header.crc = c.number(4)
    expect(header.crc == crc32c(data[:124]), "checksum of the header block")
    return header


@dataclass
class Frame:
    offset: int
    stamp: int
    flags: int
    key: bytes
    field: bytes  # the value field without its checksum
    crc: int
    end: int


def read_frame(data: bytes, offset: int, uuid: bytes) -> Frame:
    c = Cursor(data[offset:])
    stamp, key_len, value_len, flags = c.number(8), c.number(2), c.number(4), c.number(1)
    expect(key_len <= 65534 and 4 <= value_len <= 0x40000400, f"lengths at {offset}")
    expect(not flags & (DELTA | RESERVED), f"flags at {offset}")
    key, value = c.take(key_len), c.take(value_len - 4)
    expect(key_len > 0 or (value != b"" and value[0] != 0), f"engine frame at {offset}")
    covered = data[offset : offset + c.at]
    crc = c.number(4)
    expect(
        crc == crc32c(uuid, struct.pack("<Q", offset), covered),
        f"checksum of the frame at {offset}",
    )
    return Frame(offset, stamp, flags, key, value, crc, offset + c.at)


def read_log(data: bytes) -> tuple[Header, list[Frame]]:
    """The header and all frames of whole commits."""
    header = read_header(data)
    expect(header.major == 1 and header.kind == 1 and header.features[0] == 0, "not a log")
    frames: list[Frame] = []
    pending: list[Frame] = []
    at, stamp = 128, 0
    while at < len(data) and any(data[at:]):
        frame = read_frame(data, at, header.uuid)
        expect(frame.stamp >= stamp, f"stamp at {at}")
        at, stamp = frame.end, frame.stamp
        pending.append(frame)
        if frame.flags & COMMIT:
            frames += pending
            pending = []
    return header, frames


# ------------------------------------------------------------------------------------ 3, 4


@dataclass
class Value:
    type: int
    content: object
    expires: int | None = None
    event: int | None = None


def lz4_block(block: bytes, length: int) -> bytes:
    out = bytearray()
    c = Cursor(block)

    def long(n: int) -> int:
        if n == 15:
            while True:
                byte = c.number(1)
                n += byte
                if byte != 255:
                    break
        return n

    while True:
        token = c.number(1)
        out += c.take(long(token >> 4))
        if c.at == len(block):
            break
        distance = c.number(2)
        expect(0 < distance <= len(out), "distance of a match")
        for _ in range(long(token & 15) + 4):
            out.append(out[-distance])
    expect(len(out) == length, "length of the plain atom")
    return bytes(out)


def read_atom(data: bytes) -> tuple[int, object]:
    c = Cursor(data)
    tag = c.number(4)
    content: object
    if tag == 0:
        content = None
    elif tag == 1:
        content = as_float(c.number(8))
    elif tag == 2:
        content = signed(c.number(8))
    elif tag == 3:
        content = c.take(c.number(8)).decode("utf-8")
    elif tag == 4:
        content = c.take(c.number(8))
    else:
        expect(tag == 5, f"atom tag {tag}")
        count = c.number(8)
        content = struct.unpack(f"<{count}f", c.take(4 * count))
        expect(c.number(2) == count, "dimensions")
    expect(c.rest() == b"", "bytes behind the atom")
    return tag, content


def read_value(frame: Frame) -> Value:
    c = Cursor(frame.field)
    fields: dict[int, bytes] = {}
    if frame.flags & EXT:
        e = Cursor(c.take(c.number(1)))
        while e.at < len(e.data):
            tag = e.number(1)
            fields[tag] = e.take(e.number(1))
    atom = c.rest()
    if frame.flags & LZ4:
        atom = lz4_block(atom[4:], int.from_bytes(atom[:4], "little"))
    kind, content = read_atom(atom)
    if 3 in fields:
        expect(kind == 4 and fields[3][0] >= 6, "a type over an atom")
        kind = fields[3][0]
    times = [int.from_bytes(fields[n], "little") if n in fields else None for n in (1, 2)]
    return Value(kind, content, *times)


def read_blob(data: bytes, uuid: bytes, manifest: bytes) -> bytes:
    c = Cursor(manifest)
    size, count = c.number(8), c.number(4)
    content = b""
    for _ in range(count):
        chunk = read_frame(data, c.number(8), uuid)
        expect(chunk.key == b"" and chunk.field[0] == 4, "a chunk frame")
        expect(len(chunk.field) - 1 == c.number(4), "length of a chunk")
        content += chunk.field[1:]
    expect(len(content) == size, "length of the content")
    return content


# ------------------------------------------------------------------------------------ 5


@dataclass
class Column:
    type: int
    bits: list[int]
    stamps: list[int] | None = None
    events: list[int] | None = None

    def values(self) -> list:
        return [as_float(b) if self.type == 1 else signed(b) for b in self.bits]


def ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b


def read_packed(c: Cursor, count: int, width: int) -> list[int]:
    words = ceil_div(ceil_div(count, 4) * width, 64)
    data = [c.number(8) for _ in range(4 * words)]
    lanes = [sum(data[4 * k + lane] << 64 * k for k in range(words)) for lane in range(4)]
    return [lanes[i % 4] >> i // 4 * width & (1 << width) - 1 for i in range(count)]


def read_unary(c: Cursor, words: int) -> list[int]:
    bits = sum(c.number(8) << 64 * k for k in range(words))
    numbers, zeros = [], 0
    for bit in range(64 * words):
        if bits >> bit & 1:
            numbers.append(zeros)
            zeros = 0
        else:
            zeros += 1
    return numbers


def read_leftovers(c: Cursor, count: int, packing: int, width: int) -> list[int]:
    if packing == 0x00:
        return read_packed(c, count, width)
    if packing == 0x10:
        high_width, patches = c.number(1), c.number(2)
        positions = [c.number(2) for _ in range(patches)]
        high = read_packed(c, patches, high_width)
        numbers = read_packed(c, count, width)
        for position, bits in zip(positions, high):
            numbers[position] += bits << width
        return numbers
    expect(packing == 0x20, "a packing")
    words = c.number(2)
    low = read_packed(c, count, width)
    high = read_unary(c, words)
    expect(len(high) == count, "one bits of the unary part")
    return [q << width | n for q, n in zip(high, low)]


def read_integers(c: Cursor, count: int) -> list[int]:
    mode, width = c.number(1), c.number(1)
    predictor = mode & 3
    given = [c.zigzag() for _ in range(predictor)]
    base = c.zigzag()
    unit = c.varint() if mode & 8 else 1
    numbers: list[int] = []
    for i, r in enumerate(read_leftovers(c, count, mode & 0x30, width)):
        d = (unzigzag(r) if mode & 4 else r) * unit + base
        if i < predictor:
            d = given[i]
        elif predictor == 1:
            d += numbers[-1]
        elif predictor == 2:
            d += 2 * numbers[-1] - numbers[-2]
        numbers.append(d & MASK)
    return numbers


def read_decimal(c: Cursor, count: int) -> list[int]:
    scale, exceptions = c.number(1), c.number(2)
    positions = [c.number(2) for _ in range(exceptions)]
    originals = [c.number(8) for _ in range(exceptions)]
    exponent = scale & 0x7F
    bits = []
    for n in read_integers(c, count):
        n = signed(n)
        number = n * float(f"1e-{exponent}") if scale & 0x80 else n / float(10**exponent)
        bits.append(as_bits(number))
    for position, original in zip(positions, originals):
        bits[position] = original
    return bits


def read_split(c: Cursor, count: int) -> list[int]:
    cut, zeros = c.number(1), c.number(1)
    entries = [c.number(2) for _ in range(c.number(1))]
    indexes = read_integers(c, count)
    bits = []
    for index, bottom in zip(indexes, read_packed(c, count, cut - zeros)):
        bottom <<= zeros
        bits.append(entries[index] << 52 | bottom & (1 << 52) - 1 | bottom >> 52 << 63)
    return bits


def read_ordered(c: Cursor, count: int) -> list[int]:
    return [n if n >> 63 == 0 else n ^ (1 << 63) - 1 for n in read_integers(c, count)]


def read_raw(c: Cursor, count: int) -> list[int]:
    return [c.number(8) for _ in range(count)]


ENCODINGS = {0: read_raw, 1: read_integers, 2: read_ordered, 3: read_decimal, 4: read_split}


def read_column(field_bytes: bytes) -> Column:
    c = Cursor(field_bytes)
    expect(c.number(1) == 1, "layout of a column block")
    kind, count, last, values_len = c.number(1), c.number(2), c.number(8), c.number(2)
    column = Column(kind & 15, [])
    first_stamp = last_stamp = stamps_len = 0
    if kind & 0x10:
        first_stamp, last_stamp, stamps_len = c.number(8), c.number(8), c.number(2)
    values, stamps = Cursor(c.take(values_len)), Cursor(c.take(stamps_len))
    column.bits = ENCODINGS[values.number(1)](values, count)
    expect(values.rest() == b"" and column.bits[-1] == last, "values of a column block")
    if kind & 0x10:
        column.stamps = read_integers(stamps, count)
        ends = (column.stamps[0], column.stamps[-1])
        expect(stamps.rest() == b"" and ends == (first_stamp, last_stamp), "stamps")
    if kind & 0x20:
        column.events = read_integers(c, count)
    expect(c.rest() == b"", "bytes behind the last part of a column block")
    return column


# ------------------------------------------------------------------------------------ 7, 8


@dataclass
class Snapshot:
    header: Header
    purpose: bytes
    end: int
    end_crc: int
    sections: dict[str, bytes] = field(default_factory=dict)


def read_snapshot(data: bytes) -> Snapshot:
    """All of it, with every checksum, lazy pages included."""
    header = read_header(data)
    expect(header.kind == 3, "kind")

    def checksum(offset: int, *pieces: bytes) -> int:
        return crc32c(struct.pack("<Q", offset), *pieces, start=header.crc)

    t = Cursor(data[-32:])
    footer_at, footer_len, total, crc = t.number(8), t.number(8), t.number(8), t.number(4)
    expect(t.take(4) == b"SNAP" and total == len(data), "trailer")
    expect(footer_at % 8 == 0 and footer_at + footer_len + 32 == total, "place of the footer")
    footer = data[footer_at : footer_at + footer_len]
    expect(crc == checksum(footer_at, footer, data[-32:-8]), "checksum of the footer")
    f = Cursor(footer)
    purpose, count, end, end_crc, pages = (
        f.take(4), f.number(4), f.number(8), f.number(4), f.number(4)
    )  # fmt: skip
    entries = [
        (f.take(8), f.number(8), f.number(8), f.number(4), f.number(4)) for _ in range(count)
    ]
    crcs = [f.number(4) for _ in range(pages)]
    expect(f.rest() == b"", "length of the footer")
    snapshot = Snapshot(header, purpose, end, end_crc)
    for name, offset, length, section_crc, section_pages in entries:
        content = data[offset : offset + length]
        if length <= 1 << 20:
            expect(offset % 4096 == 0 and section_pages == 0, "a small section")
            expect(section_crc == checksum(offset, content), "checksum of a section")
        else:
            expect(offset % 65536 == 0 and section_crc == 0, "a lazy section")
            expect(section_pages == ceil_div(length, 65536), "pages of a lazy section")
            for page in range(section_pages):
                piece = content[page << 16 : page + 1 << 16]
                expect(crcs.pop(0) == checksum(offset + (page << 16), piece), f"page {page}")
        snapshot.sections[name.rstrip(b"\0").decode("ascii")] = content
    expect(crcs == [], "page checksums")
    return snapshot


@dataclass
class Entry:
    offset: int
    flags: int
    key_len: int
    history: int
    type: int
    payload: int
    hash: int


def read_entries(snapshot: Snapshot) -> list[Entry]:
    entries = []
    data = snapshot.sections["entries"]
    for at in range(0, len(data), 24):
        place, low_hash, chain, payload = struct.unpack_from("<QIIQ", data, at)
        entries.append(
            Entry(
                place & (1 << 44) - 1, place >> 44 & 15, place >> 48,
                chain & (1 << 28) - 1, chain >> 28, payload, low_hash,
            )
        )  # fmt: skip
    return entries


def read_history(snapshot: Snapshot, number: int) -> Iterator[tuple[int, int]]:
    """Offset and number of values (0: not a block) of each record, restarts checked on the way."""
    last, records, at, length = struct.unpack_from(
        "<4Q", snapshot.sections["history"], 32 * (number - 1)
    )
    data = snapshot.sections["records"]
    c = Cursor(data[at : at + length])
    restarts = at + ceil_div(length, 8) * 8
    offset = 0
    for i in range(records):
        if i and i % 64 == 0:
            expected = struct.unpack_from("<2Q", data, restarts + 16 * (i // 64 - 1))
            expect((offset, c.at) == expected, f"restart before record {i}")
        step = c.varint()
        offset += step >> 1
        yield offset, c.varint() if step & 1 else 0
    expect(c.rest() == b"" and offset == last, "end of a history")


def table_entries(snapshot: Snapshot) -> dict[int, int]:
    """Tag by entry number, of every slot in use; each where a search finds it."""
    groups = snapshot.sections["groups"]
    count = len(groups) // 64
    entries = read_entries(snapshot)
    found: dict[int, int] = {}
    for at in range(count):
        tags = groups[64 * at : 64 * at + 12]
        slots = struct.unpack_from("<12I", groups, 64 * at + 16)
        expect(groups[64 * at + 13 : 64 * at + 16] == bytes(3), "zeros of a group")
        for tag, slot in zip(tags, slots):
            if tag == 0:
                continue
            place, step = entries[slot].hash & count - 1, 1
            while place != at:
                expect(groups[64 * place + 12] == 1, f"entry {slot} is cut off from its group")
                place, step = place + step & count - 1, step + 1
            found[slot] = tag
    return found
