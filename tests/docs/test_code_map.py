"""csrc/README.md names files and functions; every one of them must exist where it says, and each
numbered step of a "Follow one ..." list must be named by a step before it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "csrc" / "README.md"

_PLACE = re.compile(r"`([\w/]+\.(?:c|h|py|pyx)):(\w+)`")
_FILE = re.compile(r"`((?:[\w]+/)*[\w]+\.(?:c|h|py|pyx|md))`")


def resolve(name: str) -> Path:
    """A path on the page: below csrc/, or from the top of the tree."""
    inside = ROOT / "csrc" / name
    return inside if inside.exists() else ROOT / name


def places(text: str) -> list[tuple[str, str]]:
    return _PLACE.findall(text)


def chains() -> dict[str, list[tuple[str, str]]]:
    """The first place named in each numbered step, by section."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        steps = re.findall(r"^\d+\. .*(?:\n   .*)*", body, re.MULTILINE)
        if title.startswith("Follow"):
            found[title] = [places(step)[0] for step in steps]
    return found


def definition(name: str, function: str) -> re.Match[str] | None:
    """Where `function` is defined in the file, as opposed to called or declared."""
    text = resolve(name).read_text(encoding="utf-8")
    if name.endswith((".py", ".pyx")):
        return re.search(rf"^ *(?:cp?def\s.*?\b|def )({function})\(", text, re.MULTILINE)
    return re.search(rf"^[a-z][\w \t*()]*?\b({function})\([^;{{}}]*\)\s*\{{", text, re.MULTILINE)


def mentions(name: str, function: str) -> bool:
    """Whether the file names the function anywhere but where it is defined."""
    own = definition(name, function)
    text = resolve(name).read_text(encoding="utf-8")
    named = [match.start() for match in re.finditer(rf"\b{function}\b", text)]
    return any(not own or at != own.start(1) for at in named)


@pytest.mark.parametrize(
    "place", sorted(set(places(PAGE.read_text(encoding="utf-8")))), ids=":".join
)
def test_every_function_named_is_defined_in_the_file_named(place):
    name, function = place
    assert resolve(name).is_file(), f"{name} does not exist"
    assert definition(name, function), f"{function} is not defined in {name}"


@pytest.mark.parametrize("name", sorted(set(_FILE.findall(PAGE.read_text(encoding="utf-8")))))
def test_every_file_named_exists(name):
    if "/" in name:
        assert resolve(name).is_file(), f"{name} does not exist"
    else:  # a bare name stands for a header or source somewhere in the core
        assert list(ROOT.glob(f"csrc/**/{name}")), f"{name} is nowhere below csrc/"


@pytest.mark.parametrize("title", sorted(chains()))
def test_each_step_is_called_from_a_step_before_it(title):
    steps = chains()[title]
    assert len(steps) >= 4
    for at, (_, target) in enumerate(steps[1:], 1):
        callers = [name for name, _ in steps[:at] if mentions(name, target)]
        assert callers, f"{title}: no step before {target} names it"


def test_the_map_has_a_put_and_a_search():
    assert {"Follow one put", "Follow one search"} <= set(chains())


def test_a_function_that_is_only_called_does_not_count_as_defined():
    assert definition("engine/db_write.c", "db_commit") is None
    assert definition("engine/db_write.c", "db_put") is not None
