"""`python -m tests.torture`."""

import sys

from tests.torture.harness import main

if __name__ == "__main__":
    sys.exit(main())
