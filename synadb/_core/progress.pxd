from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint64_t

# What the core hands back to progress_step; read and written without the GIL.
cdef struct progress_context:
    PyObject *progress  # the Progress it lies in
    uint64_t next_ns
    bint ended          # it was told that all is done

# One long call. Pass progress_step and &progress.context to the core, then hand the returned code to
# finish(): it raises what the callback or a signal handler raised, else what the core reports.
cdef class Progress:
    cdef progress_context context
    cdef object call      # callable(done, total) or None
    cdef object error     # the exception that stopped the call
    cdef list findings    # of verify and salvage, whose callbacks share the context
    cdef object on_close  # called at the end, however it ends; None = nothing to do
    cdef int finish(self, int32_t code) except -1

cdef int32_t progress_step(void *context, uint64_t done, uint64_t total) noexcept nogil
