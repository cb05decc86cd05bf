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
NPROBE: int

class WellsHandle(Handle):
    def _open(
        self,
        path: str | os.PathLike[str],
        dimensions: int,
        metric: int,
        branching: int,
        levels: int,
        initial_capacity: int,
        read_only: bool,
    ) -> None: ...
    def _insert_batch(
        self,
        keys: list[str],
        vectors: npt.NDArray[np.float32],
        metadata: list[str | None] | None,
    ) -> int: ...
    def _delete(self, key: str) -> bool: ...
    def _flush(self) -> None: ...
    def _refresh(self) -> bool: ...
    def _initialize(
        self,
        sample: npt.NDArray[np.float32],
        progress: bool | Callable[[int, int], object] | None,
    ) -> None: ...
    def _train(self, progress: bool | Callable[[int, int], object] | None) -> None: ...
    def _compact(self, progress: bool | Callable[[int, int], object] | None) -> None: ...
    def _get(self, key: str) -> npt.NDArray[np.float32] | None: ...
    def _update_metadata(self, key: str, metadata: str | None, replace: bool) -> bool: ...
    def _get_metadata(self, key: str) -> str | None: ...
    def _contains(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def _keys(self) -> list[str]: ...
    def _rows(self, vectors: bool) -> list[SearchResult]: ...
    def _columns(self) -> tuple[Texts, npt.NDArray[np.float32], Texts]: ...
    def _search(
        self,
        queries: npt.NDArray[np.float32],
        k: int | None,
        nprobe: int,
        recall: float,
        radius: float | None,
        filter_json: str | None,
        exact: bool,
        vectors: bool,
        metadata: bool,
    ) -> tuple[list[list[SearchResult]], dict[str, Any]]: ...
    def _stats(self) -> dict[str, Any]: ...

def verify(
    path: str | os.PathLike[str], progress: bool | Callable[[int, int], object] | None
) -> CheckReport: ...
