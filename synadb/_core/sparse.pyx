"""An open sparse vector store: the calls of synadb/sparse.h over prepared arguments.
`synadb.SparseVectorStore` inherits from `SparseHandle`, turns what users pass into arrays and documents the
methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport UINT64_MAX, int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from posix.unistd cimport getpid, usleep

from cpython.exc cimport PyErr_CheckSignals

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport (
    STATE_CLOSED, STATE_CLOSING, STATE_OPEN, calls_add, calls_load, path_bytes, state_load,
    state_swap)
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_SPARSE_METADATA, SYNA_SPARSE_MIN_SCORE, SYNA_SPARSE_TERMS_MAX,
    SYNA_SPARSE_VOCABULARY_MAX, syna_free_sparse_hits, syna_free_sparse_row, syna_sparse,
    syna_sparse_close, syna_sparse_contains, syna_sparse_count, syna_sparse_delete,
    syna_sparse_explain, syna_sparse_flush, syna_sparse_get, syna_sparse_get_stats,
    syna_sparse_hit, syna_sparse_index, syna_sparse_list, syna_sparse_open, syna_sparse_options,
    syna_sparse_refresh, syna_sparse_row, syna_sparse_rows, syna_sparse_save, syna_sparse_search,
    syna_sparse_search_many, syna_sparse_stats)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

import os
import warnings
from weakref import WeakSet

import numpy as np

from synadb.errors import ClosedError, Reason

MAX_TERMS = SYNA_SPARSE_TERMS_MAX
MAX_VOCABULARY = SYNA_SPARSE_VOCABULARY_MAX

cdef enum:
    CLOSE_POLL_US = 100

cdef object LIVE = WeakSet()  # the stores to close when the interpreter ends


cdef object text_of(const char *text, uint32_t size):
    return None if text is NULL else PyUnicode_DecodeUTF8(text, size, NULL)


cdef list hits_of(const syna_sparse_hit *hits, size_t count):
    """(key, score, JSON text of the metadata or None) of each."""
    cdef size_t i
    return [(PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL), hits[i].score,
             text_of(hits[i].metadata, hits[i].metadata_len)) for i in range(count)]


# Texts as the core wants them: keys (every one a str that can be a key) or metadata (str or None). The list
# keeps the texts alive meanwhile.
cdef class TextArray:
    cdef list given
    cdef const char **texts
    cdef size_t *lens

    def __cinit__(self, list given not None, bint keys):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = len(given)
        self.given = given
        self.texts = <const char **>malloc(max(count, 1) * sizeof(char *))
        self.lens = <size_t *>malloc(max(count, 1) * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL:
            raise MemoryError()
        for i in range(<Py_ssize_t>count):
            size = 0
            if keys:
                self.texts[i] = key_utf8(given[i], &size)
            elif given[i] is None:
                self.texts[i] = NULL
            else:
                self.texts[i] = PyUnicode_AsUTF8AndSize(given[i], &size)
            self.lens[i] = <size_t>size

    def __dealloc__(self):
        free(self.texts)
        free(self.lens)


cdef void set_pairs(syna_sparse_rows *rows, const uint64_t[::1] offsets, const uint32_t[::1] terms,
                    const float[::1] weights):
    memset(rows, 0, sizeof(syna_sparse_rows))
    rows.size = sizeof(syna_sparse_rows)
    rows.count = offsets.shape[0] - 1
    rows.offsets = &offsets[0]
    if terms.shape[0]:
        rows.terms = &terms[0]
        rows.weights = &weights[0]


cdef class SparseHandle:
    cdef object __weakref__
    cdef syna_sparse *ptr
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid  # of the process that opened it
    cdef readonly str path

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t vocab_size, bint sync_on_write, bint read_only,
              bint must_exist, progress):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_sparse_options o
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.vocab_size = vocab_size
        o.no_sync = not sync_on_write
        o.read_only = read_only
        o.must_exist = must_exist
        o.progress = progress_step
        o.context = <void *>steps
        with nogil:
            rc = syna_sparse_open(c_path, &o, &self.ptr)
        steps.finish(rc)
        self.path = os.path.abspath(os.fsdecode(raw))
        self.pid = getpid()
        LIVE.add(self)
        state_swap(&self.state, STATE_OPEN)

    cdef int enter(self) except -1:
        calls_add(&self.calls, 1)
        if state_load(&self.state) == STATE_OPEN:
            return 0
        calls_add(&self.calls, -1)
        raise ClosedError(
            -1, f"{self.path}: the sparse store is closed", reason=Reason.CLOSED, path=self.path)

    cdef void leave(self) noexcept:
        calls_add(&self.calls, -1)

    @property
    def closed(self):
        """Whether `close` was called."""
        return state_load(&self.state) != STATE_OPEN

    def close(self):
        """Make everything durable, save the index where that pays, and close the file.

        Calls in progress on other threads are waited for; later calls raise `ClosedError`. Closing
        again does nothing. In a child process after fork nothing is written.

        Raises
        ------
        SynaIOError
            The data could not be made durable. The store is closed all the same.
        """
        cdef int32_t rc
        if self.state == STATE_CLOSED:
            return
        if self.pid != getpid():  # after fork the calls of the parent's threads never return here
            self.pid = getpid()
            self.calls = 0
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
            rc = syna_sparse_close(self.ptr)
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
            warnings.warn(f"unclosed sparse store {self.path!r}", ResourceWarning, source=self)
            self.close()

    # -------------------------------------------------------------------------------- writing

    def _index(self, list keys not None, const uint64_t[::1] offsets not None,
               const uint32_t[::1] terms not None, const float[::1] weights not None,
               list metadata):
        """`metadata` is a list of JSON texts and Nones, or None. Returns how many keys were new."""
        cdef TextArray names = TextArray(keys, True)
        cdef TextArray facts = None if metadata is None else TextArray(metadata, False)
        cdef syna_sparse_rows rows
        cdef size_t added = 0
        cdef int32_t rc
        set_pairs(&rows, offsets, terms, weights)
        rows.keys = names.texts
        rows.key_lens = names.lens
        if facts is not None:
            rows.metadata = facts.texts
            rows.metadata_lens = facts.lens
        self.enter()
        with nogil:
            rc = syna_sparse_index(self.ptr, &rows, &added)
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
            rc = syna_sparse_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    def flush(self):
        """Make every row indexed so far durable; needed only with ``sync_on_write=False``."""
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_flush(self.ptr)
        self.leave()
        check(rc)

    def _save(self):
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_save(self.ptr)
        self.leave()
        check(rc)

    # -------------------------------------------------------------------------------- reading

    def _get(self, key):
        """(terms, weights, JSON text of the metadata or None), or None."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef syna_sparse_row *row = NULL
        cdef uint32_t[::1] t
        cdef float[::1] w
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_get(self.ptr, k, size, &row)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        try:
            terms = np.empty(row.count, np.uint32)
            weights = np.empty(row.count, np.float32)
            if row.count:
                t = terms
                w = weights
                memcpy(&t[0], row.terms, row.count * sizeof(uint32_t))
                memcpy(&w[0], row.weights, row.count * sizeof(float))
            return terms, weights, text_of(row.metadata, row.metadata_len)
        finally:
            syna_free_sparse_row(row)

    def _contains(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_sparse_count(self.ptr)
        self.leave()
        return count

    def _keys(self):
        cdef syna_sparse_hit *hits = NULL
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_list(self.ptr, 0, &hits, &count)
        self.leave()
        check(rc)
        try:
            return [PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL) for i in range(count)]
        finally:
            syna_free_sparse_hits(hits)

    def _search(self, const uint64_t[::1] offsets not None, const uint32_t[::1] terms not None,
                const float[::1] weights not None, k, min_score, filter, float recall,
                bint metadata):
        """A list of (key, score, metadata text) for each query, and (windows, postings, scored,
        matches). k None: no limit; min_score None: none; filter: JSON text or None."""
        cdef syna_sparse_rows queries
        cdef syna_sparse_search how
        cdef syna_sparse_explain told
        cdef syna_sparse_hit *hits = NULL
        cdef syna_sparse_hit *next_hit
        cdef size_t count = offsets.shape[0] - 1
        cdef size_t[::1] found = np.zeros(max(count, 1), np.uintp)
        cdef size_t *counts = &found[0]
        cdef Py_ssize_t size = 0
        cdef size_t q
        cdef int32_t rc
        set_pairs(&queries, offsets, terms, weights)
        memset(&how, 0, sizeof(how))
        how.size = sizeof(how)
        how.k = UINT64_MAX if k is None else k
        if metadata:
            how.flags |= SYNA_SPARSE_METADATA
        if min_score is not None:
            how.flags |= SYNA_SPARSE_MIN_SCORE
            how.min_score = min_score
        if filter is not None:
            how.filter = PyUnicode_AsUTF8AndSize(filter, &size)
            how.filter_len = <size_t>size
        how.recall = recall
        memset(&told, 0, sizeof(told))
        told.size = sizeof(told)
        how.explain = &told
        self.enter()
        with nogil:
            rc = syna_sparse_search_many(self.ptr, &queries, &how, &hits, counts)
        self.leave()
        check(rc)
        results = []
        next_hit = hits
        try:
            for q in range(count):
                results.append(hits_of(next_hit, counts[q]))
                next_hit += counts[q]
        finally:
            syna_free_sparse_hits(hits)
        return results, (told.windows, told.postings, told.scored, told.matches)

    def refresh(self):
        """See what the writer of the file has done since; for a store opened ``read_only``.

        Returns
        -------
        bool
            Whether rows came, went or changed.
        """
        cdef int32_t changed = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    def _stats(self):
        """(vocab_size, rows, pairs, dead_rows, memory_bytes, mapped_bytes, file_bytes, windows,
        fresh_rows)"""
        cdef syna_sparse_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_sparse_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return (s.vocab_size, s.rows, s.pairs, s.dead_rows, s.memory_bytes, s.mapped_bytes,
                s.file_bytes, s.windows, s.fresh_rows)


def close_all():
    """Close every store that is still open; runs when the interpreter ends."""
    for store in list(LIVE):
        try:
            store.close()
        except Exception as error:
            warnings.warn(f"closing {store.path!r} at exit: {error}", ResourceWarning)
