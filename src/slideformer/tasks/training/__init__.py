# SPDX-License-Identifier: Apache-2.0
"""What training has in common, whatever is learnt: command line, steps, checkpoints, folder of a run."""
