from libc.stdint cimport int32_t, uint8_t, uint32_t

from synadb._core.libsynadb cimport syna_db

# A growing block of memory.
cdef struct Block:
    uint8_t *bytes
    size_t len, cap

# All records of a key. A value is a word: the 64 bits of a number, or where in `heap` its length (8
# bytes) and its bytes lie. Start with zeros.
cdef struct Records:
    Block types      # uint8_t: the type of each value
    Block words      # uint64_t
    Block times      # uint64_t
    Block deletions  # uint64_t, times
    Block heap
    uint32_t kinds   # bit 1 << type for every type that occurs
    bint no_memory

# Collect what was ever stored under a key, oldest first. Look at no_memory before the code.
cdef int32_t records_collect(syna_db *db, const char *key, size_t key_len,
                             Records *r) noexcept nogil

# (values, times, times of deletions): the values are a float64 or int64 array when all are of that
# type, else a list; the times are datetime64[us] arrays.
cdef tuple records_take(const Records *r)

cdef void records_free(Records *r) noexcept nogil
