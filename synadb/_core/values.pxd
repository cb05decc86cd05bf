from libc.stdint cimport int32_t, int64_t, uint64_t

from synadb._core.libsynadb cimport syna_put
from synadb._core.pack cimport Packer

# One value as the C interface takes it. `data` borrows: from `word` below (so an Atom must not be
# copied), from the Python value, or from the Packer that atom_of returned.
cdef struct Atom:
    int32_t type
    size_t len
    const void *data
    uint64_t word

# Describe `value`: float, int, str, bytes and None as they are, everything else packed. Returns the
# Packer that holds the bytes, to be kept as long as the Atom; `packer`, or a new one if that is None.
cdef object atom_of(object value, Atom *a, Packer packer)

# The Python object for a stored value.
cdef object value_of(int32_t type, const void *data, size_t len)

# Microseconds since 1970 for what a caller gave as a time, never 0.
cdef uint64_t time_us(object when) except 0

# Fill `how` from the options of a put; NULL when both are None.
cdef syna_put *how_of(object ttl, object when, syna_put *how) except? NULL

# The name of a type in messages.
cdef str type_name(int32_t type)

# What the typed puts accept, as what the core takes; anything else raises.
cdef int64_t int64_of(object value) except? -1
cdef const char *text_of(object key, object value, Py_ssize_t *len) except NULL
cdef const float[::1] vector_of(object value)
