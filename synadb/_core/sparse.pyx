"""An open sparse vector store: the calls of synadb/sparse.h over prepared arguments.
`synadb.SparseVectorStore` inherits from `SparseHandle`, turns what users pass into arrays and documents the
methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport UINT64_MAX, int32_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from cpython.object cimport PyTypeObject

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_METADATA_REPLACE, SYNA_SPARSE_METADATA, SYNA_SPARSE_MIN_SCORE,
    SYNA_SPARSE_TERMS_MAX, SYNA_SPARSE_VOCABULARY_MAX, syna_free_json, syna_free_sparse_hits,
    syna_free_sparse_row, syna_sparse, syna_sparse_close, syna_sparse_contains, syna_sparse_count,
    syna_sparse_delete, syna_sparse_explain, syna_sparse_flush, syna_sparse_get,
    syna_sparse_get_metadata, syna_sparse_get_stats, syna_sparse_hit, syna_sparse_index,
    syna_sparse_list, syna_sparse_open, syna_sparse_options, syna_sparse_refresh, syna_sparse_row,
    syna_sparse_rows, syna_sparse_save, syna_sparse_search, syna_sparse_search_many,
    syna_sparse_stats, syna_sparse_update_metadata)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport TextArray, place_of, put
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)
    void PyObject_GC_UnTrack(object what)

import json

import numpy as np

from synadb._arrays import refused

MAX_TERMS = SYNA_SPARSE_TERMS_MAX
MAX_VOCABULARY = SYNA_SPARSE_VOCABULARY_MAX


cdef object text_of(const char *text, uint32_t size):
    return None if text is NULL else PyUnicode_DecodeUTF8(text, size, NULL)


cdef class SparseResults:
    """How results are made: objects of `kind`, a dataclass with slots. One without metadata refers to
    nothing that could refer back to it, so the collector need not look at it."""
    cdef object kind
    cdef Py_ssize_t key, score, metadata

    def __init__(self, kind not None):
        self.kind = kind
        self.key = place_of(kind, "key")
        self.score = place_of(kind, "score")
        self.metadata = place_of(kind, "metadata")

    cdef object make(self, const syna_sparse_hit *hit):
        cdef object made = PyType_GenericAlloc(<PyTypeObject *>self.kind, 0)
        cdef object metadata = None
        put(made, self.key, PyUnicode_DecodeUTF8(hit.key, hit.key_len, NULL))
        put(made, self.score, hit.score)
        if hit.metadata is not NULL:
            metadata = json.loads(PyUnicode_DecodeUTF8(hit.metadata, hit.metadata_len, NULL))
        put(made, self.metadata, metadata)
        if hit.metadata is NULL:
            PyObject_GC_UnTrack(made)
        return made


cdef void set_pairs(syna_sparse_rows *rows, const uint64_t *offsets, size_t count,
                    const uint32_t[::1] terms, const float[::1] weights) noexcept:
    memset(rows, 0, sizeof(syna_sparse_rows))
    rows.size = sizeof(syna_sparse_rows)
    rows.count = count
    rows.offsets = offsets
    if terms.shape[0]:
        rows.terms = &terms[0]
        rows.weights = &weights[0]


cdef class SparseHandle(Handle):
    cdef syna_sparse *ptr

    def __cinit__(self):
        self.noun = "sparse store"

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
        o.context = &steps.context
        with nogil:
            rc = syna_sparse_open(c_path, &o, &self.ptr)
        steps.finish(rc)
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_sparse_close(self.ptr)
        self.ptr = NULL
        return rc

    # -------------------------------------------------------------------------------- writing

    def _index(self, list keys not None, const uint64_t[::1] offsets not None,
               const uint32_t[::1] terms not None, const float[::1] weights not None,
               list metadata):
        """`metadata` is a list of JSON texts and Nones, or None. Returns how many keys were new."""
        cdef TextArray names = TextArray(keys, True)
        cdef TextArray facts = TextArray(metadata, False)
        cdef syna_sparse_rows rows
        cdef size_t added = 0
        cdef int32_t rc
        set_pairs(&rows, &offsets[0], offsets.shape[0] - 1, terms, weights)
        rows.keys = names.texts
        rows.key_lens = names.lens
        rows.metadata = facts.texts
        rows.metadata_lens = facts.lens
        self.enter()
        with nogil:
            rc = syna_sparse_index(self.ptr, &rows, &added)
        self.leave()
        check(rc)
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
            rc = syna_sparse_update_metadata(self.ptr, k, size, text, <size_t>text_size, flags)
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

    def _get_metadata(self, key):
        """The JSON text, or None."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef char *text = NULL
        cdef size_t length = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_sparse_get_metadata(self.ptr, k, size, &text, &length)
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

    def _search(self, const uint64_t[::1] offsets, const uint32_t[::1] terms not None,
                const float[::1] weights not None, k, min_score, filter, recall,
                bint metadata, SparseResults make not None):
        """A list of hits for each query, and (windows, postings, scored, matches). offsets None: one query;
        k None: no limit; min_score None: none; filter: JSON text or None; recall None: all."""
        cdef syna_sparse_rows queries
        cdef syna_sparse_search how
        cdef syna_sparse_explain told
        cdef syna_sparse_hit *hits = NULL
        cdef syna_sparse_hit *hit
        cdef uint64_t[2] whole = [0, <uint64_t>terms.shape[0]]
        cdef size_t[::1] found
        cdef size_t one = 0
        cdef size_t *counts = &one
        cdef size_t count = 1
        cdef Py_ssize_t size = 0
        cdef size_t q, i
        cdef int32_t rc
        if offsets is not None:
            count = offsets.shape[0] - 1
            found = np.zeros(max(count, 1), np.uintp)
            counts = &found[0]
        set_pairs(&queries, &whole[0] if offsets is None else &offsets[0], count, terms, weights)
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
        if recall is not None:
            if not 0 < recall <= 1:
                raise refused(f"recall is {recall}; expected more than 0, at most 1")
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
        hit = hits
        try:
            for q in range(count):
                results.append([make.make(&hit[i]) for i in range(counts[q])])
                hit += counts[q]
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
