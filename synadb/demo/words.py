"""From text to terms: words and identifiers split, lower-cased, and cut to a stem.

Light on purpose: plurals and the commonest English endings, so that "compressed", "compressing" and
"compression" meet, without a dictionary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Callable

_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")
#: readAllLines -> read All Lines, HTTPServer -> HTTP Server, utf8 -> utf 8
_PARTS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

_STOP_WORDS = frozenset(
    """a about above after again all also an and any are arg args as at be because been before
    being below between both but by can cannot could default did do does doing each either else
    etc false for from further given has have having he her here how i if in instead into is it
    its itself just kwargs let like may me might more most must my need no none nor not now of off
    on once one only or other our out over own return same self shall she should so some such than
    that the their them then there these they this those through to too true under until up use
    used user using very via want was way we were what when where whether which while who whom why
    will with within without would you your""".split()
)
_VOWELS = frozenset("aeiouy")


def terms(text: str) -> list[str]:
    """The stems of the words of `text`, in order; stop words are left out.

    Examples
    --------
    >>> from synadb.demo.words import terms
    >>> terms("How do I read the compressed files of a ZipFile?")
    ['read', 'compress', 'fil', 'zipfil', 'zip', 'fil']
    """
    found = []
    for token in _TOKEN.findall(text):
        found.extend(_token_terms(token))
    return found


@lru_cache(maxsize=1 << 16)
def _token_terms(token: str) -> list[str]:
    """The token as a whole and, if it is an identifier of several words, each of them."""
    parts = [part.lower() for part in _PARTS.findall(token)]
    whole = token.lower().replace("_", "")
    words = [whole] if len(parts) == 1 else [whole, *parts]
    return [stem(word) for word in words if len(word) > 1 and word not in _STOP_WORDS]


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Cut plural and verb endings, and the endings of nouns made from verbs.

    Examples
    --------
    >>> from synadb.demo.words import stem
    >>> [stem(word) for word in ("archives", "parsing", "parser", "connection", "copied", "class")]
    ['archiv', 'pars', 'pars', 'connect', 'copi', 'class']
    """
    word = _singular(word)
    for ending in ("ation", "ing", "ion", "ed", "er", "or"):
        root = word[: -len(ending)]
        if not word.endswith(ending) or len(root) < 3 or not _VOWELS.intersection(root):
            continue
        if ending == "ion" and root[-1] not in "st":
            continue
        doubled = root[-1] == root[-2] and root[-1] not in "lsz"
        word = root[:-1] if doubled else root
        break
    if len(word) > 3 and word.endswith("e"):
        word = word[:-1]
    if len(word) > 2 and word.endswith("y"):
        word = word[:-1] + "i"
    return word


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def plain_words(text: str) -> list[str]:
    """The words of `text` in small letters, as they are."""
    return [part.lower() for part in _PARTS.findall(text)]


def compound_parts(word: str, is_word: Callable[[str], bool]) -> list[str]:
    """The two words that a name like ``zipfile`` is made of, or nothing.

    `is_word` knows the words of the texts. The longest first part wins.

    Examples
    --------
    >>> from synadb.demo.words import compound_parts
    >>> compound_parts("zipfile", {"zip", "file"}.__contains__)
    ['zip', 'file']
    """
    for cut in range(len(word) - 3, 2, -1):
        if is_word(word[:cut]) and is_word(word[cut:]):
            return [word[:cut], word[cut:]]
    return []


def weighted(parts: Iterable[tuple[str, float]]) -> dict[str, float]:
    """How often each term occurs in texts that count as much as their weights say."""
    counts: dict[str, float] = {}
    for text, weight in parts:
        for term in terms(text):
            counts[term] = counts.get(term, 0.0) + weight
    return counts


__all__ = ["compound_parts", "plain_words", "stem", "terms", "weighted"]
