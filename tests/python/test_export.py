"""Exports and imports in seven formats: everything comes back, nothing else, or nothing at all."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import fractions
import io
import json
import os
import pickle
import random
import stat
import sys
import uuid
import warnings
import zoneinfo

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from synadb import (
    ArgumentError,
    CancelledError,
    CorruptionError,
    SynaDB,
    TensorEngine,
    TypeMismatchError,
)
from synadb._core.arrow import Rows, Selection, Writer, unpack
from synadb.interchange import export_file, export_stream, importing

TEXT = ["json", "jsonl", "csv"]
PLAIN = [*TEXT, "pickle", "msgpack"]
FORMATS = [*PLAIN, "parquet", "arrow"]

pytestmark = pytest.mark.filterwarnings("ignore:a pickle is a program")


def need(format):
    if format in ("parquet", "arrow"):
        pytest.importorskip("pyarrow", reason="Parquet and Arrow files are written by pyarrow")


def export(db, format, path, **options):
    need(format)
    return getattr(db, f"export_{format}")(path, **options)


def take(db, format, path, *prefix):
    return getattr(db, f"import_{format}")(path, *prefix)


def other_nan():
    return np.frombuffer(bytes.fromhex("010000000000f07f"), "<f8")[0].item()


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = {
    "two": 2.0, "nan": float("nan"), "other nan": other_nan(), "inf": float("inf"),
    "-inf": -float("inf"), "-0": -0.0, "denormal": 5e-324, "largest": 1.7976931348623157e308,
    "int": 7, "max": 2**63 - 1, "min": -(2**63), "big": 2**200, "huge": -(2**9000),
    "text": 'q"uo,te\r\nnew\u2028line é 日本', "empty": "", "nul": "a\0b", "spaces": "  x ",
    "bytes": bytes(range(256)), "no bytes": b"", "none": None, "true": True, "false": False,
    "list": [1, 2.5, None, "x", [b"y", (1, 2)], {3: 4}], "tuple": (1, (2,)),
    "dict": {"a": {"b": 1}},
    "dict with a tag": {"$bytes": "00"}, "dict of ints": {1: 2}, "empty dict": {}, "set": {1, 2},
    "frozenset": frozenset([3]), "bytearray": bytearray(b"zz"), "complex": 1 + 2j,
    "range": range(2, 9, 3), "date": dt.date(2024, 2, 29), "time": dt.time(1, 2, 3, 4),
    "naive": dt.datetime(2024, 1, 2, 3, 4, 5, 6),
    "utc": dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc),
    "zone": dt.datetime(2024, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    "offset": dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=3), "X")),
    "timedelta": dt.timedelta(1, 2, 3), "decimal": decimal.Decimal("-1.10"),
    "fraction": fractions.Fraction(-1, 3), "uuid": uuid.UUID(int=12345),
    "array": np.arange(6.0).reshape(2, 3), "fortran": np.asfortranarray(np.eye(3, dtype=">f4")),
    "scalar": np.float32(1.5), "object": np.array([1, "a", None], dtype=object),
    "struct": np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8", (2,))]),
    "days": np.array(["2024-01-01"], "M8[D]"), "numpy text": np.str_("x"),
    "surrogate": "\ud800", "deep": deep(400), "k,ey\n\"": 1.5, "ключ": "значение",
}  # fmt: skip


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return a.tolist() == b.tolist() if a.dtype.hasobject else a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes()
    return a == b


def records(db):
    """Every record of a database, by key, in order: what an export with history must keep."""
    rows = Rows(db, Selection(history=True))
    found = {}
    while chunk := rows.take(10_000, 1 << 30):
        for key, kind, time, expires, value in chunk:
            found.setdefault(key, []).append((kind, time, expires, value))
    return found


def assert_equal(one, two):
    assert two.keys() == one.keys()
    for key in one:
        assert two.type_of(key) == one.type_of(key), key
        assert same(two[key], one[key]), key


def assert_equal_histories(one, two):
    a, b = records(one), records(two)
    assert a.keys() == b.keys()
    for key in a:
        assert len(a[key]) == len(b[key]), key
        for left, right in zip(a[key], b[key]):
            if left[0] == "blob":  # its time is that of the import
                assert (left[0], left[3]) == (right[0], right[3])
            else:
                assert left[:3] == right[:3], key
                assert same(left[3], right[3]), key


def fill(db):
    db.put_many(VALUES)
    db.put_vector("vector", np.linspace(0, 1, 7))
    with db.open_blob("blob", "wb") as out:
        out.write(random.Random(0).randbytes(100_000))
    times = 1_700_000_000_000_000 + np.arange(1500) * 1000
    db.append_floats("history", np.random.default_rng(0).random(1500), times=times)
    db.append_ints("history", [1, 2, 3], times=times[-1] + np.arange(3))
    db.put("history", "a text", when=1_800_000_000.0)
    db.put_int("history", 9, when=1_000_000_000.0)  # a time before the last
    db.put_float("two", 1.0, ttl=1e9)
    db.put_text("two", "now a text")
    for key in ("gone", "int"):
        db.put_int(key, 5)
        db.delete(key)


@pytest.mark.parametrize("history", [False, True], ids=["newest", "history"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_value_comes_back_with_its_type(tmp_path, db, format, history):
    fill(db)
    count = export(db, format, tmp_path / "x", history=history)
    assert count == (sum(map(len, records(db).values())) if history else len(db))
    with SynaDB(tmp_path / "other.db", sync_on_write=False) as other:
        assert take(other, format, tmp_path / "x") == count
        assert_equal(db, other)
        if history:
            assert_equal_histories(db, other)
            assert not other.exists("gone")
        assert other.verify().ok


def random_value(rng):
    kind = rng.randrange(9)
    return (
        lambda: rng.uniform(-1e6, 1e6), lambda: rng.randrange(-(2**63), 2**63),
        lambda: "".join(map(chr, rng.choices([34, 44, 92, 65, 233, 0x65E5, 10, 0x1F600], k=5))),
        lambda: rng.randbytes(rng.randrange(20)), lambda: None, lambda: [rng.random(), None, "x"],
        lambda: 2 ** rng.randrange(300), lambda: float(np.frombuffer(rng.randbytes(8), "<f8")[0]),
        lambda: {"a": rng.random(), "b": (1, rng.random())},
    )[kind]()  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_a_hundred_thousand_mixed_entries_round_trip(tmp_path, db, format):
    rng = random.Random(format)
    db.put_many({f"{rng.choice('abc')}/{n}": random_value(rng) for n in range(100_000)})
    assert export(db, format, tmp_path / "x") == 100_000
    with SynaDB(tmp_path / "other.db", sync_on_write=False) as other:
        assert take(other, format, tmp_path / "x") == 100_000
        assert_equal(db, other)


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.dates(), st.datetimes(), st.decimals(allow_nan=False), st.complex_numbers(),
)  # fmt: skip
keys = st.one_of(st.text(max_size=5), st.integers(), st.just("$bytes"), st.just("$history"))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("format", PLAIN)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(trees, min_size=1, max_size=5))
@example(values=[{"$history": [], "": None}])  # begins like a history
def test_any_plain_value_round_trips(tmp_path_factory, format, values):
    folder = tmp_path_factory.mktemp("any")
    with SynaDB(folder / "a.db", sync_on_write=False) as one:
        one.put_many({f"k{n}": value for n, value in enumerate(values)})
        export(one, format, folder / "x")
        with SynaDB(folder / "b.db", sync_on_write=False) as two:
            take(two, format, folder / "x")
            # Packed bytes are equal exactly when values and types are, NaN included.
            assert records(one).keys() == records(two).keys()
            for key in one:
                assert stored(one, key) == stored(two, key)


def stored(db, key):
    rows = Rows(db, Selection(key=key)).take(1, 1)
    _, kind, _, _, value = rows[0]
    return kind, np.float64(value).tobytes() if kind == "float" else value


# ---------------------------------------------------------------------------- what is selected


@pytest.mark.parametrize("format", FORMATS)
def test_patterns_types_and_prefixes_select(tmp_path, db, format):
    db.put_many({"a/x": 1.0, "a/b/y": 2.0, "b/z": 3.0, "a/t": "text"})
    path = tmp_path / "x"
    assert export(db, format, path, key_pattern="a/*") == 3
    assert export(db, format, path, key_pattern="a/?") == 2
    assert export(db, format, path, key_pattern="?/[xz]", type="float") == 2
    assert take(db, format, path, "new/") == 2
    assert db.get("new/a/x") == 1.0 and db.get("new/b/z") == 3.0
    assert export(db, format, path, key_pattern="none*") == 0
    assert take(db, format, path) == 0


def test_the_files_are_what_other_programs_expect(tmp_path, db):
    db.put_many({"b": b"\x00\xff", "f": 2.0, "i": 3, "n": float("nan"), "t": "x"})
    path = tmp_path / "x"
    db.export_json(path)
    assert json.loads(path.read_text("utf-8"), parse_constant=pytest.fail) == {
        "b": {"$bytes": "00ff"}, "f": 2.0, "i": 3, "n": {"$float": "nan"}, "t": "x",
    }  # fmt: skip
    db.export_jsonl(path)
    lines = path.read_text("utf-8").splitlines()
    assert json.loads(lines[1]) == {"key": "f", "type": "float", "value": 2.0}
    assert lines[1] == json.dumps(json.loads(lines[1]))
    db.export_csv(path)
    with open(path, newline="", encoding="utf-8") as source:
        assert list(csv.reader(source))[:3] == [
            ["key", "type", "value"], ["b", "bytes", "00ff"], ["f", "float", "2.0"],
        ]  # fmt: skip
    db.export_pickle(path)
    loaded = pickle.loads(path.read_bytes())
    assert loaded[0] == {"key": "b", "type": "bytes", "value": b"\x00\xff"}
    assert [record["key"] for record in loaded] == ["b", "f", "i", "n", "t"]


def test_the_reference_reads_and_writes_our_messagepack(tmp_path, db):
    msgpack = pytest.importorskip("msgpack", reason="the reference for MessagePack")
    db.put_many(
        {"b": b"raw", "f": 0.1, "i": -5, "t": "é" * 300, "l": [1] * 70_000, "d": {"x": 2**63}}
    )
    db.export_msgpack(tmp_path / "x")
    theirs = msgpack.unpackb((tmp_path / "x").read_bytes(), strict_map_key=False)
    assert {record["key"]: record["value"] for record in theirs} == dict(db.items())
    for small in (True, False):
        records = [
            {"key": f"k{n}", "value": value}
            for n, value in enumerate(
                [0, 127, 128, 255, 256, 65536, 2**32, -1, -33, -129, -40000, -(2**40), 1.5,
                 "x" * 31, "y" * 32, b"z" * 70_000, [1, [2]], {"a": {}}, None, True]
            )
        ]  # fmt: skip
        data = msgpack.packb(records, use_single_float=small, use_bin_type=True)
        (tmp_path / "y").write_bytes(data)
        assert db.import_msgpack(tmp_path / "y") == len(records)
        for record in records:
            assert same(db[record["key"]], record["value"])


def test_parquet_and_arrow_have_the_columns_of_their_values(tmp_path, db):
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow files are written by pyarrow")
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    db.put_many({f"k{n}": n / 2 for n in range(1000)})
    db.export_parquet(tmp_path / "x")
    table = pq.read_table(tmp_path / "x")
    assert table.schema.names == ["key", "type", "value"]
    assert table.schema.field("value").type == pa.float64()
    db.export_arrow(tmp_path / "x", history=True)
    table = feather.read_table(tmp_path / "x")
    assert table.schema.names == ["key", "type", "time", "expires", "value"]
    assert table.schema.field("time").type == pa.timestamp("us", "UTC")
    db.put("z", "a text, behind thousands of floats")
    db.export_parquet(tmp_path / "x")
    value = pq.read_table(tmp_path / "x")["value"]
    assert pa.types.is_struct(value.type)
    assert value.to_pylist()[-1]["text"].startswith("a text")


def test_files_of_other_programs_are_read(tmp_path, db):
    path = tmp_path / "x"
    path.write_text('\ufeff {"a": {"b": [1, 2]}, "n": NaN, "t":\n"x", "e": {}}  ', "utf-8")
    assert db.import_json(path) == 4
    assert db["a"] == {"b": [1, 2]} and db["e"] == {}
    path.write_text('{"key": "j", "value": 1}\r\n\n{"value": {"x": 1.0}, "key": "k"}', "utf-8")
    assert db.import_jsonl(path) == 2
    assert db["k"] == {"x": 1.0}
    path.write_bytes(b'value,key\r\n"a ""b"", c",c1\r\n,c2\r\n')
    assert db.import_csv(path) == 2
    assert db["c1"] == 'a "b", c' and db["c2"] == ""
    path.write_bytes(pickle.dumps([{"key": "p", "value": (1, 2)}]))
    assert db.import_pickle(path) == 1
    assert db["p"] == (1, 2)


def test_plain_columns_of_other_programs_are_read(tmp_path, db):
    pa = pytest.importorskip("pyarrow", reason="Parquet and Arrow files are written by pyarrow")
    import pyarrow.parquet as pq

    for n, values in enumerate([[1.5, 2.5], [1, 2], ["a", "b"], [b"a", b"b"], [True, None]]):
        pq.write_table(pa.table({"value": values, "key": [f"{n}a", f"{n}b"]}), tmp_path / "x")
        assert db.import_parquet(tmp_path / "x") == 2
        assert same(db[f"{n}a"], values[0]) and same(db[f"{n}b"], values[1])
    times = pa.array([1_000_000_000], pa.timestamp("s"))
    columns = pa.schema({"key": pa.string(), "time": times.type, "value": pa.int64()})
    with pa.ipc.new_stream(tmp_path / "x", columns) as out:
        out.write_table(pa.table({"key": ["s"], "time": times, "value": [3]}))
    assert db.import_arrow(tmp_path / "x") == 1
    assert str(db.get_history("s").timestamps[0]) == "2001-09-09T01:46:40.000000"


# -------------------------------------------------------------------------- nothing is half done


BROKEN = {
    "json": [b"", b"{", b"[]", b'{"a": 1', b'{"a": 1}x', b'{"a" 1}', b'{1: 2}',
             b'{"a": {"$float": "x"}}', b'{"a": 1, "b": {"$nonsense": 1}}', b'{"a": "\xff"}',
             b'{"a": {"$packed": "ff"}}',
             b'{"a": {"$history": [1]}}', b'{"a": {"$history": [{"time": 1, "value": 1}',
             b"[" * 100_000],
    "jsonl": [b"{}", b"x", b'{"key": "a", "value": 1}\n{"key": "b"', b'{"key": 1, "value": 1}',
              b'{"key": "a", "type": "bytes", "value": "0g"}',
              b'{"key": "a", "value": 1, "time": -1}',
              b'{"key": "a", "type": "vector", "value": "x"}'],
    "csv": [b"", b"a,b\n1,2", b"key,value\n1", b'key,value\na,"b', b'key,value\na,"b"c',
            b"key,type,value\na,int,1.5", b"key,type,value\na,bytes,0g",
            b"key,type,value\na,packed,["],
    "pickle": [b"", b"x", b"\x80\x05]", b"\x80\x05]\x95", pickle.dumps({"a": 1}), pickle.dumps([1]),
               b"\x80\x05]\x95\xff\xff\xff\xff\xff\xff\xff\x7f(e."],
    "msgpack": [b"", b"\x91", b"\xdd\xff\xff\xff\xff\xc0",
                b"\x91\x82\xa3key\xa1a\xa5value\xc1", b"\x90\x90", b"\x91" * 3000,
                b"\x91\x82\xa3key\xa1a\xa5value\xc6\xff\xff\xff\xff",
                b"\x91\x82\xa3key\xa1a\xa5value\xd4\x07\x00"],
    "parquet": [b"", b"PAR1", b"PAR1" + b"x" * 100 + b"PAR1"],
    "arrow": [b"", b"ARROW1", b"ARROW1" + b"x" * 100],
}  # fmt: skip
CASES = [
    pytest.param(f, n, id=f"{f}-{n}") for f, cases in BROKEN.items() for n in range(len(cases))
]


@pytest.mark.parametrize("format, case", CASES)
def test_a_broken_file_is_named_and_nothing_is_imported(tmp_path, db, format, case):
    need(format)
    db["before"] = 1
    path = tmp_path / "broken"
    path.write_bytes(BROKEN[format][case])
    with pytest.raises(CorruptionError, match="broken"):
        take(db, format, path)
    assert dict(db.items()) == {"before": 1} and db.stats().frames == 1


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_file_is_a_file_not_found_error(tmp_path, db, format):
    need(format)
    with pytest.raises(FileNotFoundError):
        take(db, format, tmp_path / "absent")


@pytest.mark.parametrize("format", PLAIN)
def test_a_file_cut_short_anywhere_imports_nothing_or_fails(tmp_path, db, format):
    db.put_many({"a": 1.5, "b": [1, "x"], "c": "quoted, text"})
    export(db, format, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    with SynaDB(tmp_path / "other.db", sync_on_write=False) as other:
        for end in range(len(whole)):
            (tmp_path / "x").write_bytes(whole[:end])
            try:
                count = take(other, format, tmp_path / "x")
            except CorruptionError:
                assert len(other) == 0
            else:  # lines are records of their own
                assert format in ("jsonl", "csv", "json") and count <= 3
                other.clear()


def test_records_that_cannot_be_stored_store_nothing(tmp_path, db):
    path = tmp_path / "x"
    good = '{"key": "a", "value": 1}\n'
    for bad, error in [
        ('{"key": "", "value": 1}', ArgumentError),
        ('{"key": "b", "type": "int", "value": 9223372036854775808}', ArgumentError),
        ('{"key": "b", "type": "int", "value": 1.5}', TypeMismatchError),
        ('{"key": "b", "type": "int", "value": true}', TypeMismatchError),
        ('{"key": "b", "type": "text", "value": 1}', TypeMismatchError),
        ('{"key": "b", "type": "null", "value": 1}', TypeMismatchError),
        ('{"key": "b", "type": "what", "value": 1}', ArgumentError),
        ('{"key": "b", "type": "vector", "value": []}', ArgumentError),
    ]:
        path.write_text(good + bad, "utf-8")
        with pytest.raises(error):
            db.import_jsonl(path)
        assert len(db) == 0 and db.stats().frames == 0
    path.write_text(good, "utf-8")
    with pytest.raises(ArgumentError):
        db.import_jsonl(path, "k" * 65534)
    assert len(db) == 0


def test_a_file_in_several_commits_is_checked_before_the_first(tmp_path, db, monkeypatch):
    monkeypatch.setattr(importing, "COMMIT_BYTES", 2000)
    db.put_many({f"k{n}": "x" * 50 for n in range(500)})
    db.export_jsonl(tmp_path / "x")
    with SynaDB(tmp_path / "other.db", sync_on_write=False) as other:
        with open(tmp_path / "x", "a", encoding="utf-8") as out:
            out.write("broken")
        with pytest.raises(CorruptionError, match="line 501"):
            other.import_jsonl(tmp_path / "x")
        assert len(other) == 0 and other.stats().commits == 0
        db.export_jsonl(tmp_path / "x")
        assert other.import_jsonl(tmp_path / "x") == 500
        assert_equal(db, other)
        assert other.stats().commits > 10


def test_a_small_file_is_one_commit(tmp_path, db):
    db.put_many({f"k{n}": n for n in range(1000)})
    db.export_csv(tmp_path / "x")
    before = db.stats().commits
    db.import_csv(tmp_path / "x")
    assert db.stats().commits == before + 1


@pytest.mark.parametrize("format", FORMATS)
def test_a_failed_export_leaves_what_was_there(tmp_path, db, format):
    need(format)
    db.put_many({f"k{n}": "x" * 3000 for n in range(20_000)})
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x").write_text("what was there")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(db, format, folder / "x", progress=stop)
    assert [p.name for p in folder.iterdir()] == ["x"]
    assert (folder / "x").read_text() == "what was there"


FULL = """
    import os, resource, sys
    from synadb import SynaDB
    what, format, path, file, limit = sys.argv[1:]
    if format in ("parquet", "arrow"):
        import pyarrow.parquet
    db = SynaDB(path, sync_on_write=False)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    try:
        getattr(db, f"{what}_{format}")(file)
    except OSError as error:
        print(type(error).__name__, len(db))
    db.close()
"""


@pytest.mark.parametrize("format", FORMATS)
def test_no_room_for_the_file_leaves_what_was_there(tmp_path, db, python, format):
    """A limit of the size of files stands for a full disk: both fail a write in the middle."""
    need(format)
    db.put_many({f"k{n}": random.Random(n).randbytes(600).hex() for n in range(1_000)})
    db.close()
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "x").write_text("what was there")
    said = python(FULL, "export", format, db.path, folder / "x", 200_000).split()
    assert said == ["OSError", "1000"]
    assert [p.name for p in folder.iterdir()] == ["x"]
    assert (folder / "x").read_text() == "what was there"


def test_no_room_for_what_is_imported_is_an_error_and_nothing_is_there(tmp_path, db, python):
    db.put_many({f"k{n}": random.Random(n).randbytes(6_000).hex() for n in range(300)})
    db.export_jsonl(tmp_path / "x")
    said = python(FULL, "import", "jsonl", tmp_path / "b.db", tmp_path / "x", 1 << 20).split()
    assert said == ["SynaIOError", "0"]
    with SynaDB(tmp_path / "b.db") as other:
        assert len(other) == 0 and other.verify().ok


def test_a_folder_that_takes_no_files(db):
    db["a"] = 1
    with pytest.raises(OSError, match="/sys/"):
        db.export_json("/sys/synadb.json")
    assert db["a"] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_files_that_may_not_be_read_or_written(tmp_path, db):
    db["a"] = 1
    db.export_json(tmp_path / "x")
    (tmp_path / "x").chmod(0)
    with pytest.raises(PermissionError):
        db.import_json(tmp_path / "x")
    folder = tmp_path / "out"
    folder.mkdir(0o500)
    with pytest.raises(PermissionError):
        db.export_json(folder / "x")
    assert list(folder.iterdir()) == [] and db["a"] == 1


def test_an_export_keeps_permissions_follows_links_and_refuses_folders(tmp_path, db):
    db["a"] = 1
    target = tmp_path / "x"
    target.write_text("")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    db.export_json(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert json.loads(target.read_text()) == {"a": 1}
    with pytest.raises(IsADirectoryError):
        db.export_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        db.export_json(tmp_path / "absent" / "x")
    with pytest.raises(ArgumentError, match="replace the database"):
        db.export_json(db.path)
    assert db["a"] == 1
    with pytest.raises(ArgumentError, match="format"):
        export_file(db, tmp_path / "y", "xml")
    with pytest.raises(ArgumentError, match="type"):
        db.export_json(tmp_path / "y", type="double")
    assert not (tmp_path / "y").exists()


def test_damage_met_by_an_export_is_an_error_and_no_file(tmp_path, path):
    with SynaDB(path, sync_on_write=False) as db:
        db.put_many({"a": "first", "b": "findme-findme", "c": "last"})
        db.flush()
        raw = path.read_bytes()
        at = raw.index(b"findme")
        with open(path, "r+b") as out:
            out.seek(at)
            out.write(b"X")
        for format in FORMATS:
            with pytest.raises(CorruptionError, match="checksum"):
                export(db, format, tmp_path / "x")
            assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_tensor_is_refused_by_name_and_can_be_left_out(tmp_path, path, format):
    with TensorEngine(path) as engine:
        engine.put_tensor("x/", np.arange(100.0))
    with SynaDB(path, sync_on_write=False) as db:
        db["a"] = 1.5
        with db.open_blob("tensor/mine", "wb") as out:
            out.write(b"no tensor")
        with pytest.raises(TypeMismatchError, match="'tensor/x/' holds a tensor"):
            export(db, format, tmp_path / "x")
        assert not (tmp_path / "x").exists()
        assert export(db, format, tmp_path / "x", type="float") == 1
        assert export(db, format, tmp_path / "x", key_pattern="*[!/]") == 2


# ------------------------------------------------------------------------------------- pickles


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


class EvilZone:
    def __reduce__(self):
        return getattr, (dict, "fromkeys")


def test_a_pickle_cannot_run_code_and_is_read_only_by_name(tmp_path, db, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for evil in (Evil(), EvilZone()):
        (tmp_path / "x.pickle").write_bytes(pickle.dumps([{"key": "a", "value": evil}]))
        with pytest.raises(CorruptionError, match="asks for"):
            db.import_pickle(tmp_path / "x.pickle")
    assert not (tmp_path / "evil").exists()
    for format in FORMATS:
        if format != "pickle":
            need(format)
            with pytest.raises(CorruptionError):
                take(db, format, tmp_path / "x.pickle")
    assert not (tmp_path / "evil").exists()


def test_importing_a_pickle_warns_and_says_why(tmp_path, db):
    db["a"] = 1
    db.export_pickle(tmp_path / "x")
    with pytest.warns(UserWarning, match="is a program") as caught:
        db.import_pickle(tmp_path / "x")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        db.export_json(tmp_path / "x")
        db.import_json(tmp_path / "x")


# -------------------------------------------------------------------------------- progress


def test_progress_is_told_and_can_stop_an_import(tmp_path, db):
    db.put_many({f"k{n}": "x" * 100 for n in range(20_000)})
    told = []
    db.export_jsonl(tmp_path / "x", progress=lambda done, total: told.append((done, total)))
    assert told and all(0 < done <= total == 20_000 for done, total in told)
    size = (tmp_path / "x").stat().st_size
    told.clear()
    with SynaDB(tmp_path / "other.db", sync_on_write=False) as other:
        other.import_jsonl(tmp_path / "x", progress=lambda done, total: told.append((done, total)))
        assert told and all(0 <= done <= total == size for done, total in told)

        def stop(done, total):
            raise CancelledError(0, "stopped")

        other.clear()
        with pytest.raises(CancelledError):
            other.import_jsonl(tmp_path / "x", progress=stop)
        assert len(other) == 0
    with pytest.raises(TypeError, match="progress"):
        db.export_json(tmp_path / "x", progress=3)


# ------------------------------------------------------------------------------ the command line


def cli(*arguments, **options):
    import subprocess

    return subprocess.run(
        [sys.executable, "-m", "synadb", *map(str, arguments)], capture_output=True, **options
    )


def test_the_commands_export_and_import(tmp_path, path):
    with SynaDB(path, sync_on_write=False) as db:
        db.put_many({"a/x": 1.5, "a/y": "text", "b": [1, 2]})
        db.delete("b")
    done = cli("export", path, "-p", "a/*")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert json.loads(done.stdout.splitlines()[0]) == {"key": "a/x", "type": "float", "value": 1.5}
    done = cli("export", path, "--json", "--history", "-o", tmp_path / "x.csv")
    assert json.loads(done.stdout) == {"to": str(tmp_path / "x.csv"), "records": 4}
    done = cli("import", tmp_path / "new.db", tmp_path / "x.csv", "--prefix", "p/")
    assert done.returncode == 0 and done.stdout.startswith(b"4 records")
    with SynaDB(tmp_path / "new.db") as db:
        assert dict(db.items()) == {"p/a/x": 1.5, "p/a/y": "text"}
        assert len(db.get_history("p/b").deletions) == 1
    assert cli("export", path, "-o", tmp_path / "x.pickle").returncode == 0
    done = cli("import", tmp_path / "more.db", tmp_path / "x.pickle")
    assert done.returncode == 1 and b"-f pickle" in done.stderr
    assert (
        cli("import", tmp_path / "more.db", tmp_path / "x.pickle", "-f", "pickle").returncode == 0
    )
    for wrong in (["export", path, "-o", tmp_path / "x.what"], ["export", path, "-f", "msgpack"],
                  ["import", tmp_path / "none.db", tmp_path / "absent.json"]):  # fmt: skip
        assert cli(*wrong).returncode == 1
    assert not (tmp_path / "none.db").exists()


# ---------------------------------------------------------------------- what they are made of


def test_streams_write_text_formats_to_any_file(db):
    db["a"] = 1
    for format in ("json", "jsonl", "csv", "pickle"):
        out = io.BytesIO()
        assert export_stream(db, out, format) == 1
        assert out.getvalue()
    with pytest.raises(ArgumentError, match="name a file"):
        export_stream(db, io.BytesIO(), "parquet")


def test_a_writer_keeps_types_and_times_and_can_be_emptied(db):
    writer = Writer(db)
    writer.put("a", "float", 1, 5_000_000)
    writer.put("a", "deleted", None, 6_000_000)
    writer.put("b", None, (1, 2))
    assert len(writer) == 3 and writer.bytes > 0
    writer.discard()
    assert len(writer) == 0 and writer.bytes == 0
    writer.put("c", "packed", 5)
    writer.commit()
    assert db.type_of("c") == "packed" and db["c"] == 5 and len(db) == 1
    writer.close()
    rows = Rows(db, Selection()).take(10, 10)
    assert unpack(rows[0][4]) == 5


def test_without_pyarrow_the_error_names_the_extra(tmp_path, db, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    db["a"] = 1
    for format in ("parquet", "arrow"):
        with pytest.raises(ImportError, match=r"synadb\[arrow\]"):
            getattr(db, f"export_{format}")(tmp_path / "x")
        (tmp_path / "y").write_bytes(b"x")
        with pytest.raises(ImportError, match=r"synadb\[arrow\]"):
            take(db, format, tmp_path / "y")
    assert not (tmp_path / "x").exists()
