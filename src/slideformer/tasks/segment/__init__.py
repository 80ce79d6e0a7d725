# SPDX-License-Identifier: Apache-2.0
"""Semantic segmentation: images with label maps, training, evaluation, prediction."""
