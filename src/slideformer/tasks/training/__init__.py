# SPDX-License-Identifier: Apache-2.0
"""The training of every task: command line, steps, checkpoints, folder of a run."""
