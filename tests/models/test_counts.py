# SPDX-License-Identifier: Apache-2.0
"""Counts against a count by hand, and against the paper."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import timm

from slideformer.models import PUBLISHED, Counts, SlideSwin, count, reparameterize
from slideformer.models.counts import PLOTTED
from tests.tiers import fast

# The models of the fast tier: a count of each takes seconds.
QUICK = ("slide_swin_tiny", "slide_pvt_v2_b1")


@functools.cache
def counted(name: str) -> Counts:
    """The counts of a registered model, which several tests look at."""
    return count(name)


# Counted apart from this code, in millions and in billions of multiply-adds at 224.
COMPUTED = {
    "slide_cswin_tiny": (22.335, 4.348),
    "slide_cswin_small": (34.672, 6.848),
    "slide_cswin_base": (77.399, 15.026),
    "slide_nat_mini": (20.000, 2.744),
    "slide_nat_tiny": (27.94, 4.344),
    "slide_nat_small": (50.78, 7.846),
    "slide_nat_base": (89.785, 13.776),
    "slide_dinat_mini": (20.000, 2.744),
    "slide_dinat_tiny": (27.918, 4.345),
    "slide_dinat_small": (50.736, 7.846),
    "slide_dinat_base": (89.785, 13.776),
    "slide_dinat_large": (200.958, 30.606),
    "slide_dat_tiny": (24.019, 4.329),
    "slide_dat_small": (53.177, 9.487),
    "slide_mvit_v2_tiny": (24.170, 4.563),
    "slide_mvit_v2_small": (34.867, 6.846),
    "slide_pvt_tiny": (12.226, 2.030),
    "slide_pvt_small": (22.729, 3.980),
    "slide_pvt_medium": (42.452, 6.824),
    "slide_pvt_v2_b1": (13.005, 2.205),
    "slide_pvt_v2_b2": (23.606, 4.191),
    "slide_pvt_v2_b3": (43.482, 7.062),
    "slide_pvt_v2_b4": (59.796, 10.344),
    "slide_swin_tiny": (28.309, 4.565),
    "slide_swin_small": (49.626, 8.815),
    "slide_swin_base": (87.787, 15.530),
}


@pytest.mark.parametrize("name", fast(COMPUTED, *QUICK))
def test_counts_agree_with_an_independent_count(name: str) -> None:
    counts, (parameters_m, multiply_adds_g) = counted(name), COMPUTED[name]
    assert counts.parameters / 1e6 == pytest.approx(parameters_m, rel=2e-3)
    assert counts.multiply_adds / 1e9 == pytest.approx(multiply_adds_g, rel=2e-3)


# Channels of a head where a variant slides, and blocks that do, from the hosts' papers.
SLIDING = {
    "slide_cswin_tiny": (32, 1 + 2),
    "slide_cswin_small": (32, 2 + 4),
    "slide_cswin_base": (24, 2 + 4),
    "slide_nat_mini": (32, 3),
    "slide_nat_tiny": (32, 3),
    "slide_nat_small": (32, 3),
    "slide_nat_base": (32, 3),
    "slide_dinat_mini": (32, 3),
    "slide_dinat_tiny": (32, 3),
    "slide_dinat_small": (32, 3),
    "slide_dinat_base": (32, 3),
    "slide_dinat_large": (32, 3),
    "slide_dat_tiny": (32, 1 + 2 + 9),
    "slide_dat_small": (32, 1 + 2 + 9),
    "slide_mvit_v2_tiny": (96, 1 + 1),
    "slide_mvit_v2_small": (96, 1 + 1),
    "slide_pvt_tiny": (64, 2 + 2),
    "slide_pvt_small": (64, 3 + 4),
    "slide_pvt_medium": (64, 3 + 4),
    "slide_pvt_v2_b1": (64, 2 + 2),
    "slide_pvt_v2_b2": (64, 3 + 4),
    "slide_pvt_v2_b3": (64, 3 + 4),
    "slide_pvt_v2_b4": (64, 3 + 8),
    "slide_swin_nano": (16, 1 + 1),
    "slide_swin_tiny": (32, 2 + 2),
    "slide_swin_small": (32, 2 + 2),
    "slide_swin_base": (32, 2 + 2),
}


@pytest.mark.parametrize("name", fast(SLIDING, *QUICK))
def test_merging_drops_one_kernel_and_bias_of_every_block_that_slides(name: str) -> None:
    counts, (channels, blocks) = counted(name), SLIDING[name]
    # (D, T, T) and (D, T), T = 9
    assert counts.parameters - counts.merged_parameters == blocks * channels * (81 + 9)


# Counted apart from this code, in millions.
MERGED = {
    "slide_pvt_tiny": 12.203,
    "slide_pvt_small": 22.689,
    "slide_pvt_medium": 42.411,
    "slide_pvt_v2_b2": 23.566,
}


@pytest.mark.parametrize("name", MERGED)
def test_merged_parameters_agree_with_an_independent_count(name: str) -> None:
    assert counted(name).merged_parameters / 1e6 == pytest.approx(MERGED[name], abs=1e-3)


@pytest.mark.parametrize("name", fast(PUBLISHED, *QUICK))
def test_counts_are_near_what_the_paper_prints(name: str) -> None:
    paper = PUBLISHED[name]
    counts = count(timm.create_model(name, slide_stages=())) if paper.of_host else counted(name)
    if paper.parameters_m is not None:
        assert counts.parameters / 1e6 == pytest.approx(paper.parameters_m, rel=0.036 if paper.note else 3e-3)
    # From a plot a number can be read to a twentieth.
    bound = {"abs": 0.05} if PLOTTED in paper.note else {"rel": 0.016}
    assert counts.multiply_adds / 1e9 == pytest.approx(paper.multiply_adds_g, **bound)


# Hassani and Shi, 2022, the tables of their repository: DiNAT-Large at 384, with windows of 7 and of 11.
AT_384: dict[str, tuple[dict[str, Any], float]] = {
    "7": ({"dilations": ((1, 13), (1, 6), (1, 3), (1,))}, 89.7),
    "11": ({"neighborhood_size": 11}, 92.4),
}


@pytest.mark.slow
@pytest.mark.parametrize("window", AT_384)
def test_the_large_dinat_costs_at_384_what_its_authors_print(window: str) -> None:
    arguments, multiply_adds_g = AT_384[window]
    host = timm.create_model("slide_dinat_large", device="meta", slide_stages=(), **arguments)
    assert count(host, 384).multiply_adds / 1e9 == pytest.approx(multiply_adds_g, rel=0.016)


def test_every_model_of_the_papers_size_has_a_row_of_both() -> None:
    names = {
        name for name in timm.list_models("slide_*") if timm.get_pretrained_cfg(name).input_size[1] == 224
    }
    assert names == set(PUBLISHED) == set(COMPUTED)


def test_a_slide_block_costs_what_the_paper_says() -> None:
    channels, taps, positions = 96, 9, 56 * 56
    one, two = (
        timm.create_model("slide_swin_tiny", depths=(depth, 1), num_heads=(3, 6), slide_stages=(0,))
        for depth in (1, 2)
    )
    projections_and_mlp = (4 + 8) * positions * channels**2
    attention = 2 * positions * channels * taps**2 + 2 * positions * channels * taps
    assert count(two).multiply_adds - count(one).multiply_adds == projections_and_mlp + attention


def test_the_backend_of_a_model_changes_no_count() -> None:
    model = timm.create_model("slide_swin_nano", backend="unfold")
    assert count(model) == count("slide_swin_nano")
    assert model.stages[0].blocks[0].attention.backend == "unfold"


def test_merged_parameters_are_those_that_a_merged_model_holds() -> None:
    counts = count("slide_swin_nano")
    model: SlideSwin = timm.create_model("slide_swin_nano").eval()
    assert counts.merged_parameters == sum(p.numel() for p in reparameterize(model).parameters())


def test_a_larger_image_costs_more() -> None:
    assert count("slide_swin_nano", 64).multiply_adds > 3.9 * count("slide_swin_nano").multiply_adds
