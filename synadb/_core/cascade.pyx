"""An open cascade index: the calls of synadb/cascade.h over prepared arguments.
`synadb.CascadeIndex` inherits from `CascadeHandle`, turns what users pass into float32 arrays and
documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
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
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_METRIC_COSINE, SYNA_METRIC_DOT_PRODUCT,
    SYNA_METRIC_EUCLIDEAN, SYNA_PLAN_EXACT, SYNA_PLAN_GRAPH, SYNA_PLAN_SCAN, SYNA_SEARCH_EXACT,
    SYNA_SEARCH_METADATA, SYNA_SEARCH_RADIUS, SYNA_SEARCH_VECTORS, syna_buckets, syna_buckets_close, syna_buckets_compact,
    syna_buckets_contains, syna_buckets_count, syna_buckets_delete, syna_buckets_explain,
    syna_buckets_flush, syna_buckets_get, syna_buckets_get_metadata, syna_buckets_get_stats,
    syna_buckets_insert, syna_buckets_insert_batch, syna_buckets_open, syna_buckets_options,
    syna_buckets_refresh, syna_buckets_rows, syna_buckets_save, syna_buckets_search,
    syna_buckets_search_options, syna_buckets_stats, syna_buckets_verify, syna_check,
    syna_free_hits, syna_free_json, syna_hit)
from synadb._core.progress cimport Progress, progress_context, progress_step
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

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

PRESETS = {
    "small": SYNA_CASCADE_SMALL,
    "large": SYNA_CASCADE_LARGE,
    "high_recall": SYNA_CASCADE_HIGH_RECALL,
    "fast_search": SYNA_CASCADE_FAST_SEARCH,
}
PLANS = {SYNA_PLAN_SCAN: "scan", SYNA_PLAN_EXACT: "exact", SYNA_PLAN_GRAPH: "cascade"}

cdef object LIVE = WeakSet()  # the indexes to close when the interpreter ends


cdef list results_of(const syna_hit *hits, size_t count, uint32_t dims):
    """SearchResult objects; each has a vector and metadata of its own, or None when the hits carry none."""
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


# The keys of a batch as the core wants them; the list keeps the texts alive meanwhile.
cdef class BatchKeys:
    cdef list keys
    cdef const char **texts
    cdef size_t *lens

    def __cinit__(self, list keys not None):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = len(keys)
        self.keys = keys
        self.texts = <const char **>malloc(max(count, 1) * sizeof(char *))
        self.lens = <size_t *>malloc(max(count, 1) * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL:
            raise MemoryError()
        for i in range(<Py_ssize_t>count):
            self.texts[i] = key_utf8(keys[i], &size)
            self.lens[i] = <size_t>size

    def __dealloc__(self):
        free(self.texts)
        free(self.lens)


# Texts that some of the rows have, None for the others; the list keeps them alive meanwhile.
cdef class BatchTexts:
    cdef list items
    cdef const char **texts
    cdef size_t *lens

    def __cinit__(self, list items not None):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = max(len(items), 1)
        self.items = items
        self.texts = <const char **>malloc(count * sizeof(char *))
        self.lens = <size_t *>malloc(count * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL:
            raise MemoryError()
        for i in range(len(items)):
            self.texts[i] = NULL
            self.lens[i] = 0
            if items[i] is not None:
                self.texts[i] = PyUnicode_AsUTF8AndSize(items[i], &size)
                self.lens[i] = <size_t>size

    def __dealloc__(self):
        free(self.texts)
        free(self.lens)


cdef class CascadeHandle:
    cdef object __weakref__
    cdef syna_buckets *ptr
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid       # of the process that opened it
    cdef list callers  # threads in a call that may run a progress callback
    cdef readonly str path
    cdef uint32_t dims

    def __cinit__(self):
        self.callers = []

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, int preset, uint32_t num_hyperplanes,
              uint32_t bucket_capacity, uint32_t nprobe, float recall, uint32_t threads,
              uint64_t initial_capacity, bint read_only, progress):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef Progress steps = Progress(progress)
        cdef syna_buckets_options o
        cdef int32_t rc
        if self.state != STATE_CLOSED:
            raise ArgumentError(0, f"{self.path}: already open", reason=Reason.ARGUMENT)
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
        """Make everything durable, save the index, and close the files.

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
            rc = syna_buckets_close(self.ptr)
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
        cdef BatchKeys names = BatchKeys(keys)
        cdef BatchTexts texts = None if metadata is None else BatchTexts(metadata)
        cdef Progress steps = Progress(progress)
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef const char **meta = NULL if texts is None else texts.texts
        cdef size_t *meta_lens = NULL if texts is None else texts.lens
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        self.not_in_callback("insert_batch")
        ident = get_ident()
        self.enter()
        self.callers.append(ident)
        with nogil:
            rc = syna_buckets_insert_batch(self.ptr, names.texts, names.lens, rows, dims, meta,
                                           meta_lens, count, progress_step, &steps.context, &added)
        self.callers.remove(ident)
        self.leave()
        steps.finish(rc)
        return added

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
        self.not_in_callback("compact")
        ident = get_ident()
        self.enter()
        self.callers.append(ident)
        with nogil:
            rc = syna_buckets_compact(self.ptr, progress_step, &steps.context)
        self.callers.remove(ident)
        self.leave()
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

    def _keys(self):
        cdef syna_hit *hits = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_buckets_rows(self.ptr, 0, &hits, &count)
        self.leave()
        check(rc)
        try:
            return [PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL) for i in range(count)]
        finally:
            syna_free_hits(hits)

    def _search(self, const float[:, ::1] queries not None, k, radius, bint vectors, float recall,
                bint exact, uint32_t nprobe, uint32_t ef_search, filter, bint metadata):
        """A list of results for each query, and how they were found. k None: no limit."""
        cdef syna_buckets_search_options how
        cdef syna_buckets_explain facts
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
        results = []
        next_hit = hits
        try:
            for q in range(count):
                results.append(results_of(next_hit, counts[q], dims))
                next_hit += counts[q]
        finally:
            syna_free_hits(hits)
        return results, {
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


def close_all():
    """Close every index that is still open; runs when the interpreter ends."""
    for index in list(LIVE):
        try:
            index.close()
        except Exception as error:
            warnings.warn(f"closing {index.path!r} at exit: {error}", ResourceWarning)


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
        rc = syna_buckets_verify(c_source, on_finding, &p.context, progress_step, &result)
    p.finish(rc)
    return CheckReport(
        path=os.fsdecode(source), frames=result.frames, bytes=result.bytes,
        damaged=result.damaged, torn_bytes=0, records_saved=0, findings=tuple(p.findings))
