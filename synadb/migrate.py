"""The ancestor's files into files of this library.

What the ancestor's classes wrote opens here read-only at best: its logs have neither header nor
checksums, and its other files have layouts of their own. `migrate` makes a new file of an old one,
and tells what came over and what did not; ``synadb migrate OLD NEW`` does the same from a shell.

========================================  ==========================================================
old file                                  new file
========================================  ==========================================================
a log (``.db``)                           a log: `SynaDB`, with all keys, their histories, deletions
... with ``vec/`` keys                    ... which `VectorStore` opens
... with ``model/`` keys                  ... which `ModelRegistry` opens, stages with their history
... with runs of experiments              ... which `Experiment` opens
... with transitions                      ... which `ExperienceCollector` opens
... with tensors in chunks                ... which `TensorEngine` opens, when their dtype is given
``.mmap``                                 `MmapVectorStore`
``.gwi``                                  `GravityWellIndex`
``.cascade``                              `CascadeIndex`
``.svs``                                  `SparseVectorStore`
========================================  ==========================================================

Of files of vectors the keys and vectors come over; wells, hash tables and graphs are made anew.
Anything else is refused. An old file is only read; nothing is ever written beside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Callable, Union

import numpy.typing as npt

from synadb._migrate import rows, tensors
from synadb._migrate.logs import migrate_log
from synadb._migrate.place import Place
from synadb._migrate.report import Findings, Lost, MigrationReport
from synadb._migrate.sparse import migrate_svs
from synadb._migrate.vectors import METRICS
from synadb.errors import ArgumentError, FormatVersionError, Reason, WrongKindError, make_error

Progress = Union[bool, Callable[[int, int], object], None]

#: What the ancestor's files begin with, and what they are; its logs begin with their first record.
_MAGIC = {
    b"CEVM": "mmap",
    b"GWIX": "gwi",
    b"CASC": "cascade",
    b"SVS\0": "svs",
}
_REFUSED = {
    b"HNSW": "an index of the ancestor's, made from the vectors of its log: migrate the log",
    b"SVMC": "the rows of a cascade in three files, whose header is not known",
}
_READERS = {"mmap": rows.read_mmap, "gwi": rows.read_gwi, "cascade": rows.read_cascade}


def migrate(
    old: str | os.PathLike[str],
    new: str | os.PathLike[str],
    *,
    metric: str | None = None,
    tensors: Mapping[str, npt.DTypeLike] | None = None,
    progress: Progress = None,
) -> MigrationReport:
    """Make a file of this library from one of the ancestor's.

    Parameters
    ----------
    old : str or os.PathLike
        A log, ``.mmap``, ``.gwi``, ``.cascade`` or ``.svs`` file; which, is told by its content. It
        is only read. Nothing may write to it meanwhile.
    new : str or os.PathLike
        The file to make. It must not exist, its folder must. It gets its name when it is complete
        and on disk: a call that fails, or a process that is killed, leaves no file of this name.
    metric : {"cosine", "euclidean", "dot_product"}, optional
        How the vectors are compared, where the old file does not say (logs say it only in the index
        file ``<old>.hnsw`` beside them) or says it wrongly. Default for logs: cosine.
    tensors : mapping of str to dtype, optional
        The dtypes of tensors stored in chunks, by their prefixes, ``"*"`` for all others:
        ``{"train/X/": "float32"}``. The ancestor did not write them down; without them chunks come
        over as the bytes that they are.
    progress : bool or callable, optional
        True draws a bar on standard error; a callable gets ``(done, total)`` in bytes of the old
        file, from the beginning for each of the passes. What it raises stops the migration.

    Returns
    -------
    MigrationReport
        What came over and what did not, and why. `MigrationReport.complete` is False when something
        was lost; the new file has everything else.

    Raises
    ------
    WrongKindError
        `old` is no file of the ancestor's (or one from which there is nothing to migrate); among
        them are this library's own files.
    FormatVersionError
        A version of one of its formats that is not known.
    CorruptionError
        The header of a file of vectors is damaged, so that nothing in it can be found.
    SynaIOError
        `new` exists (errno EEXIST), or the system refused something.
    ArgumentError
        Unknown metric, or a dtype that tensors cannot have.

    Notes ----- Logs are copied record by record in their order, with their times. A torn tail is
    left out, as the ancestor would; damage in the middle is reported and skipped. Floats that the
    ancestor stored as differences become whole, rounded as it rounded them:
    `MigrationReport.rounding` says how far they can be from what was put. Vectors with NaN, which
    it took, are kept as arrays. Histories of component records that get a new form (runs,
    transitions) are put behind the others, with their own times.

    Memory: a few MB for files of vectors; for logs what `SynaDB` needs to open them, and the keys
    of the records that get a new form.

    Examples
    --------
    >>> import struct
    >>> _ = (tmp / "old.db").write_bytes(
    ...     struct.pack("<QHIB", 1_700_000_000_000_000, 11, 12, 0) + b"temperature"
    ...     + struct.pack("<Id", 1, 23.5))
    >>> report = migrate(tmp / "old.db", tmp / "new.db")
    >>> report.complete, report.kind, report.came["values"]
    (True, 'log', 1)
    >>> with SynaDB(tmp / "new.db") as db:
    ...     db.get_float("temperature")
    23.5
    """
    if metric is not None and metric not in METRICS:
        raise ArgumentError(
            0, f"metric {metric!r}; expected one of {', '.join(METRICS)}", reason=Reason.ARGUMENT
        )
    dtypes = _dtypes(tensors)
    findings = Findings(*map(_absolute, (old, new)))
    kind = _kind_of(findings.old)
    with Place(findings.new) as place:
        if kind == "log":
            migrate_log(place, findings, metric, dtypes, progress)
        else:
            with _Telling(progress) as tell:
                if kind == "svs":
                    migrate_svs(place, findings, tell)
                else:
                    rows.migrate_rows(place, findings, kind, _READERS[kind], metric, tell)
        place.publish()
    return findings.report()


_dtypes = tensors.checked


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.fsdecode(path))


def _kind_of(path: str) -> str:
    """What a file is by its first bytes; logs have no mark, and are looked at by the core."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise make_error(
            -3, f"{path}: {error.strerror}", errno=error.errno or 0, path=path
        ) from None
    magic, version = head[:4], int.from_bytes(head[4:], "little")
    if magic in _REFUSED:
        raise WrongKindError(-4, f"{path}: {_REFUSED[magic]}", reason=Reason.WRONG_KIND, path=path)
    kind = _MAGIC.get(magic)
    if kind is None:
        return "log"
    if version != 1:
        raise FormatVersionError(
            -4, f"{path}: version {version} of a .{kind} file; only 1 is known",
            reason=Reason.NEWER_FORMAT, path=path,
        )  # fmt: skip
    return kind


class _Telling:
    """A progress callback for passes that run in Python; a context manager that gives the
    callable."""

    def __init__(self, progress: Progress) -> None:
        self._bar: Any = None
        if progress is True:
            from synadb._bar import Bar

            self._bar = progress = Bar()
        elif progress not in (None, False) and not callable(progress):
            raise TypeError(
                f"progress is True, False, None or a callable, not {type(progress).__name__}"
            )
        self._call = progress if callable(progress) else None

    def __enter__(self) -> Callable[[int, int], object]:
        return self._call or _silent

    def __exit__(self, *exc_info: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _silent(done: int, total: int) -> None:
    return None


__all__ = ["Lost", "MigrationReport", "migrate"]
