"""The exceptions of this package.

Everything that the store itself refuses or finds wrong is a `SynaError`, and each class is also
the builtin exception that a Python user would catch: a missing key is a `KeyError`, a full disk
an `OSError` with its ``errno``, a bad argument a `ValueError`. An argument of the wrong Python
type (a number as key, say) is a plain `TypeError`, as everywhere in Python.

==============================  ======  =====================================================
class                           code    besides `SynaError` it is
==============================  ======  =====================================================
`ArgumentError`                 0       `ValueError`
`InvalidKeyError`               0 -7 -8 `ArgumentError`
`IntegerRangeError`             0       `ArgumentError`, `OverflowError`
`ReadOnlyError`                 0
`NotInitializedError`           0       `RuntimeError`
`ForkedError`                   0       `RuntimeError`
`CancelledError`                0
`NotOpenError`, `ClosedError`   -1
`InvalidPathError`              -2      `ValueError`
`SynaIOError`                   -3      `OSError`
`LockedError`                   -3      `SynaIOError`
`FileMissingError`              -3      `SynaIOError`, `FileNotFoundError`
`FilePermissionError`           -3      `SynaIOError`, `PermissionError`
`CorruptionError`               -4
`FormatVersionError`            -4
`WrongKindError`                -4
`KeyNotFoundError`              -5      `KeyError`
`TypeMismatchError`             -6      `TypeError`
`InternalError`                 -100    `RuntimeError`
`OutOfMemoryError`              -100    `InternalError`, `MemoryError`
==============================  ======  =====================================================

The reason decides before the code does: a write through a read-only handle is a `ReadOnlyError`
whatever code the core returned for it. ``error.code`` is always the core's own code.
"""

from __future__ import annotations

import enum
import errno as _errno
from typing import Any


class Reason(enum.IntEnum):
    """Why a call failed, finer than the code (``syna_reason`` of the C interface)."""

    NONE = 0
    ARGUMENT = 1
    LOCKED = 2
    NO_SPACE = 3
    SYNC_FAILED = 4
    FORKED = 5
    CLOSED = 6
    CORRUPT = 7
    NEWER_FORMAT = 8
    WRONG_KIND = 9
    NO_MEMORY = 10
    CANCELLED = 11
    READ_ONLY = 12
    NOT_INITIALIZED = 13


class SynaError(Exception):
    """Base class of every error of this package.

    Attributes
    ----------
    code : int
        Status code of the C interface: 0 or negative.
    message : str
        What happened, naming the file, the offset or key, what was found and what was expected.
    reason : Reason
        Finer than the code; `Reason.NONE` when there is nothing to add.
    path : str or None
        The file concerned.
    offset : int or None
        Byte offset in that file.
    errno : int or None
        The operating system's error number, when it was involved.
    """

    code: int
    message: str
    reason: Reason
    path: str | None
    offset: int | None

    def __init__(
        self,
        code: int | str,
        message: str | None = None,
        *,
        reason: int = Reason.NONE,
        path: str | None = None,
        offset: int | None = None,
        errno: int | None = None,
    ) -> None:
        # Some pools of worker processes, PyTorch's among them, make the error again from its text.
        if isinstance(code, str):
            message, code = code, 0
        message = message or ""
        Exception.__init__(self, code, message)
        self.code = code
        self.message = message
        self.reason = Reason(reason)
        self.path = path
        self.offset = offset
        self.errno = errno

    # KeyError would show the repr of its argument, and OSError "[Errno None] ..."; all of them
    # show the message.
    def __str__(self) -> str:
        return self.message

    # BaseException rebuilds from args alone, and OSError adds the filename to them.
    def __reduce__(self) -> tuple[Any, ...]:
        details = {
            "reason": int(self.reason),
            "path": self.path,
            "offset": self.offset,
            "errno": self.errno,
        }
        return _rebuild, (type(self), self.code, self.message, details)


def _rebuild(cls: type[SynaError], code: int, message: str, details: dict[str, Any]) -> SynaError:
    return cls(code, message, **details)


class ArgumentError(SynaError, ValueError):
    """An argument is outside its documented range."""


class InvalidKeyError(ArgumentError):
    """A key is empty or too long, contains NUL, or cannot be encoded as UTF-8."""


class IntegerRangeError(ArgumentError, OverflowError):
    """An integer does not fit in 64 signed bits. Nothing was written."""


class ReadOnlyError(SynaError):
    """A write through a handle that was opened read-only, or that met damage in its file."""


class NotInitializedError(SynaError, RuntimeError):
    """Vectors for a `GravityWellIndex` that was given no sample; call its `initialize` first."""


class ForkedError(SynaError, RuntimeError):
    """A write through a handle inherited by fork; open the file again in the child."""


class CancelledError(SynaError):
    """A progress callback stopped the call; everything is as it was before."""


class NotOpenError(SynaError):
    """The database is not open."""


class ClosedError(NotOpenError):
    """The handle was closed."""


class InvalidPathError(SynaError, ValueError):
    """The path cannot name a database: empty, a directory, or not encodable."""


class SynaIOError(SynaError, OSError):
    """The operating system refused; ``errno`` and ``filename`` say what and where."""

    def __init__(self, code: int | str, message: str | None = None, **details: Any) -> None:
        super().__init__(code, message, **details)
        self.filename = self.path
        self.strerror = self.message


class LockedError(SynaIOError):
    """Another process is the writer of this file."""


class FileMissingError(SynaIOError, FileNotFoundError):
    """The file, or the folder that should hold it, does not exist."""


class FilePermissionError(SynaIOError, PermissionError):
    """The operating system does not permit this access to the file."""


class CorruptionError(SynaError):
    """A checksum or a structure in the file is wrong: `path` and `offset` say where."""


class FormatVersionError(SynaError):
    """The file was written by a later release."""


class WrongKindError(SynaError):
    """The file is not one of ours, or one of another kind. It was left untouched."""


class KeyNotFoundError(SynaError, KeyError):
    """The key is missing or deleted."""


class TypeMismatchError(SynaError, TypeError):
    """The stored value has another type than asked for, or a value cannot be stored."""


class InternalError(SynaError, RuntimeError):
    """A broken invariant in the library itself."""


class OutOfMemoryError(InternalError, MemoryError):
    """Memory could not be reserved; everything is as it was before."""


_BY_REASON: dict[int, type[SynaError]] = {
    Reason.ARGUMENT: ArgumentError,
    Reason.LOCKED: LockedError,
    Reason.FORKED: ForkedError,
    Reason.CLOSED: ClosedError,
    Reason.NEWER_FORMAT: FormatVersionError,
    Reason.WRONG_KIND: WrongKindError,
    Reason.NO_MEMORY: OutOfMemoryError,
    Reason.CANCELLED: CancelledError,
    Reason.READ_ONLY: ReadOnlyError,
    Reason.NOT_INITIALIZED: NotInitializedError,
}
_BY_CODE: dict[int, type[SynaError]] = {
    -1: NotOpenError,
    -2: InvalidPathError,
    -3: SynaIOError,
    -4: CorruptionError,
    -5: KeyNotFoundError,
    -6: TypeMismatchError,
    -7: InvalidKeyError,
    -8: InvalidKeyError,
    -100: InternalError,
}
_BY_ERRNO: dict[int, type[SynaError]] = {
    _errno.ENOENT: FileMissingError,
    _errno.EACCES: FilePermissionError,
    _errno.EPERM: FilePermissionError,
}


def error_class(code: int, reason: int = 0, errno: int = 0) -> type[SynaError]:
    """The class for what the core reported: the key's codes, then the reason, then the code."""
    if code in (-5, -6, -7, -8):
        return _BY_CODE[code]
    if code == -2 and reason == Reason.ARGUMENT:
        return InvalidPathError
    if reason in _BY_REASON:
        return _BY_REASON[reason]
    if code == -3:
        return _BY_ERRNO.get(errno, SynaIOError)
    return _BY_CODE.get(code, SynaError)


def make_error(
    code: int,
    message: str,
    reason: int = 0,
    errno: int = 0,
    offset: int = -1,
    path: str = "",
) -> SynaError:
    """Build the exception for one record of the core's last error."""
    known = reason if reason in Reason._value2member_map_ else Reason.NONE
    return error_class(code, reason, errno)(
        code,
        message,
        reason=known,
        path=path or None,
        offset=None if offset < 0 else offset,
        errno=errno or None,
    )


__all__ = [
    "ArgumentError",
    "CancelledError",
    "ClosedError",
    "CorruptionError",
    "FileMissingError",
    "FilePermissionError",
    "ForkedError",
    "FormatVersionError",
    "IntegerRangeError",
    "InternalError",
    "InvalidKeyError",
    "InvalidPathError",
    "KeyNotFoundError",
    "LockedError",
    "NotInitializedError",
    "NotOpenError",
    "OutOfMemoryError",
    "ReadOnlyError",
    "Reason",
    "SynaError",
    "SynaIOError",
    "TypeMismatchError",
    "WrongKindError",
]
