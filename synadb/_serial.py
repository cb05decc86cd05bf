"""Objects as bytes and back, by kind, without ever running code that the bytes name.

What a kind is, and what is stored:

===============  ==================================================================================
raw              bytes, bytearray, memoryview: the bytes as they are; come back as bytes
text             str, as UTF-8
json             None, bool, int of 64 bits, finite float, and lists and dicts of them with str keys
npy              one numpy array (the npy format of numpy); of a small float type of ml_dtypes:
                 safetensors
safetensors      a dict of numpy arrays by name, or a torch state dict, tensor, module (as its
                 state dict) or checkpoint (dicts, lists and plain values with tensors anywhere in
                 them), in the safetensors format; comes back as what it was
npz              a dict of numpy arrays with dtypes that safetensors does not have
packed           any other combination of plain Python and numpy values, as in ``db[key] = value``
keras            a Keras model, as a .keras archive; read with Keras' safe mode
onnx             an ONNX model
pickle, joblib   anything, only when asked for by name, and read only when allowed by name
===============  ==================================================================================

Two more kinds are read and not written, in files of the ancestor: ``pytorch`` (a torch archive,
read with torch's weights-only loader) and ``tensorflow`` (a .keras archive).
"""

from __future__ import annotations

import base64
import importlib
import io
import json
import math
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Union

import numpy as np
import numpy.typing as npt

from synadb._core.pack import pack as _pack_value
from synadb._core.unpack import unpack as _unpack_value

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_npy: Any = np.lib.format  # typed in newer releases of numpy only

#: What `pack` gives and what can be written to a file.
Buffer = Union[bytes, memoryview]

SERIALIZERS = ("pickle", "joblib")

_SAFETENSORS: dict[str, str] = {
    "f8": "F64",
    "f4": "F32",
    "f2": "F16",
    "i8": "I64",
    "i4": "I32",
    "i2": "I16",
    "i1": "I8",
    "u8": "U64",
    "u4": "U32",
    "u2": "U16",
    "u1": "U8",
    "b1": "BOOL",
}
_NUMPY: dict[str, str] = {name: "<" + code for code, name in _SAFETENSORS.items()}
#: Types of the package ml_dtypes, by name; where that is missing, the integers of their bits.
_SMALL_FLOATS = {"bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
_BITS = {"BF16": "<u2", "F8_E4M3": "u1", "F8_E5M2": "u1"}
_TORCH: dict[str, str] = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
#: More of a header than any model has; less than would be a burden to parse.
_HEADER_MAX = 100 << 20
#: In a checkpoint's tree, a dict of this one key stands for the tensor that it names.
_TENSOR = "__tensor__"
_DEPTH_MAX = 64


# ------------------------------------------------------------------------------------ writing


def pack(obj: object, *, serializer: str | None = None) -> tuple[str, Buffer]:
    """Return the kind of `obj` and its bytes.

    Parameters
    ----------
    obj : object
        See the table of this module.
    serializer : {None, "pickle", "joblib"}
        Store by that module whatever `obj` is. `unpack` then needs ``allow_pickle=True``.

    Raises
    ------
    TypeError
        There is no safe kind for `obj`, and no `serializer` was named.
    ValueError
        Another `serializer`.
    """
    kind, parts = pack_parts(obj, serializer=serializer)
    return kind, parts[0] if len(parts) == 1 else b"".join(parts)


def pack_parts(obj: object, *, serializer: str | None = None) -> tuple[str, list[Buffer]]:
    """The same as `pack`, as pieces to be written one after the other.

    Arrays and tensors are not copied: the pieces show their memory.
    """
    if serializer is not None:
        return serializer, [_by_serializer(obj, serializer)]
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return "raw", [memoryview(obj).cast("B") if not isinstance(obj, bytes) else obj]
    if isinstance(obj, np.ndarray):
        return _array_parts(obj)
    torch = sys.modules.get("torch")
    if torch is not None and _holds_tensors(torch, obj, _DEPTH_MAX):
        return "safetensors", _torch_parts(torch, obj)
    if isinstance(obj, Mapping) and obj and all(isinstance(v, np.ndarray) for v in obj.values()):
        return _arrays_parts(obj)
    return _plain_parts(obj)


def _by_serializer(obj: object, serializer: str) -> bytes:
    if serializer == "pickle":
        import pickle

        return pickle.dumps(obj, protocol=5)
    if serializer == "joblib":
        file = io.BytesIO()
        _framework("joblib").dump(obj, file)
        return file.getvalue()
    raise ValueError(f"serializer is {serializer!r}, expected None, 'pickle' or 'joblib'")


def _framework(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this value needs the package {name}") from error


def _plain_parts(obj: object) -> tuple[str, list[Buffer]]:
    try:
        if type(obj) is str:
            return "text", [obj.encode("utf-8")]
        if _is_json(obj, _DEPTH_MAX):
            return "json", [json.dumps(obj, ensure_ascii=False, allow_nan=False).encode("utf-8")]
    except UnicodeEncodeError:
        pass  # lone surrogates; packed values keep them
    framework = _framework_parts(obj)
    if framework is not None:
        return framework
    return "packed", [_packed(obj)]


def _packed(obj: object) -> bytes:
    try:
        return _pack_value(obj)
    except TypeError as error:
        name = f"{type(obj).__module__}.{type(obj).__qualname__}"
        raise TypeError(
            f"there is no safe format for {name} ({error}); convert it to bytes or arrays, or "
            "pass serializer='pickle' or 'joblib' and allow_pickle=True when loading"
        ) from None


def _is_json(obj: object, depth: int) -> bool:
    """Does JSON bring back exactly `obj`?"""
    kind = type(obj)
    if obj is None or kind is bool or kind is str:
        return True
    if isinstance(obj, int):
        return kind is int and -(2**63) <= obj < 2**63
    if isinstance(obj, float):
        return kind is float and math.isfinite(obj)
    if depth == 0:
        return False
    if isinstance(obj, list):
        return kind is list and all(_is_json(item, depth - 1) for item in obj)
    if isinstance(obj, dict):
        return kind is dict and all(
            type(key) is str and _is_json(item, depth - 1) for key, item in obj.items()
        )
    return False


def _framework_parts(obj: object) -> tuple[str, list[Buffer]] | None:
    """Models of frameworks that are loaded in this process; nothing is imported to find out."""
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(obj, keras.Model):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.keras"
            obj.save(path)
            with open(path, "rb") as file:
                return "keras", [file.read()]
    onnx = sys.modules.get("onnx")
    if onnx is not None and isinstance(obj, onnx.ModelProto):
        return "onnx", [obj.SerializeToString()]
    return None


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The bytes of a C-contiguous array, without a copy."""
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def _array_parts(array: npt.NDArray[Any]) -> tuple[str, list[Buffer]]:
    _refuse_unsafe(array, "the array")
    if array.dtype.name in _SMALL_FLOATS:  # which the npy format would take for plain bytes
        metadata = {"format": "np", "value": "tensor"}
        return "safetensors", _safetensors_parts([_array_entry("tensor", array)], metadata)
    return "npy", _npy_parts(array)


def _npy_parts(array: npt.NDArray[Any]) -> list[Buffer]:
    head = io.BytesIO()
    plain = np.asarray(array)
    try:
        fields = _npy.header_data_from_array_1_0(plain)
        _npy.write_array_header_1_0(head, fields)
        data = plain.T if fields["fortran_order"] else np.ascontiguousarray(plain)
        return [head.getvalue(), _bytes_of(data)]
    except (ValueError, TypeError):  # a header or a dtype beyond version 1: numpy copies
        whole = io.BytesIO()
        _npy.write_array(whole, plain, allow_pickle=False)
        return [whole.getvalue()]


def _refuse_unsafe(array: npt.NDArray[Any], what: str) -> None:
    """Arrays of which a part would be lost, or not be read without running code."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{what} is masked; store its data and its mask as two arrays")
    if array.dtype.isbuiltin == 2 and array.dtype.name not in _SMALL_FLOATS:
        raise TypeError(f"{what} has dtype {array.dtype}, which no safe format has")
    if array.dtype.hasobject:
        raise TypeError(
            f"{what} has dtype {array.dtype}, whose elements are Python objects; pass "
            "serializer='pickle' and allow_pickle=True when loading"
        )


def _arrays_parts(arrays: Mapping[Any, npt.NDArray[Any]]) -> tuple[str, list[Buffer]]:
    for name, array in arrays.items():
        if type(name) is not str:
            return _plain_parts(arrays)
        _refuse_unsafe(array, f"array {name!r}")
    if all(_safetensors_dtype(a.dtype) for a in arrays.values()) and _names_fit(arrays):
        entries = [_array_entry(name, array) for name, array in arrays.items()]
        return "safetensors", _safetensors_parts(entries, {"format": "np"})
    for name, array in arrays.items():
        if array.dtype.name in _SMALL_FLOATS:
            raise TypeError(
                f"array {name!r} of {array.dtype} cannot lie beside arrays that safetensors lacks"
            )
    whole = io.BytesIO()
    np.savez(whole, allow_pickle=False, **_npz_names(arrays))
    return "npz", [whole.getvalue()]


def _safetensors_dtype(dtype: np.dtype[Any]) -> str | None:
    return _SMALL_FLOATS.get(dtype.name) or _SAFETENSORS.get(dtype.str[1:])


def _array_entry(name: str, array: npt.NDArray[Any]) -> tuple[str, str, list[int], memoryview]:
    dtype = _safetensors_dtype(array.dtype)
    assert dtype is not None
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    return name, dtype, list(array.shape), _bytes_of(little)


def _names_fit(names: Mapping[str, object]) -> bool:
    return "__metadata__" not in names and all(_is_utf8(name) for name in names)


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _npz_names(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Names in a zip archive cannot hold everything, so they are numbers and come with a list."""
    numbered: dict[str, Any] = {str(i): array for i, array in enumerate(arrays.values())}
    names = json.dumps(list(arrays)).encode("ascii")
    numbered["names"] = np.frombuffer(names, np.uint8)
    return numbered


def _holds_tensors(torch: Any, obj: object, depth: int) -> bool:
    if isinstance(obj, (torch.Tensor, torch.nn.Module)):
        return True
    if depth == 0 or not isinstance(obj, (Mapping, list, tuple)):
        return False
    inside = obj.values() if isinstance(obj, Mapping) else obj
    return any(_holds_tensors(torch, value, depth - 1) for value in inside)


def _torch_parts(torch: Any, obj: Any) -> list[Buffer]:
    metadata = {"format": "pt"}
    if isinstance(obj, torch.nn.Module):
        obj = obj.state_dict()
    tensors: Mapping[str, Any]
    if isinstance(obj, torch.Tensor):
        tensors, metadata["value"] = {"tensor": obj}, "tensor"
    elif isinstance(obj, Mapping) and all(
        type(name) is str and isinstance(value, torch.Tensor) for name, value in obj.items()
    ):
        tensors = obj
    else:
        tensors = {}
        tree = _packed(_without_tensors(torch, obj, "", tensors, _DEPTH_MAX))
        metadata.update(value="tree", tree=base64.b64encode(tree).decode("ascii"))
    if not _names_fit(tensors):
        raise TypeError("a tensor's name is '__metadata__' or cannot be encoded as UTF-8")
    return _safetensors_parts(_tensor_entries(torch, tensors), metadata)


def _without_tensors(
    torch: Any, value: Any, where: str, tensors: dict[str, Any], depth: int
) -> object:
    """`value` with the names of its tensors in their places; the tensors go into `tensors`."""
    if isinstance(value, torch.Tensor):
        name = f"{len(tensors)}{where}"
        tensors[name] = value
        return {_TENSOR: name}
    kind = type(value)
    if kind not in (dict, OrderedDict, list, tuple):
        return value
    if depth == 0 or (kind in (dict, OrderedDict) and _TENSOR in value):
        raise TypeError(
            f"a checkpoint is nested deeper than {_DEPTH_MAX}, or has the key {_TENSOR!r}"
        )
    items = value.items() if kind in (dict, OrderedDict) else enumerate(value)
    inside = [
        (key, _without_tensors(torch, item, f"{where}.{key}", tensors, depth - 1))
        for key, item in items
    ]
    return dict(inside) if kind in (dict, OrderedDict) else kind(item for _, item in inside)


def _tensor_entries(
    torch: Any, tensors: Mapping[str, Any]
) -> list[tuple[str, str, list[int], memoryview]]:
    entries = []
    codes = {name: code for code, name in _TORCH.items()}
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).partition(".")[2]
        if dtype not in codes or tensor.layout != torch.strided:
            raise TypeError(f"tensor {name!r} is {tensor.layout} of {dtype}; it cannot be stored")
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        entries.append((name, codes[dtype], list(tensor.shape), _bytes_of(plain)))
    return entries


def _safetensors_parts(
    entries: list[tuple[str, str, list[int], memoryview]], metadata: dict[str, str]
) -> list[Buffer]:
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name, dtype, shape, data in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(text) > _HEADER_MAX:  # which no reader would take
        raise ValueError(
            f"{len(text)} bytes of names and plain values beside the tensors; expected at most "
            f"{_HEADER_MAX}"
        )
    return [len(text).to_bytes(8, "little") + text, *(data for _, _, _, data in entries)]


# ------------------------------------------------------------------------------------ reading


def unpack(kind: str, data: ReadableBuffer, *, allow_pickle: bool = False) -> Any:
    """Return the object that `pack` made `kind` and `data` of.

    Arrays own their memory and are writable. A kind of a framework needs that framework.

    Raises
    ------
    ValueError
        The kind is not known, the bytes are not of that kind, or they are a pickle and
        `allow_pickle` is False: reading a pickle runs whatever code it names.
    ImportError
        The framework that the kind needs is not installed.
    """
    return unpack_file(kind, io.BytesIO(data), allow_pickle=allow_pickle)


def unpack_file(kind: str, file: BinaryIO, *, allow_pickle: bool = False) -> Any:
    """The same from a binary file, which is read from where it stands to its end."""
    if kind in SERIALIZERS and not allow_pickle:
        raise ValueError(
            f"stored by {kind}: loading it runs whatever code it names. Pass allow_pickle=True if "
            "you trust who saved it"
        )
    reader = _READERS.get(kind)
    if reader is None:
        raise ValueError(f"stored as the kind {kind!r}, which this release does not know")
    return reader(file)


def _read_json(file: BinaryIO) -> Any:
    return json.loads(file.read().decode("utf-8"))


def _read_npy(file: BinaryIO) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = _npy.read_array(file, allow_pickle=False)
    return array


def _read_npz(file: BinaryIO) -> dict[str, npt.NDArray[Any]]:
    with np.load(io.BytesIO(file.read()), allow_pickle=False) as archive:
        names = json.loads(bytes(archive["names"]))
        return {name: archive[str(i)] for i, name in enumerate(names)}


def _read_pickle(file: BinaryIO) -> Any:
    import pickle

    return pickle.loads(file.read())


def _read_joblib(file: BinaryIO) -> Any:
    return _framework("joblib").load(io.BytesIO(file.read()))


def _read_keras(file: BinaryIO) -> Any:
    keras = _framework("keras")
    with tempfile.NamedTemporaryFile(suffix=".keras") as copy:
        copy.write(file.read())
        copy.flush()
        return keras.saving.load_model(copy.name, safe_mode=True)


def _read_onnx(file: BinaryIO) -> Any:
    return _framework("onnx").load_model_from_string(file.read())


def _read_pytorch(file: BinaryIO) -> Any:
    return _framework("torch").load(io.BytesIO(file.read()), map_location="cpu", weights_only=True)


def _read_safetensors(file: BinaryIO) -> Any:
    header = _safetensors_header(file)
    metadata = header.pop("__metadata__", {})
    torch = _framework("torch") if metadata.get("format") == "pt" else None
    found: dict[str, Any] = {}
    at = 0
    entries = sorted(header.items(), key=lambda item: _offsets(*item))
    for name, entry in entries:
        start, end = _offsets(name, entry)
        if start != at:
            raise ValueError(f"safetensors: tensor {name!r} starts at {start}, expected {at}")
        found[name] = _read_tensor(file, torch, name, entry, end - start)
        at = end
    if file.read(1):
        raise ValueError(f"safetensors: bytes behind the last tensor, which ends at {at}")
    if metadata.get("value") == "tensor" and list(found) == ["tensor"]:
        return found["tensor"]
    if metadata.get("value") == "tree":
        return _with_tensors(_unpack_value(base64.b64decode(metadata["tree"])), found)
    return {name: found[name] for name in header}


def _with_tensors(value: Any, found: Mapping[str, Any]) -> Any:
    """A checkpoint's tree with its tensors in their places."""
    kind = type(value)
    if kind is dict and value.keys() == {_TENSOR}:
        if value[_TENSOR] not in found:
            raise ValueError(f"safetensors: the tree names a tensor {value[_TENSOR]!r}, not there")
        return found[value[_TENSOR]]
    if kind is dict:
        return {key: _with_tensors(item, found) for key, item in value.items()}
    if kind in (list, tuple):
        return kind(_with_tensors(item, found) for item in value)
    return value


def _safetensors_header(file: BinaryIO) -> dict[str, Any]:
    size = int.from_bytes(_read_exactly(file, 8), "little")
    if size > _HEADER_MAX:
        raise ValueError(f"safetensors: a header of {size} bytes, expected at most {_HEADER_MAX}")
    header = json.loads(_read_exactly(file, size).decode("utf-8"))
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError("safetensors: the header is no object")
    return header


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    try:
        start, end = entry["data_offsets"]
        if 0 <= start <= end and entry["dtype"] in _TORCH and isinstance(entry["shape"], list):
            return start, end
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"safetensors: tensor {name!r} is described as {entry!s:.100}")


def _read_tensor(file: BinaryIO, torch: Any, name: str, entry: Any, size: int) -> Any:
    shape = [int(n) for n in entry["shape"]]
    if torch is not None:
        dtype: Any = getattr(torch, _TORCH[entry["dtype"]])
        item = dtype.itemsize
    else:
        dtype = _numpy_dtype(name, entry["dtype"])
        item = dtype.itemsize
    if min(shape, default=0) < 0 or math.prod(shape) * item != size:
        raise ValueError(
            f"safetensors: tensor {name!r} of shape {shape} has {size} bytes, expected "
            f"{math.prod(shape) * item}"
        )
    if torch is None:
        array = np.empty(shape, dtype)
        _fill(file, _bytes_of(array))
        return array
    tensor = torch.empty(shape, dtype=dtype)
    if size:
        _fill(file, _bytes_of(tensor.reshape(-1).view(torch.uint8).numpy()))
    return tensor


def _numpy_dtype(name: str, code: str) -> np.dtype[Any]:
    if code in _NUMPY:
        return np.dtype(_NUMPY[code])
    if code not in _BITS:
        raise ValueError(f"safetensors: tensor {name!r} has dtype {code}, which numpy lacks")
    try:
        small_floats: Any = importlib.import_module("ml_dtypes")
    except ImportError:
        return np.dtype(_BITS[code])
    names = {known: attribute for attribute, known in _SMALL_FLOATS.items()}
    found: np.dtype[Any] = np.dtype(getattr(small_floats, names[code]))
    return found


def _fill(file: BinaryIO, room: memoryview) -> None:
    at = 0
    while at < room.nbytes:
        got = file.readinto(room[at:])  # type: ignore[attr-defined]
        if not got:
            raise ValueError(f"the data end {room.nbytes - at} bytes early")
        at += got


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"the data end {size - len(data)} bytes early")
    return data


_READERS: dict[str, Callable[[BinaryIO], Any]] = {
    "raw": lambda file: file.read(),
    "text": lambda file: file.read().decode("utf-8"),
    "json": _read_json,
    "npy": _read_npy,
    "npz": _read_npz,
    "safetensors": _read_safetensors,
    "packed": lambda file: _unpack_value(file.read()),
    "pickle": _read_pickle,
    "joblib": _read_joblib,
    "keras": _read_keras,
    "tensorflow": _read_keras,
    "onnx": _read_onnx,
    "pytorch": _read_pytorch,
}
