"""An open hybrid store: the calls of synadb/hybrid.h over prepared arguments.
`synadb.HybridVectorStore` inherits from `LayersHandle`, turns what users pass into float32 arrays and
JSON, and documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport UINT64_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_CASCADE_FAST_SEARCH, SYNA_CASCADE_HIGH_RECALL, SYNA_CASCADE_LARGE, SYNA_CASCADE_SMALL,
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_GWI_NPROBE, SYNA_LAYER_COLD, SYNA_LAYER_HOT,
    SYNA_METRIC_COSINE, SYNA_METRIC_DOT_PRODUCT, SYNA_METRIC_EUCLIDEAN, SYNA_SEARCH_EXACT,
    SYNA_SEARCH_METADATA, SYNA_SEARCH_RADIUS, SYNA_SEARCH_VECTORS, syna_free_hits, syna_free_json,
    syna_hit, syna_layers, syna_layers_close, syna_layers_compact, syna_layers_contains,
    syna_layers_count, syna_layers_count_in, syna_layers_delete, syna_layers_explain,
    syna_layers_flush_hot, syna_layers_get, syna_layers_get_metadata, syna_layers_get_stats,
    syna_layers_ingest_batch, syna_layers_initialize_hot, syna_layers_open, syna_layers_options,
    syna_layers_promote, syna_layers_refresh, syna_layers_rows, syna_layers_save,
    syna_layers_save_cold, syna_layers_search, syna_layers_search_options, syna_layers_stats,
    syna_layers_update_metadata)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport TextArray, metadata_of, take_columns, take_keys, take_results, vector_of
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

import os

import numpy as np

from synadb.types import HybridSearchResult

COSINE = SYNA_METRIC_COSINE
EUCLIDEAN = SYNA_METRIC_EUCLIDEAN
DOT_PRODUCT = SYNA_METRIC_DOT_PRODUCT
MAX_DIMENSIONS = SYNA_DIMENSIONS_MAX
NPROBE = SYNA_GWI_NPROBE
PRESETS = {
    "large": SYNA_CASCADE_LARGE, "small": SYNA_CASCADE_SMALL,
    "high_recall": SYNA_CASCADE_HIGH_RECALL, "fast_search": SYNA_CASCADE_FAST_SEARCH,
}
BOTH_LAYERS = 0
HOT_LAYER = 1
COLD_LAYER = 2

cdef tuple SOURCES = ("cold", "hot")  # by SYNA_LAYER_*


cdef list take_sourced(syna_hit *hits, const uint8_t *sources, const size_t *counts, size_t queries,
                       uint32_t dims):
    """A list of results for each query, which say what layer they came from. Takes the hits."""
    cdef list results = []
    cdef list found
    cdef size_t i
    cdef size_t q
    cdef size_t at = 0
    try:
        for q in range(queries):
            found = []
            for i in range(at, at + counts[q]):
                found.append(HybridSearchResult(
                    PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL), hits[i].score,
                    SOURCES[sources[i]], vector_of(&hits[i], dims), metadata_of(&hits[i])))
            at += counts[q]
            results.append(found)
    finally:
        syna_free_hits(hits)
    return results


cdef class LayersHandle(Handle):
    cdef syna_layers *ptr
    cdef readonly str cold_path
    cdef uint32_t dims

    def __cinit__(self):
        self.noun = "store"

    @property
    def hot_path(self):
        """The file of the hot layer, as an absolute path; `path` is the same."""
        return self.path

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, hot_path, cold_path, uint32_t dimensions, int32_t metric, uint8_t preset,
              float recall, uint64_t promote_rows, uint64_t hot_capacity, bint read_only):
        cdef bytes raw_hot = path_bytes(hot_path)
        cdef bytes raw_cold = path_bytes(cold_path)
        cdef const char *c_hot = raw_hot
        cdef const char *c_cold = raw_cold
        cdef syna_layers_options o
        cdef int32_t rc
        self.check_unopened()
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.dimensions = dimensions
        o.metric = metric
        o.preset = preset
        o.recall = recall
        o.promote_rows = promote_rows
        o.hot_capacity = hot_capacity
        o.read_only = read_only
        with nogil:
            rc = syna_layers_open(c_hot, c_cold, &o, &self.ptr)
        check(rc)
        self.cold_path = os.path.abspath(os.fsdecode(raw_cold))
        self.dims = dimensions
        self.opened(raw_hot)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_layers_close(self.ptr)
        self.ptr = NULL
        return rc

    def close(self):
        """Make everything durable and close both files.

        A promotion that goes on by itself is stopped, and goes on after the next opening; calls in
        progress on other threads are waited for; later calls raise `ClosedError`. Closing again
        does nothing. In a child process after fork nothing is written.

        Raises
        ------
        SynaIOError
            The data could not be made durable. The store is closed all the same.
        """
        Handle.close(self)

    # -------------------------------------------------------------------------------- writing

    def _ingest_batch(self, list keys not None, const float[:, ::1] vectors not None,
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
            rc = syna_layers_ingest_batch(self.ptr, names.texts, names.lens, rows, dims,
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
            rc = syna_layers_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    def _update_metadata(self, key, metadata, bint replace):
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t length = 0
        cdef const char *k = key_utf8(key, &size)
        cdef const char *text = NULL
        cdef int32_t rc
        if metadata is not None:
            text = PyUnicode_AsUTF8AndSize(metadata, &length)
        self.enter()
        with nogil:
            rc = syna_layers_update_metadata(self.ptr, k, size, text, <size_t>length, replace)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return False
        check(rc)
        return True

    # --------------------------------------------------------------------------------- upkeep

    def _flush_hot(self):
        cdef int32_t rc
        self.not_in_callback("flush_hot")
        self.enter()
        with nogil:
            rc = syna_layers_flush_hot(self.ptr)
        self.leave()
        check(rc)

    def _save_cold(self):
        cdef int32_t rc
        self.not_in_callback("save_cold")
        self.enter()
        with nogil:
            rc = syna_layers_save_cold(self.ptr)
        self.leave()
        check(rc)

    def _save(self):
        cdef int32_t rc
        self.not_in_callback("save")
        self.enter()
        with nogil:
            rc = syna_layers_save(self.ptr)
        self.leave()
        check(rc)

    def _refresh(self):
        cdef int32_t changed = 0
        cdef int32_t rc
        self.not_in_callback("refresh")
        self.enter()
        with nogil:
            rc = syna_layers_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    def _initialize_hot(self, const float[:, ::1] sample not None, progress):
        cdef Progress steps = Progress(progress)
        cdef size_t count = sample.shape[0]
        cdef const float *rows = &sample[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>sample.shape[1]
        cdef int32_t rc
        ident = self.begin_long("initialize_hot")
        with nogil:
            rc = syna_layers_initialize_hot(self.ptr, rows, count, dims, progress_step,
                                            &steps.context)
        self.end_long(ident)
        steps.finish(rc)

    def _promote(self, progress):
        cdef Progress steps = Progress(progress)
        cdef size_t moved = 0
        cdef int32_t rc
        ident = self.begin_long("promote_to_cold")
        with nogil:
            rc = syna_layers_promote(self.ptr, progress_step, &steps.context, &moved)
        self.end_long(ident)
        steps.finish(rc)
        return moved

    def _compact(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        ident = self.begin_long("compact")
        with nogil:
            rc = syna_layers_compact(self.ptr, progress_step, &steps.context)
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
            rc = syna_layers_get(self.ptr, k, size, out, self.dims)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        return vector

    def _get_metadata(self, key):
        """The JSON text, or None."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef char *text = NULL
        cdef size_t length = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_layers_get_metadata(self.ptr, k, size, &text, &length)
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
            rc = syna_layers_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_layers_count(self.ptr)
        self.leave()
        return count

    def _count_in(self, bint hot):
        cdef uint64_t count
        cdef uint32_t layer = SYNA_LAYER_HOT if hot else SYNA_LAYER_COLD
        self.enter()
        with nogil:
            count = syna_layers_count_in(self.ptr, layer)
        self.leave()
        return count

    cdef syna_hit *rows(self, uint32_t flags, size_t *count) except? NULL:
        """All rows in the order written, to be given back with syna_free_hits."""
        cdef syna_hit *hits = NULL
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_layers_rows(self.ptr, flags, &hits, NULL, count)
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

    def _search(self, const float[:, ::1] queries not None, k, uint32_t layers, nprobe,
                uint32_t ef_search, float recall, radius, filter_json, bint exact, bint vectors,
                bint metadata):
        """A list of results for each query, and how they were found. k None: no limit."""
        cdef syna_layers_search_options how
        cdef syna_layers_explain told
        cdef syna_hit *hits = NULL
        cdef uint8_t *sources = NULL
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
        how.layers = layers
        how.nprobe = nprobe
        how.ef_search = ef_search
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
            rc = syna_layers_search(self.ptr, rows, count, dims, &how, &hits, &sources, counts)
        self.leave()
        check(rc)
        if layers == BOTH_LAYERS:
            results = take_sourced(hits, sources, counts, count, dims)
        else:
            results = take_results(hits, counts, count, dims)
        return results, {
            "rounds": told.rounds, "passed": told.passed,
            "hot_rows_scored": told.hot.rows, "hot_wells_probed": told.hot.lists,
            "hot_recall": told.hot.recall, "hot_rows": told.hot.total,
            "cold_rows_scored": told.cold.full, "cold_codes": told.cold.codes,
            "cold_recall": told.cold.recall, "cold_rows": told.cold.total,
        }

    def _stats(self):
        cdef syna_layers_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        s.hot.size = sizeof(s.hot)
        s.cold.size = sizeof(s.cold)
        self.enter()
        with nogil:
            rc = syna_layers_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return {
            "rows": s.rows, "hot_rows": s.hot_rows, "cold_rows": s.cold_rows,
            "outdated_rows": s.outdated_rows, "dimensions": s.dimensions, "metric": s.metric,
            "promoting": s.promoting != 0, "promotions": s.promotions,
            "promoted_rows": s.promoted_rows, "promote_at": s.promote_rows,
            "hot_dead_rows": s.hot.dead_rows, "cold_dead_rows": s.cold.dead_rows,
            "hot_unsaved_rows": s.hot.unsaved_rows, "cold_unsaved_rows": s.cold.unsaved_rows,
            "wells": s.hot.wells, "buckets": s.cold.buckets,
            "memory_bytes": s.hot.memory_bytes + s.cold.memory_bytes,
            "hot_file_bytes": s.hot.file_bytes, "cold_file_bytes": s.cold.file_bytes,
            "simd": s.hot.simd.decode("ascii"),
        }
