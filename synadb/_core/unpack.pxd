from libc.stdint cimport uint8_t

# Decode the packed value in data[0:size].
cdef object unpack_from(const uint8_t *data, size_t size)
