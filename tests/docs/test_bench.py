"""The benchmark: it runs, C and Python use the same keys, the tables are published."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
SECTIONS = [
    *("kv", "ycsb", "history", "open", "memory", "tensors", "vectors", "cascade"),
    *("gwi", "hybrid", "text", "sparse", "interchange"),
    *("loaders", "models", "experiments", "recovery", "footprint"),
]
PAGES = {ROOT / "README.md": {"machine", "floors"}, BENCH / "RESULTS.md": {"machine", *SECTIONS}}
# Without them a section says so and has no rows.
NEEDED = {"sparse": ["scipy"], "loaders": ["torch"], "interchange": ["pyarrow", "duckdb"]}
MARKER = re.compile(r"<!-- (/?)bench:(\w+) -->")


def load(name: str):
    """A module of bench/, which is a folder of scripts and no package."""
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A whole run, as small as it gets, beside the peer that is always there."""
    folder = tmp_path_factory.mktemp("bench")
    wheel = folder / "synadb.whl"
    wheel.write_bytes(b"x" * 1000)
    command = [
        *(sys.executable, BENCH / "bench.py", "all", "--size", "tiny", "--repeats", "1", "--no-c"),
        *("--peers", "dict+file,sqlite3", "--wheel", wheel, "--dir", folder),
        *("--out", folder / "results.json"),
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "results.json").read_text())


def test_every_section_has_rows_with_both_sides_and_floors(results):
    assert list(results["sections"]) == SECTIONS
    for section in results["sections"].values():
        if not all(map(importlib.util.find_spec, NEEDED.get(section["name"], []))):
            assert "Not measured" in section["notes"][0] and "installed" in section["notes"][0]
            continue
        assert section["rows"], section["name"]
        assert section["floors"] or section["name"] == "ycsb"  # whose floors are about C
        for row in section["rows"]:
            assert "synadb" in row["cells"], row["id"]
    peers = {name for row in results["sections"]["kv"]["rows"] for name in row["cells"]}
    assert peers == {"synadb", "sqlite3", "dict+file"}


def test_nothing_acknowledged_is_lost_or_wrong(results):
    rows = {row["id"]: row for row in results["sections"]["recovery"]["rows"]}
    for name in ("lost", "wrong", "flips", "cuts"):
        assert rows[name]["cells"]["synadb"]["value"] == 0, name


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_rewritten_between_its_markers_and_nowhere_else(page, results, tmp_path):
    report = load("report")
    before = page.read_text(encoding="utf-8")
    copy = tmp_path / page.name
    copy.write_text(before, encoding="utf-8")
    assert set(report.update_page(copy, results)) == PAGES[page]
    once = copy.read_text(encoding="utf-8")
    for name, section in results["sections"].items():
        assert name not in PAGES[page] or not section["rows"] or report.table(section) in once
    blocks = re.compile(r"(<!-- bench:(\w+) -->).*?(<!-- /bench:\2 -->)", re.DOTALL)
    assert blocks.sub(r"\1\3", once) == blocks.sub(r"\1\3", before)
    report.update_page(copy, results)
    assert copy.read_text(encoding="utf-8") == once


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_a_pair_of_markers_for_each_of_its_tables(page):
    marks = MARKER.findall(page.read_text(encoding="utf-8"))
    opened = [name for slash, name in marks if not slash]
    assert opened == [name for slash, name in marks if slash]
    assert sorted(opened) == sorted(PAGES[page])


def test_a_marker_without_its_partner_is_refused(results, tmp_path):
    broken = tmp_path / "README.md"
    broken.write_text("<!-- bench:kv -->\nno end\n")
    with pytest.raises(ValueError, match="bench:kv"):
        load("report").update_page(broken, results)
    assert broken.read_text() == "<!-- bench:kv -->\nno end\n"


def test_floors_pass_and_fail_where_they_should():
    report, measure = load("report"), load("measure")

    def row(ours: float, theirs: float) -> object:
        cells = {"synadb": measure.figure([ours]), "lmdb": measure.figure([theirs])}
        return report.Row("r", "r", "op", cells)

    assert report.at_least_times(row(1.5, 1.0), 1.5, ["lmdb"], "x").passed is True
    assert report.at_least_times(row(1.4, 1.0), 1.5, ["lmdb"], "x").passed is False
    assert report.at_least_times(row(1.4, 1.0), 1.5, ["other"], "x").passed is None
    assert report.at_most(10.0, 10.0, "ms", "x").passed is True
    assert report.at_most(10.1, 10.0, "ms", "x").passed is False


def test_a_floor_stands_beside_its_section():
    report = load("report")
    section = report.Section("kv", "Keys", floors=[report.at_most(2.0, 1.0, "ms", "get")])
    line = report.floors_table([section.as_dict()]).splitlines()[-1]
    assert line == "| kv | get | <= 1 ms | 2 ms | **FAIL** |"


def test_keys_are_different_and_the_same_in_python_and_c():
    workloads = load("workloads")
    keys = {workloads.key(n) for n in range(10_000)}
    assert len(keys) == 10_000 and {len(key) for key in keys} == {workloads.KEY_BYTES}
    source = (BENCH / "c" / "kvbench.c").read_text()
    assert "id * 387420489u % 1000000000000u" in source
    assert workloads.key(12_345) == f"user{12_345 * 387420489 % 1000000000000:012d}"


def test_a_zipfian_draw_favours_the_first_rank_as_the_law_says():
    import numpy as np

    workloads = load("workloads")
    ranks = workloads.zipfian(1000, 200_000, np.random.default_rng(1))
    weights = np.arange(1, 1001) ** -0.99
    assert ranks.min() == 0 and ranks.max() < 1000
    for rank in (0, 1, 10):
        expected = weights[rank] / weights.sum()
        assert abs(np.mean(ranks == rank) - expected) < 0.1 * expected


def test_a_trace_inserts_new_records_and_reads_only_what_is_there():
    workloads = load("workloads")
    for workload in workloads.YCSB_WORKLOADS:
        trace = workloads.ycsb_trace(workload, 500, 5_000, seed=1)
        present = 500
        for op, _, length, record in trace.tolist():
            if op == workloads.INSERT:
                assert record == present
                present += 1
            else:
                assert record < present
            assert (1 <= length <= 100) == (op == workloads.SCAN)
