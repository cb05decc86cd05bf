"""Stores in a process whose address space is limited (`ulimit -v`, batch systems)."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

BEGIN = """
import resource, sys
import numpy as np
limit = int(sys.argv[2]) << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import synadb
rows = np.random.default_rng(1).standard_normal((3000, 32)).astype(np.float32)
keys = [f"row{i}" for i in range(len(rows))]
path = sys.argv[1]
"""

DENSE = """
store.insert_batch(keys, rows)
assert store.search(rows[7], k=1)[0].key == "row7"
store.close()
"""

STORES = {
    "vector": "store = synadb.VectorStore(path, 32)" + DENSE,
    "mmap": "store = synadb.MmapVectorStore(path, 32)" + DENSE,
    "gwi": "store = synadb.GravityWellIndex(path, 32)\nstore.initialize(rows[:500])" + DENSE,
    "cascade": "store = synadb.CascadeIndex(path, 32)" + DENSE,
    "sparse": """
store = synadb.SparseVectorStore(path, 100)
for i in range(200):
    store.index(f"row{i}", {i % 100: 1.0, (i + 1) % 100: float(i + 1)})
assert len(store) == 200
store.close()
""",
    "several": """
stores = [synadb.VectorStore(f"{path}{i}", 32) for i in range(2)]
for store in stores:
    store.insert_batch(keys, rows)
    store.build_index()
for store in stores:
    assert store.search(rows[7], k=1)[0].key == "row7"
    store.close()
""",
}


LIMITS = {kind: 8 if kind == "several" else 3 for kind in STORES}  # GiB


@pytest.mark.parametrize("kind", STORES)
def test_a_store_works_where_address_space_is_limited(kind: str, tmp_path: Path) -> None:
    program = BEGIN + textwrap.dedent(STORES[kind])
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store"), str(LIMITS[kind])],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
