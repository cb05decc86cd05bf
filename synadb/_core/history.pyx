"""Histories of any type: collected by a visitor without the GIL, then turned into Python objects."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from synadb._core.libsynadb cimport (
    SYNA_TYPE_FLOAT, SYNA_TYPE_INT, syna_db, syna_db_history, syna_record)
from synadb._core.values cimport value_of

import numpy as np


cdef bint append(Block *b, const void *data, size_t size) noexcept nogil:
    cdef size_t cap
    cdef void *grown
    if size > b.cap - b.len:
        cap = (b.len + size) * 2 + 64
        grown = realloc(b.bytes, cap)
        if grown is NULL:
            return False
        b.bytes = <uint8_t *>grown
        b.cap = cap
    memcpy(b.bytes + b.len, data, size)
    b.len += size
    return True


cdef bint append_value(Records *r, const syna_record *record) noexcept nogil:
    cdef uint8_t type = <uint8_t>record.type
    cdef uint64_t word
    cdef uint64_t size = record.len
    r.kinds |= <uint32_t>1 << type
    if type == SYNA_TYPE_FLOAT or type == SYNA_TYPE_INT:
        memcpy(&word, record.data, 8)
    else:
        word = r.heap.len
        if not append(&r.heap, &size, 8):
            return False
        if size and not append(&r.heap, record.data, size):
            return False
    return (append(&r.types, &type, 1) and append(&r.words, &word, 8)
            and append(&r.times, &record.time_us, 8))


cdef int32_t visit(void *context, const syna_record *record) noexcept nogil:
    cdef Records *r = <Records *>context
    cdef bint kept
    if record.deleted:
        kept = append(&r.deletions, &record.time_us, 8)
    else:
        kept = append_value(r, record)
    r.no_memory = not kept
    return r.no_memory


cdef object array_of(const Block *b, object dtype):
    cdef uint8_t[::1] raw
    array = np.empty(b.len // 8, dtype=dtype)
    if b.len:
        raw = array.view(np.uint8)
        memcpy(&raw[0], b.bytes, b.len)
    return array


cdef list list_of(const Records *r):
    cdef const uint64_t *words = <const uint64_t *>r.words.bytes
    cdef const uint8_t *body
    cdef uint64_t size
    cdef size_t i
    values = []
    for i in range(r.types.len):
        if r.types.bytes[i] == SYNA_TYPE_FLOAT or r.types.bytes[i] == SYNA_TYPE_INT:
            values.append(value_of(r.types.bytes[i], &words[i], 8))
        else:
            body = r.heap.bytes + words[i]
            memcpy(&size, body, 8)
            values.append(value_of(r.types.bytes[i], body + 8, size))
    return values


cdef object values_of(const Records *r):
    if r.kinds == 0 or r.kinds == <uint32_t>1 << SYNA_TYPE_FLOAT:
        return array_of(&r.words, np.float64)
    if r.kinds == <uint32_t>1 << SYNA_TYPE_INT:
        return array_of(&r.words, np.int64)
    return list_of(r)


cdef int32_t records_collect(syna_db *db, const char *key, size_t key_len,
                             Records *r) noexcept nogil:
    return syna_db_history(db, key, key_len, visit, r)


cdef tuple records_take(const Records *r):
    return (values_of(r), array_of(&r.times, "datetime64[us]"),
            array_of(&r.deletions, "datetime64[us]"))


cdef void records_free(Records *r) noexcept nogil:
    free(r.types.bytes)
    free(r.words.bytes)
    free(r.times.bytes)
    free(r.deletions.bytes)
    free(r.heap.bytes)
