from libc.stdint cimport int32_t

# Raise what the core's error record says unless `code` is success. May be called without the GIL,
# on the thread whose call failed and before its next call into the core.
cdef int check(int32_t code) except -1 nogil

# The same for a code that is known to be a failure. Needs the GIL.
cdef int fail(int32_t code) except -1

# Raise TypeError for a key that is no str, InvalidKeyError for an empty or too long one and for one
# that UTF-8 cannot encode (encoded = 0).
cdef int refuse_key(object key, bint encoded) except -1
