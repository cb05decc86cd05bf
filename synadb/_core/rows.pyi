import numpy as np
import numpy.typing as npt

from synadb.types import SearchResult

class TextArray: ...

class HitBlock:
    def __len__(self) -> int: ...
    def __getitem__(self, query: int) -> list[SearchResult]: ...
    def columns(
        self,
    ) -> tuple[
        list[int],
        Texts,
        npt.NDArray[np.float32],
        npt.NDArray[np.float32],
        Texts,
    ]: ...

class Texts:
    @property
    def offsets(self) -> npt.NDArray[np.int64]: ...
    @property
    def data(self) -> npt.NDArray[np.uint8]: ...
    @property
    def valid(self) -> npt.NDArray[np.uint8]: ...
    @property
    def missing(self) -> int: ...
    def list(self) -> list[str]: ...
