import os
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from synadb._core.handle import Handle
from synadb._core.rows import Texts
from synadb.types import CheckReport, SearchResult

COSINE: int
EUCLIDEAN: int
DOT_PRODUCT: int
MAX_DIMENSIONS: int
PRESETS: dict[str, int]
PLANS: dict[int, str]

class CascadeHandle(Handle):
    def _open(
        self,
        path: str | os.PathLike[str],
        dimensions: int,
        metric: int,
        preset: int,
        num_hyperplanes: int,
        bucket_capacity: int,
        nprobe: int,
        recall: float,
        threads: int,
        initial_capacity: int,
        read_only: bool,
        progress: bool | Callable[[int, int], object] | None,
    ) -> None: ...
    def _insert(self, key: str, vector: npt.NDArray[np.float32]) -> None: ...
    def _insert_batch(
        self,
        keys: list[str],
        vectors: npt.NDArray[np.float32],
        metadata: list[str | None] | None,
        progress: bool | Callable[[int, int], object] | None,
    ) -> int: ...
    def _update_metadata(self, key: str, metadata: str | None, replace: bool) -> bool: ...
    def _delete(self, key: str) -> bool: ...
    def _flush(self) -> None: ...
    def _save(self) -> None: ...
    def _refresh(self) -> bool: ...
    def _compact(self, progress: bool | Callable[[int, int], object] | None) -> None: ...
    def _get(self, key: str) -> npt.NDArray[np.float32] | None: ...
    def _metadata(self, key: str) -> str | None: ...
    def _contains(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def _keys(self) -> list[str]: ...
    def _rows(self, vectors: bool) -> list[SearchResult]: ...
    def _columns(self) -> tuple[Texts, npt.NDArray[np.float32], Texts]: ...
    def _search(
        self,
        queries: npt.NDArray[np.float32],
        k: int | None,
        radius: float | None,
        vectors: bool,
        recall: float,
        exact: bool,
        nprobe: int,
        ef_search: int,
        filter: str | None,
        metadata: bool,
    ) -> tuple[list[list[SearchResult]], dict[str, Any]]: ...
    def _stats(self) -> dict[str, Any]: ...

def verify(
    path: str | os.PathLike[str], progress: bool | Callable[[int, int], object] | None
) -> CheckReport: ...
