# SPDX-License-Identifier: Apache-2.0
"""Measurements beside the alternatives."""

from slideformer.bench.cases import Problem
from slideformer.bench.measurement import Machine, Measurement, PeakMemory, measure
from slideformer.bench.report import conditions, markdown, text, to_dict

__all__ = [
    "Machine",
    "Measurement",
    "PeakMemory",
    "Problem",
    "conditions",
    "markdown",
    "measure",
    "text",
    "to_dict",
]
