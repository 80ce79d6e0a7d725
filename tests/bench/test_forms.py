# SPDX-License-Identifier: Apache-2.0
"""Every form of the operator that is measured computes what the operator does, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from slideformer.bench import Problem, Setting, operator_candidates
from slideformer.bench.operator import AUTHORS, DENSE, FLEX, HALVES, NATTEN, OURS, TENTH_MASKED, forms
from slideformer.bench.problem import Tensors

SMALL = Problem(batch=2, size=6, heads=2, head_dim=4)
SETTING = Setting()
SEQUENCE = Problem(size="40", heads=2, head_dim=8, kernel_size="7", deformed=False, border="clamp")
GLOBE = replace(SEQUENCE, size="9x7", kernel_size="3x5", border=("clamp", "wrap"))
VOLUME = replace(SEQUENCE, size="4x5x6", kernel_size=3, border="mask")


@pytest.mark.parametrize("deformed", [True, False])
@pytest.mark.parametrize("name", [name for name, form in forms(SMALL, SETTING).items() if not form.refusal])
def test_every_form_computes_the_operator(name: str, deformed: bool) -> None:
    problem = Problem(batch=2, size=5, heads=2, head_dim=4, deformed=deformed)
    tensors = Tensors.of(problem, SETTING)
    form = forms(problem, SETTING)[name]
    torch.testing.assert_close(form.run(tensors, problem), form.wanted(tensors, problem))


@pytest.mark.parametrize("problem", [SEQUENCE, GLOBE, VOLUME], ids=lambda problem: problem.size)
@pytest.mark.parametrize("name", [DENSE, TENTH_MASKED, HALVES, f"{OURS}matmul"])
def test_forms_compute_maps_of_other_axes_and_borders(name: str, problem: Problem) -> None:
    (candidate,), _ = operator_candidates(problem, Setting(only=[name]))
    assert candidate.error is not None
    assert candidate.error < 1e-5


@pytest.mark.slow  # it is compiled for each
@pytest.mark.parametrize("problem", [SEQUENCE, GLOBE, VOLUME], ids=lambda problem: problem.size)
def test_compiled_flex_attention_computes_the_operator(problem: Problem) -> None:
    (candidate,), _ = operator_candidates(replace(problem, batch=1), Setting(only=[FLEX]))
    assert candidate.error is not None
    assert candidate.error < 1e-5


def test_what_other_libraries_cannot_compute_is_left_out_with_the_reason() -> None:
    setting = Setting(only=[NATTEN, FLEX, DENSE, AUTHORS])
    _, deformed = operator_candidates(SMALL, setting)
    _, zeros = operator_candidates(replace(SMALL, deformed=False), setting)
    _, volume = operator_candidates(VOLUME, Setting(only=[AUTHORS, OURS + "matmul"]))
    assert f"{NATTEN} left out: it has no learned shift" in deformed
    assert (
        f"{DENSE} left out: it leaves out what is outside the map, where border zeros has zero vectors"
        in zeros
    )
    assert f"{AUTHORS} left out: it is written for maps of two axes and square windows" in volume


def test_masks_of_all_pairs_are_made_where_they_fit_alone() -> None:
    long = replace(SEQUENCE, size="131072", batch=1)
    for name in (DENSE, NATTEN):
        assert forms(long, SETTING)[name].maps * long.map_numbers * 4 > 2**36
    assert forms(long, SETTING)[FLEX].maps < 10
