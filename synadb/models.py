"""`ModelRegistry`: versions of models with checksums, stages, aliases and lineage."""

from __future__ import annotations

import builtins
import datetime as _dt
import enum
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, BinaryIO, Union, cast

import numpy as np

from synadb import _serial
from synadb._core import models as _core
from synadb._shared import SharedLog
from synadb.errors import ArgumentError, KeyNotFoundError, Reason

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from synadb.db import SynaDB

#: A version: its number, an alias, or None for the newest.
Version = Union[int, str, None]
_COPY_BYTES = 1 << 20
#: What is kept as text in metadata.
_TEXTS = (str, int, float, np.number, np.bool_)


class ModelStage(str, enum.Enum):
    """Where a version stands. Any letter case means the same: ``ModelStage("Production")``, and
    ``stage == "Production"`` is true of the stage ``production``."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"

    @classmethod
    def _missing_(cls, value: object) -> ModelStage | None:
        if isinstance(value, str):
            for stage in cls:
                if stage.value == value.lower():
                    return stage
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.value == str(other).lower()

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        return self.value

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)


_NUMBERS = {stage: number for number, stage in enumerate(ModelStage)}


class ModelNotFoundError(KeyNotFoundError, ValueError):
    """There is no such model, version or alias."""


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    Attributes
    ----------
    name : str
    version : int
        1, 2, 3 ... in the order of saving.
    created_at : float
        Seconds since 1970.
    checksum : str
        SHA-256 of the stored bytes, 64 hexadecimal digits.
    size_bytes : int
    metadata : dict of str to str
    stage : ModelStage
    format : str
        What the bytes are: ``raw``, ``safetensors``, ``npy``, ``json`` ...
    run_id : str or None
        The run that made it.
    stage_since : float or None
        Since when it has its stage, seconds since 1970; None when the file does not say.
    """

    name: str
    version: int
    created_at: float
    checksum: str
    size_bytes: int
    metadata: dict[str, str] = field(default_factory=dict, hash=False)
    stage: ModelStage = ModelStage.DEVELOPMENT
    format: str = "raw"
    run_id: str | None = None
    stage_since: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold; `from_dict` makes an equal object of them."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "metadata": dict(self.metadata), "stage": str(self.stage)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelVersion:
        """The version that `to_dict` or a record of the file describes."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        known["stage"] = ModelStage(known.get("stage", "development"))
        if values.get("stage_us"):
            known["stage_since"] = values["stage_us"] / 1e6
        return cls(**known)


@dataclass(frozen=True)
class StageChange:
    """A version got a stage at a time (UTC); stage None: it was deleted."""

    version: int
    stage: ModelStage | None
    at: _dt.datetime


class ModelReader(io.RawIOBase):
    """A seekable binary file over the bytes of one version.

    Every piece is checked by its CRC32C before it is given out; reading from the start to the end
    compares the SHA-256 as well, and the read that completes it raises `CorruptionError` when that
    does not match. The version stays readable when it is deleted meanwhile.
    """

    def __init__(self, source: _core.ModelSource) -> None:
        self._source = source
        self._at = 0
        self.info = ModelVersion.from_dict(json.loads(source.json))
        self.name = self.info.name
        self.mode = "rb"

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._check()
        got = self._source.read_into(self._at, buffer)
        self._at += got
        return got

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, by default the rest."""
        self._check()
        rest = max(self._source.size - self._at, 0)
        data = self._source.read(
            min(self._at, self._source.size), rest if size is None or size < 0 else min(size, rest)
        )
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += self._source.size
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence is {whence}, expected 0, 1 or 2")
        if offset < 0:
            raise ValueError(f"cannot seek to {offset}, before the start")
        self._at = offset
        return offset

    def tell(self) -> int:
        self._check()
        return self._at

    def __len__(self) -> int:
        """The number of bytes of the model."""
        return self._source.size

    def __bool__(self) -> bool:
        return True  # an empty model is an open file all the same

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed model")


class ModelRegistry:
    """Versions of models in one file.

    Parameters
    ----------
    path : str or os.PathLike
        The file; created if missing, its folder must exist. It is an ordinary SynaDB log: backups,
        ``synadb verify`` and compaction work on it.
    sync_on_write : bool, default True
        Every save and change is on disk when its call returns.
    shared : bool, default True
        Several processes may save to the file at once. False: this process alone, as long as the
        registry is open.
    read_only : bool, default False
        Look only; works beside any writers.
    timeout : float, default 5.0
        Seconds that a change may wait for another process's.

    Notes
    -----
    Versions of a name are 1, 2, 3 ... and never given twice, not even after a deletion. A save is
    one commit: a failed or killed one leaves no version. Loading compares the SHA-256 of the bytes
    and raises `CorruptionError` when it does not match.

    Several versions may be in production. The one promoted last is *the* production version;
    promoting does not demote the others, so when it is archived or deleted, the one promoted
    before it is again.

    Names are text of 1 to 65000 bytes, ``/`` included. Any method may be called from any thread.
    Where a version is asked for, an alias will do.

    Examples
    --------
    >>> registry = ModelRegistry(tmp / "models.db")
    >>> version = registry.save("classifier", b"the model's bytes", {"accuracy": "0.95"})
    >>> version.version, version.size_bytes, version.stage == "development"
    (1, 17, True)
    >>> registry.promote("classifier", 1, "production")
    >>> registry.get_production_model("classifier")
    b"the model's bytes"
    >>> registry.close()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        sync_on_write: bool = True,
        shared: bool = True,
        read_only: bool = False,
        timeout: float = 5.0,
    ) -> None:
        self._options = {
            "sync_on_write": bool(sync_on_write),
            "shared": bool(shared) and not read_only,
            "read_only": bool(read_only),
            "timeout": timeout,
        }
        self._log = SharedLog(path, self._options)

    @property
    def path(self) -> str:
        """The file, as an absolute path."""
        return self._log.path

    @property
    def db(self) -> SynaDB:
        """The database that everything lies in."""
        return self._log.db

    def close(self) -> None:
        """Make everything durable and close the file. Open readers end."""
        self.db.close()

    def __enter__(self) -> ModelRegistry:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.db.closed:
            return f"<ModelRegistry {self.path!r}, closed>"
        return f"<ModelRegistry {self.path!r}, {len(self)} models>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._options)

    # -------------------------------------------------------------------------------- saving

    def save(
        self,
        name: str,
        model: object,
        metadata: Mapping[str, object] | None = None,
        *,
        run_id: str | None = None,
        serializer: str | None = None,
    ) -> ModelVersion:
        """Save `model` as the next version of `name`.

        Parameters
        ----------
        name : str
        model : object
            bytes are stored as they are, and so are those of a `pathlib.Path` or an open binary
            file (`save_file`). Arrays, dicts of arrays, torch tensors, modules (as their state
            dict), state dicts and whole checkpoints (dicts and lists with tensors and plain values
            in them), Keras and ONNX models, texts and plain Python values go into safe formats
            (npy, safetensors, json ...) and come back as what they were.
        metadata : mapping of str to str, optional
            Numbers and booleans are turned into text.
        run_id : str, optional
            The run that made it, `Run.id`.
        serializer : {None, "pickle", "joblib"}
            For any other object: store it by that module. Loading it then needs
            ``allow_pickle=True``, because reading a pickle runs whatever code it names.

        Returns
        -------
        ModelVersion

        Raises
        ------
        TypeError
            There is no safe format for `model`, and no `serializer` was named.

        Notes
        -----
        Arrays and bytes are written from where they lie, without a copy in memory.

        Examples
        --------
        >>> registry.save("weights", {"w": np.ones(3)}).format
        'safetensors'
        >>> registry.load("weights")["w"]
        array([1., 1., 1.])
        """
        if serializer is None and (isinstance(model, os.PathLike) or hasattr(model, "read")):
            return self.save_file(name, cast(BinaryIO, model), metadata, run_id=run_id)
        kind, parts = _serial.pack_parts(model, serializer=serializer)
        return self._save(name, iter(parts), metadata, run_id, kind)

    def save_model(
        self,
        name: str,
        data: object,
        metadata: Mapping[str, object] | None = None,
        *,
        run_id: str | None = None,
        serializer: str | None = None,
    ) -> ModelVersion:
        """The same as `save`."""
        return self.save(name, data, metadata, run_id=run_id, serializer=serializer)

    def save_file(
        self,
        name: str,
        source: str | os.PathLike[str] | BinaryIO,
        metadata: Mapping[str, object] | None = None,
        *,
        run_id: str | None = None,
    ) -> ModelVersion:
        """Save the bytes of a file, or of a binary file object from where it stands to its end.

        Read and written piece by piece: memory does not grow with the size.
        """
        if isinstance(source, (str, os.PathLike)):
            with open(source, "rb") as file:
                return self._save(name, _pieces(file), metadata, run_id, "raw")
        return self._save(name, _pieces(source), metadata, run_id, "raw")

    def _save(
        self,
        name: str,
        parts: Iterator[_serial.Buffer],
        metadata: Mapping[str, object] | None,
        run_id: str | None,
        kind: str,
    ) -> ModelVersion:
        db = self.db
        sink = _core.ModelSink(db, name, _metadata_json(metadata), run_id, kind)
        try:
            for part in parts:
                sink.write(part)
            version = sink.commit()
        finally:
            sink.close()
        return self._info(name, version)

    # ------------------------------------------------------------------------------- loading

    def load(
        self,
        name: str,
        version: Version = None,
        *,
        verify_checksum: bool = True,
        allow_pickle: bool = False,
    ) -> Any:
        """Return a model as it was saved.

        Parameters
        ----------
        name : str
        version : int or str, optional
            A number or an alias; the newest by default.
        verify_checksum : bool, default True
            False spares the SHA-256; the CRC32C of every piece is checked all the same.
        allow_pickle : bool, default False
            Needed for what was saved by pickle or joblib: loading that runs whatever code it
            names, so say so only where you trust who saved it.

        Raises
        ------
        ModelNotFoundError
            There is no such version (a ValueError and a KeyError).
        CorruptionError
            The bytes do not match their checksum.
        ValueError
            A pickle, and `allow_pickle` is False.
        """
        with self.open(name, version) as reader:
            kind = reader.info.format
            if kind in _serial.SERIALIZERS and allow_pickle:
                # Nothing may run before the last byte was compared.
                return _serial.unpack(kind, reader.read(), allow_pickle=True)
            if not verify_checksum:
                with self.db.open_blob(_data_key(reader.info)) as blob:
                    return _serial.unpack_file(kind, cast(BinaryIO, blob))
            model = _serial.unpack_file(kind, cast(BinaryIO, reader), allow_pickle=allow_pickle)
            while reader.read(_COPY_BYTES):  # what a format leaves unread
                pass
            return model

    def load_model(self, name: str, version: Version = None) -> tuple[bytes, ModelVersion]:
        """The stored bytes of a version, and what is known of it. Errors as in `load`."""
        with self.open(name, version) as reader:
            return reader.read(), reader.info

    def open(self, name: str, version: Version = None) -> ModelReader:
        """Open the stored bytes of a version as a binary file, for what is too large for memory.

        Examples
        --------
        >>> _ = registry.save("large", bytes(1000))
        >>> with registry.open("large") as file:
        ...     len(file), file.read(3)
        (1000, b'\\x00\\x00\\x00')
        """
        number = self._number(name, version)
        try:
            return ModelReader(_core.ModelSource(self._fresh(), name, number))
        except KeyNotFoundError as error:
            raise _not_found(error) from None

    def export(self, name: str, version: Version, path: str | os.PathLike[str]) -> ModelVersion:
        """Write the stored bytes of a version to a file, which appears whole or not at all.

        A file that is there is replaced once the new one is complete, compared with its checksum
        and on disk.
        """
        path = os.fspath(path)
        folder = os.path.dirname(os.path.abspath(path))
        with self.open(name, version) as reader:
            handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)
            try:
                with os.fdopen(handle, "wb") as file:
                    for piece in _pieces(cast(BinaryIO, reader)):
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                os.chmod(temporary, 0o666 & ~_umask())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            _sync_folder(folder)
            return reader.info

    # ------------------------------------------------------------------------------- looking

    def get_version(self, name: str, version: Version = None) -> ModelVersion | None:
        """What is known of a version; None when there is none."""
        try:
            return self._info(name, self._number(name, version))
        except ModelNotFoundError:
            return None

    def list(self, name: str | None = None) -> builtins.list[ModelVersion]:
        """The versions of `name`, ascending; without a name the newest of each, by name."""
        if name is not None:
            return self._versions(name)
        newest = {found.name: found for found in self._versions(None)}
        return [*newest.values()]

    def list_versions(self, name: str) -> builtins.list[ModelVersion]:
        """The versions of `name`, ascending; empty when there are none."""
        return self._versions(name)

    def names(self) -> builtins.list[str]:
        """The models that have versions, sorted by the bytes of their names."""
        return [*dict.fromkeys(found.name for found in self._versions(None))]

    def __len__(self) -> int:
        """How many models have versions."""
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get_version(name) is not None

    def __bool__(self) -> bool:
        return True

    def search(
        self,
        metadata: Mapping[str, object] | None = None,
        *,
        stage: str | None = None,
        run_id: str | None = None,
        name: str | None = None,
    ) -> builtins.list[ModelVersion]:
        """Versions that match everything given, by name and version.

        Parameters
        ----------
        metadata : mapping, optional
            Entries that must be there with these values.
        stage : str, optional
        run_id : str, optional
        name : str, optional
            A pattern with ``*`` and ``?``; ``*`` also crosses ``/``.

        Examples
        --------
        >>> _ = registry.save("ranker", b"...", {"lang": "en"}, run_id="r1")
        >>> [(found.name, found.version) for found in registry.search({"lang": "en"})]
        [('ranker', 1)]
        """
        wanted = json.loads(_metadata_json(metadata) or "{}").items()
        where = None if stage is None else _stage(stage)
        return [
            found
            for found in self._versions(None)
            if wanted <= found.metadata.items()
            and (where is None or found.stage is where)
            and (run_id is None or found.run_id == run_id)
            and (name is None or fnmatchcase(found.name, name))
        ]

    def compare(self, name: str, version1: Version, version2: Version) -> dict[str, Any]:
        """Two versions side by side.

        Returns
        -------
        dict
            ``version1`` and ``version2`` (`ModelVersion.to_dict`), ``metadata``: for each entry
            that one of them has its two values (None: it has none), and ``same_bytes``.
        """
        one, two = (self._info(name, self._number(name, v)) for v in (version1, version2))
        keys = sorted(one.metadata.keys() | two.metadata.keys())
        return {
            "version1": one.to_dict(),
            "version2": two.to_dict(),
            "metadata": {key: (one.metadata.get(key), two.metadata.get(key)) for key in keys},
            "same_bytes": (one.checksum, one.size_bytes) == (two.checksum, two.size_bytes),
        }

    # -------------------------------------------------------------------------------- stages

    def promote(self, name: str, version: Version, stage: str) -> None:
        """Give a version a stage: development, staging, production or archived, in any case.

        Raises
        ------
        ValueError
            There is no such stage, or (`ModelNotFoundError`) no such version.
        """
        number = self._number(name, version)
        where = _NUMBERS[_stage(stage)]
        try:
            newest = number if number is not None else self._info(name, None).version
            _core.set_stage(self.db, name, newest, where)
        except KeyNotFoundError as error:
            raise _not_found(error) from None

    def set_stage(self, name: str, version: Version, stage: str) -> None:
        """The same as `promote`."""
        self.promote(name, version, stage)

    def get_production(self, name: str) -> ModelVersion | None:
        """The version in production that was promoted last; None when there is none."""
        number = _core.production(self._fresh(), name)
        return None if number is None else self.get_version(name, number)

    def get_production_model(self, name: str, *, allow_pickle: bool = False) -> Any:
        """The model in production, loaded; None when there is none. Errors as in `load`."""
        found = self.get_production(name)
        return None if found is None else self.load(name, found.version, allow_pickle=allow_pickle)

    def stage_history(self, name: str) -> builtins.list[StageChange]:
        """Every change of a stage, oldest first; deleted versions are in it, too.

        Examples
        --------
        >>> _ = registry.save("spam", b"...")
        >>> registry.promote("spam", 1, "production")
        >>> [(change.version, str(change.stage)) for change in registry.stage_history("spam")]
        [(1, 'development'), (1, 'production')]
        """
        changes = json.loads(_core.stages(self._fresh(), name))
        return [
            StageChange(
                change["version"],
                None if change["stage"] == "deleted" else ModelStage(change["stage"]),
                _EPOCH + _dt.timedelta(microseconds=change["at"]),
            )
            for change in changes
        ]

    def production_at(self, name: str, when: _dt.datetime | float) -> int | None:
        """The version that was in production at a time; None when there was none.

        `when` is a datetime (local time when it has no zone) or seconds since 1970.
        """
        if not isinstance(when, _dt.datetime):
            when = _dt.datetime.fromtimestamp(when, _dt.timezone.utc)
        moment = when.astimezone(_dt.timezone.utc)
        promoted: dict[int, None] = {}
        for change in self.stage_history(name):
            if change.at <= moment:
                promoted.pop(change.version, None)
                if change.stage is ModelStage.PRODUCTION:
                    promoted[change.version] = None
        return next(reversed(promoted), None)

    # ------------------------------------------------------------------------------- aliases

    def set_alias(self, name: str, alias: str, version: Version) -> None:
        """Let `alias` (1 to 200 bytes, no ``/``) mean a version, until it is set to another.

        Examples
        --------
        >>> _ = registry.save("sorter", b"...")
        >>> registry.set_alias("sorter", "champion", 1)
        >>> registry.load("sorter", "champion")
        b'...'
        """
        number = self._number(name, version)
        try:
            newest = number if number is not None else self._info(name, None).version
            _core.set_alias(self.db, name, alias, newest)
        except KeyNotFoundError as error:
            raise _not_found(error) from None

    def delete_alias(self, name: str, alias: str) -> bool:
        """Take an alias away; whether it was there."""
        there = _core.by_alias(self._fresh(), name, alias) is not None
        _core.set_alias(self.db, name, alias, None)
        return there

    def get_by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias means; None when there is no such alias."""
        number = _core.by_alias(self._fresh(), name, alias)
        return None if number is None else self.get_version(name, number)

    def aliases(self, name: str) -> dict[str, int]:
        """The aliases of a model and the versions that they mean."""
        return {alias: version for version, alias in _core.aliases(self._fresh(), name)}

    # ------------------------------------------------------------------------------ deleting

    def delete(self, name: str, version: Version = None) -> int:
        """Delete one version, or without a number all of them, in one commit.

        Returns how many there were. Their aliases go with them; the numbers are never given again,
        and `stage_history` still tells of them. The space comes back with `compact`.
        """
        if isinstance(version, str):
            number = _core.by_alias(self._fresh(), name, version)
            if number is None:
                return 0
            version = number
        return _core.delete(self.db, name, version)

    def compact(self) -> None:
        """Give back the space of deleted versions and of saves that were not finished."""
        self.db.compact()

    # ------------------------------------------------------------------------------- helpers

    def _fresh(self) -> SynaDB:
        """The database, with what other processes have written."""
        db = self.db
        if self._options["shared"] or self._options["read_only"]:
            db.refresh()
        return db

    def _number(self, name: str, version: Version) -> int | None:
        if not isinstance(version, str):
            return version
        number = _core.by_alias(self._fresh(), name, version)
        if number is None:
            message = f"{self.path}: model {name!r:.200} has no alias {version!r:.200}"
            raise ModelNotFoundError(-5, message, path=self.path)
        return number

    def _info(self, name: str, version: int | None) -> ModelVersion:
        try:
            text = _core.info(self._fresh(), name, version)
        except KeyNotFoundError as error:
            raise _not_found(error) from None
        if text is None:
            what = f"no version {version} of model {name!r:.200}"
            if version is None:
                what = f"no model {name!r:.200}"
            raise ModelNotFoundError(-5, f"{self.path}: there is {what}", path=self.path)
        return ModelVersion.from_dict(json.loads(text))

    def _versions(self, name: str | None) -> builtins.list[ModelVersion]:
        found = _core.versions(self._fresh(), name)
        return [ModelVersion.from_dict(json.loads(text)) for _, text in found]


_EPOCH = _dt.datetime(1970, 1, 1, tzinfo=_dt.timezone.utc)


def _reopen(path: str, options: dict[str, Any]) -> ModelRegistry:
    return ModelRegistry(path, **options)


def _not_found(error: KeyNotFoundError) -> ModelNotFoundError:
    return ModelNotFoundError(error.code, error.message, path=error.path)


def _stage(stage: str) -> ModelStage:
    try:
        return ModelStage(stage)
    except ValueError:
        names = ", ".join(str(known) for known in ModelStage)
        raise ArgumentError(
            0, f"stage {stage!r}, expected one of {names}", reason=Reason.ARGUMENT
        ) from None


def _metadata_json(metadata: Mapping[str, object] | None) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise TypeError(f"metadata is a dict of str to str, not {type(metadata).__name__}")
    texts = {}
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, _TEXTS):
            raise TypeError(
                f"metadata is a dict of str to str, not {key!r:.80}: {type(value).__name__}"
            )
        texts[key] = value if isinstance(value, str) else str(value)
    return json.dumps(texts)


def _data_key(version: ModelVersion) -> str:
    return f"model/{version.name}/v{version.version}/data"


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while True:
        piece = file.read(_COPY_BYTES)
        if not isinstance(piece, bytes):
            raise TypeError(f"the file reads as {type(piece).__name__}; open it in binary mode")
        if not piece:
            return
        yield piece


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_folder(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = [
    "ModelNotFoundError",
    "ModelReader",
    "ModelRegistry",
    "ModelStage",
    "ModelVersion",
    "StageChange",
]
