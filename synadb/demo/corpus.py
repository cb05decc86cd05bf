"""The text that is on every machine: docstrings of the installed Python's standard library.

Source files are parsed, never imported, so nothing runs and nothing is left out because a module
needs another system.
"""

from __future__ import annotations

import ast
import os
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Union

_Definition = Union[ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef]

#: Folders of the library that hold no documentation for users: tests, vendored wheels, games.
_SKIPPED = {
    "__pycache__",
    "dist-packages",
    "idlelib",
    "lib-dynload",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}
_SHORTEST = 12  # characters in a docstring worth keeping


@dataclass(frozen=True)
class Document:
    """One docstring with where it is from.

    Attributes
    ----------
    name : str
        Dotted name, such as ``zipfile.ZipFile.open``; unique in a corpus.
    module, qualname : str
        Its two parts; `qualname` is empty for a module.
    file : str
        The source file, relative to the library's folder.
    line : int
    signature : str
        ``(name, mode='r')`` for functions, the base classes for classes, else empty.
    text : str
        The docstring without its indentation.
    """

    name: str
    module: str
    qualname: str
    file: str
    line: int
    signature: str
    text: str

    @property
    def summary(self) -> str:
        """The first paragraph on one line, without underlines and usage lines of old modules."""
        for paragraph in self.text.split("\n\n"):
            words = [line for line in paragraph.split("\n") if line.strip(" -=~*")]
            if words:
                return " ".join(" ".join(words).split())
        return ""


def library_folder() -> str:
    """Where the standard library of the running Python is installed."""
    return sysconfig.get_paths()["stdlib"]


def source_files(folder: str) -> list[str]:
    """The public modules of the library, as sorted paths relative to `folder`."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED and name[0] != "_"]
        for name in files:
            private = name.startswith("_") and name != "__init__.py"
            if name.endswith(".py") and not private:
                found.append(os.path.relpath(os.path.join(parent, name), folder))
    return sorted(found)


def collect(
    folder: str | None = None, progress: Callable[[int, int], object] | None = None
) -> list[Document]:
    """Every docstring of every public module, class, function and method.

    Examples
    --------
    >>> from synadb.demo.corpus import collect
    >>> documents = collect()
    >>> len(documents) > 2000
    True
    """
    root = library_folder() if folder is None else folder
    files = source_files(root)
    names: set[str] = set()
    documents: list[Document] = []
    for done, file in enumerate(files):
        if progress is not None:
            progress(done, len(files))
        for document in _documents_of(root, file):
            if document.name not in names:  # the first of several conditional definitions
                names.add(document.name)
                documents.append(document)
    if progress is not None:
        progress(len(files), len(files))
    return documents


def _documents_of(root: str, file: str) -> Iterator[Document]:
    try:
        with open(os.path.join(root, file), "rb") as source:
            tree = ast.parse(source.read())
    except (SyntaxError, ValueError):  # templates and data that only look like modules
        return
    module = file[: -len(".py")].replace(os.sep, ".")
    if module.endswith(".__init__"):
        module = module[: -len(".__init__")]
    for node, qualname in _definitions(tree):
        text = ast.get_docstring(node)
        if text is None or len(text.strip()) < _SHORTEST:
            continue
        name = f"{module}.{qualname}" if qualname else module
        line = 1 if isinstance(node, ast.Module) else node.lineno
        yield Document(name, module, qualname, file, line, _signature(node), text.strip())


def _definitions(
    tree: ast.Module,
) -> Iterator[tuple[ast.Module | _Definition, str]]:
    """The module and its public definitions, also inside classes and conditional blocks."""
    yield tree, ""
    blocks: list[tuple[ast.AST, str]] = [(tree, "")]
    while blocks:
        block, prefix = blocks.pop(0)
        for node in ast.iter_child_nodes(block):
            if isinstance(node, (ast.If, ast.Try)):
                blocks.append((node, prefix))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if node.name.startswith("_"):
                    continue
                yield node, prefix + node.name
                if isinstance(node, ast.ClassDef):
                    blocks.append((node, f"{prefix}{node.name}."))


def _signature(node: ast.Module | _Definition) -> str:
    if isinstance(node, ast.Module):
        return ""
    if isinstance(node, ast.ClassDef):
        return f"({', '.join(ast.unparse(base) for base in node.bases)})" if node.bases else ""
    return f"({ast.unparse(node.args)})"


__all__ = ["Document", "collect", "library_folder", "source_files"]
