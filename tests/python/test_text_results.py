"""TextIndex: what a result is, and the marking of what matched."""

import copy
import dataclasses
import gc
import pickle
import weakref

import pytest

from synadb import ArgumentError, TextIndex
from synadb.text import TextResult


@pytest.fixture
def index(path):
    with TextIndex(path, sync_on_write=False) as index:
        yield index


def test_results_are_the_dataclass_that_is_documented(index):
    index.add("k", "some words", {"n": [1]})
    (hit,) = index.search("words")
    made = TextResult("k", hit.score, "some words", {"n": [1]}, None)
    assert dataclasses.asdict(hit) == dataclasses.asdict(made)
    assert repr(hit) == repr(made) and hash(hit) == hash(made) and type(hit) is TextResult
    for one in (pickle.loads(pickle.dumps(hit)), copy.copy(hit), copy.deepcopy(hit)):
        assert one == hit == made and dataclasses.asdict(one) == dataclasses.asdict(made)
    assert dataclasses.replace(hit, text="x").text == "x"
    for name in ("score", "snippet", "more"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(hit, name, 1)
    (bare,) = index.search("words", texts=False, snippets=True)
    assert (bare.text, bare.snippet, bare.metadata) == (None, "some <b>words</b>", {"n": [1]})


def test_results_are_freed(index):
    """Those that the collector sees, in a circle, and those that it does not."""
    index.add("whole", "some words", {"n": 1})
    index.add("part", "some other words")
    whole, part = index.search("words")
    assert part.metadata is None and gc.is_tracked(whole) and not gc.is_tracked(part)
    whole.metadata["itself"] = whole
    looks = [weakref.ref(whole), weakref.ref(part)]
    del whole, part
    gc.collect()
    assert looks[0]() is None and looks[1]() is None


def test_results_compare_by_key_and_score():
    assert TextResult("a", 1.0, text="x") == TextResult("a", 1.0, text="y")


# -------------------------------------------------------------------------------- highlighting


def test_highlights(index):
    mark = {"before": "[", "after": "]"}
    assert (
        index.highlight("library", "The LIBRARIES of Babel", **mark) == "The [LIBRARIES] of Babel"
    )
    assert index.highlight("été", "l'an, l'Été", **mark) == "l'an, l'Été"  # one word: l'Été
    assert index.highlight("ete", "un Été €", **mark) == "un [Été] €"
    assert index.highlight("bab* -the", "The Babel", **mark) == "The [Babel]"
    assert index.highlight("x", "", **mark) == ""
    assert index.highlight("東京都", "在東京都市", **mark) == "在[東京都]市"


def test_snippets(index):
    text = "word " * 100 + "ein Löwe und ein Löwe " + "wort " * 100
    snippet = index.snippet("löwe", text, length=60)
    assert snippet.count("<b>Löwe</b>") == 2
    assert snippet.startswith("... ") and snippet.endswith(" ...")
    assert len(snippet) < 60 + 40
    assert index.snippet("nothing", "short text") == "short text"
    for length in (1, 2, 3, 5, 8, 13, 1000):
        for text in ("€" * 50, "löwe" * 30, "a " * 40, "löwe " * 30):
            index.snippet("löwe", text, length=length).encode()  # no half characters


def test_snippets_count_characters(index):
    text = "земля " * 50 + "море " + "земля " * 50
    snippet = index.snippet("море", text, length=40, before="[", after="]")
    assert "[море]" in snippet and 30 <= len(snippet) <= 40 + len("... [] ...")
    assert index.snippet("море", "море" * 3, length=12) == "море" * 3
    assert index.snippet("b", "a\nb\tc", length=1) == "... <b>b</b> ..."  # any space ends a word
    assert index.snippet("🙂 b", "🙂🙂 b 🙂", length=6) == "🙂🙂 <b>b</b> 🙂"
    assert index.snippet("🙂 b", "🙂🙂 b 🙂", length=5) == "... <b>b</b> 🙂"  # no half words


@pytest.mark.parametrize("length", [0, -1, -(2**70)])
def test_a_snippet_of_no_characters_is_refused(index, length):
    with pytest.raises(ArgumentError, match="expected at least 1"):
        index.snippet("house", "a house", length=length)


@pytest.mark.parametrize("length", [None, 1.5, "5"])
def test_the_length_of_a_snippet_is_an_int(index, length):
    with pytest.raises(TypeError):
        index.snippet("house", "a house", length=length)


def test_texts_to_be_marked_are_str(index):
    for wrong in (None, 5, b"house"):
        with pytest.raises(TypeError):
            index.highlight("house", wrong)
        with pytest.raises(TypeError):
            index.snippet("house", wrong)
