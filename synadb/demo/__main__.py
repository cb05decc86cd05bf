"""``python -m synadb.demo``: the same as ``synadb demo``."""

import sys

from synadb.demo import main

sys.exit(main())
