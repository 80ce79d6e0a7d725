# SPDX-License-Identifier: Apache-2.0
"""Trained models: one record with the model and everything known about it, opened and saved here."""

from slideformer.runs.classifier import named_run
from slideformer.runs.folder import open_run, read_run, save_run, task_of
from slideformer.runs.preprocessing import PREPROCESSING, EvalTransform, Preprocessing
from slideformer.runs.run import Blueprint, Facts, Run

__all__ = [
    "PREPROCESSING",
    "Blueprint",
    "EvalTransform",
    "Facts",
    "Preprocessing",
    "Run",
    "named_run",
    "open_run",
    "read_run",
    "save_run",
    "task_of",
]
