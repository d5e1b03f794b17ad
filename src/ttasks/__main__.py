"""``python -m ttasks``: the command line, as `ttasks.cli` has it."""

import sys

from ttasks.cli import main

if __name__ == "__main__":
    sys.exit(main())
