"""What the modules over stores of rows share: texts on their way into the core, hits on their way out, and
the check of a file."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from cpython.object cimport PyObject, PyTypeObject

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport syna_check, syna_free_hits, syna_hit
from synadb._core.progress cimport Progress, progress_context, progress_step

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyType_GenericAlloc(PyTypeObject *type, Py_ssize_t items)
    void PyObject_GC_UnTrack(object what)

cdef extern from "structmember.h":
    ctypedef struct PyMemberDef:
        Py_ssize_t offset
    ctypedef struct PyMemberDescrObject:
        PyMemberDef *d_member

import json
import os
from types import MemberDescriptorType

import numpy as np

from synadb.types import CheckReport, Finding, SearchResult


cdef class TextArray:
    def __cinit__(self, list given, bint keys):
        cdef Py_ssize_t i
        cdef Py_ssize_t size
        cdef size_t count
        if given is None:
            return
        count = max(len(given), 1)
        self.given = given
        self.texts = <const char **>malloc(count * sizeof(char *))
        self.lens = <size_t *>malloc(count * sizeof(size_t))
        if self.texts is NULL or self.lens is NULL:
            raise MemoryError()
        for i in range(len(given)):
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


# --------------------------------------------------------------------------------------- hits

cdef object vector_of(const syna_hit *hit, uint32_t dims):
    cdef float[::1] room
    if hit.vector is NULL:
        return None
    vector = np.empty(dims, np.float32)
    room = vector
    memcpy(&room[0], hit.vector, dims * sizeof(float))
    return vector


cdef object metadata_of(const syna_hit *hit):
    if hit.metadata is NULL:
        return None
    return json.loads(PyUnicode_DecodeUTF8(hit.metadata, <Py_ssize_t>hit.metadata_len, NULL))


cdef Py_ssize_t place_of(object kind, str name) except -1:
    """Where an object of a class keeps a field, in bytes from its start."""
    cdef object found = getattr(kind, name)
    if type(found) is not MemberDescriptorType:
        raise TypeError(f"{kind.__name__}.{name} is {found!r}, expected a slot")
    return (<PyMemberDescrObject *><PyObject *>found).d_member.offset


cdef Py_ssize_t KEY = place_of(SearchResult, "key")
cdef Py_ssize_t SCORE = place_of(SearchResult, "score")
cdef Py_ssize_t VECTOR = place_of(SearchResult, "vector")
cdef Py_ssize_t METADATA = place_of(SearchResult, "metadata")


cdef object result_of(const syna_hit *hit, uint32_t dims):
    """Filled place by place, past the constructor of the frozen dataclass, which takes ten times as long.
    A result without metadata refers to nothing that could refer back to it, so the collector need not look
    at it: with thousands of results that is half of their cost."""
    cdef object made = PyType_GenericAlloc(<PyTypeObject *>SearchResult, 0)
    put(made, KEY, PyUnicode_DecodeUTF8(hit.key, hit.key_len, NULL))
    put(made, SCORE, hit.score)
    put(made, VECTOR, vector_of(hit, dims))
    put(made, METADATA, metadata_of(hit))
    if hit.metadata is NULL:
        PyObject_GC_UnTrack(made)
    return made


cdef list take_results(syna_hit *hits, const size_t *counts, size_t queries, uint32_t dims):
    cdef list results = []
    cdef list found
    cdef const syna_hit *hit = hits
    cdef size_t i
    cdef size_t q
    try:
        for q in range(queries):
            found = []
            for i in range(counts[q]):
                found.append(result_of(hit, dims))
                hit += 1
            results.append(found)
    finally:
        syna_free_hits(hits)
    return results


cdef list take_keys(syna_hit *hits, size_t count):
    cdef size_t i
    try:
        return [PyUnicode_DecodeUTF8(hits[i].key, hits[i].key_len, NULL) for i in range(count)]
    finally:
        syna_free_hits(hits)


cdef class Texts:
    """Texts one after the other, as Arrow keeps them; a text may be missing.

    `offsets` has one int64 more than there are texts, `data` their UTF-8, `valid` a bit for each,
    `missing` is how many have none.
    """

    def __cinit__(self, size_t count, size_t size):
        self.offsets = np.zeros(count + 1, np.int64)
        self.data = np.empty(size, np.uint8)
        self.valid = np.zeros((count + 7) // 8, np.uint8)
        self.ends = self.offsets
        self.room = self.data
        self.bits = self.valid

    cdef void add(self, const char *text, size_t size) noexcept:
        cdef int64_t at = self.ends[self.count]
        cdef size_t i = self.count
        if text is NULL:
            self.missing += 1
        else:
            self.bits[i // 8] |= 1 << (i % 8)
            if size:
                memcpy(&self.room[at], text, size)
        self.count = i + 1
        self.ends[self.count] = at + <int64_t>size

    def list(self):
        """The texts as str; those that are missing are empty."""
        cdef bytes data = self.data.tobytes()
        ends = self.offsets.tolist()
        return [data[start:end].decode() for start, end in zip(ends, ends[1:])]


cdef tuple columns_of(const syna_hit *hits, size_t count, uint32_t dims):
    """Hits as the columns of a table: `Texts` of the keys, a matrix of the vectors (of no rows when the hits
    carry none), `Texts` of the metadata."""
    cdef size_t i
    cdef Texts keys, metadata
    cdef float[:, ::1] room
    cdef bint vectors = count > 0 and hits.vector is not NULL
    matrix = np.empty((count if vectors else 0, dims), np.float32)
    room = matrix
    keys = Texts(count, sum([hits[i].key_len for i in range(count)]))
    metadata = Texts(count, sum([hits[i].metadata_len for i in range(count)]))
    for i in range(count):
        keys.add(hits[i].key, hits[i].key_len)
        metadata.add(hits[i].metadata, hits[i].metadata_len)
        if vectors:
            memcpy(&room[i, 0], hits[i].vector, dims * sizeof(float))
    return keys, matrix, metadata


cdef tuple take_columns(syna_hit *hits, size_t count, uint32_t dims):
    try:
        return columns_of(hits, count, dims)
    finally:
        syna_free_hits(hits)


# ------------------------------------------------------------------------------- many searches

cdef class HitBlock:
    """What a batch of searches found: `block[q]` makes the results of query q, anew each time."""

    def __len__(self):
        return self.queries

    def __getitem__(self, size_t query):
        cdef size_t i
        if query >= self.queries:
            raise IndexError(query)
        return [result_of(&self.hits[i], self.dims)
                for i in range(self.begin(query), self.ends[query])]

    def columns(self):
        """How many results each query has, and all of them below each other: `Texts` of the keys, scores, a
        matrix of the vectors, `Texts` of the metadata."""
        cdef size_t i
        cdef size_t count = self.begin(self.queries)
        cdef float[::1] room
        counts = [self.ends[i] - self.begin(i) for i in range(self.queries)]
        scores = np.empty(count, np.float32)
        room = scores
        for i in range(count):
            room[i] = self.hits[i].score
        keys, matrix, metadata = columns_of(self.hits, count, self.dims)
        return counts, keys, scores, matrix, metadata

    cdef size_t begin(self, size_t query) noexcept:
        return self.ends[query - 1] if query else 0

    def __dealloc__(self):
        syna_free_hits(self.hits)
        free(self.ends)


cdef HitBlock take_block(syna_hit *hits, const size_t *counts, size_t queries, uint32_t dims):
    cdef HitBlock block = HitBlock.__new__(HitBlock)
    cdef size_t q
    block.hits = hits
    block.dims = dims
    block.ends = <size_t *>malloc(max(queries, 1) * sizeof(size_t))
    if block.ends is NULL:
        raise MemoryError()
    for q in range(queries):
        block.ends[q] = counts[q] + (block.ends[q - 1] if q else 0)
    block.queries = queries
    return block


# ---------------------------------------------------------------------- files, not handles

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


cdef object verify_file(verify_fn call, path, progress):
    cdef bytes source = path_bytes(path)
    cdef const char *c_source = source
    cdef Progress p = Progress(progress)
    cdef syna_check result
    cdef int32_t rc
    memset(&result, 0, sizeof(result))
    result.size = sizeof(result)
    p.findings = []
    with nogil:
        rc = call(c_source, on_finding, &p.context, progress_step, &result)
    p.finish(rc)
    return CheckReport(
        path=os.fsdecode(source), frames=result.frames, bytes=result.bytes,
        damaged=result.damaged, torn_bytes=0, records_saved=0, findings=tuple(p.findings))
