# SPDX-License-Identifier: Apache-2.0
"""Export to other runtimes, checked there."""

from slideformer.deploy.card import PRECISIONS, Card, Sizes, fingerprint
from slideformer.deploy.detections import DetectionDifference, detection_fault, summary
from slideformer.deploy.detector import DetectorGraph
from slideformer.deploy.export import default_file, export, export_model
from slideformer.deploy.runtimes import RUNTIMES, Runtime, of_file
from slideformer.deploy.verify import (
    Difference,
    Report,
    check_sizes,
    mebibytes,
    verify,
    verify_images,
    verify_run,
)

__all__ = [
    "PRECISIONS",
    "RUNTIMES",
    "Card",
    "DetectionDifference",
    "DetectorGraph",
    "Difference",
    "Report",
    "Runtime",
    "Sizes",
    "check_sizes",
    "default_file",
    "detection_fault",
    "export",
    "export_model",
    "fingerprint",
    "mebibytes",
    "of_file",
    "summary",
    "verify",
    "verify_images",
    "verify_run",
]
