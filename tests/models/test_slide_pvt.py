# SPDX-License-Identifier: Apache-2.0
"""Slide-PVT: the plain host is the authors' model; positions, class token, and what is refused."""

from __future__ import annotations

import pytest
import timm
import torch

from slideformer.models import SlidePvt, load_host
from tests.models.authors_of_pvt import SHAPE, Authors, shapes
from tests.models.families import small

NAME = "slide_pvt_tiny"


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (32, 128)], ids=str)
def test_a_host_with_the_authors_weights_gives_their_outputs(size: tuple[int, int]) -> None:
    theirs, ours = Authors(shapes()), small(NAME, slide_stages=(), **SHAPE)
    load_host(ours, theirs.state)
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=1e-5)


def test_there_is_a_position_for_every_place_of_each_stage() -> None:
    model = SlidePvt(img_size=(224, 96), depths=(1, 1, 1, 1), num_classes=0)
    sizes = [tuple(stage.downsample[1].weight.shape[1:3]) for stage in model.stages]
    assert sizes == [(56, 24), (28, 12), (14, 6), (7, 3)]


def test_the_class_token_stands_before_the_positions() -> None:
    features = small(NAME).forward_features(torch.randn(2, 3, 64, 96))
    assert features.shape == (2, 1 + 2 * 3, 64)


def test_the_token_or_the_mean_of_the_positions_is_classified() -> None:
    model, image = small(NAME), torch.randn(2, 3, 64, 96)
    features = model.forward_features(image)
    torch.testing.assert_close(model(image), model.head.fc(features[:, 0]))
    model.reset_classifier(5, "avg")
    torch.testing.assert_close(model(image), model.head.fc(features[:, 1:].mean(1)))
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(image), features)


def test_a_lone_stage_gives_its_map() -> None:
    lone = {"embed_dims": (16,), "depths": (1,), "num_heads": (2,), "reductions": (1,), "mlp_ratios": (4,)}
    model = small(NAME, **{**lone, "slide_stages": ()})
    last, (y,) = model.forward_intermediates(torch.randn(2, 3, 60, 97), output_fmt="NHWC")
    assert last.shape == (2, 1 + 15 * 25, 16)
    assert y.shape == (2, 15, 25, 16)
    torch.testing.assert_close(model.norm(y).flatten(1, 2), last[:, 1:])


def test_the_class_token_learns_as_fast_as_the_block_that_it_enters() -> None:
    model = small(NAME, depths=(1, 1, 1, 3))
    groups = timm.models.group_parameters(model, model.group_matcher(), return_values=False, reverse=True)
    first, last = (groups[f"stages.3.blocks.{block}.mlp.fc1.weight"] for block in (0, 2))
    assert groups["stages.3.class_token"] == groups["stages.3.downsample.1.weight"] == first < last


def test_weight_decay_leaves_the_class_token_alone() -> None:
    assert "stages.3.class_token" in small(NAME).no_weight_decay()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"slide_stages": (0, 3)}, r"to 2, because .* class token, got \(0, 3\)"),
        ({"reductions": (8, 4, 2, 2)}, r"the last of reductions must be 1, .* got \(8, 4, 2, 2\)"),
        ({"global_pool": "max"}, "global_pool must be 'token', 'avg' or '', got 'max'"),
        ({"mlp_ratios": (4, 4)}, r"mlp_ratios must have one entry for each stage, got .* and \(4, 4\)"),
    ],
    ids=["slide_stages", "reductions", "global_pool", "mlp_ratios"],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(NAME, **arguments)
