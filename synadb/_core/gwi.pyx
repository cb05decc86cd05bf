"""An open gravity well index: the calls of synadb/gwi.h over prepared arguments.
`synadb.GravityWellIndex` inherits from `WellsHandle`, turns what users pass into float32 arrays and
JSON, and documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport UINT64_MAX, int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport getpid, usleep

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport (
    STATE_CLOSED, STATE_CLOSING, STATE_OPEN, calls_add, calls_load, path_bytes, state_load,
    state_swap)
from synadb._core.libsynadb cimport (
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_GWI_NPROBE, SYNA_METRIC_COSINE,
    SYNA_METRIC_DOT_PRODUCT, SYNA_METRIC_EUCLIDEAN, SYNA_SEARCH_EXACT, SYNA_SEARCH_METADATA, SYNA_SEARCH_RADIUS,
    SYNA_SEARCH_VECTORS, syna_check, syna_free_hits, syna_free_json, syna_hit, syna_wells,
    syna_wells_close, syna_wells_compact, syna_wells_contains, syna_wells_count, syna_wells_delete,
    syna_wells_explain, syna_wells_flush, syna_wells_get, syna_wells_get_metadata,
    syna_wells_get_stats, syna_wells_initialize, syna_wells_insert_batch, syna_wells_open,
    syna_wells_options, syna_wells_refresh, syna_wells_rows, syna_wells_search,
    syna_wells_search_options, syna_wells_stats, syna_wells_train, syna_wells_verify)
from synadb._core.progress cimport Progress, progress_context, progress_step
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
from synadb.types import CheckReport, Finding, SearchResult

cdef enum:
    CLOSE_POLL_US = 100

COSINE = SYNA_METRIC_COSINE
EUCLIDEAN = SYNA_METRIC_EUCLIDEAN
DOT_PRODUCT = SYNA_METRIC_DOT_PRODUCT
MAX_DIMENSIONS = SYNA_DIMENSIONS_MAX
NPROBE = SYNA_GWI_NPROBE

cdef object LIVE = WeakSet()  # the indexes to close when the interpreter ends


cdef list results_of(const syna_hit *hits, size_t count, uint32_t dims):
    """SearchResult objects; each has a vector of its own, or None when the hits carry none."""
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
        results.append(SearchResult(
            PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL), hits[i].score, vector,
            metadata))
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


cdef class WellsHandle:
    cdef object __weakref__
    cdef syna_wells *ptr
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid       # of the process that opened it
    cdef list callers  # threads in a call that may run a progress callback
    cdef readonly str path
    cdef uint32_t dims

    def __cinit__(self):
        self.callers = []

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, uint32_t branching,
              uint32_t levels, uint64_t initial_capacity, bint read_only):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_wells_options o
        cdef int32_t rc
        if self.state != STATE_CLOSED:
            raise ArgumentError(0, f"{self.path}: already open", reason=Reason.ARGUMENT)
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
        self.path = os.path.abspath(os.fsdecode(raw))
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
            -1, f"{self.path}: the index is closed", reason=Reason.CLOSED, path=self.path)

    cdef void leave(self) noexcept:
        calls_add(&self.calls, -1)

    # A progress callback runs within a call; these calls would wait for it to end.
    cdef int not_in_callback(self, what) except -1:
        if get_ident() in self.callers:
            raise ArgumentError(
                0, f"{self.path}: {what}() from a progress callback of the same index",
                reason=Reason.ARGUMENT, path=self.path)
        return 0

    @property
    def closed(self):
        """Whether `close` was called."""
        return state_load(&self.state) != STATE_OPEN

    def close(self):
        """Make everything durable and close the file.

        Calls in progress on other threads are waited for; later calls raise `ClosedError`. Closing
        again does nothing. In a child process after fork nothing is written.

        Raises
        ------
        SynaIOError
            The data could not be made durable. The index is closed all the same.
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
            rc = syna_wells_close(self.ptr)
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
            warnings.warn(f"unclosed index {self.path!r}", ResourceWarning, source=self)
            self.close()

    # -------------------------------------------------------------------------------- writing

    def _insert_batch(self, list keys not None, const float[:, ::1] vectors not None,
                      list metadata):
        cdef BatchTexts texts = BatchTexts(keys, metadata)
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_insert_batch(self.ptr, texts.texts, texts.lens, rows, dims,
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
            rc = syna_wells_get(self.ptr, k, size, out, self.dims)
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

    def _keys(self):
        cdef syna_hit *hits = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_wells_rows(self.ptr, 0, &hits, &count)
        self.leave()
        check(rc)
        try:
            return [PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL) for i in range(count)]
        finally:
            syna_free_hits(hits)

    def _search(self, const float[:, ::1] queries not None, k, nprobe, recall, radius,
                filter_json, bint exact, bint vectors, bint metadata):
        """A list of results for each query, and how they were found. k None: no limit."""
        cdef syna_wells_search_options how
        cdef syna_wells_explain told
        cdef syna_hit *hits = NULL
        cdef syna_hit *next_hit
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
        results = []
        next_hit = hits
        try:
            for q in range(count):
                results.append(results_of(next_hit, counts[q], dims))
                next_hit += counts[q]
        finally:
            syna_free_hits(hits)
        return results, {
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


def close_all():
    """Close every index that is still open; runs when the interpreter ends."""
    for store in list(LIVE):
        try:
            store.close()
        except Exception as error:
            warnings.warn(f"closing {store.path!r} at exit: {error}", ResourceWarning)


# ------------------------------------------------------------------------- files, not handles

cdef int32_t on_finding(void *context, uint64_t offset, const char *text) noexcept nogil:
    with gil:
        return add_finding(<Progress>(<progress_context *>context).progress, offset, text)


cdef int32_t add_finding(Progress p, uint64_t offset, const char *text) noexcept:
    try:
        p.findings.append(Finding(offset, text.decode("utf-8", "replace")))
    except MemoryError as error:
        p.error = error
        return 1
    return 0


def verify(path, progress):
    """Check the last flush of a file; a `CheckReport`."""
    cdef bytes source = path_bytes(path)
    cdef const char *c_source = source
    cdef Progress p = Progress(progress)
    cdef syna_check result
    cdef int32_t rc
    memset(&result, 0, sizeof(result))
    result.size = sizeof(result)
    p.findings = []
    with nogil:
        rc = syna_wells_verify(c_source, on_finding, &p.context, progress_step, &result)
    p.finish(rc)
    return CheckReport(
        path=os.fsdecode(source), frames=result.frames, bytes=result.bytes,
        damaged=result.damaged, torn_bytes=0, records_saved=0, findings=tuple(p.findings))
