"""An open gravity well index: the calls of synadb/gwi.h over prepared arguments.
`synadb.GravityWellIndex` inherits from `WellsHandle`, turns what users pass into float32 arrays and
JSON, and documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int32_t, uint32_t, uint64_t
from libc.string cimport memset

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_GWI_NPROBE, SYNA_METADATA_REPLACE,
    SYNA_METRIC_COSINE,
    SYNA_METRIC_DOT_PRODUCT, SYNA_METRIC_EUCLIDEAN, SYNA_SEARCH_EXACT, SYNA_SEARCH_METADATA, SYNA_SEARCH_RADIUS,
    SYNA_SEARCH_VECTORS, syna_free_json, syna_hit, syna_wells,
    syna_wells_close, syna_wells_compact, syna_wells_contains, syna_wells_count, syna_wells_delete,
    syna_wells_explain, syna_wells_flush, syna_wells_get, syna_wells_get_metadata,
    syna_wells_get_stats, syna_wells_initialize, syna_wells_insert_batch, syna_wells_open,
    syna_wells_options, syna_wells_refresh, syna_wells_rows, syna_wells_search,
    syna_wells_search_options, syna_wells_stats, syna_wells_train, syna_wells_update_metadata,
    syna_wells_verify)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport TextArray, take_columns, take_keys, take_results, verify_file
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

import numpy as np

COSINE = SYNA_METRIC_COSINE
EUCLIDEAN = SYNA_METRIC_EUCLIDEAN
DOT_PRODUCT = SYNA_METRIC_DOT_PRODUCT
MAX_DIMENSIONS = SYNA_DIMENSIONS_MAX
NPROBE = SYNA_GWI_NPROBE


cdef class WellsHandle(Handle):
    cdef syna_wells *ptr
    cdef uint32_t dims

    def __cinit__(self):
        self.noun = "index"

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, uint32_t branching,
              uint32_t levels, uint64_t initial_capacity, bint read_only):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_wells_options o
        cdef int32_t rc
        self.check_unopened()
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.dimensions = dimensions
        o.metric = metric
        o.branching_factor = branching
        o.num_levels = levels
        o.initial_capacity = initial_capacity
        o.read_only = read_only
        with nogil:
            rc = syna_wells_open(c_path, &o, &self.ptr)
        check(rc)
        self.dims = dimensions
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_wells_close(self.ptr)
        self.ptr = NULL
        return rc

    # -------------------------------------------------------------------------------- writing

    def _insert_batch(self, list keys not None, const float[:, ::1] vectors not None,
                      list metadata):
        cdef TextArray names = TextArray(keys, True)
        cdef TextArray facts = TextArray(metadata, False)
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_insert_batch(self.ptr, names.texts, names.lens, rows, dims,
                                         facts.texts, facts.lens, count, &added)
        self.leave()
        check(rc)
        return added

    def _delete(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t deleted = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    # --------------------------------------------------------------------------------- upkeep

    def _flush(self):
        cdef int32_t rc
        self.not_in_callback("flush")
        self.enter()
        with nogil:
            rc = syna_wells_flush(self.ptr)
        self.leave()
        check(rc)

    def _refresh(self):
        cdef int32_t changed = 0
        cdef int32_t rc
        self.not_in_callback("refresh")
        self.enter()
        with nogil:
            rc = syna_wells_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    def _initialize(self, const float[:, ::1] sample not None, progress):
        cdef Progress steps = Progress(progress)
        cdef size_t count = sample.shape[0]
        cdef const float *rows = &sample[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>sample.shape[1]
        cdef int32_t rc
        ident = self.begin_long("initialize")
        with nogil:
            rc = syna_wells_initialize(self.ptr, rows, count, dims, progress_step, &steps.context)
        self.end_long(ident)
        steps.finish(rc)

    def _train(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        ident = self.begin_long("train")
        with nogil:
            rc = syna_wells_train(self.ptr, progress_step, &steps.context)
        self.end_long(ident)
        steps.finish(rc)

    def _compact(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        ident = self.begin_long("compact")
        with nogil:
            rc = syna_wells_compact(self.ptr, progress_step, &steps.context)
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
            rc = syna_wells_get(self.ptr, k, size, out, self.dims)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        return vector

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
            rc = syna_wells_update_metadata(self.ptr, k, size, text, <size_t>text_size, flags)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return False
        check(rc)
        return True

    def _get_metadata(self, key):
        """The JSON text, or None."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef char *text = NULL
        cdef size_t length = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_get_metadata(self.ptr, k, size, &text, &length)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        if text is NULL:
            return None
        try:
            return PyUnicode_DecodeUTF8(text, length, NULL)
        finally:
            syna_free_json(text)

    def _contains(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_wells_count(self.ptr)
        self.leave()
        return count

    cdef syna_hit *rows(self, uint32_t flags, size_t *count) except? NULL:
        """All rows in the order written, to be given back with syna_free_hits."""
        cdef syna_hit *hits = NULL
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_rows(self.ptr, flags, &hits, count)
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

    def _search(self, const float[:, ::1] queries not None, k, nprobe, recall, radius,
                filter_json, bint exact, bint vectors, bint metadata):
        """A list of results for each query, and how they were found. k None: no limit."""
        cdef syna_wells_search_options how
        cdef syna_wells_explain told
        cdef syna_hit *hits = NULL
        cdef size_t count = queries.shape[0]
        cdef uint32_t dims = <uint32_t>queries.shape[1]
        cdef const float *rows = &queries[0, 0] if count else NULL
        cdef size_t[::1] found = np.zeros(max(count, 1), np.uintp)
        cdef size_t *counts = &found[0]
        cdef Py_ssize_t size = 0
        cdef int32_t rc
        memset(&how, 0, sizeof(how))
        memset(&told, 0, sizeof(told))
        how.size = sizeof(how)
        told.size = sizeof(told)
        how.k = UINT64_MAX if k is None else k
        how.nprobe = nprobe
        how.recall = recall
        how.explain = &told
        if filter_json is not None:
            how.filter = PyUnicode_AsUTF8AndSize(filter_json, &size)
            how.filter_len = <size_t>size
        if vectors:
            how.flags |= SYNA_SEARCH_VECTORS
        if metadata:
            how.flags |= SYNA_SEARCH_METADATA
        if exact:
            how.flags |= SYNA_SEARCH_EXACT
        if radius is not None:
            how.flags |= SYNA_SEARCH_RADIUS
            how.radius = radius
        self.enter()
        with nogil:
            rc = syna_wells_search(self.ptr, rows, count, dims, &how, &hits, counts)
        self.leave()
        check(rc)
        return take_results(hits, counts, count, dims), {
            "wells": told.wells, "exact": told.exact != 0, "recall": told.recall or None,
            "lists": told.lists, "rows": told.rows, "full": told.full, "matches": told.matches,
            "total": told.total, "queries": told.queries,
        }

    def _stats(self):
        cdef syna_wells_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_wells_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return {
            "rows": s.rows, "dead_rows": s.dead_rows, "fresh_rows": s.fresh_rows,
            "dimensions": s.dimensions, "metric": s.metric, "wells": s.wells,
            "initialized": s.initialized != 0, "branching_factor": s.branching_factor,
            "num_levels": s.num_levels, "trained_rows": s.trained_rows, "splits": s.splits,
            "unsaved_rows": s.unsaved_rows, "generation": s.generation,
            "memory_bytes": s.memory_bytes, "file_bytes": s.file_bytes,
            "uuid": PyBytes_FromStringAndSize(<char *>s.uuid, 16).hex(),
            "simd": s.simd.decode("ascii"),
        }


# ------------------------------------------------------------------------- files, not handles

def verify(path, progress):
    """Check the last flush of a file; a `CheckReport`."""
    return verify_file(syna_wells_verify, path, progress)
