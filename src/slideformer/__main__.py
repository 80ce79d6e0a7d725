# SPDX-License-Identifier: Apache-2.0
"""`python -m slideformer`."""

import sys

from slideformer.cli.main import main

sys.exit(main())
