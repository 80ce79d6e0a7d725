# SPDX-License-Identifier: Apache-2.0
"""Measurements of operator, layers, models and exported files, compared with the alternatives."""

from slideformer.bench.candidate import DTYPES, Candidate, Setting
from slideformer.bench.deployed import VIEWS
from slideformer.bench.detector import detector_candidates
from slideformer.bench.machine import conditions
from slideformer.bench.measurement import Groups, measure, measure_sizes
from slideformer.bench.model import host_names, measure_hosts, model_candidates
from slideformer.bench.operator import layer_candidates, operator_candidates
from slideformer.bench.prediction import prediction_candidates, write_photographs
from slideformer.bench.problem import Problem
from slideformer.bench.report import ACCURACY, COMPARISON, DEPLOYMENT, DETECTOR, HOSTS, SIZES, Report, restore
from slideformer.bench.table import Table

__all__ = [
    "ACCURACY",
    "COMPARISON",
    "DEPLOYMENT",
    "DETECTOR",
    "DTYPES",
    "HOSTS",
    "SIZES",
    "VIEWS",
    "Candidate",
    "Groups",
    "Problem",
    "Report",
    "Setting",
    "Table",
    "conditions",
    "detector_candidates",
    "host_names",
    "layer_candidates",
    "measure",
    "measure_hosts",
    "measure_sizes",
    "model_candidates",
    "operator_candidates",
    "prediction_candidates",
    "restore",
    "write_photographs",
]
