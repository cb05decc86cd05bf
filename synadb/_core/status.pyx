"""From status code to exception: the one place where the core's error record is read."""

from cpython.exc cimport PyErr_Clear

from synadb._core.libsynadb cimport (
    SYNA_ERR_EMPTY_KEY, SYNA_ERR_GENERIC, SYNA_ERR_KEY_TOO_LONG, SYNA_KEY_MAX, SYNA_SUCCESS,
    syna_abi_version, syna_last_errno, syna_last_error, syna_last_offset, syna_last_path,
    syna_last_reason, syna_version)

from synadb.errors import InvalidKeyError, Reason, make_error

ARGUMENT = Reason.ARGUMENT


cdef int check(int32_t code) except -1 nogil:
    if code == SYNA_SUCCESS:
        return 0
    with gil:
        return fail(code)


cdef int fail(int32_t code) except -1:
    raise make_error(
        code,
        syna_last_error().decode("utf-8", "replace"),
        syna_last_reason(),
        syna_last_errno(),
        syna_last_offset(),
        syna_last_path().decode("utf-8", "surrogateescape"),
    )


cdef int refuse_key(object key, bint encoded) except -1:
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    if not encoded:
        PyErr_Clear()  # the UnicodeEncodeError, which names neither key nor argument
        raise InvalidKeyError(
            SYNA_ERR_GENERIC, f"the key {key!r:.80} cannot be encoded as UTF-8", reason=ARGUMENT)
    if not key:
        raise InvalidKeyError(
            SYNA_ERR_EMPTY_KEY,
            f"the key is empty; expected 1 to {SYNA_KEY_MAX} bytes of UTF-8", reason=ARGUMENT)
    if "\0" in key:
        raise InvalidKeyError(
            SYNA_ERR_GENERIC, f"the key {key!r:.80} contains a NUL character", reason=ARGUMENT)
    raise InvalidKeyError(
        SYNA_ERR_KEY_TOO_LONG,
        f"the key has {len(key.encode('utf-8'))} bytes; expected 1 to {SYNA_KEY_MAX}",
        reason=ARGUMENT)


def version():
    """The version of the C core, such as ``"0.1.0"``."""
    return syna_version().decode("ascii")


def abi_version():
    """How many times the C interface has grown."""
    return syna_abi_version()
