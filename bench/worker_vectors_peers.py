"""The engines of the dense bench, each used as its own documentation recommends.

Graphs have 32 links a row on the lowest layer (M=16) and look at 200 candidates a row while they
are built, all of them. `width` is an engine's own parameter of effort: candidates kept, or lists
read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from worker_vectors_data import K

LINKS, CANDIDATES = 16, 200
WIDTHS = sorted({round(10 * 1.09**step) for step in range(54)})  # 10 to 962
Rows = Any  # of row numbers, by query: lists or an array


class Engine:
    """What the tasks need. A task an engine does not have is one whose method is missing here."""

    module = ""
    widths: Sequence[int] = WIDTHS
    width = WIDTHS[0]
    search_build_threads = (
        1  # 2: its build on one thread is compared with nothing, and takes minutes
    )
    kept = Path()  # a folder for what later tasks on the same rows may use

    def __init__(self, folder: Path, dims: int, cosine: bool, threads: int) -> None:
        self.folder, self.dims, self.cosine, self.threads = folder, dims, cosine, threads

    def build(self, rows: np.ndarray) -> None:
        """All rows, until they can be searched."""
        raise NotImplementedError

    def one(self, query: np.ndarray) -> Any:
        """Row numbers of the K nearest, in the form in which the engine gives them."""
        raise NotImplementedError

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        raise NotImplementedError

    def bytes(self, count: int) -> float:
        """Of the index, a row, with the vectors unless they lie apart; 0: not known."""
        return 0.0

    def keep(self) -> None:
        """Write the index to self.kept, if that saves building it again."""

    def settle(self) -> None:
        """After `add`: whatever is left to do until all rows are in the index."""


class Syna(Engine):
    module = "synadb"

    def __init__(self, folder: Path, dims: int, cosine: bool, threads: int) -> None:
        super().__init__(folder, dims, cosine, threads)
        self.plain: dict[str, Any] = {"vectors": False, "metadata": False}
        self._open()

    def _open(self) -> None:
        from synadb import VectorStore

        metric = "cosine" if self.cosine else "euclidean"
        self.store = VectorStore(
            *(self.folder / "rows.db", self.dims, metric),
            sync_on_write=False,
            threads=self.threads,
        )

    def build(self, rows: np.ndarray) -> None:
        self.store.insert_batch(list(map(str, range(len(rows)))), rows)
        if self.store.stats().indexed_rows < len(rows):
            self.store.build_index()

    def one(self, query: np.ndarray) -> Any:
        return self.store.search(query, K, ef=self.width, **self.plain)

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        if threads != self.threads:
            self.store.close()
            self.threads = threads
            self._open()
        found = self._batch(queries)
        return self._numbers(found) if threads == 1 else found.table()  # columns, as of the others

    def _batch(self, queries: np.ndarray) -> Any:
        return self.store.search_batch(queries, K, ef=self.width, **self.plain)

    @staticmethod
    def _numbers(found: Any) -> Rows:
        return [[int(hit.key) for hit in hits] for hits in found]

    def bytes(self, count: int) -> float:
        return self.store.stats().memory_bytes / count

    def begin_add(self, rows: np.ndarray) -> None:
        self.build(rows)

    def add(self, number: int, row: np.ndarray) -> None:
        self.store.insert(str(number), row)

    def settle(self) -> None:
        self.store.absorb()

    def build_labelled(self, rows: np.ndarray, labels: np.ndarray, section: np.ndarray) -> None:
        data = [{"n": int(n), "s": int(s)} for n, s in zip(labels, section)]
        self.store.insert_batch(list(map(str, range(len(rows)))), rows, data)
        if self.store.stats().indexed_rows < len(rows):
            self.store.build_index()

    def choose(self, chosen: np.ndarray, field: str, value: int) -> None:
        self.filter = {"n": {"$lt": value}} if field == "n" else {"s": value}

    def one_filtered(self, query: np.ndarray) -> Any:
        return self._numbers(
            [self.store.search(query, K, ef=self.width, filter=self.filter, **self.plain)]
        )[0]


class Hnswlib(Engine):
    module = "hnswlib"

    def _make(self, room: int) -> None:
        import hnswlib

        self.index = hnswlib.Index("ip" if self.cosine else "l2", self.dims)
        self.index.init_index(room, M=LINKS, ef_construction=CANDIDATES)

    def build(self, rows: np.ndarray) -> None:
        self._make(len(rows))
        self.index.add_items(rows, num_threads=self.threads)

    def one(self, query: np.ndarray) -> Any:
        return self.many(query, 1)[0]

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        self.index.set_ef(self.width)
        return self.index.knn_query(queries, K, num_threads=threads)[0]

    def bytes(self, count: int) -> float:
        return self.index.index_file_size() / count

    def begin_add(self, rows: np.ndarray) -> None:
        self._make(2 * len(rows) + 1_000_000)
        self.index.add_items(rows, num_threads=2)

    def add(self, number: int, row: np.ndarray) -> None:
        self.index.add_items(row, number, num_threads=1)

    def keep(self) -> None:
        self.index.save_index(str(self.kept / "hnswlib.bin"))

    def build_labelled(self, rows: np.ndarray, labels: np.ndarray, section: np.ndarray) -> None:
        if not (self.kept / "hnswlib.bin").exists():
            self.build(rows)
            return
        self._make(len(rows))
        self.index.load_index(str(self.kept / "hnswlib.bin"), len(rows))

    def choose(self, chosen: np.ndarray, field: str, value: int) -> None:
        self.chosen = chosen.tolist().__getitem__

    def one_filtered(self, query: np.ndarray) -> Any:
        self.index.set_ef(self.width)
        try:
            return self.index.knn_query(query, K, num_threads=1, filter=self.chosen)[0][0]
        except RuntimeError:  # fewer than K came back
            return []


class FaissHnsw(Engine):
    """HNSW over 8-bit codes."""

    module = "faiss"

    def build(self, rows: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        self.faiss = faiss
        self.index = faiss.IndexHNSWSQ(self.dims, faiss.ScalarQuantizer.QT_8bit, LINKS)
        self.index.hnsw.efConstruction = CANDIDATES
        self.index.train(rows[:20_000])
        self.index.add(rows)

    def one(self, query: np.ndarray) -> Any:
        return self.many(query[None], 1)[0]

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        self._threads(threads)
        self.index.hnsw.efSearch = self.width
        return self.index.search(queries, K)[1]

    def _threads(self, threads: int) -> None:
        if threads != self.threads:
            self.faiss.omp_set_num_threads(threads)
            self.threads = threads

    def bytes(self, count: int) -> float:
        return len(self.faiss.serialize_index(self.index)) / count


class FaissIvf(FaissHnsw):
    """Lists around centres, float32; the width is how many lists are read."""

    widths = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60, 75, 90, 120, 160, 256)

    def build(self, rows: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        self.faiss = faiss
        lists = max(16, int(2 * len(rows) ** 0.5))
        kind = faiss.METRIC_INNER_PRODUCT if self.cosine else faiss.METRIC_L2
        self.index = faiss.index_factory(self.dims, f"IVF{lists},Flat", kind)
        self.index.train(rows[: lists * 64])
        self.index.add(rows)

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        self._threads(threads)
        self.index.nprobe = self.width
        return self.index.search(queries, K)[1]

    def build_labelled(self, rows: np.ndarray, labels: np.ndarray, section: np.ndarray) -> None:
        self.build(rows)

    def choose(self, chosen: np.ndarray, field: str, value: int) -> None:
        self.bits = np.packbits(chosen, bitorder="little")
        self.selector = self.faiss.IDSelectorBitmap(self.bits)

    def one_filtered(self, query: np.ndarray) -> Any:
        how = self.faiss.SearchParametersIVF(sel=self.selector, nprobe=self.width)
        found = self.index.search(query[None], K, params=how)[1][0]
        return found[found >= 0]


class FaissFlat(FaissHnsw):
    """Every row, float32: the exact one."""

    widths = (1,)

    def build(self, rows: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(self.threads)
        self.faiss = faiss
        self.index = (faiss.IndexFlatIP if self.cosine else faiss.IndexFlatL2)(self.dims)
        self.index.add(rows)

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        self._threads(threads)
        return self.index.search(queries, K)[1]


class Usearch(Engine):
    """Its 8-bit codes, which are its fastest on real data; "bf16" is the more exact one."""

    module = "usearch"
    dtype = "i8"

    def build(self, rows: np.ndarray) -> None:
        from usearch.index import Index

        self.index = Index(
            ndim=self.dims,
            metric="cos" if self.cosine else "l2sq",
            dtype=self.dtype,
            connectivity=LINKS,
            expansion_add=CANDIDATES,
        )
        self.index.add(np.arange(len(rows)), rows, threads=self.threads)

    def one(self, query: np.ndarray) -> Any:
        self.index.expansion_search = self.width
        return self.index.search(query, K, threads=1).keys

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        self.index.expansion_search = self.width
        return self.index.search(queries, K, threads=threads).keys

    def bytes(self, count: int) -> float:
        return self.index.memory_usage / count


class UsearchBf16(Usearch):
    dtype = "bf16"


class Svs(Engine):
    """Vamana over rows in half precision."""

    module = "svs"
    search_build_threads = 2

    def _rows(self, svs: Any, rows: np.ndarray) -> Any:
        return rows.astype(np.float16)

    def build(self, rows: np.ndarray) -> None:
        import svs

        kind = svs.DistanceType.MIP if self.cosine else svs.DistanceType.L2
        how = svs.VamanaBuildParameters(
            alpha=0.95 if self.cosine else 1.2,
            graph_max_degree=2 * LINKS,
            window_size=CANDIDATES,
        )
        self.index = svs.Vamana.build(how, self._rows(svs, rows), kind, num_threads=self.threads)

    def one(self, query: np.ndarray) -> Any:
        return self.many(query, 1)[0]

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        if threads != self.index.num_threads:
            self.index.num_threads = threads
        if self.index.search_window_size != self.width:
            self.index.search_window_size = self.width
        return self.index.search(queries, K)[0]


class SvsLvq(Svs):
    """Vamana over locally scaled 8-bit codes; it runs on Intel's processors only."""

    primary, residual = 8, 0

    def _rows(self, svs: Any, rows: np.ndarray) -> Any:
        path = str(self.folder / "rows.fvecs")
        svs.write_vecs(rows, path)
        loader = svs.VectorDataLoader(path, svs.DataType.float32)
        return svs.LVQLoader(loader, primary=self.primary, residual=self.residual)


class SvsLvq4x8(SvsLvq):
    """Four bits for the walk and eight more for what it finds."""

    primary, residual = 4, 8


class Zvec(Engine):
    module = "zvec"

    def _make(self, labelled: bool) -> None:
        import zvec

        zvec.init(query_threads=1, optimize_threads=self.threads, log_level=zvec.LogLevel.ERROR)
        self.zvec = zvec
        kind = zvec.MetricType.COSINE if self.cosine else zvec.MetricType.L2
        number = zvec.DataType.INT32
        vector = zvec.VectorSchema(
            "v",
            zvec.DataType.VECTOR_FP32,
            self.dims,
            zvec.HnswIndexParam(kind, m=LINKS, ef_construction=CANDIDATES),
        )
        index = zvec.InvertIndexParam(enable_range_optimization=True)
        fields = [zvec.FieldSchema(name, number, index_param=index) for name in "ns"]
        schema = zvec.CollectionSchema("rows", fields if labelled else None, vector)
        self.rows = zvec.create_and_open(str(self.folder / "zvec"), schema)
        self.filter: str | None = None

    def _insert(self, docs: list[Any]) -> None:
        for at in range(0, len(docs), 1000):
            self.rows.insert(docs[at : at + 1000])
        self.rows.optimize()

    def build(self, rows: np.ndarray) -> None:
        self._make(False)
        doc = self.zvec.Doc
        self._insert([doc(str(i), vectors={"v": row}) for i, row in enumerate(rows)])

    def one(self, query: np.ndarray) -> Any:
        asked = self.zvec.Query("v", vector=query, param=self.zvec.HnswQueryParam(ef=self.width))
        return [int(doc.id) for doc in self.rows.query(asked, topk=K, filter=self.filter)]

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        return [self.one(query) for query in queries]

    def begin_add(self, rows: np.ndarray) -> None:
        self.build(rows)

    def add(self, number: int, row: np.ndarray) -> None:
        self.rows.insert(self.zvec.Doc(str(number), vectors={"v": row}))

    def build_labelled(self, rows: np.ndarray, labels: np.ndarray, section: np.ndarray) -> None:
        self._make(True)
        doc = self.zvec.Doc
        self._insert(
            [
                doc(str(i), vectors={"v": row}, fields={"n": int(labels[i]), "s": int(section[i])})
                for i, row in enumerate(rows)
            ]
        )

    def choose(self, chosen: np.ndarray, field: str, value: int) -> None:
        self.filter = f"n < {value}" if field == "n" else f"s = {value}"

    def one_filtered(self, query: np.ndarray) -> Any:
        return self.one(query)


class Lance(Engine):
    """Its graph over 8-bit codes, re-scored from the full rows."""

    module = "lancedb"
    widths = (20, 40, 80, 160, 320)

    def build(self, rows: np.ndarray) -> None:
        self.build_labelled(rows, np.zeros(len(rows)), np.zeros(len(rows)))

    def build_labelled(self, rows: np.ndarray, labels: np.ndarray, section: np.ndarray) -> None:
        import lancedb
        import pyarrow as pa

        flat = pa.array(rows.reshape(-1))
        table = pa.table(
            {
                "id": np.arange(len(rows)),
                "v": pa.FixedSizeListArray.from_arrays(flat, self.dims),
                "n": labels.astype(np.int32),
                "s": section.astype(np.int32),
            }
        )
        self.filter: str | None = None
        self.table = lancedb.connect(self.folder / "lance").create_table("rows", table)
        self.table.create_index(
            metric="cosine" if self.cosine else "l2",
            vector_column_name="v",
            index_type="IVF_HNSW_SQ",
            num_partitions=1,
            m=LINKS,
            ef_construction=CANDIDATES,
        )

    def one(self, query: np.ndarray) -> Any:
        asked = (
            self.table.search(query)
            .select(["id", "_distance"])
            .limit(K)
            .ef(self.width)
            .refine_factor(2)
        )
        if self.filter:
            asked = asked.where(self.filter, prefilter=True)
        return asked.to_arrow()["id"].to_pylist()

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        return [self.one(query) for query in queries]

    def choose(self, chosen: np.ndarray, field: str, value: int) -> None:
        self.filter = f"n < {value}" if field == "n" else f"s = {value}"

    def one_filtered(self, query: np.ndarray) -> Any:
        return self.one(query)


class SqliteVec(Engine):
    """Exact: it has no index."""

    module = "sqlite_vec"
    widths = (1,)

    def build(self, rows: np.ndarray) -> None:
        self.build_labelled(rows, np.zeros(len(rows)), np.zeros(len(rows)))

    def build_labelled(self, rows: np.ndarray, labels: np.ndarray, section: np.ndarray) -> None:
        import sqlite_vec

        self.db = sqlite3.connect(self.folder / "rows.sqlite")
        self.db.enable_load_extension(True)
        sqlite_vec.load(self.db)
        kind = "cosine" if self.cosine else "l2"
        self.db.execute(
            "CREATE VIRTUAL TABLE rows USING vec0(id INTEGER PRIMARY KEY, n INTEGER, s INTEGER, "
            f"v float[{self.dims}] distance_metric={kind})"
        )
        lines = zip(range(len(rows)), labels.tolist(), section.tolist(), map(memoryview, rows))
        with self.db:
            self.db.executemany(
                "INSERT INTO rows(id, n, s, v) VALUES(?, ?, ?, ?)",
                ((i, int(n), int(s), bytes(row)) for i, n, s, row in lines),
            )
        self.filter = ""

    def one(self, query: np.ndarray) -> Any:
        text = f"SELECT id FROM rows WHERE v MATCH ? AND k = {K} {self.filter}"
        return [number for (number,) in self.db.execute(text, (query.tobytes(),))]

    def many(self, queries: np.ndarray, threads: int) -> Rows:
        return [self.one(query) for query in queries]

    def choose(self, chosen: np.ndarray, field: str, value: int) -> None:
        self.filter = f"AND n < {value}" if field == "n" else f"AND s = {value}"

    def one_filtered(self, query: np.ndarray) -> Any:
        return self.one(query)


ENGINES: dict[str, type[Engine]] = {
    "synadb": Syna,
    "svs-lvq8": SvsLvq,
    "svs-lvq4x8": SvsLvq4x8,
    "svs-f16": Svs,
    "hnswlib": Hnswlib,
    "faiss-hnsw": FaissHnsw,
    "faiss-ivf": FaissIvf,
    "faiss-flat": FaissFlat,
    "usearch-i8": Usearch,
    "usearch-bf16": UsearchBf16,
    "zvec": Zvec,
    "lancedb": Lance,
    "sqlite-vec": SqliteVec,
}
