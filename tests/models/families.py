# SPDX-License-Identifier: Apache-2.0
"""A small model of each family: all that tests of every family need to know about one."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

import slideformer.models  # noqa: F401  (registers the models)

# A registered name, and arguments that make it small: four stages, of which the first ones slide.
FAMILIES: dict[str, dict[str, Any]] = {
    "slide_swin_tiny": {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (2, 2, 4, 4)},
    "slide_cswin_tiny": {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (2, 2, 4, 4)},
    "slide_nat_mini": {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (2, 2, 4, 4)},
    # The second block of each stage is dilated, by 8, 4 and 2.
    "slide_dinat_mini": {"embed_dim": 16, "depths": (2, 2, 2, 1), "num_heads": (2, 2, 4, 4)},
    "slide_dat_tiny": {
        "img_size": 64,
        "embed_dim": 16,
        "depths": (2, 2, 2, 1),
        "num_heads": (2, 2, 4, 4),
        "groups": (1, 2, 2, 4),
        "neighborhood_size": 5,
    },
    # Blocks that pool do not slide: two in each stage whose maps shrink.
    "slide_mvit_v2_tiny": {
        "img_size": 64,
        "embed_dim": 16,
        "depths": (1, 2, 2, 1),
        "num_heads": (1, 2, 2, 4),
    },
    "slide_pvt_tiny": {
        "img_size": 64,
        "embed_dims": (16, 16, 32, 64),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 4),
    },
    "slide_pvt_v2_b1": {
        "embed_dims": (16, 16, 32, 64),
        "depths": (1, 1, 1, 1),
        "num_heads": (1, 2, 2, 4),
    },
}
# The stages that slide unless told otherwise, where these are not the first two.
SLIDING = {"slide_dat_tiny": [0, 1, 2], "slide_dinat_mini": [0], "slide_nat_mini": [0]}
# The last stage that may slide, where that is not the last stage.
LAST_SLIDING = {"slide_dat_tiny": 2, "slide_pvt_tiny": 2}
# What makes these smaller still where they are traced, which takes long: one block of each kind.
TRACED: dict[str, dict[str, Any]] = {
    "slide_dat_tiny": {
        "depths": (2, 1),
        "num_heads": (2, 4),
        "groups": (1, 2),
        "strides": (8, 4),
        "offset_kernel_sizes": (9, 7),
        "slide_stages": (0,),
    },
    "slide_mvit_v2_tiny": {"depths": (1, 2, 1), "num_heads": (1, 2, 2), "key_strides": (4, 2, 1)},
}
PYRAMID_OF_ONE_SIZE: dict[str, Any] = {
    "embed_dims": (16, 16, 32),
    "depths": (1, 1, 1),
    "num_heads": (1, 2, 2),
    "reductions": (8, 4, 1),
    "mlp_ratios": (2, 2, 2),
    "slide_stages": (0,),
}
# The same where a model is compiled or exported, which takes longer still: one block of each kind, no more
# stages than they need.
OF_ONE_SIZE: dict[str, dict[str, Any]] = {
    "slide_swin_tiny": {"depths": (1, 2), "num_heads": (2, 2), "slide_stages": (0,)},
    "slide_cswin_tiny": {
        "depths": (1, 1, 1),
        "num_heads": (2, 2, 4),
        "stripe_widths": (1, 7, None),
        "slide_stages": (0,),
    },
    "slide_nat_mini": {"depths": (1, 1), "num_heads": (2, 2)},
    "slide_dinat_mini": {"depths": (2, 2), "num_heads": (2, 2), "dilations": ((1, 8), (1, 4))},
    "slide_pvt_tiny": PYRAMID_OF_ONE_SIZE,
    "slide_pvt_v2_b1": PYRAMID_OF_ONE_SIZE,
}
# The smallest side that one exported program holds for: no axis may have one entry alone there. The second
# stage of the pyramids above reduces by 4, so its map, an eighth of the image, needs 8 entries a side.
SMALLEST_EXPORTED = {"slide_pvt_tiny": 57, "slide_pvt_v2_b1": 57}


def small(name: str, **arguments: Any) -> nn.Module:
    """The family's small model with 5 classes, in evaluation mode."""
    own = {} if arguments.get("features_only") else {"num_classes": 5}
    return timm.create_model(name, **{**own, **FAMILIES[name], **arguments}).eval()


def traceable(name: str, **arguments: Any) -> nn.Module:
    """The family's smallest model with every kind of block, in evaluation mode."""
    return small(name, **{**TRACED.get(name, {}), **arguments})


def of_one_size(name: str, **arguments: Any) -> nn.Module:
    """The family's smallest model with every kind of block, for images of 40 x 72, in evaluation mode.

    Such an image fills no whole windows and stripes, and makes maps with a side below a neighbourhood's.
    """
    return traceable(name, **{**OF_ONE_SIZE.get(name, {}), **arguments})


def kinds(model: nn.Module) -> list[list[str]]:
    """The kind of attention of every block, by stage: "Slide", "Window" and so on."""
    return [
        [type(block.attention).__name__.removesuffix("Attention") for block in stage.blocks]
        for stage in model.stages
    ]
