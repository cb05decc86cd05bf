"""SynaDB, the embedded database for AI work: one small library, no server.

Each component is a class with its own file and usable alone:

`SynaDB`
    Typed values with full history: a key-value store, a mapping, a time series store.
`VectorStore`
    Vectors with metadata and nearest-neighbour search.
`MmapVectorStore`
    Vectors in a mapped file, loaded at memory speed and durable by checkpoint.
`GravityWellIndex`
    Vectors that are ready to be searched well by well as soon as they are stored.
`CascadeIndex`
    Vectors found in three stages at the recall you name, without training.
`HybridVectorStore`
    Vectors taken in by a hot layer and moved to a cold one, found in both at once.
`TensorEngine`
    Typed arrays of any size, mapped or copied at memory speed, by rows or in batches.
`ModelRegistry`
    Versions of models with checksums, stages, aliases and lineage.
`Experiment`
    Runs with parameters, metrics, tags and artifacts, logged by any number of processes.
`ExperienceCollector`
    Transitions for reinforcement learning: sessions, sampling, merging of machines.
`TextIndex`
    Documents found by their words: BM25, phrases, prefixes, filters.
`HybridRetriever`
    One search over vectors and over words, the two lists made one.
`FeatureStore`
    Features of entities, as they were at any time.

>>> from synadb import SynaDB
>>> with SynaDB(tmp / "my_data.db") as my_data:
...     _ = my_data.put_float("temperature", 23.5)
...     _ = my_data.put_float("temperature", 24.1)
...     my_data.get_history_tensor("temperature")
array([23.5, 24.1])

`verify` and `salvage` work on files, `synadb.migrate` on the ancestor's; every error is a
`SynaError`. The command ``synadb`` (or ``python -m synadb``) looks into files from a shell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synadb._core.status import version as _version
from synadb.db import SynaDB, salvage, verify
from synadb.errors import (
    ArgumentError,
    CancelledError,
    ClosedError,
    CorruptionError,
    FileMissingError,
    FilePermissionError,
    ForkedError,
    FormatVersionError,
    IntegerRangeError,
    InternalError,
    InvalidKeyError,
    InvalidPathError,
    KeyNotFoundError,
    LockedError,
    NotInitializedError,
    NotOpenError,
    OutOfMemoryError,
    ReadOnlyError,
    SynaError,
    SynaIOError,
    TypeMismatchError,
    WrongKindError,
)
from synadb.types import (
    CheckReport,
    Finding,
    History,
    HybridSearchResult,
    OpenReport,
    SearchResult,
    Stats,
)

if TYPE_CHECKING:
    from synadb.cascade import CascadeIndex, CascadeSearchResult
    from synadb.experience import ExperienceCollector, SessionContext, Transition
    from synadb.experiment import Experiment, Run, RunStatus
    from synadb.feature_store import FeatureStore
    from synadb.gwi import GravityWellIndex, GwiSearchResult
    from synadb.hybrid import HybridVectorStore
    from synadb.mmap import MmapSearchResult, MmapVectorStore
    from synadb.models import ModelRegistry, ModelStage, ModelVersion
    from synadb.retriever import HybridResult, HybridRetriever
    from synadb.sparse import SparseIndexStats, SparseSearchResult, SparseVectorStore
    from synadb.tensor import TensorEngine
    from synadb.text import TextIndex
    from synadb.vector import VectorStore

__version__: str = _version()

# Imported when first used, so that `import synadb` stays fast.
_LAZY = {
    "CascadeIndex": "synadb.cascade",
    "CascadeSearchResult": "synadb.cascade",
    "ExperienceCollector": "synadb.experience",
    "Experiment": "synadb.experiment",
    "FeatureStore": "synadb.feature_store",
    "GravityWellIndex": "synadb.gwi",
    "GwiSearchResult": "synadb.gwi",
    "HybridResult": "synadb.retriever",
    "HybridRetriever": "synadb.retriever",
    "HybridVectorStore": "synadb.hybrid",
    "MmapSearchResult": "synadb.mmap",
    "MmapVectorStore": "synadb.mmap",
    "ModelRegistry": "synadb.models",
    "ModelStage": "synadb.models",
    "ModelVersion": "synadb.models",
    "Run": "synadb.experiment",
    "RunStatus": "synadb.experiment",
    "SessionContext": "synadb.experience",
    "SparseIndexStats": "synadb.sparse",
    "SparseSearchResult": "synadb.sparse",
    "SparseVectorStore": "synadb.sparse",
    "TensorEngine": "synadb.tensor",
    "TextIndex": "synadb.text",
    "Transition": "synadb.experience",
    "VectorStore": "synadb.vector",
}

__all__ = [
    "ArgumentError",
    "CancelledError",
    "CascadeIndex",
    "CascadeSearchResult",
    "CheckReport",
    "ClosedError",
    "CorruptionError",
    "ExperienceCollector",
    "Experiment",
    "FeatureStore",
    "FileMissingError",
    "FilePermissionError",
    "Finding",
    "ForkedError",
    "FormatVersionError",
    "GravityWellIndex",
    "GwiSearchResult",
    "History",
    "HybridResult",
    "HybridRetriever",
    "HybridSearchResult",
    "HybridVectorStore",
    "IntegerRangeError",
    "InternalError",
    "InvalidKeyError",
    "InvalidPathError",
    "KeyNotFoundError",
    "LockedError",
    "MmapSearchResult",
    "MmapVectorStore",
    "ModelRegistry",
    "ModelStage",
    "ModelVersion",
    "NotInitializedError",
    "NotOpenError",
    "OpenReport",
    "OutOfMemoryError",
    "ReadOnlyError",
    "Run",
    "RunStatus",
    "SearchResult",
    "SessionContext",
    "SparseIndexStats",
    "SparseSearchResult",
    "SparseVectorStore",
    "Stats",
    "SynaDB",
    "SynaError",
    "SynaIOError",
    "TensorEngine",
    "TextIndex",
    "Transition",
    "TypeMismatchError",
    "VectorStore",
    "WrongKindError",
    "__version__",
    "salvage",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        import importlib

        value = getattr(importlib.import_module(_LAZY[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'synadb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
