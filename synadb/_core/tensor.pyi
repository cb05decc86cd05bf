import os
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from synadb._core.handle import Handle

SELECT_ELEMENTS: int
SELECT_CHUNKS: int
SELECT_PLAIN: int
SELECT_NAME: int

class Part(NamedTuple):
    dtype: int
    codec: int
    chunked: bool
    plain: bool
    shape: tuple[int, ...]
    first: int
    size: int
    elements: int
    first_key: int
    keys: int
    per_chunk: int
    stored_bytes: int
    digits: int
    prefix: str

class MappedBytes:
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...

class TensorSet:
    @property
    def count(self) -> int: ...
    @property
    def part_count(self) -> int: ...
    @property
    def dtype(self) -> int: ...
    def __enter__(self) -> TensorSet: ...
    def __exit__(self, *exc: object) -> None: ...
    def close(self) -> None: ...
    def parts(self) -> list[Part]: ...
    def plain_key(self, index: int) -> str: ...
    def read(self, first: int, count: int, out: npt.NDArray[np.uint8]) -> None: ...
    def rows(self, row: int, rows: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]) -> None: ...
    def view(self, size: int) -> MappedBytes | None: ...

class TensorHandle(Handle):
    def _open(self, path: str | os.PathLike[str], sync_on_write: bool, read_only: bool) -> None: ...
    def _put(
        self,
        prefix: str,
        chunked: bool,
        dtype: int,
        shape: tuple[int, ...],
        per_chunk: int,
        codec: int,
        data: npt.NDArray[np.uint8],
    ) -> None: ...
    def _append(
        self,
        prefix: str,
        chunked: bool,
        dtype: int,
        shape: tuple[int, ...],
        data: npt.NDArray[np.uint8],
    ) -> int: ...
    def _delete(self, pattern: str, select: int) -> int: ...
    def flush(self) -> None: ...
    def _select(self, pattern: str, select: int) -> TensorSet: ...
