"""The new file on its way: made in a folder of its own beside its future name.

What is made under the name ``Place.path`` may have derived files beside it, ``<path>.wells`` say;
they follow it to its new name where they can, and are made again where not. A process that is
killed leaves the folder ``.<name>.migrate-*`` behind, and no new file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from typing import Any

from synadb.errors import FileMissingError, InvalidPathError, Reason, SynaIOError


class Place:
    """A context manager; `publish` gives the file its name, without it nothing is left."""

    def __init__(self, new: str) -> None:
        self.new = new
        if os.path.lexists(new):
            raise self._taken()
        folder, name = os.path.split(new)
        if not name:
            raise InvalidPathError(-2, f"{new}: not a path that a file can have", path=new,
                                   reason=Reason.ARGUMENT)  # fmt: skip
        try:
            self.folder = tempfile.mkdtemp(prefix=f".{name[:100]}.migrate-", dir=folder)
        except FileNotFoundError as error:
            raise FileMissingError(
                -3, f"{new}: its folder does not exist", errno=error.errno or 0, path=new
            ) from None
        except OSError as error:
            raise self._failed(error) from None
        self.path = os.path.join(self.folder, name)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def beside(self, name: str) -> str:
        """Another path in the folder."""
        return os.path.join(self.folder, f"{name}-{os.path.basename(self.path)}")

    def publish(self) -> None:
        """Give the complete file, which its component has made durable, its name; never
        replaces."""
        try:
            os.link(self.path, self.new)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            raise self._failed(error) from None
        descriptor = os.open(os.path.dirname(self.new), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            os.unlink(self.new)
            raise self._failed(error) from None
        finally:
            os.close(descriptor)
        self._move_derived()

    def _move_derived(self) -> None:
        name = os.path.basename(self.path)
        for other in os.listdir(self.folder):
            if other.startswith(f"{name}."):
                with contextlib.suppress(OSError):
                    os.rename(os.path.join(self.folder, other), self.new + other[len(name) :])

    def _taken(self) -> SynaIOError:
        return SynaIOError(
            -3, f"{self.new}: it exists; a migration goes to a new file",
            errno=errno.EEXIST, path=self.new,
        )  # fmt: skip

    def _failed(self, error: OSError) -> SynaIOError:
        return SynaIOError(
            -3, f"{self.new}: {error.strerror}", errno=error.errno or 0, path=self.new
        )
