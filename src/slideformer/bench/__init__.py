# SPDX-License-Identifier: Apache-2.0
"""Measurements beside the alternatives."""

from slideformer.bench.candidate import DTYPES, Candidate, Setting
from slideformer.bench.layer import layer_candidates
from slideformer.bench.measurement import Group, Measurement, measure
from slideformer.bench.memory import available_bytes
from slideformer.bench.model import model_candidates
from slideformer.bench.operator import Problem, operator_candidates
from slideformer.bench.report import conditions, from_dict, markdown, text, to_dict

__all__ = [
    "DTYPES",
    "Candidate",
    "Group",
    "Measurement",
    "Problem",
    "Setting",
    "available_bytes",
    "conditions",
    "from_dict",
    "layer_candidates",
    "markdown",
    "measure",
    "model_candidates",
    "operator_candidates",
    "text",
    "to_dict",
]
