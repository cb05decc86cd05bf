"""TextIndex: results against BM25 in plain Python, the query language, durability, bad input."""

import functools
import importlib.util
import json
import math
import os
import shutil
import string
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

import synadb
from synadb import ArgumentError, ClosedError, KeyNotFoundError, SynaDB, TextIndex
from synadb.text import Document


@pytest.fixture
def index(path):
    with TextIndex(path, sync_on_write=False) as index:
        yield index


class Plain:
    """BM25 as the documentation defines it. Terms have the numbers in which they first came, which
    is the order in which scores are summed."""

    def __init__(self, index, k1=1.2, b=0.75):
        self.index, self.k1, self.b = index, k1, b
        self.docs = {}  # key -> (terms, metadata), in the order written
        self.numbers = {}

    def add(self, key, text, metadata=None):
        self.docs.pop(key, None)
        terms = self.index.terms(text)
        for term in terms:
            self.numbers.setdefault(term, len(self.numbers))
        self.docs[key] = (terms, metadata)

    def delete(self, key):
        return self.docs.pop(key, None) is not None

    def scores(self, query):
        """(key, score) of every document with a term of the query, best first."""
        wanted = {}
        for term in self.index.terms(query):
            wanted[term] = wanted.get(term, 0) + 1
        found = {t: sum(t in terms for terms, _ in self.docs.values()) for t in wanted}
        count = len(self.docs)
        total = sum(len(terms) for terms, _ in self.docs.values())
        base = np.float32(self.k1 * (1 - self.b))
        slope = np.float32(self.k1 * self.b / (total / count)) if total else np.float32(0)
        weights = {}
        for term, times in wanted.items():
            idf = math.log(1 + (count - found[term] + 0.5) / (found[term] + 0.5))
            weights[term] = float(np.float32(times * idf * (self.k1 + 1)))
        order = sorted((t for t in wanted if found[t]), key=lambda t: self.numbers[t])
        hits = []
        for key, (terms, _) in self.docs.items():
            score = 0.0
            for term in order:
                tf = float(terms.count(term))
                if tf:
                    score += weights[term] * tf / (tf + float(base) + float(slope) * len(terms))
            if score:
                hits.append((key, float(np.float32(score))))
        return sorted(hits, key=lambda hit: -hit[1])  # stable: ties in the order written


def pairs(hits):
    return [(hit.key, hit.score) for hit in hits]


def same(got, want):
    """Equal keys and scores; documents that are within a rounding of each other may be swapped."""
    assert [score for _, score in got] == pytest.approx([score for _, score in want], rel=1e-6)
    by_key = dict(want)
    for key, score in got:
        assert by_key[key] == pytest.approx(score, rel=1e-6)
    for (a, x), (b, y) in zip(got, want):
        assert a == b or x == pytest.approx(y, rel=3e-7)


WORDS = [
    "".join(w) for w in np.random.default_rng(7).choice(list(string.ascii_lowercase), (300, 5))
]


def texts(count, seed=1, length=30):
    """Documents of words as in language: few are frequent, most are rare."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, len(WORDS) + 1)
    chance /= chance.sum()
    for _ in range(count):
        yield " ".join(rng.choice(WORDS, rng.integers(1, length), p=chance))


# ---------------------------------------------------------------------------------- results


def test_the_example_of_the_seeds(index):
    index.add("0", "Machine learning for vector databases")
    index.add("1", "Neural networks and deep learning")
    index.add("2", "Vector similarity search algorithms")
    assert [hit.key for hit in index.search("vector search")] == ["2", "0"]


@pytest.mark.parametrize("k1, b", [(1.2, 0.75), (2.0, 0.0), (0.0, 0.5), (0.9, 1.0)])
def test_scores_and_order_are_those_of_bm25(path, k1, b):
    with TextIndex(path, analyzer="standard", k1=k1, b=b, sync_on_write=False) as index:
        plain = Plain(index, k1, b)
        for i, text in enumerate(texts(1200)):
            plain.add(str(i), text)
            if i % 2:
                index.add(str(i), text)
            else:
                index.add_batch([str(i)], [text])
        for query in texts(15, seed=2, length=8):
            want = plain.scores(query)
            same(pairs(index.search(query, k=10)), want[:10])
            same(pairs(index.search(query, k=None)), want)


def test_updates_and_deletes_change_frequencies_and_averages(path):
    with TextIndex(path, analyzer="standard", sync_on_write=False) as index:
        plain = Plain(index)
        rng = np.random.default_rng(3)
        for i, text in enumerate(texts(2500)):
            key = str(rng.integers(400))
            if i % 5 == 0:
                assert index.delete(key) == plain.delete(key)
            else:
                index.add(key, text)
                plain.add(key, text)
        assert index.keys() == list(plain.docs)
        assert len(index) == len(plain.docs)
        for query in texts(30, seed=4, length=6):
            same(pairs(index.search(query, k=20)), plain.scores(query)[:20])
        stats = index.stats()
        assert stats.postings == sum(len(set(terms)) for terms, _ in plain.docs.values())
        assert stats.average_length == sum(len(t) for t, _ in plain.docs.values()) / len(plain.docs)
        assert index.document_frequency(WORDS[0]) == sum(
            WORDS[0] in terms for terms, _ in plain.docs.values()
        )
    with TextIndex(path) as again:  # rows were packed on the way, and saved
        plain.index = again
        for query in texts(10, seed=5, length=6):
            same(pairs(again.search(query, k=20)), plain.scores(query)[:20])


def test_equal_scores_come_in_the_order_written(index):
    keys = [f"k{i}" for i in range(200)]
    index.add_batch(keys, ["same words here"] * 200)
    assert [hit.key for hit in index.search("words", k=150)] == keys[:150]
    index.add("k0", "same words here")
    assert [hit.key for hit in index.search("words", k=None)] == [*keys[1:], "k0"]


def test_a_word_twice_in_the_query_counts_twice(index):
    index.add("a", "red")
    index.add("b", "blue")
    once, twice = index.search("red blue"), index.search("red red blue")
    assert once[0].score == once[1].score
    assert twice[0].score == pytest.approx(2 * twice[1].score)


def test_batches_are_like_single_searches(index):
    index.add_batch([str(i) for i in range(500)], texts(500))
    queries = list(texts(20, seed=6, length=5))
    together = index.search_batch(queries, k=7)
    assert together == [index.search(query, k=7) for query in queries]
    assert index.search_batch([]) == []


# ---------------------------------------------------------------------- the query language


@pytest.fixture
def library(index):
    index.add("shell", "a shared shell library for scripts", {"n": 1, "tag": "a"})
    index.add("perl", "shared libraries in Perl, for a shell", {"n": 2, "tag": "b"})
    index.add("ruby", "Ruby scripts share nothing", {"n": 3, "tag": "a"})
    index.add("empty", "", {"n": 4, "tag": "a"})
    index.add("plain", "perl and ruby")
    return index


def found(index, query, **options):
    return {hit.key for hit in index.search(query, k=None, **options)}


@pytest.mark.parametrize(
    "query, keys",
    [
        ("shell", {"shell", "perl"}),
        ("shell ruby", {"shell", "perl", "ruby", "plain"}),
        ("+shell +scripts", {"shell"}),
        ("perl -ruby", {"perl"}),
        ("+ruby shell", {"ruby", "plain"}),
        ("-shell", set()),
        ("-shell -perl", set()),
        ('"shared library"', {"perl"}),
        ('"shared shell library"', {"shell"}),
        ('"library shared"', set()),
        ('shell -"shared library"', {"shell"}),
        ('"shell"', {"shell", "perl"}),
        ('"perl and ruby"', {"plain"}),  # a stop word keeps its place
        ('"perl ruby"', set()),
        ('"perl', {"perl", "plain"}),  # a quote that is not closed
        ("scr*", {"shell", "ruby"}),
        ("+scr* +sha*", {"shell", "ruby"}),
        ("ruby -sha*", {"plain"}),
        ("libraries*", {"shell", "perl"}),  # its stem, too
        ("*", set()),
        ("the of and", set()),
        ("+the ruby", {"ruby", "plain"}),  # a stop word demands nothing
        ("", set()),
        ('+ - " +"', set()),
        ("nowhere", set()),
        ("+nowhere ruby", set()),
        ("shared-library", {"shell", "perl", "ruby"}),
        ("+shared-library", {"perl"}),
        ("ruby-shell", {"shell", "perl", "ruby", "plain"}),
    ],
)
def test_words_signs_phrases_prefixes(library, query, keys):
    assert found(library, query) == keys


def test_all_words_may_be_demanded(library):
    assert found(library, "shell scripts", operator="and") == {"shell"}
    assert found(library, "perl ruby", operator="and") == {"plain"}
    assert found(library, "shell nowhere", operator="and") == set()
    assert found(library, "the shell scripts", operator="and") == {"shell"}


def test_signs_do_not_change_the_score_of_what_is_found(library):
    free = {hit.key: hit.score for hit in library.search("shell scripts")}
    bound = library.search("+shell +scripts")
    assert [hit.score for hit in bound] == [free["shell"]]
    words = {hit.key: hit.score for hit in library.search("shared library")}
    assert library.search('"shared library"')[0].score == words["perl"]


def test_many_candidates_of_which_few_have_the_phrase(index):
    index.add_batch(
        [str(i) for i in range(3000)],
        ["alpha gap beta" if i % 100 else "beta gap alpha beta filler filler" for i in range(3000)],
    )
    hits = index.search('"alpha beta"', k=10)
    assert [hit.key for hit in hits] == [str(i) for i in range(0, 1000, 100)]
    assert len(index.search('"alpha beta"', k=None)) == 30
    assert index.explain('"alpha beta"').candidates == 3000


def test_scripts_without_spaces(path):
    with TextIndex(path, analyzer="standard") as index:
        index.add("tokyo", "東京都に住む")
        index.add("kyoto", "京都の猫")
        assert found(index, "東京") == {"tokyo"}
        assert found(index, "京都", operator="and") == {"tokyo", "kyoto"}
        assert found(index, '"東京都"') == {"tokyo"}
        assert found(index, "猫") == {"kyoto"}  # one character: the last of its run
        assert found(index, "都") == {"tokyo", "kyoto"}


def test_a_phrase_may_go_on_behind_a_run_without_spaces(path):
    with TextIndex(path, analyzer="standard") as index:
        index.add("tower", "sjs 東京都 tower 2024")
        index.add("other", "東京都 2024 tower")
        assert found(index, '"東京都 tower 2024"') == {"tower"}
        assert found(index, '"京都 tower"') == {"tower"}
        assert found(index, '"sjs 東京都 tower"') == {"tower"}
        assert found(index, '"東京 tower"') == set()


# ------------------------------------------------------------------------------------ filters


@pytest.mark.parametrize(
    "filter, keys",
    [
        ({"tag": "a"}, {"shell", "ruby"}),
        ({"n": {"$gte": 2}}, {"perl", "ruby"}),
        ({"tag": "a", "n": 1}, {"shell"}),
        ({"n": {"$in": [1, 2]}}, {"shell", "perl"}),
        ({"$not": {"tag": "a"}}, {"perl", "plain"}),
        ({"nothing": 1}, set()),
        ({}, {"shell", "perl", "ruby", "plain"}),
    ],
)
def test_filters(library, filter, keys):
    assert found(library, "shell perl ruby", filter=filter) == keys


def test_filters_with_signs(library):
    assert found(library, "+ruby", filter={"n": {"$exists": True}}) == {"ruby"}
    assert found(library, '"shared library"', filter={"n": 1}) == set()


def test_a_filter_that_is_none_is_refused(library):
    with pytest.raises(ArgumentError):
        library.search("shell", filter={"n": {"$near": 1}})
    with pytest.raises(ArgumentError):
        library.search("shell", filter={"n": math.nan})
    with pytest.raises(TypeError):
        library.search("shell", filter="n = 1")


# ------------------------------------------------------------------------- documents, metadata


def test_a_document_comes_back(index):
    metadata = {"ü": [1, 2.5, None, True], "deep": {"er": "€"}}
    index.add("ключ", "Ein Text, mit ☃", metadata)
    assert index.get("ключ") == Document("ключ", "Ein Text, mit ☃", metadata)
    assert "ключ" in index and index.contains("ключ") and "other" not in index
    assert index.get("other") is None
    hit = index.search("text")[0]
    assert (hit.text, hit.metadata) == ("Ein Text, mit ☃", metadata)
    assert index.search("text", texts=False)[0].text is None


def test_updates(index):
    index.add("a", "one", {"n": 1})
    index.update("a", "two")
    assert index.get("a") == Document("a", "two", {"n": 1})
    index.update("a", metadata={"n": 2})
    assert index.get("a") == Document("a", "two", {"n": 2})
    assert found(index, "two", filter={"n": 2}) == {"a"}
    assert found(index, "two", filter={"n": 1}) == set()
    index.update_metadata("a", None)
    assert index.get("a") == Document("a", "two", None)
    index.add("a", "three")
    assert found(index, "two") == set()
    for change in ({"text": "x"}, {"metadata": {}}, {}):
        with pytest.raises(KeyNotFoundError):
            index.update("b", **change)
    with pytest.raises(KeyNotFoundError):
        index.update_metadata("b", {})
    assert index.keys() == ["a"]


def test_a_batch_is_there_whole_or_not_at_all(index):
    assert index.add_batch(["a", "b", "a"], ["one", "two", "three"]) == 2
    assert index.get("a").text == "three" and index.keys() == ["b", "a"]
    with pytest.raises(ArgumentError):
        index.add_batch(["c", ""], ["four", "five"])
    with pytest.raises(ArgumentError):
        index.add_batch(["c", "d"], ["four"])
    with pytest.raises(ArgumentError):
        index.add_batch(["c", "d"], ["four", "five"], [{}, {"x": math.inf}])
    assert index.keys() == ["b", "a"] and found(index, "four") == set()
    assert index.add_batch([], []) == 0


@pytest.mark.parametrize(
    "key, text, error",
    [
        ("", "x", ArgumentError),
        ("k" * 65001, "x", ArgumentError),
        ("a\0b", "x", ArgumentError),
        ("\ud800", "x", ArgumentError),
        ("a", "\ud800", ArgumentError),
        (1, "x", TypeError),
        ("a", b"x", TypeError),
        ("a", None, TypeError),
    ],
)
def test_bad_documents_are_refused(index, key, text, error):
    with pytest.raises(error):
        index.add(key, text)
    assert len(index) == 0


def test_bad_searches_are_refused(index):
    index.add("a", "word")
    for wrong in ({"k": 0}, {"k": -1}, {"operator": "xor"}):
        with pytest.raises(ArgumentError):
            index.search("word", **wrong)
    for wrong in (None, 1, b"word"):
        with pytest.raises(TypeError):
            index.search(wrong)
    with pytest.raises(TypeError):
        index.search_batch("word")
    with pytest.raises(TypeError):
        index.add_batch("ab", ["x", "y"])


def test_what_names_no_analyser_is_refused(tmp_path):
    for wrong, error in ((5, TypeError), (b"x", TypeError), ("", ArgumentError)):
        with pytest.raises(error, match="analyzer"):
            TextIndex(tmp_path / "x.db", analyzer=wrong)
    for wrong in ("a\0b", "snowball:"):
        with pytest.raises(ArgumentError, match="analyzer"):
            TextIndex(tmp_path / "x.db", analyzer=wrong)
    assert not (tmp_path / "x.db").exists()


def test_long_keys_and_words(index):
    index.add("k" * 65000, "w" * 5000 + " tail")
    assert found(index, "w" * 5000) == {"k" * 65000}
    assert found(index, "tail") == {"k" * 65000}


# -------------------------------------------------------------------------------- the analyser


def test_the_analyser_is_remembered(path):
    with TextIndex(path, analyzer="standard") as index:
        index.add("a", "the libraries")
        assert index.terms("The Libraries") == ["the", "libraries"]
    with TextIndex(path) as index:
        assert index.analyzer == "standard" and found(index, "the") == {"a"}
        assert index.stats().analyzer_version == 1
    with pytest.raises(ArgumentError, match="standard"):
        TextIndex(path, analyzer="english")
    with SynaDB(path) as db:
        db.put_text("text-index/config", '{"analyzer":"standard","version":2}')
    with pytest.raises(synadb.FormatVersionError, match="version 2, expected version 1"):
        TextIndex(path)
    with SynaDB(path) as db:
        db.put_text("text-index/config", '{"analyzer":"klingon","version":1}')
    with pytest.raises(ArgumentError, match="klingon"):
        TextIndex(path)
    with SynaDB(path) as db:
        db.put_text("text-index/config", "nonsense")
    with pytest.raises(synadb.CorruptionError):
        TextIndex(path)


def test_an_empty_index_takes_another_analyser(path):
    TextIndex(path, analyzer="standard").close()
    with TextIndex(path, analyzer="english") as index:
        assert index.terms("libraries") == ["librari"]
        with TextIndex(path, analyzer="standard") as other:
            assert other.terms("libraries") == ["libraries"]
            other.add("a", "b")
            with pytest.raises(ArgumentError):
                TextIndex(path, analyzer="english")


@pytest.mark.skipif(not importlib.util.find_spec("Stemmer"), reason="needs PyStemmer")
def test_other_languages(path):
    with TextIndex(path, analyzer="german") as index:
        index.add("a", "Die Häuser der Bücherei")
        assert found(index, "haus") == {"a"}
    with TextIndex(path) as again:
        assert again.analyzer == "snowball:german" and found(again, "Haus") == {"a"}


@pytest.mark.skipif(not importlib.util.find_spec("Stemmer"), reason="needs PyStemmer")
def test_english_stems_are_those_of_snowball(index):
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    words = set("".join(texts(200)).split())
    words |= {
        w + end for w in ("hop", "relat", "gener", "argu") for end in ("", "ing", "ed", "ional")
    }
    for word in words:
        assert index.terms(word) == [stemmer.stemWord(word)]


def test_a_language_without_its_package_is_named(path):
    if importlib.util.find_spec("Stemmer"):
        with pytest.raises(ArgumentError):
            TextIndex(path, analyzer="klingon")
    else:
        with pytest.raises(ImportError, match="PyStemmer"):
            TextIndex(path, analyzer="german")


# --------------------------------------------------------------------- closing, opening, files


def test_documents_survive_closing(path):
    with TextIndex(path) as index:
        index.add_batch([str(i) for i in range(3000)], texts(3000), [{"i": i} for i in range(3000)])
        index.delete("7")
        before = [pairs(hits) for hits in index.search_batch(list(texts(20, seed=9)), k=10)]
        keys, stats = index.keys(), index.stats()
    assert os.path.exists(f"{path}.text")
    for way in ("snapshot", "log", "damaged"):
        if way == "log":
            os.unlink(f"{path}.text")
        if way == "damaged":
            raw = (
                bytearray(open(f"{path}.text", "rb").read())
                if os.path.exists(f"{path}.text")
                else bytearray(9)
            )
            raw[len(raw) // 2] ^= 0xFF
            open(f"{path}.text", "wb").write(raw)
        with TextIndex(path) as index:
            assert index.keys() == keys, way
            assert [pairs(h) for h in index.search_batch(list(texts(20, seed=9)), k=10)] == before
            assert index.stats().postings == stats.postings
            assert found(index, WORDS[0], filter={"i": {"$lt": 5}}) <= {str(i) for i in range(5)}
            assert index.get("11").metadata == {"i": 11}


def test_changes_after_the_snapshot_are_followed(path):
    with TextIndex(path, sync_on_write=False) as index:
        index.add_batch([str(i) for i in range(2000)], texts(2000))
    for i in range(20):
        with TextIndex(path, sync_on_write=False) as index:
            index.add("new", f"fresh number{i}")
            index.delete(str(i))
            assert found(index, "fresh") == {"new"}
    with TextIndex(path) as index:
        assert found(index, "fresh") == found(index, "number19") == {"new"}
        assert found(index, "number18") == set() and len(index) == 1981


@pytest.mark.parametrize("compacted", [False, True])
def test_the_snapshot_of_an_emptied_index_goes_and_its_words_with_it(path, compacted):
    snapshot = Path(f"{path}.text")
    with TextIndex(path, sync_on_write=False) as index:
        index.add_batch([str(i) for i in range(1500)], [f"secretword{i}" for i in range(1500)])
    assert b"secretword77" in snapshot.read_bytes()
    with TextIndex(path, sync_on_write=False) as index:
        for i in range(1499):
            index.delete(str(i))
    assert snapshot.exists()  # one document is left
    with TextIndex(path, read_only=True) as reader:
        assert len(reader) == 1
    assert snapshot.exists()  # readers remove nothing
    with TextIndex(path, sync_on_write=False) as index:
        index.delete("1499")
        if compacted:
            index.compact()
        assert len(index) == 0 and index.search("secretword77") == []
    assert not snapshot.exists()
    with TextIndex(path, sync_on_write=False) as index:
        assert len(index) == 0
        index.add("new", "first words")
    with TextIndex(path) as index:
        assert index.keys() == ["new"] and found(index, "words") == {"new"}


def test_compaction(path):
    with TextIndex(path, sync_on_write=False) as index:
        for i in range(300):
            index.add(str(i % 30), f"version v{i}")
        size = index.stats().file_bytes
        index.delete("3")
        index.compact()
        assert index.stats().file_bytes < size / 3
        assert len(index) == 29 and found(index, "v299") == {"29"}
        index.add("x", "after version")
        assert found(index, "after") == {"x"}
    with TextIndex(path) as index:
        assert len(index) == 30 and found(index, "v298") == {"28"} and found(index, "v3") == set()


def test_a_reader_beside_the_writer(path, python):
    with TextIndex(path) as index:
        index.add("a", "first words")
        reader = TextIndex(path, read_only=True)
        assert found(reader, "first") == {"a"}
        index.add("b", "second words", {"n": 2})
        index.delete("a")
        assert reader.refresh() is True and reader.refresh() is False
        assert found(reader, "words") == {"b"} and found(reader, "second", filter={"n": 2}) == {"b"}
        index.compact()
        index.add("c", "third words")
        index.delete("b")
        assert reader.refresh() is True
        assert found(reader, "words") == {"c"} and reader.keys() == ["c"]
        with pytest.raises(synadb.ReadOnlyError):
            reader.add("d", "x")
        reader.close()


def test_short_documents_of_a_batch_share_records(path):
    keys, words = [f"k{i}" for i in range(400)], list(texts(400))
    with TextIndex(path) as index:
        index.add_batch(keys, words, [{"n": i} if i % 2 else None for i in range(400)])
        index.add("k7", "instead of the seventh")
        index.delete("k8")
        index.update("k9", metadata={"n": "nine"})
        index.add_batch(["long", *keys[20:40]], ["word " * 900] + ["anew"] * 20)
    with SynaDB(path) as db:
        assert len(list(db.scan("doc-pack/", keys_only=True))) < 40
        assert sorted(db.scan("doc/", keys_only=True)) == ["doc/k7", "doc/k8", "doc/k9", "doc/long"]
        first = db["doc-pack/0000000001"]
        assert first[:6] == ["k0", words[0], None, "k1", words[1], '{"n":1}']
        assert db["doc/k8"] is None
    with TextIndex(path) as index:
        order = [k for k in keys if k not in ("k7", "k8", "k9", *keys[20:40])]
        assert index.keys() == [*order, "k7", "k9", "long", *keys[20:40]]
        assert index.get("k7").text == "instead of the seventh" and index.get("k8") is None
        assert index.get("k9") == Document("k9", words[9], {"n": "nine"})
        assert index.get("k25") == Document("k25", "anew", None)
        assert {hit.text for hit in index.search("anew", k=None)} == {"anew"}
        before = index.keys()
        index.compact()
        assert index.keys() == before
    with SynaDB(path) as db:
        assert list(db.scan("doc/", keys_only=True)) == ["doc/long"]
        assert db.get_text("text-index/config").endswith('"packs":1}')
    with TextIndex(path) as index:
        assert index.keys() == before and index.get("k8") is None
        assert index.get("k9").metadata == {"n": "nine"}


def test_a_reader_follows_packs(path):
    keys = [f"k{i}" for i in range(100)]
    words = [f"number n{i} " + "common " * (i % 3) for i in range(100)]
    with TextIndex(path) as index, TextIndex(path, read_only=True) as reader:

        def same():
            reader.refresh()
            assert reader.keys() == index.keys()
            for key in keys:
                assert reader.get(key) == index.get(key)
            assert [(h.key, h.score, h.text) for h in reader.search("number common", k=None)] == [
                (h.key, h.score, h.text) for h in index.search("number common", k=None)
            ]

        index.add_batch(keys, words)
        same()
        index.add("k5", "number anew", {"n": 5})
        index.delete("k6")
        index.update_metadata("k7", {"n": 7})
        same()
        index.compact()
        same()
        index.add("k6", "common again")
        index.add_batch(keys[50:80], ["common number"] * 30)
        for key in keys[:40]:
            index.delete(key)
        same()
        index.compact()
        same()


def test_a_file_from_before_packs_gets_them(path):
    with SynaDB(path) as db:
        db["text-index/config"] = '{"analyzer":"english","version":1}'
        db["doc/a"] = {"text": "an old document"}
    with TextIndex(path) as index:
        index.add("b", "alone")
        assert found(index, "old") == {"a"}
        index.add_batch([f"k{i}" for i in range(10)], texts(10))
        index.delete("k3")
    with SynaDB(path) as db:
        assert json.loads(db["text-index/config"]) == {
            "analyzer": "english",
            "version": 1,
            "packs": 1,
        }
    with TextIndex(path) as index:
        assert len(index) == 11 and found(index, "old") == {"a"} and "k3" not in index


def test_what_is_written_again_comes_last_for_writer_and_reader(path):
    with TextIndex(path) as index, TextIndex(path, read_only=True) as reader:
        index.add_batch(["a", "b", "c"], ["same", "same", "same"], [{"n": 1}] * 3)
        reader.refresh()
        index.update_metadata("a", {"n": 1})
        index.add("b", "same", {"n": 1})
        reader.refresh()
        assert index.keys() == reader.keys() == ["c", "a", "b"]
    with TextIndex(path) as index:
        assert index.keys() == ["c", "a", "b"]
        rest = [str(i) for i in range(2000)]
        index.add_batch(rest, ["other"] * 2000)
    with TextIndex(path) as index:  # after the snapshot, and too little for another
        index.add("c", "same", {"n": 1})
        assert index.keys() == ["a", "b", *rest, "c"]
    with TextIndex(path) as index:
        assert index.keys() == ["a", "b", *rest, "c"]


def test_a_reader_of_an_empty_file_takes_the_analyser_of_its_first_document(path):
    with TextIndex(path, analyzer="standard") as index, TextIndex(path, read_only=True) as reader:
        assert reader.analyzer == "english"
        index.add("a", "the libraries")
        assert reader.refresh() and reader.analyzer == "standard"
        assert found(reader, "the") == found(reader, "libraries") == {"a"}


def test_a_missing_file_is_not_created_by_a_reader(path):
    with pytest.raises(synadb.SynaError):
        TextIndex(path, read_only=True)
    assert not os.path.exists(path)


def test_it_is_an_ordinary_log(path):
    with TextIndex(path) as index:
        index.add("a", "some text", {"n": 1})
    with SynaDB(path) as db:
        assert db["doc/a"] == {"text": "some text", "metadata": '{"n":1}'}
        db["doc/b"] = "no document"
        db["doc/c"] = {"text": "ours in all but name"}
    assert synadb.verify(path).ok
    with TextIndex(path) as index:
        assert index.keys() == ["a", "c"] and index.get("b") is None
        assert found(index, "name") == {"c"}


def test_use_after_close(path):
    index = TextIndex(path)
    index.close()
    index.close()
    assert "closed" in repr(index)
    for call in (lambda: index.add("a", "b"), lambda: index.search("a"), lambda: len(index)):
        with pytest.raises(ClosedError):
            call()


def test_two_objects_over_one_index(path):
    with TextIndex(path) as one, TextIndex(path) as two:
        one.add("a", "word")
        assert found(two, "word") == {"a"}
    assert "documents" not in repr(one)


# ----------------------------------------------------------------------------------- the model


class Model(RuleBasedStateMachine):
    """Any sequence of changes, against a dict and BM25 in plain Python."""

    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "model.db")
        self.index = TextIndex(self.path, analyzer="standard", sync_on_write=False)
        self.plain = Plain(self.index)

    def teardown(self):
        self.index.close()
        self.folder.cleanup()

    @rule(target=keys, key=st.sampled_from("abcdefgh"))
    def a_key(self, key):
        return key

    words = st.lists(st.sampled_from(WORDS[:12]), max_size=6).map(" ".join)

    @rule(key=keys, text=words, n=st.none() | st.integers(0, 3))
    def add(self, key, text, n):
        metadata = None if n is None else {"n": n}
        self.index.add(key, text, metadata)
        self.plain.add(key, text, metadata)

    @rule(keys=st.lists(keys, max_size=4), text=words)
    def add_many(self, keys, text):
        self.index.add_batch(keys, [text] * len(keys))
        for key in keys:
            self.plain.add(key, text)

    @rule(key=keys, n=st.integers(0, 3))
    def metadata(self, key, n):
        if key not in self.plain.docs:
            with pytest.raises(KeyNotFoundError):
                self.index.update(key, metadata={"n": n})
            return
        self.index.update(key, metadata={"n": n})
        terms, _ = self.plain.docs.pop(key)
        self.plain.docs[key] = (terms, {"n": n})

    @rule(key=keys)
    def delete(self, key):
        assert self.index.delete(key) == self.plain.delete(key)

    @rule()
    def reopen(self):
        self.index.close()
        self.index = self.plain.index = TextIndex(self.path, sync_on_write=False)

    @rule()
    def compact(self):
        self.index.compact()

    @rule(query=words, k=st.integers(1, 5))
    def search(self, query, k):
        if self.index.analyzer == "standard" or self.plain.docs:
            same(pairs(self.index.search(query, k)), self.plain.scores(query)[:k])

    @rule(query=words, n=st.integers(0, 3))
    def filtered(self, query, n):
        want = {key for key, _ in self.plain.scores(query)}
        want &= {key for key, (_, m) in self.plain.docs.items() if m and m["n"] == n}
        assert found(self.index, query, filter={"n": n}) == want

    @invariant()
    def holds_the_same(self):
        assert self.index.keys() == list(self.plain.docs)


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


MANY = 1_020  # documents, so that closing writes a snapshot


@functools.lru_cache(None)
def many_documents():
    """A folder with an index of MANY documents and its snapshot."""
    folder = tempfile.TemporaryDirectory()
    with TextIndex(
        os.path.join(folder.name, "model.db"), analyzer="standard", sync_on_write=False
    ) as index:
        index.add_batch([f"d{n}" for n in range(MANY)], texts(MANY, length=8))
    assert os.path.exists(os.path.join(folder.name, "model.db.text"))
    return folder


class ModelOverSnapshot(Model):
    """The same, beginning with documents that came with a snapshot."""

    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.index.close()
        shutil.copytree(many_documents().name, self.folder.name, dirs_exist_ok=True)
        self.index = self.plain.index = TextIndex(self.path, sync_on_write=False)
        for n, text in enumerate(texts(MANY, length=8)):
            self.plain.add(f"d{n}", text)

    @rule(target=keys, key=st.integers(0, 40).map(lambda n: f"d{n * 25}"))
    def one_of_many(self, key):
        return key


TestModelOverSnapshot = ModelOverSnapshot.TestCase
TestModelOverSnapshot.settings = settings(
    max_examples=8,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_what_came_with_a_snapshot_is_taken_back_whole(path):
    """Terms of such rows are found in the postings: for few of them one by one, then for all."""
    words = list(texts(MANY, seed=3))
    with TextIndex(path, sync_on_write=False) as index:
        index.add_batch([str(n) for n in range(MANY)], words)
    with TextIndex(path, sync_on_write=False) as index:
        plain = Plain(index)
        for n, text in enumerate(words):
            plain.add(str(n), text)
        for n in range(0, MANY, 51):
            if n % 2:
                assert index.delete(str(n)) and plain.delete(str(n))
            else:
                index.add(str(n), words[n - 1])
                plain.add(str(n), words[n - 1])
            assert index.stats().postings == sum(len(set(t)) for t, _ in plain.docs.values())
        for word in WORDS[:60]:
            terms = index.terms(word)
            have = [t for t, _ in plain.docs.values() if terms and terms[0] in t]
            assert index.document_frequency(terms[0] if terms else word) == len(have)
        for query in ("{} {} {}".format(*WORDS[n : n + 3]) for n in range(0, 30, 3)):
            same(pairs(index.search(query, 20)), plain.scores(query)[:20])
