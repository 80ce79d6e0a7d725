# SPDX-License-Identifier: Apache-2.0
"""``python -m slideformer_runtime``."""

import sys

from slideformer_runtime.command import main

if __name__ == "__main__":
    sys.exit(main())
