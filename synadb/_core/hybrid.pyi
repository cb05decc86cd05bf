import os
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

from synadb._core.handle import Handle
from synadb._core.rows import Texts
from synadb.types import SearchResult

COSINE: int
EUCLIDEAN: int
DOT_PRODUCT: int
MAX_DIMENSIONS: int
NPROBE: int
PRESETS: dict[str, int]
BOTH_LAYERS: int
HOT_LAYER: int
COLD_LAYER: int

class LayersHandle(Handle):
    @property
    def hot_path(self) -> str: ...
    @property
    def cold_path(self) -> str: ...
    def _open(
        self,
        hot_path: str | os.PathLike[str],
        cold_path: str | os.PathLike[str],
        dimensions: int,
        metric: int,
        preset: int,
        recall: float,
        promote_rows: int,
        hot_capacity: int,
        read_only: bool,
    ) -> None: ...
    def close(self) -> None: ...
    def _ingest_batch(
        self,
        keys: list[str],
        vectors: npt.NDArray[np.float32],
        metadata: list[str | None] | None,
    ) -> int: ...
    def _delete(self, key: str) -> bool: ...
    def _update_metadata(self, key: str, metadata: str | None, replace: bool) -> bool: ...
    def _flush_hot(self) -> None: ...
    def _save_cold(self) -> None: ...
    def _save(self) -> None: ...
    def _refresh(self) -> bool: ...
    def _initialize_hot(
        self,
        sample: npt.NDArray[np.float32],
        progress: bool | Callable[[int, int], object] | None,
    ) -> None: ...
    def _promote(self, progress: bool | Callable[[int, int], object] | None) -> int: ...
    def _compact(self, progress: bool | Callable[[int, int], object] | None) -> None: ...
    def _get(self, key: str) -> npt.NDArray[np.float32] | None: ...
    def _get_metadata(self, key: str) -> str | None: ...
    def _contains(self, key: object) -> bool: ...
    def __len__(self) -> int: ...
    def _count_in(self, hot: bool) -> int: ...
    def _keys(self) -> list[str]: ...
    def _rows(self, vectors: bool) -> list[SearchResult]: ...
    def _columns(self) -> tuple[Texts, npt.NDArray[np.float32], Texts]: ...
    def _search(
        self,
        queries: npt.NDArray[np.float32],
        k: int | None,
        layers: int,
        nprobe: int,
        ef_search: int,
        recall: float,
        radius: float | None,
        filter_json: str | None,
        exact: bool,
        vectors: bool,
        metadata: bool,
    ) -> tuple[list[list[Any]], dict[str, Any]]: ...
    def _stats(self) -> dict[str, Any]: ...
