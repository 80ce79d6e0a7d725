# SPDX-License-Identifier: Apache-2.0
"""Image classification: train, evaluate, predict."""
