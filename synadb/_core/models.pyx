"""The model registry: the calls of synadb/registry.h on an open database. `synadb.models` documents
what they do.

Rules as in kv.pyx: take what is needed from the Python arguments first, bracket the core's call
with db_enter and db_leave, release the GIL around it, and build Python objects after it. Texts go
to this part of the core NUL-terminated, so one that holds a NUL is refused here.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strlen

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from synadb._core.keys cimport key_utf8
from synadb._core.kv cimport Database, Dependent, db_enter, db_leave
from synadb._core.libsynadb cimport (
    SYNA_ERR_KEY_NOT_FOUND, SYNA_MODEL_ALIAS_MAX, SYNA_MODEL_NAME_MAX, SYNA_SUCCESS,
    syna_free_text, syna_model_facts, syna_model_reader, syna_model_saved, syna_model_writer,
    syna_models_alias, syna_models_aliases, syna_models_commit, syna_models_create,
    syna_models_delete, syna_models_info, syna_models_list, syna_models_open,
    syna_models_production, syna_models_read, syna_models_reader_free, syna_models_reader_json,
    syna_models_set_alias, syna_models_set_stage, syna_models_size, syna_models_stages,
    syna_models_write, syna_models_writer_free)
from synadb._core.status cimport check

import operator

from synadb.errors import ArgumentError, InvalidKeyError, KeyNotFoundError, Reason

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

NAME_MAX = SYNA_MODEL_NAME_MAX
ALIAS_MAX = SYNA_MODEL_ALIAS_MAX


cdef const char *name_of(object name) except NULL:
    """The UTF-8 of a name; it lives as long as the str."""
    cdef Py_ssize_t size = 0
    cdef const char *text = key_utf8(name, &size)
    if <Py_ssize_t>strlen(text) != size:
        raise InvalidKeyError(
            0, f"the name {name!r:.80} contains a NUL character", reason=Reason.ARGUMENT)
    return text


cdef const char *text_of(object text) except NULL:
    """The same of a text that may be empty, or longer than a key."""
    cdef Py_ssize_t size = 0
    cdef const char *utf8
    if not isinstance(text, str):
        raise TypeError(f"expected a str, not {type(text).__name__}")
    try:
        utf8 = PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        raise ArgumentError(
            0, f"the text {text!r:.80} cannot be encoded as UTF-8",
            reason=Reason.ARGUMENT) from None
    if <Py_ssize_t>strlen(utf8) != size:
        raise ArgumentError(
            0, f"the text {text!r:.80} contains a NUL character", reason=Reason.ARGUMENT)
    return utf8


cdef uint32_t version_of(Database db, object name, object version) except? 0:
    """A version number; None is 0, the newest. What cannot be one is a version that is not there."""
    if version is None:
        return 0
    number = operator.index(version)
    if not 0 < number < 2**32:
        raise KeyNotFoundError(
            -5, f"{db.path}: model {name!r:.200} has no version {number}", path=db.path)
    return number


cdef str take_json(char *json, size_t len):
    try:
        return PyUnicode_DecodeUTF8(json, len, NULL)
    finally:
        syna_free_text(json, len)


# ------------------------------------------------------------------------------------- writing

cdef class ModelSink(Dependent):
    """A model being saved piece by piece; there is no version of it before `commit`."""

    cdef syna_model_writer *ptr

    def __cinit__(self, Database db not None, name, metadata_json, run_id, format):
        cdef const char *c_name = name_of(name)
        cdef syna_model_facts facts
        cdef int32_t rc
        memset(&facts, 0, sizeof(facts))
        facts.size = sizeof(facts)
        if metadata_json is not None:
            facts.metadata_json = text_of(metadata_json)
        if run_id is not None:
            facts.run_id = text_of(run_id)
        if format is not None:
            facts.format = text_of(format)
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_models_create(db.ptr, c_name, &facts, &self.ptr)
        self.end()
        check(rc)

    cdef void release(self) noexcept:
        cdef syna_model_writer *writer = self.ptr
        self.ptr = NULL
        with nogil:  # takes the writers' lock
            syna_models_writer_free(writer)

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
                rc = syna_models_write(self.ptr, view.buf, view.len)
            self.end()
            check(rc)
        finally:
            PyBuffer_Release(&view)
        return len

    def commit(self):
        """Make a version of what was written; its number."""
        cdef syna_model_saved saved
        cdef int32_t rc
        memset(&saved, 0, sizeof(saved))
        saved.size = sizeof(saved)
        self.begin()
        with nogil:
            rc = syna_models_commit(self.ptr, &saved)
        self.end()
        self.close()
        check(rc)
        return saved.version

    def close(self):
        """Forget what was not committed."""
        self.free()


# ------------------------------------------------------------------------------------- reading

cdef class ModelSource(Dependent):
    """The bytes of one version, read piece by piece and compared with its checksum."""

    cdef syna_model_reader *ptr
    cdef readonly uint64_t size
    cdef readonly str json

    def __cinit__(self, Database db not None, name, version):
        cdef const char *c_name = name_of(name)
        cdef uint32_t number = version_of(db, name, version)
        cdef const char *text = NULL
        cdef size_t len = 0
        cdef int32_t rc
        self.attach(db)
        self.begin()
        with nogil:
            rc = syna_models_open(db.ptr, c_name, number, &self.ptr)
            if rc == SYNA_SUCCESS:
                self.size = syna_models_size(self.ptr)
                text = syna_models_reader_json(self.ptr, &len)
        try:
            check(rc)
            self.json = PyUnicode_DecodeUTF8(text, len, NULL)
        finally:
            self.end()

    cdef void release(self) noexcept:
        syna_models_reader_free(self.ptr)
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
                rc = syna_models_read(self.ptr, offset, view.buf, view.len, &got)
            self.end()
            check(rc)
        finally:
            PyBuffer_Release(&view)
        return got

    def read(self, uint64_t offset, Py_ssize_t size):
        """`size` bytes from `offset` on, all of which are there."""
        cdef bytes room = PyBytes_FromStringAndSize(NULL, size)
        cdef char *buf = PyBytes_AS_STRING(room)
        cdef size_t got = 0
        cdef int32_t rc
        self.begin()
        with nogil:
            rc = syna_models_read(self.ptr, offset, buf, size, &got)
        self.end()
        check(rc)
        return room

    def close(self):
        self.free()


def info(Database db not None, name, version):
    """A version as JSON, None = the newest; None when there is none."""
    cdef const char *c_name = name_of(name)
    cdef uint32_t number = version_of(db, name, version)
    cdef char *json = NULL
    cdef size_t len = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_models_info(db.ptr, c_name, number, &json, &len)
    db_leave(db)
    if rc == SYNA_ERR_KEY_NOT_FOUND:
        return None
    check(rc)
    return take_json(json, len)


# What a walk meets: u32 version, u64 length, text, one behind the other.
ctypedef struct Met:
    char *bytes
    size_t len
    size_t cap
    bint failed


cdef int32_t note(void *context, const char *name, uint32_t version, const char *text,
                  size_t len) noexcept nogil:
    cdef Met *met = <Met *>context
    cdef size_t need = met.len + 12 + len
    cdef uint64_t size = len
    cdef char *room
    if need > met.cap:
        room = <char *>realloc(met.bytes, 2 * need)
        if room is NULL:
            met.failed = True
            return 1
        met.bytes = room
        met.cap = 2 * need
    memcpy(met.bytes + met.len, &version, 4)
    memcpy(met.bytes + met.len + 4, &size, 8)
    memcpy(met.bytes + met.len + 12, text, len)
    met.len = need
    return 0


cdef list take_met(Met *met, int32_t rc):
    cdef list found = []
    cdef size_t at = 0
    cdef uint32_t version
    cdef uint64_t size
    try:
        check(rc)
        if met.failed:
            raise MemoryError
        while at < met.len:
            memcpy(&version, met.bytes + at, 4)
            memcpy(&size, met.bytes + at + 4, 8)
            found.append((version, PyUnicode_DecodeUTF8(met.bytes + at + 12, size, NULL)))
            at += 12 + size
        return found
    finally:
        free(met.bytes)


def versions(Database db not None, name):
    """(version, JSON) of each version of a name, or with None of every name."""
    cdef const char *c_name = NULL if name is None else name_of(name)
    cdef Met met
    cdef int32_t rc
    memset(&met, 0, sizeof(met))
    db_enter(db)
    with nogil:
        rc = syna_models_list(db.ptr, c_name, note, &met)
    db_leave(db)
    return take_met(&met, rc)


def aliases(Database db not None, name):
    """(version, alias) of each alias of a name."""
    cdef const char *c_name = name_of(name)
    cdef Met met
    cdef int32_t rc
    memset(&met, 0, sizeof(met))
    db_enter(db)
    with nogil:
        rc = syna_models_aliases(db.ptr, c_name, note, &met)
    db_leave(db)
    return take_met(&met, rc)


def production(Database db not None, name):
    """The number of the production version, or None."""
    cdef const char *c_name = name_of(name)
    cdef uint32_t version = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_models_production(db.ptr, c_name, &version)
    db_leave(db)
    if rc == SYNA_ERR_KEY_NOT_FOUND:
        return None
    check(rc)
    return version


def by_alias(Database db not None, name, alias):
    """The version that an alias means, or None."""
    cdef const char *c_name = name_of(name)
    cdef const char *c_alias = name_of(alias)
    cdef uint32_t version = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_models_alias(db.ptr, c_name, c_alias, &version)
    db_leave(db)
    if rc == SYNA_ERR_KEY_NOT_FOUND:
        return None
    check(rc)
    return version


def stages(Database db not None, name):
    """The changes of stages as JSON."""
    cdef const char *c_name = name_of(name)
    cdef char *json = NULL
    cdef size_t len = 0
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_models_stages(db.ptr, c_name, &json, &len)
    db_leave(db)
    check(rc)
    return take_json(json, len)


# ------------------------------------------------------------------------------------- changes


def set_stage(Database db not None, name, version, int32_t stage):
    cdef const char *c_name = name_of(name)
    cdef uint32_t number = version_of(db, name, version)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_models_set_stage(db.ptr, c_name, number, stage)
    db_leave(db)
    check(rc)


def set_alias(Database db not None, name, alias, version):
    """With version None take the alias away."""
    cdef const char *c_name = name_of(name)
    cdef const char *c_alias = name_of(alias)
    cdef uint32_t number = version_of(db, name, version)
    cdef int32_t rc
    db_enter(db)
    with nogil:
        rc = syna_models_set_alias(db.ptr, c_name, c_alias, number)
    db_leave(db)
    check(rc)


def delete(Database db not None, name, version):
    """Delete a version, None = all; how many there were."""
    cdef const char *c_name = name_of(name)
    cdef uint32_t deleted = 0
    cdef uint32_t number
    cdef int32_t rc
    try:
        number = version_of(db, name, version)
    except KeyNotFoundError:
        return 0
    db_enter(db)
    with nogil:
        rc = syna_models_delete(db.ptr, c_name, number, &deleted)
    db_leave(db)
    check(rc)
    return deleted
