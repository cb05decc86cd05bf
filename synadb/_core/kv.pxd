from libc.stdint cimport int32_t

from synadb._core.libsynadb cimport syna_db

cdef extern from *:
    """
    /* A call in progress on a handle is counted, so that close can wait for it. With a GIL the GIL
     * guards the counter; without one it is atomic. */
    #ifdef Py_GIL_DISABLED
    #define calls_add(counter, n) __atomic_add_fetch((counter), (n), __ATOMIC_SEQ_CST)
    #define calls_load(counter) __atomic_load_n((counter), __ATOMIC_SEQ_CST)
    #define state_load(state) __atomic_load_n((state), __ATOMIC_SEQ_CST)
    #define state_swap(state, value) __atomic_exchange_n((state), (value), __ATOMIC_SEQ_CST)
    #else
    #define calls_add(counter, n) (*(counter) += (n))
    #define calls_load(counter) (*(counter))
    #define state_load(state) (*(state))
    static inline int state_swap(int *state, int value)
    {
        int before = *state;
        *state = value;
        return before;
    }
    #endif
    """
    Py_ssize_t calls_add(Py_ssize_t *counter, Py_ssize_t n) noexcept nogil
    Py_ssize_t calls_load(Py_ssize_t *counter) noexcept nogil
    int state_load(int *state) noexcept nogil
    int state_swap(int *state, int value) noexcept nogil

# CLOSED -> OPEN (first use, for one that was unpickled) -> CLOSING -> CLOSED
cdef enum:
    STATE_CLOSED = 0
    STATE_OPEN = 1
    STATE_CLOSING = 2


cdef bytes path_bytes(object path)


# One opening of a database file. Whoever calls into the core with `ptr` brackets it with db_enter and
# db_leave and runs no Python code in between: close() waits for the calls in progress.
cdef class Database:
    cdef object __weakref__
    cdef syna_db *ptr
    cdef Py_ssize_t calls
    cdef int state
    cdef int pid             # of the process that opened it
    cdef list callers        # threads in a call that may run a progress callback
    cdef object dependents   # WeakSet of scans, batches and blobs
    cdef readonly str path
    cdef readonly dict _options  # what it was opened with
    cdef bint reopens        # unpickled and not opened yet
    cdef int not_open(self) except -1
    cdef int open_handle(self) except -1
    cdef object begin_upkeep(self)
    cdef int end_upkeep(self, object ident) except -1


cdef inline int db_enter(Database db) except -1:
    calls_add(&db.calls, 1)
    if state_load(&db.state) != STATE_OPEN:
        db.not_open()  # raises, or opens what was unpickled
    return 0


cdef inline void db_leave(Database db) noexcept:
    calls_add(&db.calls, -1)


# What lives on an open database and must be released before that closes.
cdef class Dependent:
    cdef object __weakref__
    cdef readonly Database db
    cdef bint busy                    # a call on it is in progress
    cdef bint released
    cdef int attach(self, Database db) except -1
    cdef int begin(self) except -1    # db_enter, and refuse use by two threads at once
    cdef void end(self) noexcept
    cdef int free(self) except -1     # release it, unless its database has done so
    cdef void release(self) noexcept  # free the C object; no call on it is in progress
