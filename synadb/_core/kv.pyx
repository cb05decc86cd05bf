"""An open database: typed puts and gets, histories. The methods with docstrings here are
methods of `synadb.SynaDB`, which inherits from `Database`, so that a put or get costs one call.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with db_enter and db_leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport getpid, usleep

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals

from synadb._core.history cimport Records, records_collect, records_free, records_take
from synadb._core.keys cimport key_utf8
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_SCAN_KEYS, SYNA_SUCCESS, SYNA_TYPE_BLOB, SYNA_TYPE_BYTES,
    SYNA_TYPE_FLOAT, SYNA_TYPE_INT, SYNA_TYPE_TEXT, SYNA_TYPE_VECTOR, syna_db,
    syna_db_append_floats, syna_db_append_ints, syna_db_close, syna_db_count, syna_db_delete,
    syna_db_exists, syna_db_flush, syna_db_get, syna_db_get_at, syna_db_get_float,
    syna_db_get_int, syna_db_history_floats, syna_db_open, syna_db_options, syna_db_path,
    syna_db_put, syna_db_put_float, syna_db_put_int, syna_put, syna_record, syna_scan,
    syna_scan_free, syna_scan_new, syna_scan_next_many)
from synadb._core.status cimport check, fail
from synadb._core.values cimport (
    Atom, atom_of, how_of, int64_of, text_of, time_us, type_name, value_of, vector_of)

import os
import warnings
from threading import get_ident
from weakref import WeakSet

import numpy as np

from synadb.errors import (
    ArgumentError, ClosedError, InvalidPathError, KeyNotFoundError, Reason, TypeMismatchError)

cdef enum:
    SMALL = 4096           # values up to this many bytes are read once, through the stack
    ANY_TYPE = -1
    CLOSE_POLL_US = 100
    MANY = 64              # keys that are listed in one call of the core

cdef object MISSING = object()
cdef object LIVE = WeakSet()  # the databases to close when the interpreter ends


cdef bytes path_bytes(object path):
    cdef object plain = os.fspath(path)
    cdef bytes raw = os.fsencode(plain)
    if not raw:
        raise InvalidPathError(-2, "the path is empty", reason=Reason.ARGUMENT)
    if b"\0" in raw:
        raise InvalidPathError(
            -2, f"the path {plain!r} contains a NUL byte", reason=Reason.ARGUMENT)
    return raw


cdef uint64_t store(Database db, object key, int32_t type, const void *data, size_t len,
                    object ttl, object when) except? 0:
    """Put one value; the offset of its record. `data` is the caller's to keep."""
    cdef Py_ssize_t size = 0
    cdef const char *k = key_utf8(key, &size)
    cdef uint64_t offset = 0
    cdef int32_t rc
    cdef syna_put how
    cdef syna_put *options = how_of(ttl, when, &how)
    db_enter(db)
    with nogil:
        rc = syna_db_put(db.ptr, k, size, type, data, len, options, &offset)
    db_leave(db)
    if rc != SYNA_SUCCESS:
        fail(rc)
    return offset


cdef object fetch(Database db, object key, uint64_t at, int32_t want, object absent):
    """The newest value, or that of time `at` unless 0; `absent` when there is none."""
    cdef char small[SMALL]
    cdef Py_ssize_t size = 0
    cdef const char *k = key_utf8(key, &size)
    cdef size_t len = 0
    cdef int32_t type = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = read_value(db.ptr, k, size, at, small, SMALL, &len, &type)
    db_leave(db)
    if rc != SYNA_SUCCESS:
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            return absent
        fail(rc)
    if len > SMALL:
        return fetch_large(db, key, at, want, absent, len)
    check_type(db, key, type, want)
    return value_of(type, small, len)


cdef object fetch_large(Database db, object key, uint64_t at, int32_t want, object absent,
                        size_t len):
    cdef Py_ssize_t size = 0
    cdef const char *k = key_utf8(key, &size)
    cdef bytes room
    cdef char *buf
    cdef size_t cap = 0
    cdef int32_t type = 0
    cdef int32_t rc = SYNA_SUCCESS
    while len > cap:  # the value may have been replaced by a longer one meanwhile
        cap = len
        room = PyBytes_FromStringAndSize(NULL, cap)
        buf = PyBytes_AS_STRING(room)
        db_enter(db)
        with nogil:
            rc = read_value(db.ptr, k, size, at, buf, cap, &len, &type)
        db_leave(db)
        if rc != SYNA_SUCCESS:
            if rc == SYNA_ERR_KEY_NOT_FOUND:
                return absent
            fail(rc)
    check_type(db, key, type, want)
    if len == cap and (type == SYNA_TYPE_BYTES or type == SYNA_TYPE_BLOB):
        return room
    return value_of(type, buf, len)


cdef int32_t read_value(syna_db *db, const char *key, size_t key_len, uint64_t at, void *buf,
                        size_t cap, size_t *len, int32_t *type) noexcept nogil:
    if at == 0:
        return syna_db_get(db, key, key_len, buf, cap, len, type)
    return syna_db_get_at(db, key, key_len, at, buf, cap, len, type)


cdef inline int check_type(Database db, object key, int32_t type, int32_t want) except -1:
    if want == ANY_TYPE or type == want or (type == SYNA_TYPE_BLOB and want == SYNA_TYPE_BYTES):
        return 0
    raise TypeMismatchError(
        -6, f"{db.path}: key {key!r:.200} holds a value of type {type_name(type)}, expected "
        f"{type_name(want)}", path=db.path)


cdef class Database:
    # ------------------------------------------------------------------------ opening, closing

    def __cinit__(self):
        self.callers = []
        self.dependents = None

    def _open(self, path, dict options, bint later=False):
        """Open `path`; with `later`, at the first use."""
        if self.state != STATE_CLOSED or self.reopens:
            raise ArgumentError(0, f"{self.path}: already open", reason=Reason.ARGUMENT)
        self.path = os.fsdecode(path_bytes(path))
        self._options = options
        self.reopens = later
        if not later:
            self.open_handle()

    cdef int open_handle(self) except -1:
        cdef bytes path = os.fsencode(self.path)
        cdef const char *c_path = path
        cdef syna_db_options o
        cdef syna_db *ptr = NULL
        cdef int32_t rc
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.no_sync = not self._options["sync_on_write"]
        o.no_compression = not self._options["compression"]
        o.read_only = self._options["read_only"]
        o.shared = self._options["shared"]
        o.must_exist = self._options["must_exist"]
        o.no_mmap = not self._options["mmap"]
        o.timeout_ms = self._options["timeout_ms"]
        with nogil:
            rc = syna_db_open(c_path, &o, &ptr)
        check(rc)
        if self.ptr is not NULL:  # another thread was as quick: openings are counted
            with nogil:
                syna_db_close(ptr)
            return 0
        self.ptr = ptr
        self.path = os.fsdecode(<bytes>syna_db_path(ptr))
        self.pid = getpid()
        self.reopens = False
        LIVE.add(self)
        state_swap(&self.state, STATE_OPEN)
        return 0

    cdef int not_open(self) except -1:
        # db_enter has counted the call, and only a call that goes ahead stays counted.
        calls_add(&self.calls, -1)
        if state_load(&self.state) == STATE_OPEN:  # another thread opened it meanwhile
            return db_enter(self)
        if self.path is None:
            raise ClosedError(-1, "the database was never opened", reason=Reason.CLOSED)
        if not self.reopens:
            raise ClosedError(
                -1, f"{self.path}: the database is closed", reason=Reason.CLOSED, path=self.path)
        self.open_handle()
        return db_enter(self)

    @property
    def closed(self):
        """Whether `close` was called."""
        return self.state != STATE_OPEN and not self.reopens

    @property
    def read_only(self):
        """Whether this handle cannot write."""
        return bool(self._options["read_only"])

    def close(self):
        """Make everything durable and close the file.

        Calls in progress on other threads are waited for; later calls raise `ClosedError`. Scans,
        batches and blobs of this database end: a batch that was not committed and a blob that was
        not closed are forgotten. Closing again does nothing. In a child process after fork only
        the child's copy is released; nothing is written.

        Raises
        ------
        SynaIOError
            The data could not be made durable. The database is closed all the same.
        """
        cdef syna_db *ptr
        cdef int32_t rc
        self.reopens = False
        if self.state == STATE_CLOSED:
            return
        if get_ident() in self.callers:
            raise ArgumentError(
                0, f"{self.path}: close() from a progress callback of the same database",
                reason=Reason.ARGUMENT)
        self._forget_other_threads()
        if state_swap(&self.state, STATE_CLOSING) != STATE_OPEN:
            self._wait(False)
            return
        try:
            self._wait(True)
        except BaseException:
            state_swap(&self.state, STATE_OPEN)
            raise
        self._release_dependents()
        self._wait(True)
        LIVE.discard(self)
        ptr = self.ptr
        self.ptr = NULL
        with nogil:
            rc = syna_db_close(ptr)
        state_swap(&self.state, STATE_CLOSED)
        check(rc)

    def _forget_other_threads(self):
        # After fork the calls of the parent's other threads never return here.
        if self.pid != getpid():
            self.pid = getpid()
            self.calls = 0
            if self.state == STATE_CLOSING:
                self.state = STATE_OPEN

    def _wait(self, bint for_calls):
        """Wait until no call is in progress, or until the thread that closes has done so."""
        while calls_load(&self.calls) != 0 if for_calls else state_load(&self.state) == STATE_CLOSING:
            PyErr_CheckSignals()
            with nogil:
                usleep(CLOSE_POLL_US)

    def _release_dependents(self):
        cdef Dependent dependent
        if self.dependents is not None:
            for dependent in list(self.dependents):
                if not dependent.released:
                    dependent.released = True
                    dependent.release()

    def __del__(self):
        if self.state == STATE_OPEN:
            try:
                warnings.warn(f"unclosed database {self.path!r}", ResourceWarning, source=self)
            finally:
                self.close()

    def __enter__(self):
        self._check_open()
        return self

    def __exit__(self, *exc_info):
        self.close()

    # -------------------------------------------------------------------------------- writing

    def put_float(self, key, value, *, ttl=None, when=None):
        """Append a float to the history of `key`; it becomes the key's value.

        Parameters
        ----------
        key : str
            1 to 65534 bytes of UTF-8 without NUL.
        value : float
            Stored bit for bit, NaN payloads, -0.0 and denormals included. An int becomes a float.
        ttl : float or timedelta, optional
            Seconds until the value expires. It then reads as missing and goes at the next
            `compact`; the key does not fall back to an older value.
        when : datetime, datetime64, float or int, optional
            The time of the value, as in `get`; now by default. Order is the order of writing: a
            time before the last one is kept and shown in histories, and does not reorder them.

        Returns
        -------
        int
            Where the record starts in the file, in bytes; valid until the next `compact`.

        Notes
        -----
        With ``sync_on_write=True`` the value is on disk when the call returns. With False it
        survives the end of the process, and power loss only after `flush` or `close`.

        Examples
        --------
        >>> db.put_float("temperature", 23.5) >= 0
        True
        """
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef double number = value
        cdef uint64_t offset = 0
        cdef int32_t rc
        cdef syna_put how
        cdef syna_put *options = how_of(ttl, when, &how)
        db_enter(self)
        with nogil:
            if options is NULL:
                rc = syna_db_put_float(self.ptr, k, size, number, &offset)
            else:
                rc = syna_db_put(self.ptr, k, size, SYNA_TYPE_FLOAT, &number, 8, options, &offset)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)
        return offset

    def put_int(self, key, value, *, ttl=None, when=None):
        """Append an integer of 64 signed bits to the history of `key`; it becomes its value.

        Anything with ``__index__`` is an integer, so True is 1 and a numpy integer is welcome; a
        float is a TypeError. Outside -2**63 to 2**63 - 1: `IntegerRangeError` (an OverflowError),
        and nothing is written. ``db[key] = value`` stores integers of any size. Options and
        result as in `put_float`.
        """
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int64_t number = int64_of(value)
        cdef uint64_t offset = 0
        cdef int32_t rc
        cdef syna_put how
        cdef syna_put *options = how_of(ttl, when, &how)
        db_enter(self)
        with nogil:
            if options is NULL:
                rc = syna_db_put_int(self.ptr, k, size, number, &offset)
            else:
                rc = syna_db_put(self.ptr, k, size, SYNA_TYPE_INT, &number, 8, options, &offset)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)
        return offset

    def put_text(self, key, value, *, ttl=None, when=None):
        """Append a text to the history of `key`; it becomes its value.

        Any str that UTF-8 can encode, "" and NUL characters included, numpy's too; one with lone
        surrogates is an `ArgumentError`. Options and result as in `put_float`.
        """
        cdef Py_ssize_t len = 0
        cdef const char *text = text_of(key, value, &len)
        return store(self, key, SYNA_TYPE_TEXT, text, len, ttl, when)

    def put_bytes(self, key, value, *, ttl=None, when=None):
        """Append bytes to the history of `key`; they become its value.

        `value` is any bytes-like object with contiguous memory: bytes, bytearray, memoryview,
        array, numpy array. Up to 1 GiB; larger or streamed content goes through `open_blob`.
        Options and result as in `put_float`.
        """
        cdef Py_buffer view
        if type(value) is bytes:
            return store(self, key, SYNA_TYPE_BYTES, PyBytes_AS_STRING(value),
                         PyBytes_GET_SIZE(value), ttl, when)
        if isinstance(value, str):
            raise TypeError("put_bytes takes a bytes-like object, not str; see put_text")
        PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        try:
            return store(self, key, SYNA_TYPE_BYTES, view.buf, view.len, ttl, when)
        finally:
            PyBuffer_Release(&view)

    def put_vector(self, key, value, *, ttl=None, when=None):
        """Append a vector to the history of `key`; it becomes its value.

        `value` is an array_like of 1 to 65535 finite numbers, stored as float32. Options and
        result as in `put_float`.
        """
        cdef const float[::1] floats = vector_of(value)
        return store(self, key, SYNA_TYPE_VECTOR, &floats[0], floats.nbytes, ttl, when)

    def put(self, key, value, *, ttl=None, when=None):
        """Append `value`, whatever its type: ``db[key] = value`` with options.

        A float, an int of 64 bits, a str, bytes and None are stored as what they are, so that
        `get_float` and the like read them. Everything else is packed and comes back with its own
        type: bool, larger ints, list, tuple, dict, set, frozenset, bytearray, complex, range, the
        types of datetime, Decimal, Fraction, UUID, numpy arrays and scalars of any dtype, nested
        up to 512 deep. Other types, and subclasses of these, are a `TypeMismatchError` (a
        TypeError) that names the type and its place; nothing is written then. Options and result
        as in `put_float`.
        """
        cdef Atom atom
        holder = atom_of(value, &atom, None)
        return store(self, key, atom.type, atom.data, atom.len, ttl, when)

    def __setitem__(self, key, value):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        cdef Atom atom
        holder = atom_of(value, &atom, None)
        db_enter(self)
        with nogil:
            rc = syna_db_put(self.ptr, k, size, atom.type, atom.data, atom.len, NULL, NULL)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)

    def _append(self, key, values, times):
        """Append a float64 or int64 array with an uint64 array of times or None."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef const double[::1] floats
        cdef const int64_t[::1] ints
        cdef const uint64_t[::1] stamps
        cdef const double *first_float = NULL
        cdef const int64_t *first_int = NULL
        cdef const uint64_t *first_stamp = NULL
        cdef size_t count = values.size
        cdef int32_t rc
        if count == 0:
            self._check_open()
            return 0
        if times is not None:
            stamps = times
            first_stamp = &stamps[0]
        if values.dtype.kind == "f":
            floats = values
            first_float = &floats[0]
        else:
            ints = values
            first_int = &ints[0]
        db_enter(self)
        with nogil:
            if first_float is not NULL:
                rc = syna_db_append_floats(self.ptr, k, size, first_float, first_stamp, count)
            else:
                rc = syna_db_append_ints(self.ptr, k, size, first_int, first_stamp, count)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)
        return count

    def delete(self, key):
        """Delete `key`; a missing one is no error and writes nothing.

        Its history stays readable, and with it ``get(key, at=...)``, until the next `compact`.
        ``del db[key]`` is the same, but raises `KeyNotFoundError` when the key is missing.
        """
        delete_key(self, key)

    def __delitem__(self, key):
        if not delete_key(self, key):
            raise missing(self, key)

    def flush(self):
        """Make everything written so far durable: on disk when the call returns."""
        cdef int32_t rc
        db_enter(self)
        with nogil:
            rc = syna_db_flush(self.ptr)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)

    # -------------------------------------------------------------------------------- reading

    def get_float(self, key):
        """The newest value of `key` as a float; None when it is missing, deleted or expired.

        Raises
        ------
        TypeMismatchError
            The value has another type, an int included (`put_float` makes floats of ints).
        CorruptionError
            The record's checksum does not match; ``path`` and ``offset`` say where.

        Examples
        --------
        >>> _ = db.put_float("temperature", 23.5)
        >>> db.get_float("temperature")
        23.5
        """
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef double number = 0
        cdef int32_t rc
        db_enter(self)
        with nogil:
            rc = syna_db_get_float(self.ptr, k, size, &number)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            if rc == SYNA_ERR_KEY_NOT_FOUND:
                return None
            fail(rc)
        return number

    def get_int(self, key):
        """The newest value of `key` as an int; otherwise as `get_float`."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int64_t number = 0
        cdef int32_t rc
        db_enter(self)
        with nogil:
            rc = syna_db_get_int(self.ptr, k, size, &number)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            if rc == SYNA_ERR_KEY_NOT_FOUND:
                return None
            fail(rc)
        return number

    def get_text(self, key):
        """The newest value of `key` as a str; otherwise as `get_float`."""
        return fetch(self, key, 0, SYNA_TYPE_TEXT, None)

    def get_bytes(self, key):
        """The newest value of `key` as bytes, a blob's content included; otherwise as
        `get_float`."""
        return fetch(self, key, 0, SYNA_TYPE_BYTES, None)

    def get_vector(self, key):
        """The newest value of `key` as a float32 array; otherwise as `get_float`."""
        return fetch(self, key, 0, SYNA_TYPE_VECTOR, None)

    def get(self, key, default=None, *, at=None):
        """The newest value of `key`, whatever its type, or `default`.

        Parameters
        ----------
        key : str
        default : optional
            Returned when the key is missing, deleted or expired.
        at : datetime, datetime64, float or int, optional
            Time travel: the value as it was at that time, that of the last record with a time <=
            `at`. A datetime without zone is local time, as everywhere in Python; a datetime64 is
            UTC; a float is seconds since 1970, as of `time.time`; an int is microseconds since
            1970. A time given with a put counts here unless it lies in the future or before an
            earlier record's; then the record counts as written when it was, or with that one.
            Reaches back to the last `compact` that kept no history.

        Returns
        -------
        object
            The value with the type it was stored with; arrays are writable and own their memory.

        Examples
        --------
        >>> db["config"] = {"layers": [64, 32], "rate": 0.1}
        >>> db.get("config")
        {'layers': [64, 32], 'rate': 0.1}
        >>> db.get("absent", 0)
        0
        """
        return fetch(self, key, 0 if at is None else time_us(at), ANY_TYPE, default)

    def __getitem__(self, key):
        value = fetch(self, key, 0, ANY_TYPE, MISSING)
        if value is MISSING:
            raise missing(self, key)
        return value

    def type_of(self, key, *, at=None):
        """The type of a key's value as stored, without reading it; None when there is none.

        One of "null", "float", "int", "text", "bytes", "vector", "packed", "blob". `at` as in
        `get`.
        """
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef uint64_t moment = 0 if at is None else time_us(at)
        cdef size_t len = 0
        cdef int32_t type = 0
        cdef int32_t rc
        db_enter(self)
        with nogil:
            rc = read_value(self.ptr, k, size, moment, NULL, 0, &len, &type)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            if rc == SYNA_ERR_KEY_NOT_FOUND:
                return None
            fail(rc)
        return type_name(type)

    def get_many(self, keys, default=None):
        """The newest values of several keys, in the order of `keys`, as a list.

        `default` stands where a key is missing, deleted or expired.
        """
        if isinstance(keys, (str, bytes)):
            raise TypeError(f"get_many takes an iterable of keys, not {type(keys).__name__}")
        self._check_open()
        return [fetch(self, key, 0, ANY_TYPE, default) for key in keys]

    def exists(self, key):
        """Whether `key` has a value that is neither deleted nor expired."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        db_enter(self)
        with nogil:
            rc = syna_db_exists(self.ptr, k, size)
        db_leave(self)
        if rc < 0:
            fail(rc)
        return rc == 1

    def __contains__(self, key):
        return self.exists(key)

    def __len__(self):
        cdef int64_t count
        db_enter(self)
        with nogil:
            count = syna_db_count(self.ptr)
        db_leave(self)
        if count < 0:
            fail(<int32_t>count)
        return count

    def keys(self):
        """The live keys as a list, sorted by their UTF-8 bytes (the order of code points)."""
        cdef syna_scan *scan = NULL
        cdef syna_record records[MANY]
        cdef size_t count = 0
        cdef size_t i
        cdef int32_t rc
        cdef list found = []
        records[0].size = sizeof(syna_record)
        db_enter(self)
        try:
            with nogil:
                rc = syna_scan_new(self.ptr, NULL, 0, NULL, 0, NULL, 0, SYNA_SCAN_KEYS, &scan)
            while rc == SYNA_SUCCESS:
                with nogil:
                    rc = syna_scan_next_many(scan, records, MANY, &count)
                for i in range(count):
                    found.append(records[i].key[:records[i].key_len].decode("utf-8"))
            syna_scan_free(scan)
        finally:
            db_leave(self)
        if rc != SYNA_ERR_KEY_NOT_FOUND:
            fail(rc)
        return found

    # ------------------------------------------------------------------------------ histories

    def get_history_tensor(self, key):
        """Every float ever stored under `key`, oldest first, as a float64 array.

        Values of other types and deletions are left out; values from before a deletion stay until
        the next `compact`. A key without any gives an empty array. The array is the caller's own.

        Examples
        --------
        >>> for value in (23.5, 24.1, 24.8):
        ...     _ = db.put_float("room", value)
        >>> db.get_history_tensor("room")
        array([23.5, 24.1, 24.8])
        """
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef size_t count = 0
        cdef size_t cap
        cdef int32_t rc
        cdef double[::1] floats
        cdef double *first
        db_enter(self)
        with nogil:
            rc = syna_db_history_floats(self.ptr, k, size, NULL, NULL, 0, &count)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)
        values = np.empty(count, dtype=np.float64)
        if count == 0:
            return values
        cap = count
        floats = values
        first = &floats[0]
        db_enter(self)
        with nogil:
            rc = syna_db_history_floats(self.ptr, k, size, first, NULL, cap, &count)
        db_leave(self)
        if rc != SYNA_SUCCESS:
            fail(rc)
        return values if count >= cap else values[:count].copy()  # a compaction came between

    def _history(self, key):
        """(values, times, times of deletions) of `key`: see `History`."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef Records records
        cdef int32_t rc
        memset(&records, 0, sizeof(records))
        db_enter(self)
        with nogil:
            rc = records_collect(self.ptr, k, size, &records)
        db_leave(self)
        try:
            if records.no_memory:
                raise MemoryError()
            if rc != SYNA_SUCCESS:
                fail(rc)
            return records_take(&records)
        finally:
            records_free(&records)

    # --------------------------------------------------------------------------------- upkeep

    def _check_open(self):
        db_enter(self)
        db_leave(self)

    # Progress callbacks run Python code within a call, so that close() must know its own thread.
    cdef object begin_upkeep(self):
        ident = get_ident()
        db_enter(self)
        self.callers.append(ident)
        return ident

    cdef int end_upkeep(self, object ident) except -1:
        self.callers.remove(ident)
        db_leave(self)
        return 0


cdef bint delete_key(Database db, object key) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *k = key_utf8(key, &size)
    cdef int32_t deleted = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_db_delete(db.ptr, k, size, &deleted)
    db_leave(db)
    if rc != SYNA_SUCCESS:
        fail(rc)
    return deleted != 0


cdef object missing(Database db, object key):
    return KeyNotFoundError(-5, f"{db.path}: no value under key {key!r:.200}", path=db.path)


# -------------------------------------------------------------------------------- dependents

cdef class Dependent:
    cdef int attach(self, Database db) except -1:
        self.db = db
        if db.dependents is None:
            db.dependents = WeakSet()
        db.dependents.add(self)
        return 0

    # Not __dealloc__: there nothing may give up the GIL, and releasing a blob waits for a lock.
    def __del__(self):
        if self.db is not None:
            self.free()

    cdef int begin(self) except -1:
        if self.busy:
            raise ArgumentError(
                0, f"a {type(self).__name__} is used by two threads at once",
                reason=Reason.ARGUMENT)
        db_enter(self.db)
        if self.released:
            db_leave(self.db)
            raise ClosedError(-1, f"the {type(self).__name__} is closed", reason=Reason.CLOSED)
        self.busy = True
        return 0

    cdef void end(self) noexcept:
        self.busy = False
        db_leave(self.db)

    cdef int free(self) except -1:
        if self.released or self.db.state != STATE_OPEN:
            return 0
        self.begin()
        self.released = True
        self.release()
        self.end()
        return 0

    cdef void release(self) noexcept:
        pass


def close_all():
    """Close every database that is still open; runs when the interpreter ends."""
    for db in list(LIVE):
        try:
            db.close()
        except Exception as error:
            warnings.warn(f"closing {db.path!r} at exit: {error}", ResourceWarning)
