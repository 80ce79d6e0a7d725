# SPDX-License-Identifier: Apache-2.0
"""Slide-NAT: the plain host is the authors' NAT or DiNAT, written again here, and takes their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import Dim

from slideformer.layers import SlideAttention
from slideformer.models import load_host, warm_start
from slideformer.models.convert import convert_host
from slideformer.models.convert.state import check_fit
from tests.models.families import of_one_size, small
from tests.models.functions import Functions, Shape, affine

NAME = "slide_nat_mini"
# Dilations of each block of the small model below, as NAT and as DiNAT.
NAT, DINAT = ((1, 1), (1, 1), (1,), (1,)), ((1, 4), (1, 3), (2,), (1,))


@dataclass(frozen=True)
class Sizes:
    """The sizes of one of the authors' models; by default, a small one of 5 classes.

    Attributes:
        dim: channels of the first level; every further one doubles them.
        ratio: hidden channels of an MLP, in multiples of its input.
        scaled: whether it has layer scale.
    """

    dim: int = 8
    depths: tuple[int, ...] = (2, 2, 1, 1)
    heads: tuple[int, ...] = (2, 2, 4, 4)
    ratio: int = 2
    kernel: int = 3
    classes: int = 5
    scaled: bool = True


SMALL = Sizes()
SHAPE = {"embed_dim": 8, "depths": (2, 2, 1, 1), "neighborhood_size": 3, "mlp_ratio": 2}


def shapes(sizes: Sizes = SMALL) -> Iterator[Shape]:
    """Names and shapes in a state dict of the authors' class."""
    dim = sizes.dim
    yield from affine("patch_embed.proj.0", dim // 2, 3, 3, 3)
    yield from affine("patch_embed.proj.1", dim, dim // 2, 3, 3)
    yield from affine("patch_embed.norm", dim)
    for level, (depth, heads) in enumerate(zip(sizes.depths, sizes.heads, strict=True)):
        for block in range(depth):
            prefix = f"levels.{level}.blocks.{block}"
            if sizes.scaled:
                yield f"{prefix}.gamma1", (dim,)
                yield f"{prefix}.gamma2", (dim,)
            yield from affine(f"{prefix}.norm1", dim)
            yield f"{prefix}.attn.rpb", (heads, 2 * sizes.kernel - 1, 2 * sizes.kernel - 1)
            yield from affine(f"{prefix}.attn.qkv", 3 * dim, dim)
            yield from affine(f"{prefix}.attn.proj", dim, dim)
            yield from affine(f"{prefix}.norm2", dim)
            yield from affine(f"{prefix}.mlp.fc1", sizes.ratio * dim, dim)
            yield from affine(f"{prefix}.mlp.fc2", dim, sizes.ratio * dim)
        if level < 3:
            yield f"levels.{level}.downsample.reduction.weight", (2 * dim, dim, 3, 3)
            yield from affine(f"levels.{level}.downsample.norm", 2 * dim)
            dim *= 2
    yield from affine("norm", dim)
    yield from affine("head", sizes.classes, dim)


class Authors(Functions):
    """The authors' small model as functions of its state dict, for maps no smaller than a window.

    Args:
        dilations: of each block, by level.
    """

    def __init__(self, dilations: Sequence[Sequence[int]] = NAT) -> None:
        super().__init__(shapes())
        self.dilations = dilations

    def attention(self, x: Tensor, heads: int, dilation: int, name: str) -> Tensor:
        """Attention with a mask over all pairs of positions: those in the clamped window of the query.

        A window with a dilation is one over the positions of the same remainder as the query.
        """
        height, width = x.shape[1:3]
        kernel = SMALL.kernel
        rows, columns = torch.arange(height), torch.arange(width)
        row, column = rows.repeat_interleave(width), columns.repeat(height)  # of each position
        seen = torch.ones(height * width, height * width, dtype=torch.bool)
        steps = []  # from each query to each key, in dilations
        for position, size in ((row, height), (column, width)):
            place, remainder = position // dilation, position % dilation
            length = (size - 1 - remainder) // dilation + 1
            first = torch.minimum((place - kernel // 2).clamp(min=0), length - kernel)[:, None]
            seen &= (remainder == remainder[:, None]) & (place >= first) & (place < first + kernel)
            steps.append((place - place[:, None] + kernel - 1).clamp(0, 2 * kernel - 2))
        logit_bias = self.state[f"{name}.rpb"][:, steps[0], steps[1]].masked_fill(~seen, -torch.inf)
        query, key, value = (
            self.linear(x, f"{name}.qkv").flatten(1, 2).unflatten(-1, (3, heads, -1)).unbind(2)
        )
        logits = torch.einsum("bpgd,bqgd->bgpq", query, key) * query.shape[-1] ** -0.5 + logit_bias
        out = torch.einsum("bgpq,bqgd->bpgd", logits.softmax(-1), value)
        return self.linear(out.flatten(2).unflatten(1, (height, width)), f"{name}.proj")

    def __call__(self, image: Tensor) -> Tensor:
        x = self.convolution(image.permute(0, 2, 3, 1), "patch_embed.proj.0", stride=2, padding=1)
        x = self.norm(self.convolution(x, "patch_embed.proj.1", stride=2, padding=1), "patch_embed.norm")
        for level in range(4):
            for block, dilation in enumerate(self.dilations[level]):
                name = f"levels.{level}.blocks.{block}"
                y = self.norm(x, f"{name}.norm1")
                y = self.attention(y, SMALL.heads[level], dilation, f"{name}.attn")
                x = x + self.state[f"{name}.gamma1"] * y
                y = F.gelu(self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
                x = x + self.state[f"{name}.gamma2"] * self.linear(y, f"{name}.mlp.fc2")
            if level < 3:
                x = self.convolution(x, f"levels.{level}.downsample.reduction", stride=2, padding=1)
                x = self.norm(x, f"levels.{level}.downsample.norm")
        return self.linear(self.norm(x, "norm").mean((1, 2)), "head")


@pytest.mark.parametrize("dilations", [NAT, DINAT], ids=["nat", "dinat"])
@pytest.mark.parametrize("size", [(96, 96), (97, 150)], ids=str)
def test_a_host_with_the_authors_weights_gives_their_outputs(
    size: tuple[int, int], dilations: tuple[tuple[int, ...], ...]
) -> None:
    theirs = Authors(dilations)
    ours = small(NAME, slide_stages=(), layer_scale=1e-5, dilations=dilations, **SHAPE)
    load_host(ours, theirs.state)
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-5)


def test_a_host_without_layer_scale_takes_weights_without_it() -> None:
    theirs, ours = Authors(), small(NAME, slide_stages=(), **SHAPE)
    ones = {name: torch.ones_like(x) if "gamma" in name else x for name, x in theirs.state.items()}
    load_host(ours, {name: x for name, x in ones.items() if "gamma" not in name})
    theirs.state = ones
    image = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-5)


MINI = Sizes(64, (3, 4, 6, 5), (2, 4, 8, 16), ratio=3, kernel=7, classes=1000, scaled=False)
TINY = replace(MINI, depths=(3, 4, 18, 5))
BASE = replace(TINY, dim=128, heads=(4, 8, 16, 32), ratio=2, scaled=True)
LARGE = replace(BASE, dim=192, heads=(6, 12, 24, 48), scaled=False)
# By the name of a file that the authors publish: its sizes, the model that takes it, and arguments.
FILES: dict[str, tuple[Sizes, str, dict[str, Any]]] = {
    "nat_mini": (MINI, "slide_nat_mini", {}),
    "nat_tiny": (TINY, "slide_nat_tiny", {}),
    "nat_small": (replace(BASE, dim=96, heads=(3, 6, 12, 24)), "slide_nat_small", {}),
    "nat_base": (BASE, "slide_nat_base", {}),
    "dinat_mini_in1k_224": (MINI, "slide_dinat_mini", {}),
    "dinat_tiny_in1k_224": (TINY, "slide_dinat_tiny", {}),
    "dinat_small_in1k_224": (replace(LARGE, dim=96, heads=(3, 6, 12, 24)), "slide_dinat_small", {}),
    "dinat_base_in1k_224": (BASE, "slide_dinat_base", {}),
    "dinat_large_in22k_224": (replace(LARGE, classes=21841), "slide_dinat_large", {"num_classes": 21841}),
    "dinat_large_in22k_in1k_224": (LARGE, "slide_dinat_large", {}),
    "dinat_large_in22k_in1k_384": (
        LARGE,
        "slide_dinat_large",
        {"dilations": ((1, 13), (1, 6), (1, 3), (1,))},
    ),
    "dinat_large_in22k_in1k_384_11x11": (
        replace(LARGE, kernel=11),
        "slide_dinat_large",
        {"neighborhood_size": 11},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_authors_fits_its_plain_host(name: str) -> None:
    sizes, ours, arguments = FILES[name]
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes(sizes)}
    host = timm.create_model(ours, device="meta", slide_stages=(), **arguments)
    check_fit(host, convert_host(type(host), state))


# As the authors configure each block.
IN_TURN = ([1, 8, 1], [1, 4, 1, 4], [1, 2] * 9, [1] * 5)
CONFIGURED: dict[str, tuple[dict[str, Any], tuple[list[int], ...]]] = {
    "slide_nat_mini": ({}, ([1] * 3, [1] * 4, [1] * 6, [1] * 5)),
    "slide_dinat_mini": ({}, ([1, 8, 1], [1, 4, 1, 4], [1, 2, 1, 2, 1, 2], [1] * 5)),
    **{f"slide_dinat_{size}": ({}, IN_TURN) for size in ("tiny", "small", "base", "large")},
    "slide_dinat_mini for COCO": (
        {"dilations": ((1, 28), (1, 7, 1, 14), (1, 3, 1, 5, 1, 7), (1, 3))},
        ([1, 28, 1], [1, 7, 1, 14], [1, 3, 1, 5, 1, 7], [1, 3, 1, 3, 1]),
    ),
}


@pytest.mark.parametrize("stages", [(0,), ()], ids=["slides", "host"])
@pytest.mark.parametrize("name", CONFIGURED)
def test_every_block_has_the_dilation_of_the_authors(name: str, stages: tuple[int, ...]) -> None:
    arguments, expected = CONFIGURED[name]
    model = timm.create_model(name.split()[0], device="meta", slide_stages=stages, **arguments)
    assert tuple([block.attention.dilation for block in stage.blocks] for stage in model.stages) == expected


@pytest.mark.parametrize("dilations", [8, (8, 4, 2, 1), ((1, 8), (), (1,), (1,)), "1248"], ids=str)
def test_dilations_that_are_not_numbers_for_each_stage_are_rejected(dilations: Any) -> None:
    with pytest.raises(ValueError, match=r"dilations must be a tuple of numbers for each stage, .* got .*8"):
        small(NAME, dilations=dilations)


def test_dilations_of_too_few_stages_are_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"and dilations must have one entry for each stage, .*\(\(1, 8\),\)"
    ):
        small(NAME, dilations=((1, 8),))


def test_a_sliding_dinat_starts_from_the_authors_weights() -> None:
    theirs = Authors(DINAT).state
    model = small(NAME, layer_scale=1e-5, dilations=DINAT, **SHAPE)
    report = warm_start(model, theirs)
    assert set(report.new.values()) == {"shift", "key bias"}
    attention = model.stages[0].blocks[1].attention
    assert (type(attention), attention.dilation) == (SlideAttention, 4)
    assert torch.equal(attention.qkv.weight, theirs["levels.0.blocks.1.attn.qkv.weight"])
    assert torch.equal(model.head.fc.bias, theirs["head.bias"])


def test_layer_scale_can_be_left_out() -> None:
    # Not None, which timm leaves to the variant.
    assert not any("scale" in name for name, _ in small("slide_nat_mini", layer_scale=0).named_parameters())
    small_variant = timm.create_model("slide_nat_small", device="meta", layer_scale=0)
    assert not any("scale" in name for name, _ in small_variant.named_parameters())


def test_layer_scale_starts_small() -> None:
    block = small(NAME, layer_scale=1e-5).stages[0].blocks[0]
    assert (block.scale1.gamma == 1e-5).all()
    assert (block.scale2.gamma == 1e-5).all()


def test_the_backend_is_that_of_both_kinds_of_attention() -> None:
    model = small(NAME, backend="unfold")
    assert {stage.blocks[0].attention.backend for stage in model.stages} == {"unfold"}


def test_the_position_bias_does_not_decay() -> None:
    assert "stages.3.blocks.0.attention.relative_position_bias_table" in small(NAME).no_weight_decay()


def test_another_number_of_colours_is_a_new_first_convolution() -> None:
    assert small(NAME, in_chans=1)(torch.randn(1, 1, 64, 64)).shape == (1, 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, "slide_dinat_mini"])
def test_the_plain_host_exports_once_for_every_size(name: str) -> None:
    # The second stage's map is smaller than a neighbourhood in the example, and larger at another size.
    model = of_one_size(name, slide_stages=(), neighborhood_size=9)
    shapes = ({0: Dim("batch"), 2: Dim("height", min=33), 3: Dim("width", min=33)},)
    program = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes)
    for batch, height, width in [(1, 33, 33), (2, 97, 130)]:
        image = torch.randn(batch, 3, height, width)
        torch.testing.assert_close(program.module()(image), model(image), atol=1e-5, rtol=1e-5)
