"""``python -m synadb``: the command line."""

import sys

from synadb.cli import main

sys.exit(main())
