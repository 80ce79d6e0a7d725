# SPDX-License-Identifier: Apache-2.0
"""`python -m slideformer`."""

import sys

try:
    from slideformer.cli.main import main
except KeyboardInterrupt:
    sys.exit(130)

sys.exit(main())
