from libc.stdint cimport int32_t, int64_t, uint32_t

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from synadb._core.libsynadb cimport syna_check, syna_finding_fn, syna_hit, syna_progress_fn


# Texts as the core wants them: keys (every one a str that can be a key), or others (str or None). The list
# keeps them alive meanwhile; both pointers are NULL when there is none.
cdef class TextArray:
    cdef list given
    cdef const char **texts
    cdef size_t *lens


# Results are filled place by place, past the constructor of a frozen dataclass, which takes ten times as
# long: the class has slots, and none of the fields of a new object is set.
cdef Py_ssize_t place_of(object kind, str name) except -1

cdef inline void put(object made, Py_ssize_t place, object value) noexcept:
    Py_INCREF(value)
    (<PyObject **>(<char *><PyObject *>made + place))[0] = <PyObject *>value


# What the core handed out becomes Python objects, and is given back to it. Each result has a vector and
# metadata of its own, or None when the hits carry none.
cdef object vector_of(const syna_hit *hit, uint32_t dims)
cdef object metadata_of(const syna_hit *hit)
cdef object result_of(const syna_hit *hit, uint32_t dims)
cdef list take_results(syna_hit *hits, const size_t *counts, size_t queries, uint32_t dims)
cdef list take_keys(syna_hit *hits, size_t count)


cdef class Texts:
    cdef readonly object offsets, data, valid
    cdef readonly Py_ssize_t missing
    cdef int64_t[::1] ends
    cdef unsigned char[::1] room, bits
    cdef size_t count
    cdef void add(self, const char *text, size_t size) noexcept


# What a batch of searches found, as the core handed it out. Results are made of it when they are asked for.
cdef class HitBlock:
    cdef syna_hit *hits
    cdef size_t *ends
    cdef size_t queries
    cdef uint32_t dims
    cdef size_t begin(self, size_t query) noexcept


cdef HitBlock take_block(syna_hit *hits, const size_t *counts, size_t queries, uint32_t dims)
cdef tuple take_columns(syna_hit *hits, size_t count, uint32_t dims)

ctypedef int32_t (*verify_fn)(const char *path, syna_finding_fn visit, void *context,
                              syna_progress_fn progress, syna_check *out) noexcept nogil
cdef object verify_file(verify_fn call, path, progress)  # a CheckReport
