"""The vector components by one set of names, for tests of what they have in common."""

import numpy as np

from synadb import (
    CascadeIndex,
    GravityWellIndex,
    HybridVectorStore,
    MmapVectorStore,
    SparseVectorStore,
    VectorStore,
)

CLASSES = {
    "vector": VectorStore, "mmap": MmapVectorStore,
    "gwi": GravityWellIndex, "cascade": CascadeIndex,
}  # fmt: skip


class Layers(HybridVectorStore):
    """With the names that the other components have."""

    def __init__(self, path, dimensions, **options):
        super().__init__(f"{path}.hot", f"{path}.cold", dimensions, **options)

    insert = HybridVectorStore.ingest
    insert_batch = HybridVectorStore.ingest_batch


class Sparse(SparseVectorStore):
    """Rows of arrays, every number of which is stored: none of them is 0."""

    def __init__(self, path, dimensions, **options):
        super().__init__(path, dimensions, **options)

    def insert(self, key, vector, metadata=None):
        self.index(key, dict(enumerate(vector)), metadata=metadata)

    def insert_batch(self, keys, rows, metadata=None):
        return self.index_batch(
            [(key, dict(enumerate(row))) for key, row in zip(keys, rows)], metadata=metadata
        )

    def get(self, key):
        row = super().get(key)
        return None if row is None else row.values

    def search(self, vector, k=10, **options):
        return super().search(dict(enumerate(vector)), k=k, **options)


CLASSES["sparse"] = Sparse


def opened(kind, path, dimensions, **options):
    store = CLASSES.get(kind, Layers)(path, dimensions, **options)
    if kind == "gwi" and not options.get("read_only") and not store.initialized:
        store.initialize(np.random.default_rng(0).normal(size=(8, dimensions)))
    return store


def keep(store):
    """Make what is there durable, whatever the component calls that."""
    for name in ("checkpoint", "save", "flush"):
        if hasattr(store, name):
            return getattr(store, name)()
    raise AssertionError("no way to make it durable")


def names(count):
    return [str(i) for i in range(count)]
