"""An open vector store: the calls of synadb/vector.h over prepared arguments. `synadb.VectorStore`
inherits from `VectorHandle`, turns what users pass into float32 arrays and documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_METADATA_REPLACE, SYNA_METRIC_COSINE,
    SYNA_METRIC_DOT_PRODUCT, SYNA_METRIC_EUCLIDEAN, SYNA_SEARCH_EXACT, SYNA_SEARCH_METADATA,
    SYNA_SEARCH_RADIUS, SYNA_SEARCH_VECTORS, SYNA_SUCCESS, syna_explain, syna_free_hits,
    syna_free_json, syna_hit, syna_search, syna_vectors, syna_vectors_absorb,
    syna_vectors_build_index, syna_vectors_close, syna_vectors_contains, syna_vectors_count,
    syna_vectors_count_where,
    syna_vectors_delete, syna_vectors_delete_where, syna_vectors_flush, syna_vectors_get,
    syna_vectors_get_metadata, syna_vectors_get_stats, syna_vectors_has_index,
    syna_vectors_insert_rows, syna_vectors_open, syna_vectors_options, syna_vectors_refresh,
    syna_vectors_rows, syna_vectors_rows_where, syna_vectors_search, syna_vectors_stats,
    syna_vectors_update_metadata)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport take_block, take_columns, take_keys, take_results
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(str text, Py_ssize_t *size) except NULL

import numpy as np

COSINE = SYNA_METRIC_COSINE
EUCLIDEAN = SYNA_METRIC_EUCLIDEAN
DOT_PRODUCT = SYNA_METRIC_DOT_PRODUCT
MAX_DIMENSIONS = SYNA_DIMENSIONS_MAX


# The keys of a batch as the core wants them; the list keeps the texts alive meanwhile.
cdef class KeyArray:
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


# Texts of a batch, None where a row has none.
cdef class TextArray:
    cdef list kept
    cdef const char **texts
    cdef size_t *lens

    def __cinit__(self, list given not None):
        cdef Py_ssize_t i
        cdef Py_ssize_t size = 0
        cdef size_t count = len(given)
        self.kept = given
        self.texts = <const char **>malloc(max(count, 1) * sizeof(char *))
        self.lens = <size_t *>malloc(max(count, 1) * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL:
            raise MemoryError()
        for i in range(<Py_ssize_t>count):
            size = 0
            self.texts[i] = NULL if given[i] is None else PyUnicode_AsUTF8AndSize(given[i], &size)
            self.lens[i] = <size_t>size

    def __dealloc__(self):
        free(self.texts)
        free(self.lens)


cdef class VectorHandle(Handle):
    cdef syna_vectors *ptr
    cdef uint32_t dims

    def __cinit__(self):
        self.noun = "vector store"

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, bint sync_on_write, progress,
              int index, bint read_only, bint absorber, uint32_t m, uint32_t ef_construction,
              uint32_t ef_search, uint32_t threads, int dtype, int quantization):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_vectors_options o
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.dimensions = dimensions
        o.metric = metric
        o.no_sync = not sync_on_write
        o.index = <unsigned char>index
        o.read_only = read_only
        o.no_absorber = not absorber
        o.m = m
        o.ef_construction = ef_construction
        o.ef_search = ef_search
        o.threads = threads
        o.dtype = <unsigned char>dtype
        o.quantization = <unsigned char>quantization
        o.progress = progress_step
        o.context = &steps.context
        with nogil:
            rc = syna_vectors_open(c_path, &o, &self.ptr)
        steps.finish(rc)
        self.dims = dimensions
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_vectors_close(self.ptr)
        self.ptr = NULL
        return rc

    # -------------------------------------------------------------------------------- writing

    def _insert(self, key, const float[::1] vector not None, metadata):
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t text_size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef const char *text = NULL
        cdef size_t len = size
        cdef size_t text_len
        cdef const float *row = &vector[0]
        cdef uint32_t dims = <uint32_t>vector.shape[0]
        cdef int32_t rc
        if metadata is not None:
            text = PyUnicode_AsUTF8AndSize(metadata, &text_size)
        text_len = <size_t>text_size
        self.enter()
        with nogil:
            rc = syna_vectors_insert_rows(self.ptr, &k, &len, row, dims, &text, &text_len, 1, NULL)
        self.leave()
        check(rc)

    def _insert_batch(self, list keys not None, const float[:, ::1] vectors not None, metadata):
        cdef KeyArray array = KeyArray(keys)
        cdef TextArray texts = TextArray([] if metadata is None else metadata)
        cdef const char *const *text = NULL if metadata is None else texts.texts
        cdef size_t count = len(keys)
        cdef const float *rows = &vectors[0, 0] if count else NULL
        cdef uint32_t dims = <uint32_t>vectors.shape[1]
        cdef size_t added = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_insert_rows(self.ptr, array.texts, array.lens, rows, dims, text,
                                          texts.lens, count, &added)
        self.leave()
        check(rc)
        return added

    def _update_metadata(self, key, metadata, bint replace):
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
            rc = syna_vectors_update_metadata(self.ptr, k, size, text, <size_t>text_size, flags)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return False
        check(rc)
        return True

    def _delete_where(self, str filter not None):
        cdef Py_ssize_t size = 0
        cdef const char *text = PyUnicode_AsUTF8AndSize(filter, &size)
        cdef uint64_t deleted = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_delete_where(self.ptr, text, <size_t>size, &deleted)
        self.leave()
        check(rc)
        return deleted

    def _delete(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t deleted = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_delete(self.ptr, k, size, &deleted)
        self.leave()
        check(rc)
        return deleted != 0

    def flush(self):
        """Make every row inserted so far durable; needed only with ``sync_on_write=False``."""
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_flush(self.ptr)
        self.leave()
        check(rc)

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
            rc = syna_vectors_get(self.ptr, k, size, out, self.dims)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        return vector

    def _contains(self, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_contains(self.ptr, k, size)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

    def __len__(self):
        cdef uint64_t count
        self.enter()
        with nogil:
            count = syna_vectors_count(self.ptr)
        self.leave()
        return count

    def _metadata(self, key):
        """The JSON of a row's metadata; None when it has none, or there is no row."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef char *text = NULL
        cdef size_t text_len = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_get_metadata(self.ptr, k, size, &text, &text_len)
        self.leave()
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return None
        check(rc)
        if text is NULL:
            return None
        try:
            return PyUnicode_DecodeUTF8(text, <Py_ssize_t>text_len, NULL)
        finally:
            syna_free_json(text)

    def _count_where(self, str filter not None):
        cdef Py_ssize_t size = 0
        cdef const char *text = PyUnicode_AsUTF8AndSize(filter, &size)
        cdef uint64_t count = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_count_where(self.ptr, text, <size_t>size, &count)
        self.leave()
        check(rc)
        return count

    cdef syna_hit *rows(self, filter, uint32_t flags, size_t *count) except? NULL:
        """Rows in the order written, to be given back with syna_free_hits."""
        cdef syna_hit *hits = NULL
        cdef Py_ssize_t size = 0
        cdef const char *text = NULL
        cdef int32_t rc
        if filter is not None:
            text = PyUnicode_AsUTF8AndSize(filter, &size)
        self.enter()
        with nogil:
            if text is NULL:
                rc = syna_vectors_rows(self.ptr, flags, &hits, count)
            else:
                rc = syna_vectors_rows_where(self.ptr, text, <size_t>size, flags, &hits, count)
        self.leave()
        check(rc)
        return hits

    def _keys(self, filter):
        cdef size_t count = 0
        cdef syna_hit *hits = self.rows(filter, 0, &count)
        return take_keys(hits, count)

    def _rows(self, filter, bint vectors):
        """Results with metadata, in the order written, score 0."""
        cdef size_t count = 0
        cdef uint32_t flags = SYNA_SEARCH_METADATA | (SYNA_SEARCH_VECTORS if vectors else 0)
        cdef syna_hit *hits = self.rows(filter, flags, &count)
        return take_results(hits, &count, 1, self.dims)[0]

    def _columns(self, filter=None):
        """All rows, or those that match, as the columns of a table; in the order written."""
        cdef size_t count = 0
        cdef syna_hit *hits = self.rows(
            filter, SYNA_SEARCH_METADATA | SYNA_SEARCH_VECTORS, &count)
        return take_columns(hits, count, self.dims)

    def _search(self, const float[:, ::1] queries not None, k, radius, bint vectors, uint32_t ef,
                float recall, bint exact, filter, bint metadata):
        """A `HitBlock`: results for each query; and how they were found: (plan, ef, recall, codes,
        full, hops, matches). k None: no limit; radius, filter None: none; ef, recall 0: not
        given."""
        cdef syna_search how
        cdef syna_explain told
        cdef syna_hit *hits = NULL
        cdef size_t count = queries.shape[0]
        cdef uint32_t dims = <uint32_t>queries.shape[1]
        cdef const float *rows = &queries[0, 0] if count else NULL
        cdef size_t[::1] found
        cdef size_t one = 0
        cdef size_t *counts = &one
        cdef Py_ssize_t size = 0
        cdef int32_t rc
        if count > 1:
            found = np.zeros(count, np.uintp)
            counts = &found[0]
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
        if metadata:
            how.flags |= SYNA_SEARCH_METADATA
        if filter is not None:
            how.filter = PyUnicode_AsUTF8AndSize(filter, &size)
            how.filter_len = <size_t>size
        how.ef = ef
        how.recall = recall
        memset(&told, 0, sizeof(told))
        told.size = sizeof(told)
        how.explain = &told
        self.enter()
        with nogil:
            rc = syna_vectors_search(self.ptr, rows, count, dims, &how, &hits, counts)
        self.leave()
        check(rc)
        return take_block(hits, counts, count, dims), (told.plan, told.ef, told.recall, told.codes, told.full, told.hops,
                         told.matches)

    def _build_index(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_build_index(self.ptr, progress_step, &steps.context)
        self.leave()
        steps.finish(rc)

    def _absorb(self, progress):
        cdef Progress steps = Progress(progress)
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_absorb(self.ptr, progress_step, &steps.context)
        self.leave()
        steps.finish(rc)

    def _has_index(self):
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_vectors_has_index(self.ptr)
        self.leave()
        if rc < 0:
            fail(rc)
        return rc != 0

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
            rc = syna_vectors_refresh(self.ptr, &changed)
        self.leave()
        check(rc)
        return changed != 0

    def _changes(self):
        """A number that goes up with every row that comes or goes."""
        cdef syna_vectors_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_vectors_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return s.changes

    def _stats(self):
        """(dimensions, metric, rows, memory_bytes, file_bytes, simd, indexed_rows, dead_rows,
        dtype, quantization, row_bytes, code_bytes); the first of these by number, 1 the first."""
        cdef syna_vectors_stats s
        cdef int32_t rc
        memset(&s, 0, sizeof(s))
        s.size = sizeof(s)
        self.enter()
        with nogil:
            rc = syna_vectors_get_stats(self.ptr, &s)
        self.leave()
        check(rc)
        return (s.dimensions, s.metric, s.rows, s.memory_bytes, s.file_bytes,
                s.simd.decode("ascii"), s.indexed_rows, s.dead_rows, s.dtype, s.quantization,
                s.row_bytes, s.code_bytes)
