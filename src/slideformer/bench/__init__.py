# SPDX-License-Identifier: Apache-2.0
"""Measurements beside the alternatives."""

from slideformer.bench.candidate import DTYPES, Candidate, Setting
from slideformer.bench.comparison import Comparison, Maps, compare, pattern_layers
from slideformer.bench.comparison_report import (
    comparison_from_dict,
    comparison_markdown,
    comparison_text,
    comparison_to_dict,
)
from slideformer.bench.deployed import (
    Deployed,
    Deployment,
    Variant,
    equal_accuracy,
    equal_size,
    forms,
    nearest_host,
)
from slideformer.bench.deployed_report import (
    deployment_from_dict,
    deployment_markdown,
    deployment_text,
    deployment_to_dict,
)
from slideformer.bench.detector import (
    detector_candidates,
    detector_markdown,
    detector_text,
    detector_to_dict,
)
from slideformer.bench.hosts import host_candidates, host_names, hosts_markdown, hosts_text, hosts_to_dict
from slideformer.bench.layer import layer_candidates
from slideformer.bench.measurement import Group, Measurement, measure
from slideformer.bench.memory import available_bytes
from slideformer.bench.model import model_candidates
from slideformer.bench.operator import Problem, operator_candidates
from slideformer.bench.patterns import PATTERNS
from slideformer.bench.report import conditions, from_dict, markdown, text, to_dict

__all__ = [
    "DTYPES",
    "PATTERNS",
    "Candidate",
    "Comparison",
    "Deployed",
    "Deployment",
    "Group",
    "Maps",
    "Measurement",
    "Problem",
    "Setting",
    "Variant",
    "available_bytes",
    "compare",
    "comparison_from_dict",
    "comparison_markdown",
    "comparison_text",
    "comparison_to_dict",
    "conditions",
    "deployment_from_dict",
    "deployment_markdown",
    "deployment_text",
    "deployment_to_dict",
    "detector_candidates",
    "detector_markdown",
    "detector_text",
    "detector_to_dict",
    "equal_accuracy",
    "equal_size",
    "forms",
    "from_dict",
    "host_candidates",
    "host_names",
    "hosts_markdown",
    "hosts_text",
    "hosts_to_dict",
    "layer_candidates",
    "markdown",
    "measure",
    "model_candidates",
    "nearest_host",
    "operator_candidates",
    "pattern_layers",
    "text",
    "to_dict",
]
