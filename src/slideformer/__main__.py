# SPDX-License-Identifier: Apache-2.0
"""`slideformer` and `python -m slideformer`."""

import sys


def main() -> int:
    """Run the command line; from here on, Ctrl-C is reported in one line."""
    try:
        from slideformer.cli.main import main as run
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
