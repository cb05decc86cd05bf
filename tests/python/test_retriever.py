"""HybridRetriever: fusion against plain Python, arguments, and what it is for: finding more than
either search alone."""

import functools
import re

import numpy as np
import pytest
import real_texts

from synadb import ArgumentError, HybridRetriever, MmapVectorStore, TextIndex, VectorStore
from synadb.retriever import SourceHit
from synadb.types import SearchResult


class Fixed:
    """A store that finds what it was told, and remembers what it was asked."""

    def __init__(self, hits):
        self.hits = [SearchResult(key, score) for key, score in hits]

    def search(self, query, k=10, *, filter=None):
        self.asked = (query, k, filter)
        return self.hits[:k]


DENSE = [("a", 0.1), ("b", 0.3), ("c", 0.5), ("d", 0.9)]  # distances
LEXICAL = [("c", 8.0), ("x", 4.0), ("a", 2.0)]


def found(hits):
    return {hit.key: hit.score for hit in hits}


def test_ranks_are_fused():
    hits = HybridRetriever(Fixed(DENSE), Fixed(LEXICAL)).search([1], "w", k=10)
    assert found(hits) == pytest.approx(
        {"a": 1 / 61 + 1 / 63, "c": 1 / 63 + 1 / 61, "b": 1 / 62, "x": 1 / 62, "d": 1 / 64}
    )
    # equal scores: what the dense store ranks higher
    assert [hit.key for hit in hits] == ["a", "c", "b", "x", "d"]
    assert hits[1].dense == SourceHit(3, 0.5, 1 / 63)
    assert hits[1].lexical == SourceHit(1, 8.0, 1 / 61)
    assert hits[3].dense is None and hits[2].lexical is None


def test_ranks_are_weighted():
    retriever = HybridRetriever(Fixed(DENSE), Fixed(LEXICAL), alpha=0.25, rrf_k=0)
    assert found(retriever.search([1], "w")) == pytest.approx(
        {"a": 0.5 + 0.5, "b": 0.25, "c": 0.5 / 3 + 1.5, "d": 0.125, "x": 0.75}
    )


def test_scores_are_fused():
    retriever = HybridRetriever(Fixed(DENSE), Fixed(LEXICAL), method="weighted", alpha=0.6)
    want = {
        "a": 0.6 * 1.0 + 0.4 * 0.0,
        "b": 0.6 * 0.75,
        "c": 0.6 * 0.5 + 0.4 * 1.0,
        "d": 0.0,
        "x": 0.4 * (4 - 2) / (8 - 2),
    }
    hits = retriever.search([1], "w")
    assert found(hits) == pytest.approx(want)
    assert [hit.key for hit in hits] == ["c", "a", "b", "x", "d"]
    assert retriever.search([1], "w", alpha=1.0)[0].key == "a"
    assert retriever.search([1], "w", alpha=0.0, k=1)[0].key == "c"


def test_lists_of_one_score_count_in_full():
    retriever = HybridRetriever(Fixed([("a", 0.5), ("b", 0.5)]), Fixed([]), method="weighted")
    assert found(retriever.search([1], "w")) == {"a": 0.5, "b": 0.5}


def test_one_of_the_two_is_enough():
    retriever = HybridRetriever(Fixed(DENSE), Fixed(LEXICAL))
    assert [hit.key for hit in retriever.search(text="w")] == ["c", "x", "a"]
    assert [hit.key for hit in retriever.search([1])] == ["a", "b", "c", "d"]
    with pytest.raises(ArgumentError):
        retriever.search()


def test_depth_and_filter_are_handed_on():
    dense, lexical = Fixed(DENSE), Fixed(LEXICAL)
    retriever = HybridRetriever(dense, lexical)
    retriever.search([1], "w", k=3, filter={"n": 1})
    assert dense.asked == ([1], 50, {"n": 1}) and lexical.asked == ("w", 50, {"n": 1})
    retriever.search([1], "w", k=100)
    assert dense.asked[1:] == (400, None)
    retriever.search([1], "w", k=5, depth=7)
    assert dense.asked[1] == 7
    retriever.search([1], "w", k=5, depth=2)
    assert lexical.asked[1] == 5  # never fewer than are wanted


class NoFilter:
    def search(self, query, k=10):
        return []


def test_bad_arguments():
    both = Fixed(DENSE), Fixed(LEXICAL)
    for wrong in ({"method": "sum"}, {"alpha": 1.5}, {"alpha": -0.1}, {"rrf_k": -1}, {"depth": 0}):
        with pytest.raises(ArgumentError):
            HybridRetriever(*both, **wrong)
    retriever = HybridRetriever(*both)
    for wrong in ({"method": "sum"}, {"alpha": 2}, {"k": 0}, {"k": None}, {"depth": -3}):
        with pytest.raises(ArgumentError):
            retriever.search([1], "w", **wrong)
    for wrong in ({"alpha": "0.5"}, {"alpha": None}, {"rrf_k": "60"}, {"depth": 2.5}):
        with pytest.raises(TypeError):
            HybridRetriever(*both, **wrong)
    for wrong in ({"alpha": float("nan")}, {"rrf_k": float("nan")}, {"rrf_k": float("inf")}):
        with pytest.raises(ArgumentError):
            HybridRetriever(*both, **wrong)
    with pytest.raises(TypeError):
        HybridRetriever(object(), both[1])
    with pytest.raises(ArgumentError, match="NoFilter"):
        HybridRetriever(NoFilter(), both[1]).search([1], "w", filter={"n": 1})
    with pytest.raises(TypeError):
        retriever.search([1], "w", dense_options={"nonsense": 1})


@pytest.mark.parametrize("kind", [VectorStore, MmapVectorStore])
def test_over_the_stores(tmp_path, kind):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 16)).astype(np.float32)
    keys = [f"k{i}" for i in range(300)]
    with kind(tmp_path / "v.db", 16) as vectors, TextIndex(tmp_path / "t.db") as words:
        vectors.insert_batch(keys, rows)
        words.add_batch(
            keys, [f"number{i} of some" for i in range(300)], [{"i": i} for i in range(300)]
        )
        retriever = HybridRetriever(vectors, words)
        assert type(vectors).__name__ in repr(retriever)
        best = retriever.search(rows[5], "number5", k=3)
        assert best[0].key == "k5" and best[0].dense.rank == best[0].lexical.rank == 1
        assert best[0].text == "number5 of some" and best[0].metadata == {"i": 5}
        assert len(best) == 3
        apart = retriever.search(rows[5], "number6", k=2)
        assert {hit.key for hit in apart} == {"k5", "k6"}


# ------------------------------------------------------------------------------- on real texts

TOPICS = {
    "astronomy": ["telescope", "galaxy", "planet", "orbit", "stars", "comet"],
    "cooking": ["oven", "recipe", "flour", "butter", "roast", "spices"],
    "sailing": ["mast", "anchor", "harbour", "rudder", "tide", "deck"],
    "music": ["violin", "melody", "chord", "rhythm", "opera", "piano"],
}


def test_hybrid_finds_what_one_search_alone_misses(tmp_path):
    """Known items: a query is a noisy vector of the document's topic and one rare word of it. Words
    alone miss where the word is misspelt, vectors alone cannot tell documents of a topic apart."""
    rng = np.random.default_rng(5)
    topics = rng.normal(size=(len(TOPICS), 24))
    keys, texts, rows, queries = [], [], [], []
    for i in range(400):
        topic = i % len(TOPICS)
        words = rng.choice(list(TOPICS.values())[topic], 4)
        keys.append(f"d{i}")
        texts.append(" ".join(words) + f" item{i // 8}")
        rows.append(topics[topic] + rng.normal(size=24) * 0.7)
        lost = rng.random() < 0.3
        queries.append((rows[-1] + rng.normal(size=24) * 1.2, "misspelt" if lost else texts[-1]))

    def recall(search):
        return sum(key in {hit.key for hit in search(q)} for key, q in zip(keys, queries))

    with VectorStore(tmp_path / "v.db", 24) as vectors, TextIndex(tmp_path / "t.db") as index:
        vectors.insert_batch(keys, np.array(rows))
        index.add_batch(keys, texts)
        retriever = HybridRetriever(vectors, index)
        dense = recall(lambda q: vectors.search(q[0], k=3))
        lexical = recall(lambda q: index.search(q[1], k=3))
        both = recall(lambda q: retriever.search(q[0], q[1], k=3))
        weighted = recall(lambda q: retriever.search(q[0], q[1], k=3, method="weighted"))
    assert max(both, weighted) > max(dense, lexical)


needs_real_texts = pytest.mark.skipif(
    real_texts.DATA is None,
    reason="SYNADB_DATA does not name a folder with texts and their vectors",
)

# Words of package names that tell packages of one program apart, not programs.
_PARTS = frozenset(
    """base bin bioc client common core cran data dbg dev dkms doc elpa en examples extra ghc gir1
    golang gtk headers java lib libs linux locale node ocaml perl php plugin plugins prof python
    python3 qt ruby runtime rust server source tests tools utils""".split()
)


def program(package):
    """What the packages of one program have in common in their names: the document's title."""
    parts = (re.sub(r"^lib|[\d.]+\w?$", "", part) for part in re.split(r"[-.+_]", package.lower()))
    return "-".join(part for part in parts if len(part) > 2 and part not in _PARTS)


def paraphrases(known, asked):
    """(number of the question, numbers of the documents it means): descriptions of packages of a
    program whose other packages are among the documents, and say the same in other words."""
    meant = {}
    for number, name in enumerate(known):
        meant.setdefault(program(name), []).append(number)
    for number, name in enumerate(asked):
        title = program(name)
        if len(title) >= 4 and 1 <= len(meant.get(title, [])) <= 5:
            yield number, meant[title]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """(names, rows, vectors, words) of a third of Debian's packages, by their descriptions."""
    folder = tmp_path_factory.mktemp("packages")
    known = real_texts.lines("text384_base.jsonl.zst", 16000)
    rows = np.load(real_texts.DATA / "text384_base.npy", mmap_mode="r")[: len(known)]
    keys = [str(i) for i in range(len(known))]
    with (
        VectorStore(folder / "v.db", 384, sync_on_write=False) as vectors,
        TextIndex(folder / "t.db", sync_on_write=False) as words,
    ):
        vectors.insert_batch(keys, rows.astype(np.float32))
        words.add_batch(keys, [d["text"] for d in known])
        yield [d["name"] for d in known], rows, vectors, words


@needs_real_texts
def test_known_items_are_found_by_a_paraphrase_better_than_by_either_alone(packages):
    """A question is the description of a package that is not there, and its true vector; found
    should be another package of the same program, which says the same in other words."""
    names, _, vectors, words = packages
    asked = real_texts.lines("text384_query.jsonl.zst", 1000)
    embedded = np.load(real_texts.DATA / "text384_query.npy").astype(np.float32)
    items = list(paraphrases(names, [d["name"] for d in asked]))
    assert len(items) >= 150
    questions = [re.sub(r"[^\w\s]", " ", d["text"]) for d in asked]

    def reciprocal_rank(search):
        """The mean of 1 / the rank of the first document that is meant; 0 behind the tenth."""
        total = 0.0
        for number, meant in items:
            hits = [int(hit.key) for hit in search(embedded[number], questions[number])]
            total += next((1 / n for n, hit in enumerate(hits, 1) if hit in meant), 0.0)
        return total / len(items)

    retriever = HybridRetriever(vectors, words)
    alone = [
        reciprocal_rank(lambda v, t: vectors.search(v, k=10, exact=True, vectors=False)),
        reciprocal_rank(lambda v, t: words.search(t, k=10)),
    ]
    both = []
    for how in ("rrf", "weighted"):
        options = {"method": how, "dense_options": {"exact": True}}
        search = functools.partial(retriever.search, **options)
        both.append(reciprocal_rank(search))
    print(f"{len(items)} items: dense, words {alone}; rrf, weighted {both}")
    assert min(both) >= max(alone)


@needs_real_texts
def test_hybrid_finds_more_than_either_alone_on_real_texts(packages):
    """Known-item search: the name of a package and a noisy vector of its description. Names are
    not in the texts, but often their parts are."""
    names, rows, vectors, words = packages
    rng = np.random.default_rng(11)
    sample = rng.choice(len(names), 300, replace=False)
    noise = rng.normal(size=(300, 384)).astype(np.float32) * 0.3

    def hits_at_10(search):
        return sum(
            str(i) in {hit.key for hit in search(rows[i] + noise[n], names[i])}
            for n, i in enumerate(sample)
        )

    retriever = HybridRetriever(vectors, words)
    dense = hits_at_10(lambda v, t: vectors.search(v, k=10))
    lexical = hits_at_10(lambda v, t: words.search(t, k=10))
    both = hits_at_10(lambda v, t: retriever.search(v, t, k=10))
    print(f"found among the first 10 of 300: dense {dense}, lexical {lexical}, both {both}")
    assert both > max(dense, lexical)
