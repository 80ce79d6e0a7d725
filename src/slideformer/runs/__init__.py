# SPDX-License-Identifier: Apache-2.0
"""Trained models: one record with the model and everything known about it, opened and saved here."""

from slideformer.runs.classifier import named_run
from slideformer.runs.exported import check_has_weights
from slideformer.runs.folder import open_run, read_run, save_run, task_of
from slideformer.runs.placed import placed
from slideformer.runs.preprocessing import PREPROCESSING, EvalTransform, PixelTransform, Preprocessing
from slideformer.runs.run import Blueprint, Facts, Run

__all__ = [
    "PREPROCESSING",
    "Blueprint",
    "EvalTransform",
    "Facts",
    "PixelTransform",
    "Preprocessing",
    "Run",
    "check_has_weights",
    "named_run",
    "open_run",
    "placed",
    "read_run",
    "save_run",
    "task_of",
]
