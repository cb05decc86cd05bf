"""``synadb demo``: a searchable store of real text, built on the spot and questioned.

The text is the documentation inside the installed Python's standard library. `corpus` collects it,
`words` and `lsa` turn it into vectors, `library` keeps both in stores and searches vectors and
words at once, `app` is the command.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of the process); the exit status."""
    from synadb.demo.app import main as run

    return run(argv)


__all__ = ["main"]
