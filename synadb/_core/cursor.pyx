"""What lives on an open database: scans, batches, and blobs being read or written.

Each holds an object of the core that must be released before its database closes, so it registers
with the database (kv.pxd, Dependent). Each belongs to one thread at a time.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport Database, Dependent
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_SCAN_KEYS, SYNA_SCAN_VALUES, SYNA_SUCCESS, SYNA_TYPE_BLOB,
    SYNA_TYPE_BYTES, SYNA_TYPE_FLOAT, SYNA_TYPE_INT, SYNA_TYPE_PACKED, SYNA_TYPE_TEXT,
    SYNA_TYPE_VECTOR, syna_batch, syna_batch_commit, syna_batch_count, syna_batch_delete,
    syna_batch_free, syna_batch_new, syna_batch_put, syna_blob, syna_blob_create,
    syna_blob_finish, syna_blob_free, syna_blob_open, syna_blob_read, syna_blob_size,
    syna_blob_write, syna_put, syna_record, syna_scan, syna_scan_free, syna_scan_new,
    syna_scan_next_many)
from synadb._core.pack cimport Packer
from synadb._core.status cimport check, fail
from synadb._core.values cimport (
    Atom, atom_of, how_of, int64_of, text_of, value_of, vector_of)
cdef object MISSING = object()

cdef enum:
    SCAN_FIRST = 4  # records that a scan asks for first; then twice as many, and so on up to
    SCAN_MOST = 64


# ---------------------------------------------------------------------------------------- scan

cdef class Scan(Dependent):
    """An iterator over the live keys of a database in byte order: see `SynaDB.scan`."""

    cdef syna_scan *ptr
    cdef syna_record records[SCAN_MOST]  # borrowed from the core, which is asked for many at once
    cdef size_t count, taken, wanted
    cdef bint keys_only
    cdef bint ended
    cdef object bounds  # the str objects whose UTF-8 the core was given

    def __cinit__(self, Database db not None, prefix, start, end, bint keys_only):
        cdef Py_ssize_t sizes[3]
        cdef const char *texts[3]
        cdef int i
        cdef int32_t rc
        for i, text in enumerate((prefix, start, end)):
            texts[i] = NULL
            sizes[i] = 0
            if text is not None and not (text == "" and i < 2):
                texts[i] = key_utf8(text, &sizes[i])
        self.keys_only = keys_only
        self.wanted = SCAN_FIRST
        self.bounds = (prefix, start, end)
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_scan_new(db.ptr, texts[0], sizes[0], texts[1], sizes[1], texts[2], sizes[2],
                               SYNA_SCAN_KEYS if keys_only else SYNA_SCAN_VALUES, &self.ptr)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        syna_scan_free(self.ptr)
        self.ptr = NULL

    def __iter__(self):
        return self

    def __next__(self):
        cdef syna_record *record
        cdef str key
        cdef object value = None
        while True:
            self.begin()
            try:  # the record is borrowed: take it before close can free it
                if self.taken == self.count:
                    self.fetch()
                record = &self.records[self.taken]
                self.taken += 1
                key = record.key[:record.key_len].decode("utf-8")
                if self.keys_only:
                    return key
                value = plain_value(record)
            finally:
                self.end()
            if record.type == SYNA_TYPE_BLOB:
                # Its content is not part of the scan, and may have gone since.
                value = self.db.get(key, MISSING)
                if value is MISSING:
                    continue
            elif record.type == SYNA_TYPE_PACKED or record.type == SYNA_TYPE_VECTOR:
                value = value_of(record.type, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
            return key, value

    cdef int fetch(self) except -1:
        cdef int32_t rc
        if self.ended:
            raise StopIteration
        self.count = self.taken = 0
        self.records[0].size = sizeof(syna_record)
        with nogil:
            rc = syna_scan_next_many(self.ptr, self.records, self.wanted, &self.count)
        self.wanted = min(2 * self.wanted, <size_t>SCAN_MOST)
        if rc == SYNA_SUCCESS:
            return 0
        self.ended = True
        if rc == SYNA_ERR_KEY_NOT_FOUND:
            raise StopIteration
        fail(rc)


cdef object plain_value(const syna_record *record):
    """The value; of one whose decoding may run other Python code, its bytes."""
    if record.type == SYNA_TYPE_BLOB:
        return None
    if record.type == SYNA_TYPE_PACKED or record.type == SYNA_TYPE_VECTOR:
        return PyBytes_FromStringAndSize(<const char *>record.data, record.len)
    return value_of(record.type, record.data, record.len)


# --------------------------------------------------------------------------------------- batch

cdef class Batch(Dependent):
    """Writes that happen together or not at all: see `SynaDB.batch`.

    Examples
    --------
    >>> with db.batch() as batch:
    ...     batch["a"] = 1
    ...     batch.put_text("b", "two", ttl=3600)
    ...     batch.delete("old")
    >>> db["a"], db["b"]
    (1, 'two')
    """

    cdef syna_batch *ptr
    cdef Packer packer

    def __cinit__(self, Database db not None):
        cdef int32_t rc
        self.packer = Packer()
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_batch_new(db.ptr, &self.ptr)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        syna_batch_free(self.ptr)
        self.ptr = NULL

    cdef int add(self, object key, int32_t type, const void *data, size_t len, object ttl,
                 object when) except -1:
        # Only memory is touched, so the GIL is kept.
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef syna_put how
        cdef syna_put *options = how_of(ttl, when, &how)
        cdef int32_t rc
        self.begin()
        rc = syna_batch_put(self.ptr, k, size, type, data, len, options)
        self.end()
        if rc != SYNA_SUCCESS:
            fail(rc)
        return 0

    def put(self, key, value, *, ttl=None, when=None):
        """Add a value of any type, as `SynaDB.put` would store it."""
        cdef Atom atom
        holder = atom_of(value, &atom, self.packer)
        self.add(key, atom.type, atom.data, atom.len, ttl, when)

    def put_float(self, key, value, *, ttl=None, when=None):
        """Add a float, as `SynaDB.put_float`."""
        cdef double number = value
        self.add(key, SYNA_TYPE_FLOAT, &number, 8, ttl, when)

    def put_int(self, key, value, *, ttl=None, when=None):
        """Add an integer of 64 signed bits, as `SynaDB.put_int`."""
        cdef int64_t number = int64_of(value)
        self.add(key, SYNA_TYPE_INT, &number, 8, ttl, when)

    def put_text(self, key, value, *, ttl=None, when=None):
        """Add a text, as `SynaDB.put_text`."""
        cdef Py_ssize_t len = 0
        cdef const char *text = text_of(key, value, &len)
        self.add(key, SYNA_TYPE_TEXT, text, len, ttl, when)

    def put_bytes(self, key, value, *, ttl=None, when=None):
        """Add bytes, as `SynaDB.put_bytes`."""
        cdef Py_buffer view
        if isinstance(value, str):
            raise TypeError("put_bytes takes a bytes-like object, not str; see put_text")
        PyObject_GetBuffer(value, &view, PyBUF_SIMPLE)
        try:
            self.add(key, SYNA_TYPE_BYTES, view.buf, view.len, ttl, when)
        finally:
            PyBuffer_Release(&view)

    def put_vector(self, key, value, *, ttl=None, when=None):
        """Add a vector, as `SynaDB.put_vector`."""
        cdef const float[::1] floats = vector_of(value)
        self.add(key, SYNA_TYPE_VECTOR, &floats[0], floats.nbytes, ttl, when)

    def __setitem__(self, key, value):
        cdef Atom atom
        holder = atom_of(value, &atom, self.packer)
        self.add(key, atom.type, atom.data, atom.len, None, None)

    def update(self, items, *, ttl=None, when=None):
        """Add every pair of `items`, a mapping or an iterable of (key, value)."""
        cdef Atom atom
        if hasattr(items, "keys") and hasattr(items, "items"):
            items = items.items()
        for key, value in items:
            holder = atom_of(value, &atom, self.packer)
            self.add(key, atom.type, atom.data, atom.len, ttl, when)

    def delete(self, key):
        """Delete `key`, whether it exists or not."""
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.begin()
        rc = syna_batch_delete(self.ptr, k, size)
        self.end()
        check(rc)

    def __delitem__(self, key):
        self.delete(key)

    def __len__(self):
        cdef size_t count
        self.begin()
        count = syna_batch_count(self.ptr)
        self.end()
        return count

    def commit(self):
        """Write everything added so far, atomically and with one sync; the batch is then empty.

        Leaving the ``with`` block commits by itself.
        """
        cdef int32_t rc
        self.begin()
        with nogil:
            rc = syna_batch_commit(self.ptr)
        self.end()
        check(rc)

    def discard(self):
        """Forget everything; the batch cannot be used any more."""
        self.free()

    def __enter__(self):
        return self

    def __exit__(self, exc_type, exc, traceback):
        if self.released and not self.db.closed:  # discarded by hand
            return
        if exc_type is None:
            self.commit()
        else:
            self.discard()


# --------------------------------------------------------------------------------------- blobs

cdef class BlobSource(Dependent):
    """The bytes of one value, read piece by piece; the version that was opened stays."""

    cdef syna_blob *ptr
    cdef readonly uint64_t size

    def __cinit__(self, Database db not None, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_blob_open(db.ptr, k, size, &self.ptr)
            if rc == SYNA_SUCCESS:
                self.size = syna_blob_size(self.ptr)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        syna_blob_free(self.ptr)
        self.ptr = NULL

    def read_into(self, uint64_t offset, buffer):
        """Fill `buffer` from `offset` on; the number of bytes read, fewer only at the end."""
        cdef Py_buffer view
        cdef size_t got = 0
        cdef int32_t rc
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            self.begin()
            with nogil:
                rc = syna_blob_read(self.ptr, offset, view.buf, view.len, &got)
            self.end()
            check(rc)
        finally:
            PyBuffer_Release(&view)
        return got

    def close(self):
        self.free()


cdef class BlobSink(Dependent):
    """A value being written piece by piece; nothing of it is seen before `finish`."""

    cdef syna_blob *ptr

    def __cinit__(self, Database db not None, key):
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef int32_t rc
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_blob_create(db.ptr, k, size, &self.ptr)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        cdef syna_blob *blob = self.ptr
        self.ptr = NULL
        with nogil:  # takes the writers' lock
            syna_blob_free(blob)

    def write(self, data):
        """Append `data`, a bytes-like object; the number of bytes."""
        cdef Py_buffer view
        cdef int32_t rc
        cdef Py_ssize_t len
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            len = view.len
            self.begin()
            with nogil:
                rc = syna_blob_write(self.ptr, view.buf, view.len)
            self.end()
            check(rc)
        finally:
            PyBuffer_Release(&view)
        return len

    def finish(self):
        """Make what was written the value of the key."""
        cdef int32_t rc
        self.begin()
        with nogil:
            rc = syna_blob_finish(self.ptr)
        self.end()
        self.close()
        check(rc)

    def close(self):
        """Forget what was not finished."""
        self.free()
