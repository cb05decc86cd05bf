import os
from typing import Callable, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from synadb._core.handle import Handle

_Made = TypeVar("_Made")

MAX_TERMS: int
MAX_VOCABULARY: int

class SparseResults(Generic[_Made]):
    def __init__(self, kind: type[_Made]) -> None: ...

class SparseHandle(Handle):
    def _open(
        self,
        path: str | os.PathLike[str],
        vocab_size: int,
        sync_on_write: bool,
        read_only: bool,
        must_exist: bool,
        progress: bool | Callable[[int, int], object] | None,
    ) -> None: ...
    def _index(
        self,
        keys: list[str],
        offsets: npt.NDArray[np.uint64],
        terms: npt.NDArray[np.uint32],
        weights: npt.NDArray[np.float32],
        metadata: list[str | None] | None,
    ) -> int: ...
    def _update_metadata(self, key: str, metadata: str | None, replace: bool) -> bool: ...
    def _delete(self, key: str) -> bool: ...
    def flush(self) -> None: ...
    def _save(self) -> None: ...
    def _get(
        self, key: str
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float32], str | None] | None: ...
    def _get_metadata(self, key: str) -> str | None: ...
    def _contains(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def _keys(self) -> list[str]: ...
    def _search(
        self,
        offsets: npt.NDArray[np.uint64] | None,
        terms: npt.NDArray[np.uint32],
        weights: npt.NDArray[np.float32],
        k: int | None,
        min_score: float | None,
        filter: str | None,
        recall: float | None,
        metadata: bool,
        make: SparseResults[_Made],
    ) -> tuple[list[list[_Made]], tuple[int, int, int, int]]: ...
    def refresh(self) -> bool: ...
    def _stats(self) -> tuple[int, int, int, int, int, int, int, int, int]: ...
