"""SparseVectorStore on rows as they come in use: weighted words of real texts, and vectors shaped
like SPLADE's. Equal ids and equal scores, to the last bit: those of columns added up, and those of
SciPy."""

import numpy as np
import pytest
from real_texts import corpus

from synadb import SparseVectorStore

COUNT = 2000


def texts_rows():
    """TF-IDF of real texts, each thirtieth of them twice, for equal scores; and of questions."""
    texts = corpus(COUNT, 40)
    said = [text.lower().split() for text in texts.texts]
    said += said[::30]
    column = {word: n for n, word in enumerate(sorted({w for words in said for w in words}))}
    found = np.zeros(len(column))
    for words in said:
        found[[column[w] for w in set(words)]] += 1
    idf = np.log(1 + len(said) / found)

    def row(words):
        counts = {}
        for word in words:
            if word in column:
                counts[column[word]] = counts.get(column[word], 0) + 1
        return {n: float(np.float32(times * idf[n])) for n, times in counts.items()}

    return [row(w) for w in said], [row(t.lower().split()) for _, t in texts.queries], len(column)


def splade_like():
    """Common and rare terms by Zipf's law, log-normal weights, some rows twice."""
    rng = np.random.default_rng(5)
    chance = 1 / np.arange(10, 30522 + 10)
    chance /= chance.sum()

    def row(nnz):
        terms = np.unique(rng.choice(30522, 2 * nnz, p=chance))
        terms = rng.permutation(terms)[:nnz]
        weights = rng.lognormal(-0.7, 0.6, len(terms)).astype(np.float32)
        return dict(zip(terms.tolist(), weights.tolist()))

    rows = [row(120) for _ in range(COUNT)]
    return rows + rows[::30], [row(40) for _ in range(40)], 30522


@pytest.fixture(scope="module", params=[texts_rows, splade_like], ids=["texts", "splade"])
def data(request, tmp_path_factory):
    rows, queries, width = request.param()
    path = tmp_path_factory.mktemp("sparse") / "rows.svs"
    with SparseVectorStore(path, width, sync_on_write=False) as store:
        store.index_batch({f"r{n}": row for n, row in enumerate(rows)})
        yield store, rows, queries, width


def columns_of(rows):
    """Index -> (numbers of the rows that have it, their values)."""
    columns = {}
    for number, row in enumerate(rows):
        for index, value in row.items():
            columns.setdefault(index, ([], []))
            columns[index][0].append(number)
            columns[index][1].append(value)
    return {i: (np.array(n), np.array(v, np.float32)) for i, (n, v) in columns.items()}


def best(scores, k):
    """Of float32 scores, the k best that are not 0; equal ones in the order stored."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] != 0][:k]
    return [(f"r{n}", float(scores[n])) for n in order]


def found(hits):
    return [(hit.key, hit.score) for hit in hits]


def test_ids_and_scores_are_those_of_columns_added_up(data):
    store, rows, queries, _ = data
    columns = columns_of(rows)
    ties = 0
    for number, query in enumerate(queries):
        total = np.zeros(len(rows))
        for index in sorted(query):
            if index in columns:
                which, values = columns[index]
                total[which] += float(np.float32(query[index])) * values.astype(np.float64)
        scores = total.astype(np.float32)
        k = [10, 1, 100, len(rows)][number % 4]
        want = best(scores, k)
        assert found(store.search(query, k=k)) == want
        ties += len(want) - len({score for _, score in want})
    assert ties > 100  # the order of equal scores is tested, too


def test_ids_and_scores_are_those_of_scipy(data):
    sparse = pytest.importorskip("scipy.sparse")
    store, rows, queries, width = data

    def csr(given):
        ends = np.cumsum([0, *map(len, given)])
        indices = np.concatenate([np.array(sorted(row), np.int64) for row in given])
        values = np.concatenate([np.array([row[i] for i in sorted(row)]) for row in given])
        return sparse.csr_matrix((values, indices, ends), (len(given), width))

    scores = (csr(rows) @ csr(queries).T).toarray().astype(np.float32)
    for q, hits in enumerate(store.search_batch(csr(queries).astype(np.float32), k=10)):
        assert found(hits) == best(scores[:, q], 10)
