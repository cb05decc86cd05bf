"""Latent semantic analysis: TF-IDF weights, then a truncated singular value decomposition.

Documents that share no word, but words that occur together elsewhere, come close to each other
(Deerwester et al. 1990, "Indexing by latent semantic analysis"). The decomposition is the
randomised subspace iteration of Halko, Martinsson and Tropp 2011 (arXiv:0909.4061, algorithms 4.4
and 5.1) on a sparse matrix, in numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_OVERSAMPLING = 32  # more columns than asked for make the range finder sure of those
_ITERATIONS = 2  # text spectra fall slowly; two passes sharpen them (Halko et al., section 4.5)
_BLOCK_ENTRIES = 16384  # rows are multiplied in blocks of about so many entries: 20 MB at a time
_SEED = 20110529


@dataclass
class Sparse:
    """A sparse matrix by rows: row i has the entries ``starts[i]:starts[i + 1]``."""

    starts: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    values: Matrix
    width: int

    @property
    def height(self) -> int:
        return len(self.starts) - 1

    def transposed(self) -> Sparse:
        """The same matrix by columns."""
        order = np.argsort(self.columns, kind="stable")
        rows = np.repeat(np.arange(self.height, dtype=np.int32), np.diff(self.starts))
        starts = np.zeros(self.width + 1, np.int64)
        np.cumsum(np.bincount(self.columns, minlength=self.width), out=starts[1:])
        return Sparse(starts, rows[order], self.values[order], self.height)

    def dot(self, dense: Matrix) -> Matrix:
        """The product with a dense matrix, in blocks of rows to bound the memory."""
        out = np.zeros((self.height, dense.shape[1]), np.float32)
        first = 0
        while first < self.height:
            stop = int(np.searchsorted(self.starts, self.starts[first] + _BLOCK_ENTRIES, "right"))
            stop = min(max(stop - 1, first + 1), self.height)
            self._dot_rows(dense, first, stop, out)
            first = stop
        return out

    def _dot_rows(self, dense: Matrix, first: int, stop: int, out: Matrix) -> None:
        begin, end = self.starts[first], self.starts[stop]
        filled = np.flatnonzero(np.diff(self.starts[first : stop + 1]))  # reduceat wants no gaps
        if not len(filled):
            return
        terms = dense[self.columns[begin:end]]
        terms *= self.values[begin:end, None]
        out[first + filled] = np.add.reduceat(terms, self.starts[first + filled] - begin, axis=0)


@dataclass
class Model:
    """What turns counted terms into a vector.

    Attributes
    ----------
    vocabulary : dict
        Term -> column.
    idf : ndarray, shape (terms,)
        Weight of a term: rare ones count more.
    projection : ndarray, shape (terms, dimensions)
        The right singular vectors.
    """

    vocabulary: dict[str, int]
    idf: Matrix
    projection: Matrix

    @property
    def dimensions(self) -> int:
        return int(self.projection.shape[1])

    def weigh(self, counts: Sequence[Mapping[str, float]]) -> Sparse:
        """The TF-IDF rows of counted terms, of length 1; unknown terms are left out."""
        return _weigh(counts, self.vocabulary, self.idf)

    def embed(self, counts: Sequence[Mapping[str, float]]) -> Matrix:
        """A unit vector for each; zero when no term is known."""
        return unit_rows(self.weigh(counts).dot(self.projection))


def unit_rows(matrix: Matrix) -> Matrix:
    """Each row divided by its length; zero rows stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    scaled: Matrix = matrix / np.maximum(lengths, np.float32(1e-12))[:, None]
    return scaled


def _weigh(
    counts: Sequence[Mapping[str, float]], vocabulary: Mapping[str, int], idf: Matrix
) -> Sparse:
    starts = np.zeros(len(counts) + 1, np.int64)
    columns: list[int] = []
    values: list[float] = []
    for row, terms in enumerate(counts):
        for term, count in terms.items():
            column = vocabulary.get(term)
            if column is not None:
                columns.append(column)
                values.append(count)
        starts[row + 1] = len(columns)
    which = np.asarray(columns, np.int32)
    # 1 + log(count): the tenth occurrence says less than the first. Weights below 1 stay below.
    frequency = np.asarray(values, np.float32)
    frequency = np.where(frequency > 1, 1 + np.log(np.maximum(frequency, 1)), frequency)
    weights = (frequency * idf[which]).astype(np.float32)
    return _with_unit_rows(Sparse(starts, which, weights, len(vocabulary)))


def _with_unit_rows(matrix: Sparse) -> Sparse:
    rows = np.repeat(np.arange(matrix.height), np.diff(matrix.starts))
    squares = np.bincount(rows, matrix.values.astype(np.float64) ** 2, matrix.height)
    lengths = np.maximum(np.sqrt(squares), 1e-12).astype(np.float32)
    return Sparse(matrix.starts, matrix.columns, matrix.values / lengths[rows], matrix.width)


def _vocabulary(counts: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Document frequencies of terms that occur at least twice, commonest first."""
    frequency: dict[str, int] = {}
    for terms in counts:
        for term in terms:
            frequency[term] = frequency.get(term, 0) + 1
    common = [(count, term) for term, count in frequency.items() if count > 1]
    return {term: count for count, term in sorted(common, key=lambda item: (-item[0], item[1]))}


def train(
    counts: Sequence[Mapping[str, float]],
    dimensions: int = 256,
    progress: Callable[[int, int], object] | None = None,
) -> Model:
    """Learn from counted terms of documents. The same input gives the same model.

    With fewer documents or terms than `dimensions`, the model has as many as there are.
    """
    frequency = _vocabulary(counts)
    if not frequency:
        raise ValueError(f"no term occurs in two of the {len(counts)} documents")
    vocabulary = {term: column for column, term in enumerate(frequency)}
    documents = np.asarray(list(frequency.values()), np.float32)
    idf = np.log1p(np.float32(len(counts)) / documents).astype(np.float32)
    matrix = _weigh(counts, vocabulary, idf)
    return Model(vocabulary, idf, right_singular_vectors(matrix, dimensions, progress))


def right_singular_vectors(
    matrix: Sparse, rank: int, progress: Callable[[int, int], object] | None = None
) -> Matrix:
    """The first `rank` of them, as columns, with a fixed sign."""
    rank = min(rank, matrix.height, matrix.width)
    samples = min(rank + _OVERSAMPLING, matrix.height, matrix.width)
    flipped = matrix.transposed()
    steps = 2 * _ITERATIONS + 2

    def note(step: int) -> None:
        if progress is not None:
            progress(step, steps)

    random = np.random.default_rng(_SEED)
    start = random.standard_normal((matrix.width, samples), dtype=np.float32)
    basis = _orthonormal(matrix.dot(start))
    note(1)
    for iteration in range(_ITERATIONS):
        # One orthonormalisation a pass is enough: the spectrum spans two decades, squared four.
        other = flipped.dot(basis)
        note(2 * iteration + 2)
        basis = _orthonormal(matrix.dot(other))
        note(2 * iteration + 3)
    # rows of basis.T @ matrix, whose right singular vectors are those of the matrix
    small = flipped.dot(basis)
    note(steps)
    wide = small.astype(np.float64)
    _, vectors = np.linalg.eigh(wide.T @ wide)
    right = (wide @ vectors[:, ::-1][:, :rank]).astype(np.float32)
    right /= np.maximum(np.linalg.norm(right, axis=0), np.float32(1e-12))
    signs: Any = np.sign(right[np.abs(right).argmax(axis=0), np.arange(rank)])
    return np.ascontiguousarray(right * np.where(signs == 0, 1, signs), np.float32)


def _orthonormal(matrix: Matrix) -> Matrix:
    """An orthonormal basis of the columns by Cholesky's decomposition of their Gram matrix: three
    large products where a QR decomposition takes many small steps, which on tall matrices and busy
    processors are many times slower. The ridge keeps dependent columns from failing it; they become
    short columns, which the range finder does not mind."""
    columns = matrix.astype(np.float64)
    gram = columns.T @ columns
    gram[np.diag_indices_from(gram)] += 1e-10 * np.trace(gram) / len(gram) + 1e-300
    triangle = np.linalg.cholesky(gram)
    return (columns @ np.linalg.inv(triangle).T).astype(np.float32)


__all__ = ["Model", "Sparse", "right_singular_vectors", "train", "unit_rows"]
