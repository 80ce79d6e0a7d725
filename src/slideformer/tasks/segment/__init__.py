# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation: pictures with label maps, training, evaluation, prediction."""
