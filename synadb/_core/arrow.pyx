"""Records for other programs: Arrow streams of a database, Arrow streams over arrays in memory, rows for
the text formats, and the writer that puts records back with their types and times.

An Arrow consumer calls back from its own threads, without the GIL, and keeps what it got for as long as
it likes. So a stream of a database is a Dependent: it ends with an error once the database is closed.
Batches need neither: those of a database own their memory (csrc/engine/arrow.c), those over arrays hold
a reference to them.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport Database, Dependent
from synadb._core.libsynadb cimport (
    ARROW_FLAG_NULLABLE, SYNA_COLUMN_EXPIRES, SYNA_COLUMN_KEY, SYNA_COLUMN_TIME, SYNA_COLUMN_TYPE,
    SYNA_COLUMN_VALUE, SYNA_ERR_KEY_NOT_FOUND, SYNA_ERR_SERIALIZATION, SYNA_ERR_TYPE_MISMATCH,
    SYNA_SUCCESS, SYNA_TYPE_ANY, SYNA_TYPE_BLOB, SYNA_TYPE_BYTES, SYNA_TYPE_FLOAT, SYNA_TYPE_INT, SYNA_TYPE_NULL, SYNA_TYPE_PACKED,
    SYNA_TYPE_TEXT, SYNA_TYPE_VECTOR, ArrowArray, ArrowArrayStream, ArrowSchema,
    syna_arrow_schema, syna_arrow_stream, syna_batch, syna_batch_commit, syna_batch_count,
    syna_batch_delete_at, syna_batch_free, syna_batch_new, syna_batch_put, syna_db_let_go, syna_put,
    syna_record, syna_records, syna_records_free, syna_records_new, syna_records_next,
    syna_records_options)
from synadb._core.pack cimport Packer
from synadb._core.status cimport check, fail
from synadb._core.values cimport Atom, atom_of, int64_of, text_of, value_of, vector_of

import numpy as np

from synadb.errors import ArgumentError, Reason, TypeMismatchError

cdef extern from "errno.h" nogil:
    enum:
        EINVAL
        EIO
        ENOMEM

cdef enum:
    BATCH_ROWS = 122_880  # of tables in memory: what DuckDB gives a thread at once
    RECORD_BYTES = 32     # of a frame beside key and value, about

TYPES = ("null", "float", "int", "text", "bytes", "vector", "packed", "blob")
DELETED = "deleted"
cdef tuple NAMES = TYPES
cdef dict NUMBERS = {name: number for number, name in enumerate(TYPES)}
cdef dict COLUMNS = {
    "key": SYNA_COLUMN_KEY, "type": SYNA_COLUMN_TYPE, "time": SYNA_COLUMN_TIME,
    "expires": SYNA_COLUMN_EXPIRES, "value": SYNA_COLUMN_VALUE}


# ----------------------------------------------------------------------------- what is selected

cdef class Selection:
    """Which records of a database, and which columns of them: see `SynaDB.table`."""

    cdef syna_records_options options
    cdef readonly object type, key, pattern
    cdef readonly bint history
    cdef readonly tuple columns
    cdef readonly object error  # what ended one of its streams last, None if nothing did

    def __cinit__(self, *, type=None, key=None, pattern=None, history=False, columns=None,
                  strict=False, uint32_t dimensions=0, uint32_t batch_rows=0):
        cdef Py_ssize_t size = 0
        memset(&self.options, 0, sizeof(self.options))
        self.options.size = sizeof(self.options)
        self.options.type = SYNA_TYPE_ANY
        if type is not None:
            self.options.type = one_of(type, NUMBERS, "type")
        if key is not None:
            self.options.key = key_utf8(key, &size)
            self.options.key_len = size
        if pattern is not None:
            if not isinstance(pattern, str):
                raise TypeError(f"a pattern is a str, not {pattern.__class__.__name__}")
            self.options.pattern = text_of("pattern", pattern, &size)
            self.options.pattern_len = size
        if key is not None and pattern is not None:
            raise ArgumentError(0, "give a key or a pattern, not both", reason=Reason.ARGUMENT)
        self.columns = tuple(COLUMNS) if columns is None else tuple(columns)
        for name in self.columns:
            self.options.columns |= <uint32_t>one_of(name, COLUMNS, "column")
        if not self.columns:
            raise ArgumentError(0, "no columns; expected one or more", reason=Reason.ARGUMENT)
        self.options.history = bool(history)
        self.options.strict = bool(strict)
        self.options.dimensions = dimensions
        self.options.batch_rows = batch_rows
        self.type = type
        self.key = key          # the str objects keep the UTF-8 that the options point to
        self.pattern = pattern
        self.history = bool(history)

    def schema(self):
        """The schema of its streams: what ``__arrow_c_schema__`` returns."""
        cdef DatabaseSource source = DatabaseSource()
        source.selection = self
        return schema_capsule(source)

    def stream(self, Database db not None):
        """A stream of the records of `db`: what ``__arrow_c_stream__`` returns."""
        self.error = None
        cdef DatabaseSource source = DatabaseSource()
        source.selection = self
        source.reader = Reader(db, self)
        return stream_capsule(source)


cdef int one_of(object name, dict known, str what) except -1:
    found = known.get(name) if isinstance(name, str) else None
    if found is None:
        raise ArgumentError(
            0, f"{what} is {name!r:.80}; expected one of {', '.join(known)}",
            reason=Reason.ARGUMENT)
    return found


# ------------------------------------------------------------------------------- streams, outside

cdef class Source:
    """What answers the callbacks of one stream."""

    cdef bytes error  # the text of the last one

    cdef int schema(self, ArrowSchema *out) except -1:
        raise NotImplementedError

    cdef int batch(self, ArrowArray *out) except -1:
        """The next batch; `out` is left without a release function at the end."""
        raise NotImplementedError


cdef void free_schema(object capsule) noexcept:
    cdef ArrowSchema *schema = <ArrowSchema *>PyCapsule_GetPointer(capsule, "arrow_schema")
    if schema.release is not NULL:
        schema.release(schema)
    free(schema)


cdef void free_stream(object capsule) noexcept:
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>PyCapsule_GetPointer(
        capsule, "arrow_array_stream")
    if stream.release is not NULL:
        stream.release(stream)
    free(stream)


cdef object schema_capsule(Source source):
    cdef ArrowSchema *schema = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
    if schema is NULL:
        raise MemoryError()
    capsule = PyCapsule_New(schema, "arrow_schema", free_schema)
    source.schema(schema)
    return capsule


cdef object stream_capsule(Source source):
    cdef ArrowArrayStream *stream = <ArrowArrayStream *>calloc(1, sizeof(ArrowArrayStream))
    if stream is NULL:
        raise MemoryError()
    capsule = PyCapsule_New(stream, "arrow_array_stream", free_stream)
    Py_INCREF(source)
    stream.private_data = <void *>source
    stream.get_schema = stream_schema
    stream.get_next = stream_next
    stream.get_last_error = stream_error
    stream.release = stream_release
    return capsule


# What an exception becomes: a code for the consumer, and the text it asks for next.
cdef int note(Source source, object error) noexcept:
    source.error = f"{type(error).__name__}: {error}".encode("utf-8", "replace")
    return ENOMEM if isinstance(error, MemoryError) else EIO


cdef int stream_schema(ArrowArrayStream *stream, ArrowSchema *out) noexcept nogil:
    with gil:
        try:
            (<Source>stream.private_data).schema(out)
            return 0
        except BaseException as error:
            return note(<Source>stream.private_data, error)


cdef int stream_next(ArrowArrayStream *stream, ArrowArray *out) noexcept nogil:
    with gil:
        memset(out, 0, sizeof(out[0]))
        try:
            (<Source>stream.private_data).batch(out)
            return 0
        except BaseException as error:
            return note(<Source>stream.private_data, error)


cdef const char *stream_error(ArrowArrayStream *stream) noexcept nogil:
    with gil:
        if (<Source>stream.private_data).error is None:
            return NULL
        return PyBytes_AS_STRING((<Source>stream.private_data).error)


cdef void stream_release(ArrowArrayStream *stream) noexcept nogil:
    with gil:
        Py_DECREF(<Source>stream.private_data)
    stream.release = NULL


# ------------------------------------------------------------------------- streams of a database

cdef class Reader(Dependent):
    """The core's stream; it ends when its database is closed."""

    cdef ArrowArrayStream inner

    def __cinit__(self, Database db not None, Selection selection not None):
        cdef int32_t rc
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_arrow_stream(db.ptr, &selection.options, &self.inner)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        if self.inner.release is not NULL:
            self.inner.release(&self.inner)

    cdef int batch(self, ArrowArray *out) except -1:
        cdef int failed
        self.begin()
        with nogil:
            failed = self.inner.get_next(&self.inner, out)
        self.end()
        if failed:  # the core's error record is this thread's, and still that of the failure
            return fail(SYNA_ERR_TYPE_MISMATCH if failed == EINVAL else SYNA_ERR_SERIALIZATION)
        return 0


cdef class DatabaseSource(Source):
    cdef Selection selection
    cdef Reader reader

    cdef int schema(self, ArrowSchema *out) except -1:
        return check(syna_arrow_schema(&self.selection.options, out))

    cdef int batch(self, ArrowArray *out) except -1:
        try:
            return self.reader.batch(out)
        except BaseException as error:
            self.selection.error = error
            raise


# ----------------------------------------------------------------------- streams over arrays

# What an exported array refers to.
cdef struct Node:
    PyObject *owner
    const void *buffers[3]
    ArrowArray **children


cdef class Column:
    """One column of a table in memory, in the terms of the Arrow C data interface.

    `buffers` are objects with the buffer protocol, or None: validity, offsets, data, as `format` has
    them. They are not copied. `children` are the columns that a list or struct is made of.
    """

    cdef readonly str name
    cdef readonly Py_ssize_t length
    cdef bytes name_utf8, format
    cdef bint nullable
    cdef Py_ssize_t nulls
    cdef int count
    cdef Py_buffer views[3]
    cdef bint held[3]
    cdef tuple children

    def __cinit__(self, str name not None, str format not None, Py_ssize_t length, buffers,
                  children=(), Py_ssize_t nulls=0):
        self.name = name
        self.name_utf8 = name.encode("utf-8", "replace")
        self.format = format.encode("ascii")
        self.length = length
        self.nullable = nulls > 0
        self.nulls = nulls
        self.children = tuple(children)
        if len(buffers) > 3:
            raise ValueError(f"{len(buffers)} buffers; a column has at most 3")
        for buffer in buffers:
            if buffer is not None:
                PyObject_GetBuffer(buffer, &self.views[self.count], PyBUF_SIMPLE)
                self.held[self.count] = True
            self.count += 1

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            if self.held[i]:
                PyBuffer_Release(&self.views[i])

    cdef int schema(self, ArrowSchema *out) except -1:
        cdef Py_ssize_t i
        cdef Column child
        memset(out, 0, sizeof(out[0]))
        Py_INCREF(self)
        out.private_data = <void *>self
        out.release = release_column_schema
        out.format = PyBytes_AS_STRING(self.format)
        out.name = PyBytes_AS_STRING(self.name_utf8)
        out.flags = ARROW_FLAG_NULLABLE if self.nullable else 0
        if self.children:
            out.children = <ArrowSchema **>calloc(len(self.children), sizeof(ArrowSchema *))
            if out.children is NULL:
                raise MemoryError()
        for i, child in enumerate(self.children):
            out.children[i] = <ArrowSchema *>calloc(1, sizeof(ArrowSchema))
            if out.children[i] is NULL:
                raise MemoryError()
            out.n_children = i + 1
            child.schema(out.children[i])
        return 0

    cdef int array(self, ArrowArray *out, Py_ssize_t start, Py_ssize_t length) except -1:
        """Rows [start, start + length), without copying them."""
        cdef Node *node = <Node *>calloc(1, sizeof(Node))
        cdef Py_ssize_t i
        cdef Column child
        cdef bint sliced = self.format == b"+s"  # a struct's children are sliced, a list's are not
        if node is NULL:
            raise MemoryError()
        memset(out, 0, sizeof(out[0]))
        Py_INCREF(self)
        node.owner = <PyObject *>self
        for i in range(self.count):
            node.buffers[i] = self.views[i].buf if self.held[i] else NULL
        out.length = length
        out.offset = 0 if sliced else start
        out.null_count = -1 if self.nulls else 0
        out.n_buffers = self.count
        out.buffers = node.buffers
        out.private_data = node
        out.release = release_column_array
        if self.children:
            node.children = <ArrowArray **>calloc(len(self.children), sizeof(ArrowArray *))
            if node.children is NULL:
                raise MemoryError()
            out.children = node.children
        for i, child in enumerate(self.children):
            node.children[i] = <ArrowArray *>calloc(1, sizeof(ArrowArray))
            if node.children[i] is NULL:
                raise MemoryError()
            out.n_children = i + 1
            if sliced:
                child.array(node.children[i], start, length)
            else:
                child.array(node.children[i], 0, child.length)
        return 0


cdef void release_column_schema(ArrowSchema *schema) noexcept nogil:
    cdef int64_t i
    for i in range(schema.n_children):
        if schema.children[i].release is not NULL:
            schema.children[i].release(schema.children[i])
        free(schema.children[i])
    free(schema.children)
    schema.release = NULL
    with gil:
        Py_DECREF(<Column>schema.private_data)


cdef void release_column_array(ArrowArray *array) noexcept nogil:
    cdef Node *node = <Node *>array.private_data
    cdef int64_t i
    for i in range(array.n_children):
        if node.children[i].release is not NULL:
            node.children[i].release(node.children[i])
        free(node.children[i])
    free(node.children)
    array.release = NULL
    with gil:
        Py_DECREF(<Column><object>node.owner)
    free(node)


cdef class ColumnsSource(Source):
    cdef Column table
    cdef Py_ssize_t at

    cdef int schema(self, ArrowSchema *out) except -1:
        return release_on_error_schema(self.table, out)

    cdef int batch(self, ArrowArray *out) except -1:
        cdef Py_ssize_t rows = min(self.table.length - self.at, BATCH_ROWS)
        if rows <= 0:
            return 0
        try:
            self.table.array(out, self.at, rows)
        except BaseException:
            if out.release is not NULL:
                out.release(out)
            raise
        self.at += rows
        return 0


cdef int release_on_error_schema(Column table, ArrowSchema *out) except -1:
    try:
        table.schema(out)
    except BaseException:
        if out.release is not NULL:
            out.release(out)
        raise
    return 0


cdef class Columns:
    """A table over arrays in memory, for any reader of Arrow: nothing is copied.

    `columns` are `Column`, all of one length. Streams can be taken from it any number of times.
    """

    cdef readonly tuple columns
    cdef readonly Py_ssize_t length
    cdef Column table

    def __cinit__(self, columns):
        self.columns = tuple(columns)
        self.length = self.columns[0].length if self.columns else 0
        for column in self.columns:
            if column.length != self.length:
                raise ValueError(
                    f"column {column.name!r} has {column.length} rows, expected {self.length}")
        self.table = Column("", "+s", self.length, (None,), self.columns)

    def __len__(self):
        return self.length

    cdef ColumnsSource source(self):
        cdef ColumnsSource source = ColumnsSource()
        source.table = self.table
        return source

    def __arrow_c_schema__(self):
        return schema_capsule(self.source())

    def __arrow_c_stream__(self, requested_schema=None):
        return stream_capsule(self.source())


# -------------------------------------------------------------------------------------- rows

cdef class Rows(Dependent):
    """Records one after another as tuples (key, type, time, expires, value).

    `type` is a name; of a deletion it is "deleted" and the value None. Times are microseconds since
    1970, `expires` 0 when never.
    """

    cdef syna_records *ptr
    cdef bint ended

    def __cinit__(self, Database db not None, Selection selection not None):
        cdef int32_t rc
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_records_new(db.ptr, &selection.options, &self.ptr)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        syna_records_free(self.ptr)
        self.ptr = NULL

    def take(self, Py_ssize_t count, Py_ssize_t max_bytes):
        """The next records, at most `count`, fewer once they hold `max_bytes`; [] at the end."""
        cdef syna_record record
        cdef int32_t rc = SYNA_SUCCESS
        cdef Py_ssize_t size = 0
        cdef list found = []
        cdef str key = None
        cdef bytes last = None
        if self.ended:
            return found
        memset(&record, 0, sizeof(record))
        self.begin()
        try:
            while len(found) < count and size < max_bytes:
                with nogil:
                    rc = syna_records_next(self.ptr, &record)
                if rc != SYNA_SUCCESS:
                    break
                size += record.key_len + record.len
                # In a history the key is that of the record before.
                if last is None or PyBytes_GET_SIZE(last) != <Py_ssize_t>record.key_len or memcmp(
                        PyBytes_AS_STRING(last), record.key, record.key_len) != 0:
                    last = record.key[:record.key_len]
                    key = last.decode("utf-8")
                found.append((key, DELETED if record.deleted else NAMES[record.type],
                              record.time_us, record.expires_us, plain_value(&record)))
        finally:
            self.end()
        if rc != SYNA_SUCCESS:
            if rc != SYNA_ERR_KEY_NOT_FOUND:
                fail(rc)
            self.ended = True
        return found

    def close(self):
        """Let go of what it reads."""
        self.free()


cdef object plain_value(const syna_record *record):
    """The value; of a packed one its bytes: decoding may run other Python code."""
    if record.deleted:
        return None
    if record.type == SYNA_TYPE_PACKED:
        return PyBytes_FromStringAndSize(<const char *>record.data, record.len)
    return value_of(record.type, record.data, record.len)


def unpack(data):
    """The value of packed bytes, which `Rows` gives as they are stored."""
    return value_of(SYNA_TYPE_PACKED, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def pack(value):
    """The packed bytes of a value."""
    cdef Packer packer = Packer()
    packer.encode(value)
    return PyBytes_FromStringAndSize(<const char *>packer.buf, packer.len)


# ------------------------------------------------------------------------------------ writing

cdef class Writer(Dependent):
    """A batch of records with their types and times: what an import commits at once."""

    cdef syna_batch *ptr
    cdef Packer packer
    cdef readonly Py_ssize_t bytes  # put since the last commit, about

    def __cinit__(self, Database db not None):
        self.packer = Packer()
        self.attach(db)
        self.open()

    cdef int open(self) except -1:
        cdef int32_t rc
        self.begin()
        rc = syna_batch_new(self.db.ptr, &self.ptr)
        self.end()
        self.bytes = 0
        return check(rc)

    cdef void release(self) noexcept:
        syna_batch_free(self.ptr)
        self.ptr = NULL

    def put(self, key, type, value, uint64_t time=0, uint64_t expires=0):
        """Add a record. `type` is a name, or None for the type that `SynaDB.put` would give.

        A value that is not of the type is a TypeMismatchError. Times of 0: now, never.
        """
        cdef Py_ssize_t size = 0
        cdef const char *k = key_utf8(key, &size)
        cdef Atom atom
        cdef syna_put how
        cdef int32_t rc
        if type == DELETED:
            self.begin()
            rc = syna_batch_delete_at(self.ptr, k, size, time)
            self.end()
            check(rc)
            self.bytes += size + RECORD_BYTES
            return
        holder = self.typed(key, type, value, &atom)
        how.size = sizeof(how)
        how.when_us = time
        how.expires_us = expires
        self.begin()
        rc = syna_batch_put(self.ptr, k, size, atom.type, atom.data, atom.len, &how)
        self.end()
        if rc != SYNA_SUCCESS:
            fail(rc)
        self.bytes += size + atom.len + RECORD_BYTES

    cdef object typed(self, object key, object type, object value, Atom *atom):
        """Describe `value` as one of `type`; what must live as long as the atom is returned."""
        cdef const float[::1] floats
        cdef double number
        cdef Py_ssize_t size = 0
        cdef int32_t wanted
        if type is None:
            return atom_of(value, atom, self.packer)
        wanted = NUMBERS.get(type, -1) if isinstance(type, str) else -1
        if wanted < 0:
            raise ArgumentError(
                0, f"key {key!r:.200}: type {type!r:.80}; expected one of {', '.join(TYPES)} or "
                f"{DELETED}", reason=Reason.ARGUMENT)
        atom.type = wanted
        atom.data = &atom.word
        atom.len = 8
        if wanted == SYNA_TYPE_PACKED:
            self.packer.encode(value)
            atom.data = self.packer.buf
            atom.len = self.packer.len
            return self.packer
        if wanted == SYNA_TYPE_NULL and value is None:
            atom.len = 0
            return None
        if wanted == SYNA_TYPE_FLOAT and isinstance(value, (float, int)) and (
                not isinstance(value, bool)):
            number = value
            memcpy(&atom.word, &number, 8)
            return None
        if wanted == SYNA_TYPE_INT and isinstance(value, int) and not isinstance(value, bool):
            atom.word = <uint64_t>int64_of(value)
            return None
        if wanted == SYNA_TYPE_TEXT and isinstance(value, str):
            atom.data = text_of(key, value, &size)
            atom.len = size
            return value
        if (wanted == SYNA_TYPE_BYTES or wanted == SYNA_TYPE_BLOB) and isinstance(value, bytes):
            atom.type = SYNA_TYPE_BYTES
            atom.data = PyBytes_AS_STRING(value)
            atom.len = PyBytes_GET_SIZE(value)
            return value
        if wanted == SYNA_TYPE_VECTOR and isinstance(value, (list, np.ndarray)):
            floats = vector_of(value)
            atom.data = &floats[0]
            atom.len = floats.nbytes
            return floats
        raise TypeMismatchError(
            -6, f"key {key!r:.200}: an object of type {value.__class__.__name__} is no value of "
            f"type {type}")

    def __len__(self):
        cdef size_t count
        self.begin()
        count = syna_batch_count(self.ptr)
        self.end()
        return count

    def commit(self):
        """Write everything put so far, atomically and with one sync; it can be filled again."""
        cdef int32_t rc
        self.begin()
        with nogil:
            rc = syna_batch_commit(self.ptr)
        self.end()
        check(rc)
        self.bytes = 0

    def let_go(self):
        """Do not keep in this process's memory what has been written: the file has it."""
        cdef int32_t rc
        self.begin()
        with nogil:
            rc = syna_db_let_go(self.db.ptr)
        self.end()
        check(rc)

    def discard(self):
        """Forget everything put so far; it can be filled again."""
        self.begin()
        self.release()
        self.end()
        self.open()

    def close(self):
        """Forget everything; it cannot be used any more."""
        self.free()


# ------------------------------------------------------------------------------------- buffers

cdef class BufferOfValues:
    """The buffer protocol of an object is that of its attribute `values`, an array."""

    def __getbuffer__(self, Py_buffer *view, int flags):
        values = self.values
        if not isinstance(values, np.ndarray):
            raise TypeMismatchError(
                -6, "values of several types have no buffer; an array of floats or ints has")
        PyObject_GetBuffer(values, view, flags)
