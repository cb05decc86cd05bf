from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, SupportsFloat, SupportsIndex

import numpy.typing as npt
from _typeshed import ReadableBuffer, WriteableBuffer
from typing_extensions import Self

from synadb._core.kv import Database, Dependent
from synadb.types import Duration, When

class Scan(Dependent):
    def __new__(
        cls,
        db: Database,
        prefix: str | None,
        start: str | None,
        end: str | None,
        keys_only: bool,
    ) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

class Batch(Dependent):
    def __new__(cls, db: Database) -> Self: ...
    def put(
        self,
        key: str,
        value: Any,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def put_float(
        self,
        key: str,
        value: SupportsFloat | SupportsIndex,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def put_int(
        self,
        key: str,
        value: SupportsIndex,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def put_text(
        self,
        key: str,
        value: str,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def put_bytes(
        self,
        key: str,
        value: ReadableBuffer,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def put_vector(
        self,
        key: str,
        value: npt.ArrayLike,
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def update(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        *,
        ttl: Duration | None = None,
        when: When | None = None,
    ) -> None: ...
    def delete(self, key: str) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __len__(self) -> int: ...
    def commit(self) -> None: ...
    def discard(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

class BlobSource(Dependent):
    @property
    def size(self) -> int: ...
    def __new__(cls, db: Database, key: str) -> Self: ...
    def read_into(self, offset: int, buffer: WriteableBuffer) -> int: ...
    def close(self) -> None: ...

class BlobSink(Dependent):
    def __new__(cls, db: Database, key: str) -> Self: ...
    def write(self, data: ReadableBuffer) -> int: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...
