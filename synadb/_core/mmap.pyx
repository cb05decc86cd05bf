"""An open mapped vector store: the calls of the second part of synadb/vector.h over prepared arguments.
`synadb.MmapVectorStore` inherits from `MmapHandle`, turns what users pass into float32 arrays and
documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
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
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_METRIC_COSINE, SYNA_METRIC_DOT_PRODUCT,
    SYNA_METRIC_EUCLIDEAN, SYNA_SEARCH_EXACT, SYNA_SEARCH_RADIUS, SYNA_SEARCH_VECTORS,
    syna_check, syna_explain, syna_free_hits, syna_hit, syna_mmap, syna_mmap_build_index, syna_mmap_checkpoint, syna_mmap_close,
    syna_mmap_compact, syna_mmap_contains, syna_mmap_count, syna_mmap_delete, syna_mmap_get,
    syna_mmap_get_stats, syna_mmap_has_index, syna_mmap_insert, syna_mmap_insert_batch, syna_mmap_open,
    syna_mmap_options, syna_mmap_pin, syna_mmap_refresh, syna_mmap_rows, syna_mmap_search,
    syna_mmap_stats, syna_mmap_unpin, syna_mmap_verify, syna_mmap_view, syna_search)
from synadb._core.progress cimport Progress, progress_context, progress_step
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

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

cdef char *FORMAT = b"f"  # of a buffer of float32
cdef object LIVE = WeakSet()  # the stores to close when the interpreter ends


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
        results.append(SearchResult(
            PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL), hits[i].score, vector))
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


# A row where it is mapped, as a read-only buffer; whoever holds it holds the mapping.
cdef class RowView:
    cdef syna_mmap_pin *pin
    cdef const float *data
    cdef Py_ssize_t shape[1]
    cdef Py_ssize_t strides[1]

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("a row of a mapped store cannot be written to")
        buffer.buf = <void *>self.data
        buffer.obj = self
        buffer.len = self.shape[0] * sizeof(float)
        buffer.itemsize = sizeof(float)
        buffer.readonly = 1
        buffer.ndim = 1
        buffer.format = FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = self.shape
        buffer.strides = self.strides
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __dealloc__(self):
        syna_mmap_unpin(self.pin)


cdef class MmapHandle:
    cdef object __weakref__
    cdef syna_mmap *ptr
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid       # of the process that opened it
    cdef list callers  # threads in a call that may run a progress callback
    cdef readonly str path
    cdef uint32_t dims

    def __cinit__(self):
        self.callers = []

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, uint64_t initial_capacity,
              bint read_only):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_mmap_options o
        cdef int32_t rc
        if self.state != STATE_CLOSED:
            raise ArgumentError(0, f"{self.path}: already open", reason=Reason.ARGUMENT)
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.dimensions = dimensions
        o.metric = metric
        o.initial_capacity = initial_capacity
        o.read_only = read_only
        with nogil:
            rc = syna_mmap_open(c_path, &o, &self.ptr)
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
            -1, f"{self.path}: the vector store is closed", reason=Reason.CLOSED, path=self.path)

    cdef void leave(self) noexcept:
        calls_add(&self.calls, -1)

    # A progress callback runs within a call; these calls would wait for it to end.
    cdef int not_in_callback(self, what) except -1:
        if get_ident() in self.callers:
            raise ArgumentError(
                0, f"{self.path}: {what}() from a progress callback of the same store",
                reason=Reason.ARGUMENT, path=self.path)
        return 0

    @property
    def closed(self):
        """Whether `close` was called."""
        return state_load(&self.state) != STATE_OPEN

    def close(self):
        """Make everything durable and close the file.

        Calls in progress on other threads are waited for; later calls raise `ClosedError`. Closing
        again does nothing. In a child process after fork nothing is written. Views stay valid.

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
            rc = syna_mmap_close(self.ptr)
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
            warnings.warn(f"unclosed vector store {self.path!r}", ResourceWarning, source=self)
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
            rc = syna_mmap_insert(self.ptr, k, size, row, dims)
        self.leave()
        check(rc)

    def _insert_batch(self, list keys not None, const float[:, ::1] vectors not None):
        cdef BatchKeys names = BatchKeys(keys)
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_mmap_insert_batch(self.ptr, names.texts, names.lens, rows, dims, count,
                                        &added)
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
            rc = syna_mmap_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    # --------------------------------------------------------------------------------- upkeep

    def _checkpoint(self):
        cdef int32_t rc
        self.not_in_callback("checkpoint")
        self.enter()
        with nogil:
            rc = syna_mmap_checkpoint(self.ptr)
        self.leave()
        check(rc)

    def _refresh(self):
        cdef int32_t changed = 0
        cdef int32_t rc
        self.not_in_callback("refresh")
        self.enter()
        with nogil:
            rc = syna_mmap_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    def _compact(self, progress):
        self._long("compact", True, progress)

    def _build_index(self, progress):
        self._long("build_index", False, progress)

    def _long(self, what, bint compacts, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        self.not_in_callback(what)
        ident = get_ident()
        self.enter()
        self.callers.append(ident)
        with nogil:
            if compacts:
                rc = syna_mmap_compact(self.ptr, progress_step, &steps.context)
            else:
                rc = syna_mmap_build_index(self.ptr, progress_step, &steps.context)
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
            rc = syna_mmap_get(self.ptr, k, size, out, self.dims)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        return vector

    def _view(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef RowView view = RowView()
        cdef int32_t rc
        view.shape[0] = self.dims
        view.strides[0] = sizeof(float)
        self.enter()
        with nogil:
            rc = syna_mmap_view(self.ptr, k, size, &view.data, &view.pin)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        return np.frombuffer(view, np.float32)

    def _contains(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_mmap_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_mmap_count(self.ptr)
        self.leave()
        return count

    def _keys(self):
        cdef syna_hit *hits = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_mmap_rows(self.ptr, 0, &hits, &count)
        self.leave()
        check(rc)
        try:
            return [PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL) for i in range(count)]
        finally:
            syna_free_hits(hits)

    def _has_index(self):
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_mmap_has_index(self.ptr)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def _search(self, const float[:, ::1] queries not None, k, radius, bint vectors, uint32_t ef,
                float recall, bint exact):
        """A list of results for each query, and how they were found: (plan, ef, recall, codes,
        full, hops). k None: no limit; radius None: none; ef, recall 0: not given."""
        cdef syna_search how
        cdef syna_explain told
        cdef syna_hit *hits = NULL
        cdef syna_hit *next_hit
        cdef size_t count = queries.shape[0]
        cdef uint32_t dims = <uint32_t>queries.shape[1]
        cdef const float *rows = &queries[0, 0] if count else NULL
        cdef size_t[::1] found = np.zeros(max(count, 1), np.uintp)
        cdef size_t *counts = &found[0]
        cdef size_t q
        cdef int32_t rc
        memset(&how, 0, sizeof(how))
        how.size = sizeof(how)
        how.k = UINT64_MAX if k is None else k
        if vectors:
            how.flags |= SYNA_SEARCH_VECTORS
        if radius is not None:
            how.flags |= SYNA_SEARCH_RADIUS
            how.radius = radius
        if exact:
            how.flags |= SYNA_SEARCH_EXACT
        how.ef = ef
        how.recall = recall
        memset(&told, 0, sizeof(told))
        told.size = sizeof(told)
        how.explain = &told
        self.enter()
        with nogil:
            rc = syna_mmap_search(self.ptr, rows, count, dims, &how, &hits, counts)
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
        return results, (told.plan, told.ef, told.recall, told.codes, told.full, told.hops)

    def _stats(self):
        cdef syna_mmap_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_mmap_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return {
            "rows": s.rows, "dead_rows": s.dead_rows, "dimensions": s.dimensions,
            "metric": s.metric, "capacity": s.capacity, "unsaved_rows": s.unsaved_rows,
            "checkpoints": s.checkpoints, "generation": s.generation,
            "memory_bytes": s.memory_bytes, "file_bytes": s.file_bytes,
            "uuid": PyBytes_FromStringAndSize(<char *>s.uuid, 16).hex(),
            "simd": s.simd.decode("ascii"), "indexed_rows": s.indexed_rows,
        }


def close_all():
    """Close every store that is still open; runs when the interpreter ends."""
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
    """Check the last checkpoint of a file; a `CheckReport`."""
    cdef bytes source = path_bytes(path)
    cdef const char *c_source = source
    cdef Progress p = Progress(progress)
    cdef syna_check result
    cdef int32_t rc
    memset(&result, 0, sizeof(result))
    result.size = sizeof(result)
    p.findings = []
    with nogil:
        rc = syna_mmap_verify(c_source, on_finding, &p.context, progress_step, &result)
    p.finish(rc)
    return CheckReport(
        path=os.fsdecode(source), frames=result.frames, bytes=result.bytes,
        damaged=result.damaged, torn_bytes=0, records_saved=0, findings=tuple(p.findings))
