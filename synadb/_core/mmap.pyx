"""An open mapped vector store: the calls of the second part of synadb/vector.h over prepared arguments.
`synadb.MmapVectorStore` inherits from `MmapHandle`, turns what users pass into float32 arrays and
documents the methods.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, int32_t, uint32_t, uint64_t
from libc.string cimport memset

from synadb._core.handle cimport Handle
from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_DIMENSIONS_MAX, SYNA_ERR_KEY_NOT_FOUND, SYNA_METRIC_COSINE, SYNA_METRIC_DOT_PRODUCT,
    SYNA_METRIC_EUCLIDEAN, SYNA_SEARCH_EXACT, SYNA_SEARCH_RADIUS, SYNA_SEARCH_VECTORS,
    syna_explain, syna_hit, syna_mmap, syna_mmap_build_index, syna_mmap_checkpoint, syna_mmap_close,
    syna_mmap_compact, syna_mmap_contains, syna_mmap_count, syna_mmap_delete, syna_mmap_get,
    syna_mmap_get_stats, syna_mmap_has_index, syna_mmap_insert, syna_mmap_insert_batch, syna_mmap_open,
    syna_mmap_options, syna_mmap_pin, syna_mmap_refresh, syna_mmap_rows, syna_mmap_search,
    syna_mmap_stats, syna_mmap_unpin, syna_mmap_verify, syna_mmap_view, syna_search)
from synadb._core.progress cimport Progress, progress_step
from synadb._core.rows cimport TextArray, take_columns, take_keys, take_results, verify_file
from synadb._core.status cimport check, fail

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

import numpy as np

COSINE = SYNA_METRIC_COSINE
EUCLIDEAN = SYNA_METRIC_EUCLIDEAN
DOT_PRODUCT = SYNA_METRIC_DOT_PRODUCT
MAX_DIMENSIONS = SYNA_DIMENSIONS_MAX

cdef char *FORMAT = b"f"  # of a buffer of float32


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


cdef class MmapHandle(Handle):
    cdef syna_mmap *ptr
    cdef uint32_t dims

    def __cinit__(self):
        self.noun = "vector store"

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, uint32_t dimensions, int32_t metric, uint64_t initial_capacity,
              bint read_only):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_mmap_options o
        cdef int32_t rc
        self.check_unopened()
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.dimensions = dimensions
        o.metric = metric
        o.initial_capacity = initial_capacity
        o.read_only = read_only
        with nogil:
            rc = syna_mmap_open(c_path, &o, &self.ptr)
        check(rc)
        self.dims = dimensions
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_mmap_close(self.ptr)
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
            rc = syna_mmap_insert(self.ptr, k, size, row, dims)
        self.leave()
        check(rc)

    def _insert_batch(self, list keys not None, const float[:, ::1] vectors not None):
        cdef TextArray names = TextArray(keys, True)
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
        ident = self.begin_long(what)
        with nogil:
            if compacts:
                rc = syna_mmap_compact(self.ptr, progress_step, &steps.context)
            else:
                rc = syna_mmap_build_index(self.ptr, progress_step, &steps.context)
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

    cdef syna_hit *rows(self, uint32_t flags, size_t *count) except? NULL:
        """All rows in the order written, to be given back with syna_free_hits."""
        cdef syna_hit *hits = NULL
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_mmap_rows(self.ptr, flags, &hits, count)
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
        cdef uint32_t flags = SYNA_SEARCH_VECTORS if vectors else 0
        cdef syna_hit *hits = self.rows(flags, &count)
        return take_results(hits, &count, 1, self.dims)[0]

    def _columns(self):
        """All rows as the columns of a table, in the order written."""
        cdef size_t count = 0
        cdef syna_hit *hits = self.rows(SYNA_SEARCH_VECTORS, &count)
        return take_columns(hits, count, self.dims)

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
        cdef size_t count = queries.shape[0]
        cdef uint32_t dims = <uint32_t>queries.shape[1]
        cdef const float *rows = &queries[0, 0] if count else NULL
        cdef size_t[::1] found = np.zeros(max(count, 1), np.uintp)
        cdef size_t *counts = &found[0]
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
        return take_results(hits, counts, count, dims), (told.plan, told.ef, told.recall, told.codes, told.full, told.hops)

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


# ------------------------------------------------------------------------- files, not handles

def verify(path, progress):
    """Check the last checkpoint of a file; a `CheckReport`."""
    return verify_file(syna_mmap_verify, path, progress)
