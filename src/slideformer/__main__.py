# SPDX-License-Identifier: Apache-2.0
"""`python -m slideformer`."""

import sys

try:
    from slideformer.cli.main import main
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)

sys.exit(main())
