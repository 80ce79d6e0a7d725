# SPDX-License-Identifier: Apache-2.0
"""Detectors and segmenters over any backbone."""

from slideformer.dense.detector import create_detector
from slideformer.dense.segmenter import create_segmenter

__all__ = ["create_detector", "create_segmenter"]
