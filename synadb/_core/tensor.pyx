"""An open tensor store and what its patterns match: the calls of synadb/tensor.h over prepared
arguments. `synadb.TensorEngine` inherits from `TensorHandle` and turns what users pass into bytes.

Rules for every method: take what is needed from the Python arguments first, bracket the core's
call with enter and leave, release the GIL around it, and build Python objects after it.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_FillInfo
from synadb._core.handle cimport Handle
from synadb._core.kv cimport path_bytes
from synadb._core.libsynadb cimport (
    SYNA_SELECT_CHUNKS, SYNA_SELECT_ELEMENTS, SYNA_SELECT_NAME, SYNA_SELECT_PLAIN,
    SYNA_TENSOR_CHUNKED, syna_db_options, syna_tensor_part, syna_tensor_pin,
    syna_tensor_set, syna_tensor_set_count, syna_tensor_set_dtype, syna_tensor_set_free,
    syna_tensor_set_part, syna_tensor_set_parts, syna_tensor_set_plain_key, syna_tensor_set_read,
    syna_tensor_set_rows, syna_tensor_set_view, syna_tensor_spec, syna_tensor_unpin, syna_tensors,
    syna_tensors_append, syna_tensors_close, syna_tensors_delete, syna_tensors_flush,
    syna_tensors_open, syna_tensors_put, syna_tensors_select)
from synadb._core.status cimport check

cdef extern from "Python.h":
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

from typing import NamedTuple

from synadb.errors import ArgumentError, InvalidKeyError, Reason

SELECT_ELEMENTS = SYNA_SELECT_ELEMENTS
SELECT_CHUNKS = SYNA_SELECT_CHUNKS
SELECT_PLAIN = SYNA_SELECT_PLAIN
SELECT_NAME = SYNA_SELECT_NAME

cdef enum:
    DIMS_MAX = 64


class Part(NamedTuple):
    """A run of consecutive elements of one tensor, or of plain values of one type."""

    dtype: int
    codec: int
    chunked: bool
    plain: bool
    shape: tuple
    first: int
    size: int
    elements: int
    first_key: int
    keys: int
    per_chunk: int
    stored_bytes: int
    digits: int
    prefix: str


cdef bytes text_bytes(object text):
    """A prefix or pattern as UTF-8; may be empty."""
    if not isinstance(text, str):
        raise TypeError(f"a prefix or pattern is a str, not {type(text).__name__}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidKeyError(
            0, f"{text!r:.80} cannot be encoded as UTF-8", reason=Reason.ARGUMENT) from None


# A tensor's description as the core wants it, with room for its shape.
cdef struct spec_room:
    syna_tensor_spec spec
    uint64_t shape[DIMS_MAX]


cdef int fill_spec(spec_room *room, bint chunked, int32_t dtype, tuple shape, uint64_t per_chunk,
                   int32_t codec) except -1:
    cdef Py_ssize_t i
    memset(room, 0, sizeof(spec_room))
    if len(shape) > DIMS_MAX:
        raise ArgumentError(
            0, f"{len(shape)} dimensions; expected at most {DIMS_MAX}", reason=Reason.ARGUMENT)
    room.spec.size = sizeof(syna_tensor_spec)
    room.spec.dtype = dtype
    room.spec.codec = codec
    room.spec.flags = SYNA_TENSOR_CHUNKED if chunked else 0
    room.spec.dims = <uint32_t>len(shape)
    room.spec.per_chunk = per_chunk
    room.spec.shape = room.shape
    for i in range(len(shape)):
        room.shape[i] = shape[i]
    return 0


cdef class MappedBytes:
    """The bytes of a tensor where they are mapped, read-only, for as long as this object lives."""

    cdef syna_tensor_pin *pin
    cdef const void *data
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE:
            raise BufferError("the bytes of a mapped tensor are read-only")
        PyBuffer_FillInfo(view, self, <void *>self.data, self.size, 1, flags)

    def __len__(self):
        return self.size

    def __dealloc__(self):
        syna_tensor_unpin(self.pin)


cdef class TensorSet:
    """What a pattern matched when it was asked; unchanged by what is written later."""

    cdef TensorHandle handle
    cdef syna_tensor_set *ptr
    cdef readonly uint64_t count
    cdef readonly size_t part_count
    cdef readonly int32_t dtype

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        """Give the set back now, not when the object goes."""
        syna_tensor_set_free(self.ptr)
        self.ptr = NULL

    def __dealloc__(self):
        syna_tensor_set_free(self.ptr)

    def parts(self):
        """The parts, in the order of their elements."""
        cdef syna_tensor_part p
        cdef size_t i
        cdef list parts = []
        for i in range(self.part_count):
            p.size = sizeof(p)
            check(syna_tensor_set_part(self.ptr, i, &p))
            parts.append(Part(
                p.dtype, p.codec, p.flags & SYNA_TENSOR_CHUNKED != 0, p.plain != 0,
                tuple([p.shape[k] for k in range(p.dims)]), p.first, p.count, p.elements,
                p.first_key, p.keys, p.per_chunk, p.stored_bytes, p.digits,
                "" if p.plain else PyUnicode_DecodeUTF8(p.prefix, p.prefix_len, NULL)))
        return parts

    def plain_key(self, uint64_t index):
        """The key of a plain value."""
        cdef size_t size = 0
        cdef const char *key = syna_tensor_set_plain_key(self.ptr, index, &size)
        if key is NULL:
            raise IndexError(f"plain value {index}")
        return PyUnicode_DecodeUTF8(key, size, NULL)

    def read(self, uint64_t first, uint64_t count, unsigned char[::1] out not None):
        """Elements [first, first + count) into `out`."""
        cdef unsigned char *to = &out[0] if out.shape[0] else NULL
        cdef int32_t rc
        if count == 0:
            return
        self.handle.enter()
        with nogil:
            rc = syna_tensor_set_read(self.ptr, first, count, to)
        self.handle.leave()
        check(rc)

    def rows(self, uint64_t row, const int64_t[::1] rows not None, unsigned char[::1] out not None):
        """Rows of `row` elements by their numbers into `out`."""
        cdef size_t count = rows.shape[0]
        cdef const int64_t *numbers = &rows[0] if count else NULL
        cdef unsigned char *to = &out[0] if out.shape[0] else NULL
        cdef int32_t rc
        if count == 0:
            return
        self.handle.enter()
        with nogil:
            rc = syna_tensor_set_rows(self.ptr, row, numbers, count, to)
        self.handle.leave()
        check(rc)

    def view(self, size_t size):
        """The `size` bytes of the set as a `MappedBytes`, None when they do not lie in one piece."""
        cdef MappedBytes mapped = MappedBytes()
        cdef int32_t rc
        self.handle.enter()
        with nogil:
            rc = syna_tensor_set_view(self.ptr, &mapped.data, &mapped.pin)
        self.handle.leave()
        check(rc)
        mapped.size = size
        return None if mapped.data is NULL else mapped


cdef class TensorHandle(Handle):
    cdef syna_tensors *ptr

    def __cinit__(self):
        self.noun = "tensor store"

    # ------------------------------------------------------------------------ opening, closing

    def _open(self, path, bint sync_on_write, bint read_only):
        cdef bytes raw = path_bytes(path)
        cdef const char *c_path = raw
        cdef syna_db_options o
        cdef int32_t rc
        memset(&o, 0, sizeof(o))
        o.size = sizeof(o)
        o.no_sync = not sync_on_write
        o.read_only = read_only
        with nogil:
            rc = syna_tensors_open(c_path, &o, &self.ptr)
        check(rc)
        self.opened(raw)

    cdef int32_t close_core(self) noexcept nogil:
        cdef int32_t rc = syna_tensors_close(self.ptr)
        self.ptr = NULL
        return rc

    # -------------------------------------------------------------------------------- writing

    def _put(self, prefix, bint chunked, int32_t dtype, tuple shape not None, uint64_t per_chunk,
             int32_t codec, const unsigned char[::1] data not None):
        cdef bytes raw = text_bytes(prefix)
        cdef const char *text = raw
        cdef size_t size = len(raw)
        cdef spec_room room
        cdef const void *from_ = &data[0] if data.shape[0] else NULL
        cdef int32_t rc
        fill_spec(&room, chunked, dtype, shape, per_chunk, codec)
        self.enter()
        with nogil:
            rc = syna_tensors_put(self.ptr, text, size, &room.spec, from_)
        self.leave()
        check(rc)

    def _append(self, prefix, bint chunked, int32_t dtype, tuple shape not None,
                const unsigned char[::1] data not None):
        cdef bytes raw = text_bytes(prefix)
        cdef const char *text = raw
        cdef size_t size = len(raw)
        cdef spec_room room
        cdef const void *from_ = &data[0] if data.shape[0] else NULL
        cdef uint64_t total = 0
        cdef int32_t rc
        fill_spec(&room, chunked, dtype, shape, 1, 0)
        self.enter()
        with nogil:
            rc = syna_tensors_append(self.ptr, text, size, &room.spec, from_, &total)
        self.leave()
        check(rc)
        return total

    def _delete(self, pattern, uint32_t select):
        cdef bytes raw = text_bytes(pattern)
        cdef const char *text = raw
        cdef size_t size = len(raw)
        cdef uint64_t deleted = 0
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_tensors_delete(self.ptr, text, size, select, &deleted)
        self.leave()
        check(rc)
        return deleted

    def flush(self):
        """Make everything written so far durable; needed only with ``sync_on_write=False``."""
        cdef int32_t rc
        self.enter()
        with nogil:
            rc = syna_tensors_flush(self.ptr)
        self.leave()
        check(rc)

    # -------------------------------------------------------------------------------- reading

    def _select(self, pattern, uint32_t select):
        cdef bytes raw = text_bytes(pattern)
        cdef const char *text = raw
        cdef size_t size = len(raw)
        cdef TensorSet found = TensorSet()
        cdef int32_t rc
        found.handle = self
        self.enter()
        with nogil:
            rc = syna_tensors_select(self.ptr, text, size, select, &found.ptr)
        self.leave()
        check(rc)
        found.count = syna_tensor_set_count(found.ptr)
        found.part_count = syna_tensor_set_parts(found.ptr)
        found.dtype = syna_tensor_set_dtype(found.ptr)
        return found
