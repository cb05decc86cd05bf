"""The command ``synadb`` (also ``syna`` and ``python -m synadb``).

parser.py      what can be said: commands, options, help
commands.py    what each command does
transfer.py    export and import
output.py      tables, JSON, values as text
completion.py  the scripts that teach a shell to complete

Exit status: 0 done; 1 an error, or a key that is missing; 2 a command line that makes no sense.
``verify``: 0 sound, 1 damaged, 2 the file could not be checked.
"""

from __future__ import annotations

import io
import os
import sys

from synadb.cli.output import Output
from synadb.cli.parser import parse
from synadb.errors import SynaError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130  # as a shell reports SIGINT
EXIT_PIPE = 141  # and SIGPIPE


def main(argv: list[str] | None = None) -> int:
    """Run one command line; the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what its encoding has no sign for
    arguments = parse(sys.argv[1:] if argv is None else argv)
    out = Output(json=arguments.json)
    try:
        status: int = arguments.run(arguments, out)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader went away, as `head` does. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except KeyboardInterrupt:
        out.error("interrupted")
        return EXIT_INTERRUPTED
    except SynaError as error:
        out.error(error.message, code=error.code, reason=error.reason.name)
    except (OSError, ValueError) as error:
        out.error(str(error))
    failed: int = arguments.error_status
    return failed
