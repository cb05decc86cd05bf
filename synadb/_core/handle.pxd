from libc.stdint cimport int32_t


# One opening of something with a file. A subclass holds the core's pointer, sets `noun` in __cinit__ and
# overrides close_core. Every call into the core is bracketed with enter and leave, and no Python code runs
# in between: close() waits for the calls in progress.
cdef class Handle:
    cdef object __weakref__
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid       # of the process that opened it
    cdef list callers  # threads in a call that may run a progress callback
    cdef str noun      # in messages: "index"
    cdef readonly str path
    cdef int check_unopened(self) except -1
    cdef int opened(self, bytes raw) except -1         # the core has opened this path
    cdef int enter(self) except -1
    cdef void leave(self) noexcept
    cdef int not_in_callback(self, what) except -1
    cdef object begin_long(self, what)                 # enter, for a call that may run a callback
    cdef int end_long(self, object ident) except -1
    cdef int32_t close_core(self) noexcept nogil       # close it and forget the pointer
