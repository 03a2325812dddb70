"""`python -m verifyanalytics` is the command line."""

import sys

from verifyanalytics.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
