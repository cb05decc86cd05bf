"""An open hybrid store: the calls of synadb/hybrid.h over prepared arguments.
`synadb.HybridVectorStore` inherits from `LayersHandle`, turns what users pass into float32 arrays and
JSON, and documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport UINT64_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport getpid, usleep

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport (
    STATE_CLOSED, STATE_CLOSING, STATE_OPEN, calls_add, calls_load, path_bytes, state_load,
    state_swap)
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
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

import json
import os
import warnings
from _thread import get_ident
from weakref import WeakSet

import numpy as np

from synadb.errors import ArgumentError, ClosedError, Reason
from synadb.types import HybridSearchResult, SearchResult

cdef enum:
    CLOSE_POLL_US = 100

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
cdef object LIVE = WeakSet()  # the stores to close when the interpreter ends


cdef list results_of(const syna_hit *hits, const uint8_t *sources, size_t count, uint32_t dims,
                     bint with_source):
    """Result objects; each has a vector of its own, or None when the hits carry none."""
    cdef list results = []
    cdef size_t i
    cdef float[::1] room
    for i in range(count):
        vector = None
        if hits[i].vector is not NULL:
            vector = np.empty(dims, np.float32)
            room = vector
            memcpy(&room[0], hits[i].vector, dims * sizeof(float))
        metadata = None
        if hits[i].metadata is not NULL:
            metadata = json.loads(
                PyUnicode_DecodeUTF8(hits[i].metadata, <Py_ssize_t>hits[i].metadata_len, NULL))
        key = PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL)
        if with_source:
            results.append(HybridSearchResult(
                key, hits[i].score, SOURCES[sources[i]], vector, metadata))
        else:
            results.append(SearchResult(key, hits[i].score, vector, metadata))
    return results


# The keys and the metadata of a batch as the core wants them; the lists keep the texts alive meanwhile.
cdef class BatchTexts:
    cdef list keys
    cdef list metadata  # None: no row has any
    cdef const char **texts
    cdef size_t *lens
    cdef const char **metas
    cdef size_t *meta_lens

    def __cinit__(self, list keys not None, list metadata):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = len(keys)
        self.keys = keys
        self.metadata = metadata
        self.texts = <const char **>malloc(max(count, 1) * sizeof(char *))
        self.lens = <size_t *>malloc(max(count, 1) * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL:
            raise MemoryError()
        for i in range(<Py_ssize_t>count):
            self.texts[i] = key_utf8(keys[i], &size)
            self.lens[i] = <size_t>size
        if metadata is not None:
            self.take_metadata(metadata)

    cdef int take_metadata(self, list metadata) except -1:
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = len(metadata)
        self.metas = <const char **>malloc(max(count, 1) * sizeof(char *))
        self.meta_lens = <size_t *>malloc(max(count, 1) * sizeof(size_t))
        if self.metas is NULL or self.meta_lens is NULL:
            raise MemoryError()
        for i in range(<Py_ssize_t>count):
            self.metas[i] = NULL
            self.meta_lens[i] = 0
            if metadata[i] is not None:
                self.metas[i] = PyUnicode_AsUTF8AndSize(metadata[i], &size)
                self.meta_lens[i] = <size_t>size
        return 0

    def __dealloc__(self):
        free(self.texts)
        free(self.lens)
        free(self.metas)
        free(self.meta_lens)


cdef class LayersHandle:
    cdef object __weakref__
    cdef syna_layers *ptr
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid       # of the process that opened it
    cdef list callers  # threads in a call that may run a progress callback
    cdef readonly str hot_path
    cdef readonly str cold_path
    cdef uint32_t dims

    def __cinit__(self):
        self.callers = []

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, hot_path, cold_path, uint32_t dimensions, int32_t metric, uint8_t preset,
              float recall, uint64_t promote_rows, uint64_t hot_capacity, bint read_only):
        cdef bytes raw_hot = path_bytes(hot_path)
        cdef bytes raw_cold = path_bytes(cold_path)
        cdef const char *c_hot = raw_hot
        cdef const char *c_cold = raw_cold
        cdef syna_layers_options o
        cdef int32_t rc
        if self.state != STATE_CLOSED:
            raise ArgumentError(0, f"{self.hot_path}: already open", reason=Reason.ARGUMENT)
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
        self.hot_path = os.path.abspath(os.fsdecode(raw_hot))
        self.cold_path = os.path.abspath(os.fsdecode(raw_cold))
        self.dims = dimensions
        self.pid = getpid()
        LIVE.add(self)
        state_swap(&self.state, STATE_OPEN)

    cdef int enter(self) except -1:
        calls_add(&self.calls, 1)
        if state_load(&self.state) == STATE_OPEN:
            return 0
        calls_add(&self.calls, -1)
        raise ClosedError(
            -1, f"{self.hot_path}: the store is closed", reason=Reason.CLOSED, path=self.hot_path)

    cdef void leave(self) noexcept:
        calls_add(&self.calls, -1)

    # A progress callback runs within a call; these calls would wait for it to end.
    cdef int not_in_callback(self, what) except -1:
        if get_ident() in self.callers:
            raise ArgumentError(
                0, f"{self.hot_path}: {what}() from a progress callback of the same store",
                reason=Reason.ARGUMENT, path=self.hot_path)
        return 0

    @property
    def closed(self):
        """Whether `close` was called."""
        return state_load(&self.state) != STATE_OPEN

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
        cdef int32_t rc
        if self.state == STATE_CLOSED:
            return
        self.not_in_callback("close")
        if self.pid != getpid():  # after fork the calls of the parent's threads never return here
            self.pid = getpid()
            self.calls = 0
            self.callers = []
            if self.state == STATE_CLOSING:
                self.state = STATE_OPEN
        if state_swap(&self.state, STATE_CLOSING) != STATE_OPEN:
            self._wait(False)
            return
        try:
            self._wait(True)
        except BaseException:
            state_swap(&self.state, STATE_OPEN)
            raise
        LIVE.discard(self)
        with nogil:
            rc = syna_layers_close(self.ptr)
        self.ptr = NULL
        state_swap(&self.state, STATE_CLOSED)
        check(rc)

    def _wait(self, bint for_calls):
        """Wait until no call is in progress, or until the thread that closes has done so."""
        while calls_load(&self.calls) != 0 if for_calls else state_load(&self.state) == STATE_CLOSING:
            PyErr_CheckSignals()
            with nogil:
                usleep(CLOSE_POLL_US)

    def __del__(self):
        if self.state == STATE_OPEN:
            warnings.warn(f"unclosed store {self.hot_path!r}", ResourceWarning, source=self)
            self.close()

    # -------------------------------------------------------------------------------- writing

    def _ingest_batch(self, list keys not None, const float[:, ::1] vectors not None,
                      list metadata):
        cdef BatchTexts texts = BatchTexts(keys, metadata)
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_layers_ingest_batch(self.ptr, texts.texts, texts.lens, rows, dims,
                                          texts.metas, texts.meta_lens, count, &added)
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

    cdef object begin_long(self, what):
        ident = get_ident()
        self.not_in_callback(what)
        self.enter()
        self.callers.append(ident)
        return ident

    cdef int end_long(self, ident) except -1:
        self.callers.remove(ident)
        self.leave()
        return 0

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

    def _keys(self):
        cdef syna_hit *hits = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_layers_rows(self.ptr, 0, &hits, NULL, &count)
        self.leave()
        check(rc)
        try:
            return [PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL) for i in range(count)]
        finally:
            syna_free_hits(hits)

    def _search(self, const float[:, ::1] queries not None, k, uint32_t layers, nprobe,
                uint32_t ef_search, float recall, radius, filter_json, bint exact, bint vectors,
                bint metadata):
        """A list of results for each query, and how they were found. k None: no limit."""
        cdef syna_layers_search_options how
        cdef syna_layers_explain told
        cdef syna_hit *hits = NULL
        cdef syna_hit *next_hit
        cdef uint8_t *sources = NULL
        cdef size_t count = queries.shape[0]
        cdef uint32_t dims = <uint32_t>queries.shape[1]
        cdef const float *rows = &queries[0, 0] if count else NULL
        cdef size_t[::1] found = np.zeros(max(count, 1), np.uintp)
        cdef size_t *counts = &found[0]
        cdef Py_ssize_t size = 0
        cdef size_t q
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
        results = []
        next_hit = hits
        try:
            for q in range(count):
                results.append(results_of(next_hit, sources, counts[q], dims, layers == 0))
                next_hit += counts[q]
                sources += counts[q]
        finally:
            syna_free_hits(hits)
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


def close_all():
    """Close every store that is still open; runs when the interpreter ends."""
    for store in list(LIVE):
        try:
            store.close()
        except Exception as error:
            warnings.warn(f"closing {store.hot_path!r} at exit: {error}", ResourceWarning)
