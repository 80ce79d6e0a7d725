# SPDX-License-Identifier: Apache-2.0
"""`slideformer` and `python -m slideformer`."""

import os
import sys

# PyTorch reads once whether blocks of 2 MiB and more come in huge pages, each for the fault of one page.
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"


def main() -> int:
    """Run the command line; from here on, Ctrl-C is reported in one line."""
    os.environ.setdefault(HUGE_PAGES, "1")
    try:
        from slideformer.cli.main import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
