"""Migration of the ancestor's files of vectors, dense and sparse: whole, torn and damaged ones."""

from __future__ import annotations

import itertools
import math
import os
import struct

import numpy as np
import pytest
from formats.ancestor import MAKERS, make_cascade, make_gwi, make_mmap, make_svs, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synadb import (
    CascadeIndex,
    CorruptionError,
    FormatVersionError,
    GravityWellIndex,
    MmapVectorStore,
    SparseVectorStore,
    SynaDB,
    SynaError,
    WrongKindError,
)
from synadb.migrate import migrate


@pytest.fixture
def old(tmp_path):
    """old(bytes): a file of these; its path."""
    count = itertools.count()

    def write(data):
        path = tmp_path / f"old{next(count)}"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def new(tmp_path):
    """Where the new file goes; its folder holds nothing else."""
    (tmp_path / "to").mkdir()
    return tmp_path / "to" / "new.db"


kinds = pytest.mark.parametrize("kind", MAKERS)
TARGETS = {"mmap": MmapVectorStore, "gwi": GravityWellIndex, "cascade": CascadeIndex}


def content(path, dims, metric="cosine", kind="mmap"):
    with TARGETS[kind](path, dims, metric=metric) as store:
        return {key: store.get(key).tolist() for key in store.keys()}


@kinds
def test_files_of_vectors(kind, old, new):
    rows = rows_of(500, 9)
    twice = (rows[7][0], rows[8][1])
    source = old(MAKERS[kind]([*rows, twice], 9, metric=1))
    before = source.read_bytes()
    report = migrate(source, new)
    assert source.read_bytes() == before
    assert [name for name in os.listdir(new.parent) if not name.startswith("new.db.")] == ["new.db"]
    assert report.complete and report.kind == kind and report.came == {"vectors": 500}
    assert report.notes == ("1 rows were replaced by later ones with the same key",)
    wanted = {**{key: row.tolist() for key, row in rows}, twice[0]: twice[1].tolist()}
    assert content(new, 9, "euclidean", kind) == wanted
    assert report.components == (TARGETS[kind].__name__,)
    with TARGETS[kind](new, 9, metric="euclidean") as store:
        assert store.search(rows[3][1], k=1)[0].key == "key3" and store.verify().ok
        store.insert("more", np.ones(9))


@kinds
def test_an_empty_file_of_vectors(kind, old, new):
    report = migrate(old(MAKERS[kind]([], 5)), new)
    assert report.complete and report.came == {"vectors": 0}
    assert content(new, 5, kind=kind) == {}


@kinds
def test_rows_that_no_store_takes(kind, old, new):
    rows = rows_of(6, 3)
    rows[1] = ("", rows[1][1])
    rows[2] = ("nul\0nul", rows[2][1])
    rows[3] = ("nan", np.array([1, math.nan, 0], "<f4"))
    rows[4] = ("inf", np.array([1, math.inf, 0], "<f4"))
    report = migrate(old(MAKERS[kind](rows, 3)), new)
    assert report.lost_count == 4 and report.came == {"vectors": 2}
    assert list(content(new, 3, kind=kind)) == ["key0", "key5"]


@kinds
def test_every_cut_of_a_file_of_vectors(kind, old, tmp_path):
    rows = rows_of(4, 3)
    whole = MAKERS[kind](rows, 3)
    for cut in range(0, len(whole), 3):
        target = tmp_path / f"new{cut}"
        try:
            report = migrate(old(whole[:cut]), target)
        except (CorruptionError, WrongKindError):
            assert cut < 110 + 64 and not target.exists()
            continue
        found = content(target, 3, kind=kind)
        assert found == {key: row.tolist() for key, row in rows[: len(found)]}
        assert report.complete == (len(found) == 4) and report.lost_count == 4 - len(found)


@kinds
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_damage_to_a_file_of_vectors_does_harm(tmp_path_factory, kind, data):
    folder = tmp_path_factory.mktemp("rows")
    raw = bytearray(MAKERS[kind](rows_of(5, 4), 4))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "old").write_bytes(bytes(raw[: data.draw(st.integers(8, len(raw)))]))
    try:
        report = migrate(folder / "old", folder / "new")
    except SynaError:
        assert os.listdir(folder) == ["old"]
        return
    dims = struct.unpack_from("<H", raw, 8)[0]
    metric = ("cosine", "euclidean", "dot_product")[raw[13 if kind == "gwi" else 10]]
    assert len(content(folder / "new", dims, metric, kind)) == report.came["vectors"]


def test_a_length_that_was_changed_is_noticed(old, new):
    data = bytearray(make_mmap(rows_of(20, 4), 4))
    assert data[64] == 4  # of the first key
    data[64] = 3
    report = migrate(old(bytes(data)), new)
    assert not report.complete


def test_rows_behind_the_count_are_left_out_and_told_of(old, new):
    report = migrate(old(make_mmap(rows_of(5, 4), 4, count=3, end=64 + 3 * (2 + 4 + 16))), new)
    assert report.came == {"vectors": 3} and report.complete
    assert len(report.notes) == 1 and "never flushed" in report.notes[0]


def test_a_write_offset_that_counts_from_the_rows(old, new):
    assert migrate(old(make_mmap(rows_of(5, 4), 4, absolute=False)), new).complete


@pytest.mark.parametrize(
    ("data", "error", "why"),
    [
        (make_mmap([], 0), CorruptionError, "0 dimensions"),
        (make_mmap([], 4, metric=3), CorruptionError, "metric 3"),
        (make_mmap([], 4)[:30], CorruptionError, "too few"),
        (make_gwi([], 4, start=64)[:56], CorruptionError, "rows begin at 64"),
        (make_cascade([], 4, hashes=b"")[:50], CorruptionError, "hash tables"),
        (b"GWIX" + struct.pack("<I", 2) + bytes(90), FormatVersionError, "version 2"),
        (struct.pack("<4sHHB", b"HNSW", 1, 8, 0) + bytes(50), WrongKindError, "migrate the log"),
        (b"SVMC" + struct.pack("<I", 1) + bytes(90), WrongKindError, "three files"),
    ],
)
def test_headers_that_are_refused(old, new, data, error, why):
    source = old(data)
    with pytest.raises(error, match=why) as caught:
        migrate(source, new)
    assert caught.value.path == str(source)
    assert source.read_bytes() == data and os.listdir(new.parent) == []


def test_a_count_that_lies_takes_no_memory(old, new):
    report = migrate(old(make_mmap(rows_of(3, 4), 4, count=2**60)), new)
    assert report.came == {"vectors": 3} and report.lost_count >= 2**60 - 10**6


SPARSE = [("a", [(3, 1.0), (7, 0.5)]), ("b", [(7, 2.0), (100_000, 0.25)]), ("none", [])]


def test_sparse_vectors(old, new):
    report = migrate(old(make_svs(SPARSE)), new)
    assert report.complete and report.kind == "svs" and report.came == {"sparse vectors": 3}
    assert report.components == ("SparseVectorStore",)
    with SparseVectorStore.open(new) as store:
        assert store.vocab_size == 100_001 and len(store) == 3
        assert {key: store.get(key).to_dict() for key in store.keys()} == {
            key: dict(terms) for key, terms in SPARSE
        }
        hits = [(hit.key, hit.score) for hit in store.search([7, 3], [1.0, 1.0], k=5)]
        assert hits == [("b", 2.0), ("a", 1.5)]
        store.index("c", {1: 1.0})


def test_sparse_vectors_that_no_store_takes(old, new):
    bad = [
        ("good", [(1, 1.0)]),
        ("", [(1, 1.0)]),
        ("nan", [(1, math.nan)]),
        ("top", [(2**32 - 1, 1)]),
    ]
    report = migrate(old(make_svs(bad)), new)
    assert report.came == {"sparse vectors": 1}
    assert [lost.why.split(";")[0] for lost in report.lost if lost.where in ("'nan'", "'top'")] == [
        "a term above 4294967294", "a weight is NaN or infinite"
    ]  # fmt: skip
    with SparseVectorStore.open(new) as store:
        assert store.keys() == ["good"]


def test_every_cut_of_an_svs(old, tmp_path):
    whole = make_svs(SPARSE)
    for cut in range(8, len(whole)):
        target = tmp_path / f"new{cut}"
        try:
            report = migrate(old(whole[:cut]), target)
        except CorruptionError:
            assert cut < 16
            continue
        assert not report.complete and report.came["sparse vectors"] < 3
    assert migrate(old(whole), tmp_path / "new").complete


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(st.integers(4, len(make_svs(SPARSE)) - 1), st.integers(0, 255)), min_size=1),
    st.integers(8, len(make_svs(SPARSE))),
)
def test_no_damage_to_an_svs_does_harm(tmp_path_factory, changes, cut):
    folder = tmp_path_factory.mktemp("svs")
    data = bytearray(make_svs(SPARSE))
    for at, byte in changes:
        data[at] = byte
    (folder / "old").write_bytes(bytes(data[:cut]))
    try:
        report = migrate(folder / "old", folder / "new")
    except SynaError:
        assert os.listdir(folder) == ["old"]
        return
    with SynaDB(folder / "new") as db:  # an empty store is an empty log
        assert (len(db) == 0) == (report.came["sparse vectors"] == 0)
    if report.came["sparse vectors"]:
        with SparseVectorStore.open(folder / "new") as store:
            assert len(store) == report.came["sparse vectors"]
