"""HybridRetriever over every store of vectors and both of words, on real texts: what is found is
what plain numpy finds, with one filter, after deletes, with documents that one side does not have,
and at the ends of every range."""

import re

import numpy as np
import pytest
from real_texts import corpus

from synadb import (
    ArgumentError,
    CascadeIndex,
    ClosedError,
    GravityWellIndex,
    HybridRetriever,
    HybridVectorStore,
    SparseVectorStore,
    TextIndex,
    VectorStore,
)

COUNT, DIMENSIONS, DEEP = 1200, 384, 60
GAP = 3e-6  # distances and scores that are nearer than this may be ranked either way
FILTERS = [
    None,
    {"section": {"$in": ["libs", "python", "asyncio", "email"]}},
    {"size": {"$gte": 150}},
    {"$or": [{"size": {"$lt": 60}}, {"section": "perl"}, {"section": "tkinter"}]},
    {"section": "there is no such section"},
]


def open_vectors(folder):
    return VectorStore(folder / "vectors.db", DIMENSIONS, sync_on_write=False)


def open_wells(folder):
    return GravityWellIndex(folder / "wells.gwi", DIMENSIONS)


def open_cascade(folder):
    return CascadeIndex(folder / "rows.cascade", DIMENSIONS)


def open_layers(folder):
    return HybridVectorStore(folder / "hot.gwi", folder / "cold.cascade", DIMENSIONS)


DENSE = {
    "vectors": open_vectors,
    "wells": open_wells,
    "cascade": open_cascade,
    "layers": open_layers,
}
LEXICAL = ["words", "sparse"]


def fill_vectors(store, keys, rows, metadata):
    """Rows into a store of any kind; of layers the first half goes to the cold one."""
    if isinstance(store, HybridVectorStore):
        half = len(keys) // 2
        store.ingest_batch(keys[:half], rows[:half], metadata[:half])
        store.promote_to_cold()
        store.ingest_batch(keys[half:], rows[half:], metadata[half:])
    else:
        if isinstance(store, GravityWellIndex) and not store.initialized:
            store.initialize(rows)
        store.insert_batch(keys, rows, metadata)


class Words:
    """A `TextIndex` and what its searches should say: BM25 as its documentation has it."""

    def __init__(self, folder):
        self.store = TextIndex(folder / "words.db", sync_on_write=False)

    def fill(self, keys, texts, metadata):
        self.store.add_batch(keys, texts, metadata)

    def query(self, text):
        """Without signs: a phrase in quotation marks would have to be there."""
        return re.sub(r"[^\w\s]", " ", text)

    def table(self, texts):
        """Weights of terms in documents: the score of a query is the sum over its terms."""
        counts = [self.store.terms(text) for text in texts]
        self.column = {t: n for n, t in enumerate(dict.fromkeys(t for c in counts for t in c))}
        often = np.zeros((len(texts), len(self.column)))
        for row, terms in enumerate(counts):
            for term in terms:
                often[row, self.column[term]] += 1
        found = (often > 0).sum(axis=0)
        idf = np.log(1 + (len(texts) - found + 0.5) / (found + 0.5))
        length = often.sum(axis=1, keepdims=True)
        self.weights = idf * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * length / length.mean()))

    def scores(self, text):
        terms = self.store.terms(self.query(text))
        wanted = [self.column[t] for t in terms if t in self.column]
        return self.weights[:, wanted].sum(axis=1)


class Sparse:
    """A `SparseVectorStore` of weighted words, and the dot products that it should find."""

    def __init__(self, folder):
        self.store = SparseVectorStore(folder / "sparse.db", 20000)

    def fill(self, keys, texts, metadata):
        if not hasattr(self, "column"):
            self.table(texts)
        self.store.index_batch(
            {key: self.query(text) for key, text in zip(keys, texts)}, metadata=metadata
        )

    def query(self, text):
        known = [self.column[w] for w in text.lower().split() if w in self.column]
        return {n: float(self.idf[n]) for n in known}

    def table(self, texts):
        spoken = [text.lower().split() for text in texts]
        self.column = {w: n for n, w in enumerate(dict.fromkeys(w for s in spoken for w in s))}
        has = np.zeros((len(texts), len(self.column)))
        for row, said in enumerate(spoken):
            has[row, [self.column[w] for w in said]] = 1
        self.idf = np.log(1 + len(texts) / has.sum(axis=0)).astype(np.float32).astype(float)
        self.weights = has * self.idf

    def scores(self, text):
        vector = np.zeros(len(self.column))
        for n, weight in self.query(text).items():
            vector[n] = weight
        return self.weights @ vector


def open_words(kind, folder):
    return Words(folder) if kind == "words" else Sparse(folder)


def allowed(filter, metadata):
    """Which documents one of `FILTERS` admits, spelt out."""
    section = np.array([m["section"] for m in metadata])
    size = np.array([m["size"] for m in metadata])
    return [
        np.ones(len(metadata), bool),
        np.isin(section, ["libs", "python", "asyncio", "email"]),
        size >= 150,
        (size < 60) | (section == "perl") | (section == "tkinter"),
        np.zeros(len(metadata), bool),
    ][FILTERS.index(filter)]


def ranks(values, may):
    """The documents that `may`, best first, and their values; equal ones in the order stored."""
    order = np.argsort(-values, kind="stable")
    order = order[may[order]][:DEEP]
    return order, values[order]


def clear(values, may):
    """Nobody could rank these otherwise: apart by more than a rounding, or equal."""
    steps = -np.diff(ranks(values, may)[1][: DEEP + 1])
    return bool(((steps > GAP) | (steps < 1e-12)).all())


def scaled(values):
    spread = values[0] - values[-1] if len(values) else 0
    return (values - values[-1]) / spread if spread else np.ones(len(values))


def fused(left, right, k, method, alpha):
    """(document, score, rank of left, rank of right) of the k best; rank 0: not there."""
    (a, x), (b, y) = left, right
    score, first, second = {}, {}, {}
    for order, values, weight, place in ((a, x, alpha, first), (b, y, 1 - alpha, second)):
        if method == "rrf":
            shares = 2 * weight / (60 + np.arange(1, len(order) + 1))
        else:
            shares = weight * scaled(values)
        for rank, (document, share) in enumerate(zip(order.tolist(), shares.tolist()), 1):
            score[document] = score.get(document, 0) + share
            place[document] = rank
    last = len(a) + len(b) + 1
    best = sorted(score, key=lambda d: (-score[d], first.get(d, last), second.get(d, last)))
    return [(d, score[d], first.get(d, 0), second.get(d, 0)) for d in best[:k]]


@pytest.fixture(scope="module")
def texts():
    return corpus(COUNT, 14)


@pytest.fixture(scope="module", params=DENSE)
def dense(request, texts, tmp_path_factory):
    with DENSE[request.param](tmp_path_factory.mktemp("dense")) as store:
        fill_vectors(store, texts.keys, texts.rows, texts.metadata)
        yield store


@pytest.fixture(scope="module", params=LEXICAL)
def lexical(request, texts, tmp_path_factory):
    side = open_words(request.param, tmp_path_factory.mktemp("lexical"))
    with side.store:
        side.table(texts.texts)
        side.fill(texts.keys, texts.texts, texts.metadata)
        yield side


@pytest.fixture(scope="module")
def likeness(texts):
    """The cosine of every query with every document."""
    rows = texts.rows.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = np.array([vector for vector, _ in texts.queries], np.float64)
    return queries @ rows.T / np.linalg.norm(queries, axis=1, keepdims=True)


def check(hits, want, texts, near, relevance):
    assert [h.score for h in hits] == pytest.approx([w[1] for w in want], abs=1e-5)
    known = {texts.keys[d]: (d, score, first, second) for d, score, first, second in want}
    for hit in hits:
        assert hit.key in known
        document, score, first, second = known[hit.key]
        assert hit.score == pytest.approx(score, abs=1e-5)
        assert hit.metadata == texts.metadata[document]
        for said, rank, true in (
            (hit.dense, first, 1 - near[document]),
            (hit.lexical, second, relevance[document]),
        ):
            assert (said.rank if said else 0) == rank
            assert said is None or said.score == pytest.approx(true, rel=1e-5, abs=1e-5)
        shares = [said.share for said in (hit.dense, hit.lexical) if said]
        assert sum(shares) == pytest.approx(hit.score)


@pytest.mark.parametrize("method, alpha", [("rrf", 0.5), ("rrf", 0.8), ("weighted", 0.4)])
def test_what_is_found_is_what_numpy_finds(dense, lexical, texts, likeness, method, alpha):
    retriever = HybridRetriever(dense, lexical.store, method=method, alpha=alpha, depth=DEEP)
    compared = found = 0
    for (vector, text), near in zip(texts.queries, likeness):
        relevance = lexical.scores(text)
        for filter in FILTERS:
            may = allowed(filter, texts.metadata)
            if not (clear(near, may) and clear(relevance, may & (relevance > 0))):
                continue
            left, right = ranks(near, may), ranks(relevance, may & (relevance > 0))
            want = fused((left[0], left[1]), right, 12, method, alpha)
            hits = retriever.search(
                vector,
                lexical.query(text),
                12,
                filter=filter,
                dense_options={"exact": True},
            )
            check(hits, want, texts, near, relevance)
            if isinstance(lexical, Words):
                for hit in hits:
                    assert hit.text is None or hit.text == texts.texts[texts.keys.index(hit.key)]
                    assert (hit.text is None) == (hit.lexical is None)
            compared += 1
            found += len(hits)
    assert compared >= 20 and found >= 4 * compared


def test_one_side_alone_and_all_there_is(dense, lexical, texts, likeness):
    """Without a query for one side the other one's order stays; k beyond the stores finds each
    document once."""
    retriever = HybridRetriever(dense, lexical.store)
    vector, text = texts.queries[3]
    near = [h.key for h in dense.search(vector, k=10, vectors=False)]
    assert [h.key for h in retriever.search(vector)] == near
    spoken = [h.key for h in lexical.store.search(lexical.query(text), k=10)]
    assert [h.key for h in retriever.search(text=lexical.query(text))] == spoken
    for k in (COUNT, 10 * COUNT, 2**63 - 1, 2**70):
        hits = retriever.search(vector, lexical.query(text), k)
        assert sorted(h.key for h in hits) == sorted(texts.keys)
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
    assert [h.dense.rank for h in sorted(hits, key=lambda h: h.dense.rank)] == [
        *range(1, COUNT + 1)
    ]


def test_arguments_of_one_side_reach_it_alone(dense, lexical, texts):
    retriever = HybridRetriever(dense, lexical.store)
    vector, text = texts.queries[0]
    query = lexical.query(text)
    hits = retriever.search(vector, query, COUNT, dense_options={"metadata": False})
    assert {h.metadata is None for h in hits if h.lexical is None} == {True}
    assert all(h.metadata for h in hits if h.lexical)
    with pytest.raises(ArgumentError):
        retriever.search(vector[:-1], query)
    with pytest.raises(ArgumentError):
        retriever.search(np.full(DIMENSIONS, np.nan), query)
    with pytest.raises(ArgumentError):
        retriever.search(vector, query, filter={"size": {"$nonsense": 1}})
    with pytest.raises(TypeError):
        retriever.search(vector, 5.5)


# ------------------------------------------------------------------------- stores that differ


@pytest.fixture(params=DENSE)
def small(request, tmp_path):
    with DENSE[request.param](tmp_path) as store:
        yield store


@pytest.fixture(params=LEXICAL)
def spoken(request, tmp_path, texts):
    side = open_words(request.param, tmp_path)
    side.table(texts.texts)
    with side.store:
        yield side


def test_what_one_side_lost_the_other_still_finds(small, spoken, texts):
    keys, rows = texts.keys[:200], texts.rows[:200]
    fill_vectors(small, keys, rows, texts.metadata[:200])
    spoken.fill(keys, texts.texts[:200], texts.metadata[:200])
    retriever = HybridRetriever(small, spoken.store)

    def ask(number):
        hits = retriever.search(rows[number], spoken.query(texts.texts[number]), 300)
        assert len({h.key for h in hits}) == len(hits)
        return {h.key: h for h in hits}

    best = ask(20)[keys[20]]
    assert best.dense.rank == 1 and best.lexical.rank == 1
    small.delete(keys[20])  # of the older half: of layers, in the cold one
    hit = ask(20)[keys[20]]
    assert hit.dense is None and hit.lexical.rank == 1
    assert hit.metadata == texts.metadata[20]  # which the other side has

    spoken.store.delete(keys[150])
    hit = ask(150)[keys[150]]
    assert hit.dense.rank == 1 and hit.lexical is None and hit.text is None
    assert hit.metadata == texts.metadata[150]
    small.delete(keys[150])
    assert keys[150] not in ask(150)


def test_documents_that_only_one_side_has(small, spoken, texts):
    ours, both, theirs = texts.keys[:40], texts.keys[40:60], texts.keys[60:100]
    fill_vectors(small, ours + both, texts.rows[:60], texts.metadata[:60])
    spoken.fill(both + theirs, texts.texts[40:100], texts.metadata[40:100])
    retriever = HybridRetriever(small, spoken.store)
    sides = set()
    for number in range(100):
        query = spoken.query(texts.texts[number])
        for hit in retriever.search(texts.rows[number], query, 100):
            sides.add((hit.dense is not None, hit.lexical is not None))
            assert (hit.dense is None) or hit.key in ours + both
            assert (hit.lexical is None) or hit.key in both + theirs
    assert sides == {(True, True), (True, False), (False, True)}


def test_empty_stores(small, spoken, texts):
    retriever = HybridRetriever(small, spoken.store)
    vector, query = texts.rows[0], spoken.query(texts.texts[0])
    for filter in (None, {"size": 1}):
        for method in ("rrf", "weighted"):
            assert retriever.search(vector, query, filter=filter, method=method) == []
    spoken.fill(texts.keys[:5], texts.texts[:5], texts.metadata[:5])
    (hit, *_) = retriever.search(vector, query, method="weighted")
    assert hit.key == texts.keys[0] and hit.dense is None and hit.score == 0.5
    fill_vectors(small, texts.keys[:5], texts.rows[:5], texts.metadata[:5])
    for key in texts.keys[:5]:
        spoken.store.delete(key)
    hits = retriever.search(vector, query)
    assert {h.key for h in hits} == set(texts.keys[:5]) and hits[0].key == texts.keys[0]
    assert all(h.lexical is None for h in hits)


ODD_KEYS = [
    " ", "a b", "a/b", "../a", "-", "+x", "0", "00", "-1", "1e5", "null", "\n", "a\tb", "\\", '"',
    "'", "é", "e\u0301", "Ä", "ä", "文档", "документ", "مستند", "🙂", "\u202eabc", "\u200b",
    "\ufeffa", "\x7f", "\x01", "doc/a", "k" * 1000,
    "ß" * 30000, "\U0010ffff", "row%s", "{}", "*", "?", "[a]",
]  # fmt: skip


def test_keys_of_every_kind(small, spoken, texts):
    count = len(ODD_KEYS)
    fill_vectors(small, ODD_KEYS, texts.rows[:count], texts.metadata[:count])
    spoken.fill(ODD_KEYS, texts.texts[:count], texts.metadata[:count])
    retriever = HybridRetriever(small, spoken.store)
    for number, key in enumerate(ODD_KEYS):
        best = retriever.search(texts.rows[number], spoken.query(texts.texts[number]), 1)[0]
        assert best.key == key and best.dense.rank == best.lexical.rank == 1
        assert best.metadata == texts.metadata[number]


def test_a_closed_store_says_so(small, spoken, texts):
    fill_vectors(small, texts.keys[:5], texts.rows[:5], texts.metadata[:5])
    retriever = HybridRetriever(small, spoken.store)
    spoken.store.close()
    with pytest.raises(ClosedError):
        retriever.search(texts.rows[0], spoken.query(texts.texts[0]))
    assert retriever.search(texts.rows[0])
    small.close()
    with pytest.raises(ClosedError):
        retriever.search(texts.rows[0])
