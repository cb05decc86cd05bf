"""Packages that are imported only where they are needed: extras of this one."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any


def available(module: str) -> bool:
    """Whether a package is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None


def need(module: str, extra: str) -> Any:
    """The package, imported now, or an ImportError that names what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # installed, and broken in its own way
        raise ImportError(
            f"{module} is not installed: pip install 'synadb[{extra}]'", name=module
        ) from error
