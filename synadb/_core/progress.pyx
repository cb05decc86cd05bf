"""Progress callbacks and Ctrl-C.

The core calls `progress_step` often and without the GIL. Every 50 ms it takes the GIL, lets Python
run pending signal handlers, and tells the user's callable how far the call is. Whatever either
raises stops the core, which undoes the call; the exception then goes on to the caller. A call
without a callback of the user's is interruptible all the same.
"""

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject

from synadb._core.libsynadb cimport SYNA_SUCCESS
from synadb._core.status cimport fail

cdef enum:
    EVERY_NS = 50_000_000


cdef class Progress:
    """Carries a progress callback through a call into the core.

    `progress` is None or False (silent), True (a bar on standard error), or a callable that
    takes the done and the total number of units, total 0 when not known yet.
    """

    def __init__(self, progress=None):
        self.context.progress = <PyObject *>self
        if progress is None or progress is False:
            return
        if progress is True:
            from synadb._bar import Bar

            bar = Bar()
            self.call = bar
            self.on_close = bar.close
        elif callable(progress):
            self.call = progress
        else:
            raise TypeError(
                f"progress is True, False, None or a callable, not {type(progress).__name__}")

    cdef int finish(self, int32_t code) except -1:
        if self.on_close is not None:
            self.on_close()
        if self.error is not None:
            raise self.error
        if code != SYNA_SUCCESS:
            fail(code)
        return 0


cdef int32_t progress_step(void *context, uint64_t done, uint64_t total) noexcept nogil:
    cdef progress_context *state = <progress_context *>context
    cdef timespec now
    cdef uint64_t now_ns
    cdef bint whole = total != 0 and done == total and not state.ended # said once, however soon
    clock_gettime(CLOCK_MONOTONIC, &now)
    now_ns = <uint64_t>now.tv_sec * 1_000_000_000 + <uint64_t>now.tv_nsec
    if now_ns < state.next_ns and not whole:
        return 0
    state.ended = state.ended or whole
    state.next_ns = now_ns + EVERY_NS
    with gil:
        return report(<Progress>state.progress, done, total)


cdef int32_t report(Progress progress, uint64_t done, uint64_t total) noexcept:
    try:
        PyErr_CheckSignals()
        if progress.call is not None:
            progress.call(done, total)
    except BaseException as error:
        progress.error = error
        return 1
    return 0
