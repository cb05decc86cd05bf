"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from typing import IO

from synadb.errors import ArgumentError, Reason


@contextlib.contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `path`, durable, when the block ends without an exception.

    Until then it stands beside it under a name of its own; after an exception nothing is left of
    it."""
    target = os.path.realpath(os.fsdecode(path))
    if os.path.isdir(target):
        raise IsADirectoryError(f"{target}: is a folder; expected the name of a file")
    temporary = f"{target}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb", buffering=1 << 18) as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        if os.path.exists(target):
            os.chmod(temporary, os.stat(target).st_mode & 0o7777)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(os.path.dirname(target))


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def refuse_own_file(database: str, path: str | os.PathLike[str]) -> None:
    """An export must not replace the database that it reads."""
    for own in (database, f"{database}.idx"):
        with contextlib.suppress(FileNotFoundError):
            if os.path.samefile(own, path):
                raise ArgumentError(
                    0, f"{own}: the export would replace the database", reason=Reason.ARGUMENT
                )
