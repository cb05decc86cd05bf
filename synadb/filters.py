"""Metadata and filters as the core takes them: JSON text.

Metadata is any JSON-like mapping of a row. A filter is a mapping too, see `VectorStore.search` for
what it says; the same language serves every component that keeps metadata.
"""

from __future__ import annotations

import datetime as _dt
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from synadb._arrays import refused


def _plain(value: Any) -> Any:
    """What `json` does not know by itself, as something that it does."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        _check_names(value)
        return dict(value)
    if isinstance(value, (_dt.datetime, _dt.date, _dt.time)):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def _check_names(value: Any) -> None:
    """Names of fields are texts; `json` would turn other ones into texts without a word."""
    if isinstance(value, Mapping):
        for name, field in value.items():
            if not isinstance(name, str):
                raise TypeError(
                    f"the name of a field is a str, not {type(name).__name__}: {name!r}"
                )
            if isinstance(field, (Mapping, list, tuple)):
                _check_names(field)
    else:
        for item in value:
            if isinstance(item, (Mapping, list, tuple)):
                _check_names(item)


def _text(what: str, value: Any) -> str:
    if not isinstance(value, Mapping):
        raise TypeError(f"{what} is a dict, not {type(value).__name__}")
    try:
        _check_names(value)
        text = json.dumps(
            value if isinstance(value, dict) else dict(value),
            allow_nan=False,
            ensure_ascii=False,
            separators=(",", ":"),
            default=_plain,
        )
        if not text.isascii():
            text.encode()  # a lone surrogate is refused here, and nowhere behind
        return text
    except (ValueError, RecursionError) as error:
        raise refused(f"{what}: {error}") from None


def filter_text(filter: Mapping[str, Any] | None) -> str | None:
    """A filter as JSON text; None stays None.

    Raises
    ------
    TypeError
        Not a mapping, or something in it is no JSON value.
    ValueError
        NaN, infinity, a text that UTF-8 cannot hold, or a mapping that contains itself.

    Examples
    --------
    >>> filter_text({"year": {"$gte": 2020}})
    '{"year":{"$gte":2020}}'
    """
    return None if filter is None else _text("filter", filter)


def metadata_text(metadata: Mapping[str, Any] | None) -> str | None:
    """A row's metadata as JSON text; None stays None.

    Tuples and arrays become lists, NumPy's scalars Python's, dates and times ISO 8601 texts (which
    sort as they do while they have one time zone).

    Raises
    ------
    TypeError
        Not a mapping, or something in it is no JSON value.
    ValueError
        NaN, infinity, a text that UTF-8 cannot hold, or a mapping that contains itself.

    Examples
    --------
    >>> metadata_text({"lang": "en", "tags": ("a", "b")})
    '{"lang":"en","tags":["a","b"]}'
    """
    return None if metadata is None else _text("metadata", metadata)


def metadata_texts(
    metadata: Iterable[Mapping[str, Any] | None] | None, count: int
) -> list[str | None] | None:
    """The metadata of `count` rows; None when no row has any.

    Raises
    ------
    ValueError
        Not one for each row; otherwise as `metadata_text`, naming the row.
    """
    if metadata is None:
        return None
    if isinstance(metadata, (Mapping, str, bytes)):
        raise TypeError(f"metadata is a list of dicts, not one {type(metadata).__name__}")
    texts: list[str | None] = []
    for row, value in enumerate(metadata):
        texts.append(None if value is None else _text(f"metadata of row {row}", value))
    if len(texts) != count:
        raise refused(f"metadata for {len(texts)} rows, expected {count}")
    return texts if any(text is not None for text in texts) else None


def metadata_of(text: str | None) -> dict[str, Any] | None:
    """Metadata from the core's text; None stays None."""
    if text is None:
        return None
    value: dict[str, Any] = json.loads(text)
    return value


__all__ = ["filter_text", "metadata_of", "metadata_text", "metadata_texts"]
