"""What the handles of open stores have in common: the bracket around calls into the core, close() beside
them, fork, and the end of the interpreter."""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t
from posix.unistd cimport getpid, usleep

from synadb._core.kv cimport (
    STATE_CLOSED, STATE_CLOSING, STATE_OPEN, calls_add, calls_load, state_load, state_swap)
from synadb._core.status cimport check

import atexit
import os
import warnings
from _thread import get_ident
from weakref import WeakSet

from synadb.errors import ArgumentError, ClosedError, Reason

cdef enum:
    CLOSE_POLL_US = 100

cdef object LIVE = WeakSet()  # the handles to close when the interpreter ends


cdef class Handle:
    def __cinit__(self):
        self.callers = []

    cdef int32_t close_core(self) noexcept nogil:
        return 0

    cdef int check_unopened(self) except -1:
        if self.state != STATE_CLOSED:
            raise ArgumentError(0, f"{self.path}: already open", reason=Reason.ARGUMENT)
        return 0

    cdef int opened(self, bytes raw) except -1:
        self.path = os.path.abspath(os.fsdecode(raw))
        self.pid = getpid()
        LIVE.add(self)
        state_swap(&self.state, STATE_OPEN)
        return 0

    cdef int enter(self) except -1:
        calls_add(&self.calls, 1)
        if state_load(&self.state) == STATE_OPEN:
            return 0
        calls_add(&self.calls, -1)
        raise ClosedError(
            -1, f"{self.path}: the {self.noun} is closed", reason=Reason.CLOSED, path=self.path)

    cdef void leave(self) noexcept:
        calls_add(&self.calls, -1)

    # A progress callback runs within a call; these calls would wait for it to end.
    cdef int not_in_callback(self, what) except -1:
        if get_ident() in self.callers:
            raise ArgumentError(
                0, f"{self.path}: {what}() from a progress callback of the same {self.noun}",
                reason=Reason.ARGUMENT, path=self.path)
        return 0

    cdef object begin_long(self, what):
        ident = get_ident()
        self.not_in_callback(what)
        self.enter()
        self.callers.append(ident)
        return ident

    cdef int end_long(self, object ident) except -1:
        self.callers.remove(ident)
        self.leave()
        return 0

    @property
    def closed(self):
        """Whether `close` was called."""
        return state_load(&self.state) != STATE_OPEN

    def close(self):
        """Make everything durable, save the index where there is one, and close the file.

        Calls in progress on other threads are waited for; later calls raise `ClosedError`. Closing
        again does nothing. In a child process after fork nothing is written. Arrays and views that
        were handed out stay valid.

        Raises
        ------
        SynaIOError
            The data could not be made durable. It is closed all the same.
        """
        cdef int32_t rc
        if self.state == STATE_CLOSED:
            return
        self.not_in_callback("close")
        if self.pid != getpid():  # after fork the calls of the parent's threads never return here
            self.pid = getpid()
            self.calls = 0
            self.callers = []
            if self.state == STATE_CLOSING:
                self.state = STATE_OPEN
        if state_swap(&self.state, STATE_CLOSING) != STATE_OPEN:
            self._wait(False)
            return
        try:
            self._wait(True)
        except BaseException:
            state_swap(&self.state, STATE_OPEN)
            raise
        LIVE.discard(self)
        with nogil:
            rc = self.close_core()
        state_swap(&self.state, STATE_CLOSED)
        check(rc)

    def _wait(self, bint for_calls):
        """Wait until no call is in progress, or until the thread that closes has done so."""
        while calls_load(&self.calls) != 0 if for_calls else state_load(&self.state) == STATE_CLOSING:
            PyErr_CheckSignals()
            with nogil:
                usleep(CLOSE_POLL_US)

    def __del__(self):
        if self.state == STATE_OPEN:
            warnings.warn(f"unclosed {self.noun} {self.path!r}", ResourceWarning, source=self)
            self.close()


def close_all():
    """Close every handle that is still open; runs when the interpreter ends."""
    for handle in list(LIVE):
        try:
            handle.close()
        except Exception as error:
            warnings.warn(f"closing {handle.path!r} at exit: {error}", ResourceWarning)


atexit.register(close_all)
