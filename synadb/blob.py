"""Values as binary files: what `SynaDB.open_blob` returns."""

from __future__ import annotations

import io
import warnings
from types import TracebackType
from typing import TYPE_CHECKING

from synadb._core.cursor import BlobSink, BlobSource

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from synadb.db import SynaDB


class BlobReader(io.RawIOBase):
    """A seekable binary file over the bytes of one value.

    The version that was newest when it was opened stays readable to the end, whatever happens to
    the key. Wrap it in `io.BufferedReader` for many small reads, or in `io.TextIOWrapper` for
    text.
    """

    def __init__(self, source: BlobSource, key: str) -> None:
        self._source = source
        self._at = 0
        self.name = key
        self.mode = "rb"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._check()
        got = self._source.read_into(self._at, buffer)
        self._at += got
        return got

    def readall(self) -> bytes:
        """The rest of the bytes, in one piece."""
        self._check()
        rest = bytearray(max(self._source.size - self._at, 0))
        self.readinto(rest)
        return bytes(rest)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += self._source.size
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence is {whence}, expected 0, 1 or 2")
        if offset < 0:
            raise ValueError(f"cannot seek to {offset}, before the start")
        self._at = offset
        return offset

    def tell(self) -> int:
        self._check()
        return self._at

    def __len__(self) -> int:
        """The number of bytes of the value."""
        return self._source.size

    def __bool__(self) -> bool:
        return True  # an empty value is an open file all the same

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed blob")


class BlobWriter(io.RawIOBase):
    """A binary file that becomes the value of a key when it is closed.

    Nothing is visible before. Leaving a ``with`` block by an exception, and losing the last
    reference without closing, forget what was written; so does `discard`.
    """

    def __init__(self, sink: BlobSink, key: str) -> None:
        self._sink = sink
        self._size = 0
        self.name = key
        self.mode = "wb"

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        """Append all of `data`; a writer never writes less."""
        if self.closed:
            raise ValueError("I/O operation on closed blob")
        size = self._sink.write(data)
        self._size += size
        return size

    def tell(self) -> int:
        return self._size

    def close(self) -> None:
        """Make what was written the value of the key: durable as a put is."""
        if not self.closed:
            super().close()
            self._sink.finish()

    def discard(self) -> None:
        """Close without storing anything."""
        if not self.closed:
            super().close()
            self._sink.close()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None:
            self.close()
        else:
            self.discard()

    # IOBase closes in its finaliser, which here would store half a value.
    def __del__(self) -> None:
        if not self.closed:
            try:
                warnings.warn(
                    f"blob {self.name!r} was not closed, what was written is forgotten",
                    ResourceWarning,
                    stacklevel=2,
                    source=self,
                )
            finally:
                self.discard()


def open_blob(db: SynaDB, key: str, mode: str) -> BlobReader | BlobWriter:
    """See `SynaDB.open_blob`."""
    if mode == "rb":
        return BlobReader(BlobSource(db, key), key)
    if mode == "wb":
        return BlobWriter(BlobSink(db, key), key)
    raise ValueError(f"mode is {mode!r}, expected 'rb' or 'wb'")
