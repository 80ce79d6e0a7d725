# SPDX-License-Identifier: Apache-2.0
"""Models for other runtimes, checked there."""

from slideformer.deploy.card import PRECISIONS, Card, Sizes, fingerprint
from slideformer.deploy.detections import DetectionDifference
from slideformer.deploy.export import export
from slideformer.deploy.retina import RetinaGraph
from slideformer.deploy.runtimes import RUNTIMES, Runtime, of_file
from slideformer.deploy.verify import Difference, Report, check_sizes, verify

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Card",
    "DetectionDifference",
    "Difference",
    "Report",
    "RetinaGraph",
    "Runtime",
    "Sizes",
    "check_sizes",
    "export",
    "fingerprint",
    "of_file",
    "verify",
]
