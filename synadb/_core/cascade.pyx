"""An open cascade index: the calls of synadb/cascade.h over prepared arguments.
`synadb.CascadeIndex` inherits from `CascadeHandle`, turns what users pass into float32 arrays and
documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_CASCADE_FAST_SEARCH, SYNA_CASCADE_HIGH_RECALL, SYNA_CASCADE_LARGE, SYNA_CASCADE_SMALL,
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_METADATA_REPLACE, SYNA_METRIC_COSINE,
    SYNA_METRIC_DOT_PRODUCT, SYNA_METRIC_EUCLIDEAN, SYNA_PLAN_EXACT, SYNA_PLAN_GRAPH, SYNA_PLAN_SCAN, SYNA_SEARCH_EXACT,
    SYNA_SEARCH_METADATA, SYNA_SEARCH_RADIUS, SYNA_SEARCH_VECTORS, syna_buckets, syna_buckets_close, syna_buckets_compact,
    syna_buckets_contains, syna_buckets_count, syna_buckets_delete, syna_buckets_explain,
    syna_buckets_flush, syna_buckets_get, syna_buckets_get_metadata, syna_buckets_get_stats,
    syna_buckets_insert, syna_buckets_insert_batch, syna_buckets_open, syna_buckets_options,
    syna_buckets_refresh, syna_buckets_rows, syna_buckets_save, syna_buckets_search,
    syna_buckets_search_options, syna_buckets_stats, syna_buckets_update_metadata, syna_buckets_verify,
    syna_free_json, syna_hit)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport TextArray, take_columns, take_keys, take_results, verify_file
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

import numpy as np

COSINE = SYNA_METRIC_COSINE
EUCLIDEAN = SYNA_METRIC_EUCLIDEAN
DOT_PRODUCT = SYNA_METRIC_DOT_PRODUCT
MAX_DIMENSIONS = SYNA_DIMENSIONS_MAX

PRESETS = {
    "small": SYNA_CASCADE_SMALL,
    "large": SYNA_CASCADE_LARGE,
    "high_recall": SYNA_CASCADE_HIGH_RECALL,
    "fast_search": SYNA_CASCADE_FAST_SEARCH,
}
PLANS = {SYNA_PLAN_SCAN: "scan", SYNA_PLAN_EXACT: "exact", SYNA_PLAN_GRAPH: "cascade"}


cdef class CascadeHandle(Handle):
    cdef syna_buckets *ptr
    cdef uint32_t dims

    def __cinit__(self):
        self.noun = "index"

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, int preset, uint32_t num_hyperplanes,
              uint32_t bucket_capacity, uint32_t nprobe, float recall, uint32_t threads,
              uint64_t initial_capacity, bint read_only, progress):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef Progress steps = Progress(progress)
        cdef syna_buckets_options o
        cdef int32_t rc
        self.check_unopened()
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.dimensions = dimensions
        o.metric = metric
        o.preset = <uint8_t>preset
        o.num_hyperplanes = num_hyperplanes
        o.bucket_capacity = bucket_capacity
        o.nprobe = nprobe
        o.recall = recall
        o.threads = threads
        o.initial_capacity = initial_capacity
        o.read_only = read_only
        o.progress = progress_step
        o.context = &steps.context
        with nogil:
            rc = syna_buckets_open(c_path, &o, &self.ptr)
        steps.finish(rc)
        self.dims = dimensions
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_buckets_close(self.ptr)
        self.ptr = NULL
        return rc

    # -------------------------------------------------------------------------------- writing

    def _insert(self, key, const float[::1] vector not None):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef const float *row = &vector[0]
        cdef uint32_t dims = <uint32_t>vector.shape[0]
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_insert(self.ptr, k, size, row, dims)
        self.leave()
        check(rc)

    def _insert_batch(self, list keys not None, const float[:, ::1] vectors not None, metadata,
                      progress):
        cdef TextArray names = TextArray(keys, True)
        cdef TextArray facts = TextArray(metadata, False)
        cdef Progress steps = Progress(progress)
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        ident = self.begin_long("insert_batch")
        with nogil:
            rc = syna_buckets_insert_batch(self.ptr, names.texts, names.lens, rows, dims,
                                           facts.texts, facts.lens, count, progress_step,
                                           &steps.context, &added)
        self.end_long(ident)
        steps.finish(rc)
        return added

    def _update_metadata(self, key, metadata, bint replace):
        """Whether there is such a row. `metadata` is a JSON text or None."""
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t text_size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef const char *text = NULL
        cdef uint32_t flags = SYNA_METADATA_REPLACE if replace else 0
        cdef int32_t rc
        if metadata is not None:
            text = PyUnicode_AsUTF8AndSize(metadata, &text_size)
        self.enter()
        with nogil:
            rc = syna_buckets_update_metadata(self.ptr, k, size, text, <size_t>text_size, flags)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return False
        check(rc)
        return True

    def _delete(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t deleted = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    # --------------------------------------------------------------------------------- upkeep

    def _flush(self):
        cdef int32_t rc
        self.not_in_callback("flush")
        self.enter()
        with nogil:
            rc = syna_buckets_flush(self.ptr)
        self.leave()
        check(rc)

    def _save(self):
        cdef int32_t rc
        self.not_in_callback("save")
        self.enter()
        with nogil:
            rc = syna_buckets_save(self.ptr)
        self.leave()
        check(rc)

    def _refresh(self):
        cdef int32_t changed = 0
        cdef int32_t rc
        self.not_in_callback("refresh")
        self.enter()
        with nogil:
            rc = syna_buckets_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    def _compact(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        ident = self.begin_long("compact")
        with nogil:
            rc = syna_buckets_compact(self.ptr, progress_step, &steps.context)
        self.end_long(ident)
        steps.finish(rc)

    # -------------------------------------------------------------------------------- reading

    def _get(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        vector = np.empty(self.dims, np.float32)
        cdef float[::1] room = vector
        cdef float *out = &room[0]
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_get(self.ptr, k, size, out, self.dims)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        return vector

    def _metadata(self, key):
        """The JSON of a row's metadata; None when it has none, or there is no row."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef char *text = NULL
        cdef size_t text_len = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_get_metadata(self.ptr, k, size, &text, &text_len)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        try:
            return None if text is NULL else PyUnicode_DecodeUTF8(text, text_len, NULL)
        finally:
            syna_free_json(text)

    def _contains(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_buckets_count(self.ptr)
        self.leave()
        return count

    cdef syna_hit *rows(self, uint32_t flags, size_t *count) except? NULL:
        """All rows in the order written, to be given back with syna_free_hits."""
        cdef syna_hit *hits = NULL
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_rows(self.ptr, flags, &hits, count)
        self.leave()
        check(rc)
        return hits

    def _keys(self):
        cdef size_t count = 0
        cdef syna_hit *hits = self.rows(0, &count)
        return take_keys(hits, count)

    def _rows(self, bint vectors):
        """Results with score 0, in the order written."""
        cdef size_t count = 0
        cdef uint32_t flags = SYNA_SEARCH_METADATA | (SYNA_SEARCH_VECTORS if vectors else 0)
        cdef syna_hit *hits = self.rows(flags, &count)
        return take_results(hits, &count, 1, self.dims)[0]

    def _columns(self):
        """All rows as the columns of a table, in the order written."""
        cdef size_t count = 0
        cdef syna_hit *hits = self.rows(SYNA_SEARCH_METADATA | SYNA_SEARCH_VECTORS, &count)
        return take_columns(hits, count, self.dims)

    def _search(self, const float[:, ::1] queries not None, k, radius, bint vectors, float recall,
                bint exact, uint32_t nprobe, uint32_t ef_search, filter, bint metadata):
        """A list of results for each query, and how they were found. k None: no limit."""
        cdef syna_buckets_search_options how
        cdef syna_buckets_explain facts
        cdef syna_hit *hits = NULL
        cdef size_t count = queries.shape[0]
        cdef uint32_t dims = <uint32_t>queries.shape[1]
        cdef const float *rows = &queries[0, 0] if count else NULL
        cdef size_t[::1] found = np.zeros(max(count, 1), np.uintp)
        cdef size_t *counts = &found[0]
        cdef Py_ssize_t size = 0
        cdef int32_t rc
        memset(&how, 0, sizeof(how))
        memset(&facts, 0, sizeof(facts))
        how.size = sizeof(how)
        facts.size = sizeof(facts)
        how.explain = &facts
        how.k = UINT64_MAX if k is None else k
        how.recall = recall
        how.nprobe = nprobe
        how.ef_search = ef_search
        if vectors:
            how.flags |= SYNA_SEARCH_VECTORS
        if metadata:
            how.flags |= SYNA_SEARCH_METADATA
        if exact:
            how.flags |= SYNA_SEARCH_EXACT
        if radius is not None:
            how.flags |= SYNA_SEARCH_RADIUS
            how.radius = radius
        if filter is not None:
            how.filter = PyUnicode_AsUTF8AndSize(filter, &size)
            how.filter_len = <size_t>size
        self.enter()
        with nogil:
            rc = syna_buckets_search(self.ptr, rows, count, dims, &how, &hits, counts)
        self.leave()
        check(rc)
        return take_results(hits, counts, count, dims), {
            "plan": PLANS[facts.plan], "ef_search": facts.ef, "recall": facts.recall,
            "buckets": facts.buckets, "codes": facts.codes, "rows_scored": facts.full,
            "hops": facts.hops, "matches": facts.matches, "rows": facts.total,
        }

    def _stats(self):
        cdef syna_buckets_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_buckets_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return {
            "rows": s.rows, "dead_rows": s.dead_rows, "indexed_rows": s.indexed_rows,
            "unsaved_rows": s.unsaved_rows, "dimensions": s.dimensions, "metric": s.metric,
            "num_hyperplanes": s.num_hyperplanes, "bucket_capacity": s.bucket_capacity,
            "nprobe": s.nprobe, "recall": s.recall, "hash_bits": s.hash_bits, "buckets": s.buckets,
            "generation": s.generation, "index_bytes": s.index_bytes,
            "memory_bytes": s.memory_bytes, "file_bytes": s.file_bytes,
            "uuid": PyBytes_FromStringAndSize(<char *>s.uuid, 16).hex(),
            "simd": s.simd.decode("ascii"),
        }


# ------------------------------------------------------------------------- files, not handles

def verify(path, progress):
    """Check the last flush of a file; a `CheckReport`."""
    return verify_file(syna_buckets_verify, path, progress)
