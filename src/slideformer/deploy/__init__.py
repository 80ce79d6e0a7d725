# SPDX-License-Identifier: Apache-2.0
"""Export to other runtimes, checked there."""

from slideformer.deploy.card import PRECISIONS, Card, Sizes, fingerprint
from slideformer.deploy.export import default_file, export, export_model
from slideformer.deploy.retina import RetinaGraph
from slideformer.deploy.runtimes import RUNTIMES, Runtime, of_file
from slideformer.deploy.verify import (
    DetectionDifference,
    Difference,
    Report,
    check_sizes,
    mebibytes,
    verify,
    verify_run,
)

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
    "default_file",
    "export",
    "export_model",
    "fingerprint",
    "mebibytes",
    "of_file",
    "verify",
    "verify_run",
]
