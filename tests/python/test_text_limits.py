"""TextIndex at the ends of its ranges: huge documents, words and queries, every kind of character,
documents that all go again, and a reader beside a writer that is killed."""

import random
import signal

import numpy as np
import pytest

from synadb import ArgumentError, TextIndex
from synadb.text import Document

WORDS_MAX = 1 << 20


@pytest.fixture
def index(path):
    with TextIndex(path, analyzer="standard", sync_on_write=False) as index:
        yield index


def keys(hits):
    return [hit.key for hit in hits]


# ------------------------------------------------------------------------------------- sizes


def test_ten_megabytes_of_text(path):
    text = "a sentence of several words " * 350_000 + "and the needle"
    short = text[: 28 * (WORDS_MAX // 5)]
    with TextIndex(path, sync_on_write=False) as index:
        index.add("small", "needle")
        with pytest.raises(ArgumentError, match="big has more than 1048576 words"):
            index.add("big", text)
        assert index.keys() == ["small"]
        long = "sentences" * 9 + " "
        text = long * 120_000 + "with sharp needles in it"
        assert len(text) > 9_800_000
        index.add("big", text, {"n": 1})
        index.add("most words", short)
    with TextIndex(path) as index:
        assert index.get("big") == Document("big", text, {"n": 1})
        assert len(index.get("most words").text) == len(short)
        assert keys(index.search('"sharp needle"')) == ["big"]
        assert keys(index.search("needle")) == ["small", "big"]
        (_, hit) = index.search("needle", snippets=True)
        assert hit.snippet.endswith("with sharp <b>needles</b> in it") and len(hit.snippet) < 300
        assert index.delete("big") and keys(index.search("needle")) == ["small"]


def test_a_word_of_a_megabyte(index):
    word = "x" * (1 << 20)
    index.add("one", word + " tail")
    (kept,) = set(index.terms(word))
    assert len(kept) == 120 and index.document_frequency(kept) == 1
    assert keys(index.search(word)) == keys(index.search(word + "*")) == ["one"]
    assert keys(index.search(f'"{word} tail"')) == ["one"]
    assert index.search("y" * (1 << 20)) == []
    assert index.highlight(word, word, before="[", after="]") == f"[{word}]"
    index.add("cjk", "東京都" * 300_000)
    assert keys(index.search("京都")) == ["cjk"]


def test_queries_of_many_words(index):
    index.add_batch([str(i) for i in range(500)], [f"word{i} word{i + 1}" for i in range(500)])
    every = " ".join(f"word{i}" for i in range(200_000))
    assert len(index.search(every, k=None)) == 500
    assert keys(index.search("+word7 " * 5000)) == ["6", "7"]
    assert index.search('"word7 word8" "word8 word9" ' * 100) == []
    assert keys(index.search('"word7 word8" ' * 1000)) == ["7"]


# ------------------------------------------------------------------------------ many prefixes


def letters(count, seed):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("abcde"), rng.integers(2, 6))) for _ in range(count)]


def starred(prefixes):
    return " ".join(prefix + "*" for prefix in prefixes)


def test_many_prefixes_count_as_the_words_that_begin_so(index):
    """More than 64 are looked up in another way than few."""
    words = letters(400, seed=1)
    rng = np.random.default_rng(2)
    texts = {str(i): list(rng.choice(words, 6)) for i in range(300)}
    index.add_batch(texts, [" ".join(text) for text in texts.values()])
    for key in list(texts)[::3]:
        index.delete(key)
        del texts[key]
    used = sorted({word for text in texts.values() for word in text})
    for count in (3, 64, 65, 200):
        prefixes = [p[: 1 + i % 4] for i, p in enumerate(letters(count, seed=count))]
        spelt = " ".join(w for p in prefixes for w in used if w.startswith(p))
        found, same = index.search(starred(prefixes), None), index.search(spelt, None)
        assert found and keys(found) == keys(same)
        assert [h.score for h in found] == pytest.approx([h.score for h in same])
        signed = index.search(f"{starred(prefixes)} -ab* +c*", None)
        have = {
            key
            for key, text in texts.items()
            if not any(w.startswith("ab") for w in text) and any(w[0] == "c" for w in text)
        }
        assert set(keys(signed)) == have & set(keys(found)) | have
    few, many = "c* " * 5, "c* " * 5 + "zz* " * 100
    assert index.search(few, None) == index.search(many, None)
    assert index.search("zz* " * 100) == []


def test_the_work_for_prefixes_depends_on_the_index_and_not_on_the_query(index):
    index.add_batch([str(i) for i in range(2000)], [f"word{i}" for i in range(2000)])
    plan = index.explain("w* " * 20_000)  # forty million terms, were they listed one by one
    assert plan.terms == plan.postings == 2000
    assert len(index.search("w* " * 20_000, None)) == 2000


# --------------------------------------------------------------------------------- characters


def test_characters_of_every_kind(index):
    told = {
        "nul": "aaa\x00bbb zzz",
        "arabic": "مَكْتَبَةٌ عامة",
        "hebrew": "\u202eשלום עולם\u202c",  # noqa: RUF001
        "family": "👩‍👩‍👧 party 🎉",
        "joined": "cafe\u0301 na\u00efve",
        "planes": "\U00010400\U00010401 \U00020000\U00020001",
        "control": "\x01tab\tline\nfeed\x7fend",
        "bom": "\ufefffirst",
    }
    index.add_batch(told, told.values())
    for key, text in told.items():
        assert index.get(key) == Document(key, text)
    for query, key in {
        "bbb": "nul",
        "aaa\x00bbb": "nul",
        "مكتبة": "arabic",
        "שלום": "hebrew",
        "PARTY": "family",
        "café": "joined",
        "naive": "joined",
        "\U00010428\U00010429": "planes",  # small letters of them
        "\U00020000\U00020001": "planes",
        "feed": "control",
        "first": "bom",
    }.items():
        assert keys(index.search(query)) == [key], query
        marked = index.highlight(query, told[key], before="", after="")
        assert marked == told[key]
    assert index.highlight("party", told["family"]) == "👩‍👩‍👧 <b>party</b> 🎉"
    assert index.search("🎉") == []  # no word


@pytest.mark.parametrize("call", ["add", "search", "highlight", "terms", "update", "snippet"])
def test_half_a_surrogate_pair_is_refused(index, call):
    index.add("a", "text")
    arguments = {
        "add": ("b", "\ud800"),
        "search": ("\udc00",),
        "highlight": ("\ud800", "text"),
        "terms": ("\ud800",),
        "update": ("a", "x\udfff"),
        "snippet": ("text", "\ud800"),
    }[call]
    with pytest.raises(ArgumentError, match="UTF-8"):
        getattr(index, call)(*arguments)
    assert index.get("a") == Document("a", "text") and len(index) == 1


def test_metadata_nested_without_end_are_refused(index):
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for call in (lambda: index.add("b", "t", deep), lambda: index.search("t", filter=deep)):
        with pytest.raises(ArgumentError):
            call()
    assert len(index) == 0
    while deep:  # from the outside in: freeing it at once would need as deep a stack
        deep = deep["a"]


# ------------------------------------------------------------------------- all of them go again


def test_nothing_is_left_of_documents_that_are_all_deleted(path):
    count = 30_000
    names = [f"d{i}" for i in range(count)]
    with TextIndex(path, sync_on_write=False) as index:
        index.add_batch(
            names, [f"word{i % 100} common number{i}" for i in range(count)], [{"i": 1}] * count
        )
        assert len(index.search("common", k=None, texts=False)) == count
        order = random.Random(1).sample(names, count)
        assert all(index.delete(name) for name in order)
        assert not any(index.delete(name) for name in order[:10])
        stats = index.stats()
        assert (len(index), index.keys(), stats.documents, stats.postings) == (0, [], 0, 0)
        assert stats.average_length == 0 and stats.dead_rows < count / 10
        for query in ("common", "word1", "num*", '"common number7"'):
            assert index.search(query) == [] == index.search(query, filter={"i": 1})
        assert index.document_frequency("common") == 0
        index.compact()
        assert index.stats().file_bytes < 1000
        index.add("again", "common words")
        assert keys(index.search("common")) == ["again"]
    with TextIndex(path) as index:
        assert keys(index.search("common")) == ["again"] and index.stats().terms < 5


# --------------------------------------------------------------------------------- processes


def test_a_reader_beside_a_writer_that_is_killed(path, python):
    """Whatever the reader sees is whole, and what was acknowledged is there for the next writer."""
    with TextIndex(path, analyzer="standard", sync_on_write=False) as index:
        index.add_batch([f"d{i}" for i in range(1200)], ["round0 steady"] * 1200)
    with TextIndex(path, read_only=True) as reader:
        for turn in range(1, 4):
            done = python(
                """
                import os, signal, sys
                from synadb import TextIndex
                turn = int(sys.argv[2])
                index = TextIndex(sys.argv[1], sync_on_write=False)
                for batch in range(20):
                    names = [f"d{i}" for i in range(batch * 60, batch * 60 + 60)]
                    index.add_batch(names, [f"round{turn} steady"] * 60)
                    if turn == 2 and batch == 10:
                        index.compact()
                    print(batch, flush=True)
                    if batch == 7 * turn - 2:
                        os.kill(os.getpid(), signal.SIGKILL)
                """,
                path,
                turn,
                check=False,
            )
            assert done.returncode == -signal.SIGKILL
            acknowledged = 60 * (int(done.stdout.split()[-1]) + 1)
            assert reader.refresh()
            now = reader.search(f"round{turn}", k=None)
            assert sorted(keys(now)) == sorted(f"d{i}" for i in range(acknowledged))
            assert {hit.text for hit in now} == {f"round{turn} steady"}
            assert len(reader.search("steady", k=None)) == len(reader) == 1200
            assert not reader.refresh()
    with TextIndex(path) as index:
        assert len(index) == 1200 and len(index.search("round3", k=None)) == 1200
