"""Values as JSON and as text, and back, without loss.

What JSON has a type for is written as itself: null, booleans, integers of any size, finite floats
(with a point or an exponent, so that 2.0 stays a float), texts, lists, and dicts whose keys are
texts. Everything else is an object with one member whose name begins with ``$``:

=================================  ================================================================
``{"$float": "nan"}``              NaN, "inf", "-inf"; NaN of other bits: ``"nan:7ff8000000000001"``
``{"$bytes": "00ff"}``             hexadecimal digits; ``$blob`` for a streamed value
``{"$vector": [0.5, 1.0]}``        a stored vector of float32
``{"$tuple": [...]}``              also ``$set``, ``$frozenset``
``{"$dict": [[key, value], ...]}``  a dict with other keys, or one that could be taken for a tag
``{"$datetime": "2024-..."}``      ISO 8601, without a zone or in UTC; also ``$date``
``{"$decimal": "1.10"}``           also ``$uuid``
``{"$packed": "01..."}``           any other value as its stored bytes (numpy arrays, zones, ...)
=================================  ================================================================
"""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import struct
import uuid
from typing import Any, Callable

import numpy as np

from synadb._core.arrow import pack, unpack
from synadb.errors import CorruptionError

# json and int() refuse longer decimals (sys.set_int_max_str_digits), at 4300 digits or more.
_INT_BITS = 2048
_CANONICAL_NAN = 0x7FF8000000000000

_encode_plain = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")
).encode
_encode_ascii = json.JSONEncoder(
    ensure_ascii=True, check_circular=False, allow_nan=False, separators=(",", ":")
).encode


def float_text(value: float) -> str:
    """The shortest text that gives the same float, bit for bit."""
    if value == value:
        return repr(value)
    bits: int = struct.unpack("<Q", struct.pack("<d", value))[0]
    return "nan" if bits == _CANONICAL_NAN else f"nan:{bits:016x}"


def float_of(text: str) -> float:
    """The float of `float_text`, and of everything else that `float` takes."""
    if text.startswith("nan:"):
        value: float = struct.unpack("<d", struct.pack("<Q", int(text[4:], 16)))[0]
        if value == value:
            raise ValueError(f"{text!r} is no NaN")
        return value
    return float(text)


def float_json(value: float) -> Any:
    """A float in JSON's types."""
    return value if math.isfinite(value) else {"$float": float_text(value)}


def to_json(value: Any) -> Any:
    """A Python value in JSON's types: see the module's table."""
    try:
        return _to_json(value)
    except RecursionError:
        return {"$packed": pack(value).hex()}


def _to_json(value: Any) -> Any:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is float:
        return float_json(value)
    encode = _ENCODE.get(kind)
    return encode(value) if encode else {"$packed": pack(value).hex()}


def _int_json(value: int) -> Any:
    return value if value.bit_length() <= _INT_BITS else {"$packed": pack(value).hex()}


def _dict_json(value: dict[Any, Any]) -> Any:
    plain = all(type(key) is str for key in value)
    if plain and not next(iter(value), "").startswith("$"):
        return {key: _to_json(item) for key, item in value.items()}
    return {"$dict": [[_to_json(key), _to_json(item)] for key, item in value.items()]}


def _datetime_json(value: dt.datetime) -> Any:
    if value.fold == 0 and (value.tzinfo is None or value.tzinfo is dt.timezone.utc):
        return {"$datetime": value.isoformat()}
    return {"$packed": pack(value).hex()}


_ENCODE: dict[type, Callable[[Any], Any]] = {
    int: _int_json,
    list: lambda value: [_to_json(item) for item in value],
    dict: _dict_json,
    tuple: lambda value: {"$tuple": [_to_json(item) for item in value]},
    set: lambda value: {"$set": [_to_json(item) for item in value]},
    frozenset: lambda value: {"$frozenset": [_to_json(item) for item in value]},
    bytes: lambda value: {"$bytes": value.hex()},
    dt.datetime: _datetime_json,
    dt.date: lambda value: {"$date": value.isoformat()},
    decimal.Decimal: lambda value: {"$decimal": str(value)},
    uuid.UUID: lambda value: {"$uuid": str(value)},
}


def vector_json(value: Any) -> Any:
    """A stored vector as a list of the floats that its float32 are."""
    return value.tolist()


def from_json(value: Any) -> Any:
    """The Python value of what `to_json` made; of other JSON, the value as it is."""
    kind = type(value)
    if kind is list:
        return [from_json(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        name, content = next(iter(value.items()))
        if name.startswith("$"):
            return _tagged(name, content)
    return {key: from_json(item) for key, item in value.items()}


def _tagged(name: str, content: Any) -> Any:
    decode = _DECODE.get(name)
    if decode is None:
        raise CorruptionError(-4, f"unknown tag {name!r}; expected one of {', '.join(_DECODE)}")
    try:
        return decode(content)
    except CorruptionError:
        raise
    except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
        raise CorruptionError(-4, f"{name}: {error}") from None


def _items(content: Any) -> list[Any]:
    if type(content) is not list:
        raise TypeError(f"holds a {type(content).__name__}, expected a list")
    return [from_json(item) for item in content]


def vector_of(content: Any) -> Any:
    """The float32 array of a list of numbers."""
    if type(content) is not list:
        raise TypeError(f"holds a {type(content).__name__}, expected a list")
    return np.array(content, dtype=np.float32)


def text_float(content: Any) -> float:
    """A float that was written as itself, as text or as a tag."""
    if type(content) is dict:
        content = content.get("$float")
    return float_of(content) if type(content) is str else content


_DECODE: dict[str, Callable[[Any], Any]] = {
    "$float": float_of,
    "$bytes": bytes.fromhex,
    "$blob": bytes.fromhex,
    "$vector": vector_of,
    "$tuple": lambda content: tuple(_items(content)),
    "$set": lambda content: set(_items(content)),
    "$frozenset": lambda content: frozenset(_items(content)),
    "$dict": lambda content: {from_json(key): from_json(item) for key, item in content},
    "$datetime": dt.datetime.fromisoformat,
    "$date": dt.date.fromisoformat,
    "$decimal": decimal.Decimal,
    "$uuid": uuid.UUID,
    "$packed": lambda content: unpack(bytes.fromhex(content)),
}


def json_text(value: Any) -> str:
    """`to_json` as text that UTF-8 can encode."""
    try:
        text = _encode_plain(to_json(value))
    except RecursionError:  # the encoder's own limit, which is lower than ours
        return _encode_ascii({"$packed": pack(value).hex()})
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:  # lone surrogates
        return _encode_ascii(to_json(value))
