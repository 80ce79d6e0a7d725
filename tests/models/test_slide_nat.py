# SPDX-License-Identifier: Apache-2.0
"""Slide-NAT: the plain host is the authors' model, written down anew here, and takes their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import Dim

from slideformer.models import load_host
from tests.models.families import of_one_size, small
from tests.models.functions import Functions, Shape, affine

NAME = "slide_nat_mini"
DEPTHS, HEADS, DIMS, KERNEL = (1, 2, 1, 1), (2, 2, 4, 4), (8, 16, 32, 64), 3
SHAPE = {"embed_dim": 8, "depths": DEPTHS, "num_heads": HEADS, "neighborhood_size": KERNEL, "mlp_ratio": 2}


def shapes() -> Iterator[Shape]:
    """Names and shapes in a state dict of the authors' class with layer scale, and 5 classes."""
    yield from affine("patch_embed.proj.0", 4, 3, 3, 3)
    yield from affine("patch_embed.proj.1", 8, 4, 3, 3)
    yield from affine("patch_embed.norm", 8)
    for level, dim in enumerate(DIMS):
        for block in range(DEPTHS[level]):
            prefix = f"levels.{level}.blocks.{block}"
            yield f"{prefix}.gamma1", (dim,)
            yield f"{prefix}.gamma2", (dim,)
            yield from affine(f"{prefix}.norm1", dim)
            yield f"{prefix}.attn.rpb", (HEADS[level], 2 * KERNEL - 1, 2 * KERNEL - 1)
            yield from affine(f"{prefix}.attn.qkv", 3 * dim, dim)
            yield from affine(f"{prefix}.attn.proj", dim, dim)
            yield from affine(f"{prefix}.norm2", dim)
            yield from affine(f"{prefix}.mlp.fc1", 2 * dim, dim)
            yield from affine(f"{prefix}.mlp.fc2", dim, 2 * dim)
        if level < 3:
            yield f"levels.{level}.downsample.reduction.weight", (2 * dim, dim, 3, 3)
            yield from affine(f"levels.{level}.downsample.norm", 2 * dim)
    yield from affine("norm", 64)
    yield from affine("head", 5, 64)


class Authors(Functions):
    """The authors' model as functions of its state dict, for maps no smaller than the window."""

    def attention(self, x: Tensor, heads: int, name: str) -> Tensor:
        """Attention with a mask over all pairs of positions: those in the clamped window of the query."""
        height, width = x.shape[1:3]
        rows, columns = torch.arange(height), torch.arange(width)
        row, column = rows.repeat_interleave(width), columns.repeat(height)  # of each position
        seen = torch.ones(height * width, height * width, dtype=torch.bool)
        for place, size in ((row, height), (column, width)):
            first = (place - KERNEL // 2).clamp(0, size - KERNEL)[:, None]
            seen &= (place >= first) & (place < first + KERNEL)
        down, right = (
            (place - place[:, None] + KERNEL - 1).clamp(0, 2 * KERNEL - 2) for place in (row, column)
        )
        logit_bias = self.state[f"{name}.rpb"][:, down, right].masked_fill(~seen, -torch.inf)
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
            for block in range(DEPTHS[level]):
                name = f"levels.{level}.blocks.{block}"
                y = self.attention(self.norm(x, f"{name}.norm1"), HEADS[level], f"{name}.attn")
                x = x + self.state[f"{name}.gamma1"] * y
                y = F.gelu(self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
                x = x + self.state[f"{name}.gamma2"] * self.linear(y, f"{name}.mlp.fc2")
            if level < 3:
                x = self.convolution(x, f"levels.{level}.downsample.reduction", stride=2, padding=1)
                x = self.norm(x, f"levels.{level}.downsample.norm")
        return self.linear(self.norm(x, "norm").mean((1, 2)), "head")


@pytest.mark.parametrize("size", [(96, 96), (97, 150)], ids=str)
def test_a_host_with_the_authors_weights_gives_their_outputs(size: tuple[int, int]) -> None:
    theirs, ours = Authors(shapes()), small(NAME, slide_stages=(), layer_scale=1e-5, **SHAPE)
    load_host(ours, theirs.state)
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-5)


def test_a_host_without_layer_scale_takes_weights_without_it() -> None:
    theirs, ours = Authors(shapes()), small(NAME, slide_stages=(), **SHAPE)
    ones = {name: torch.ones_like(x) if "gamma" in name else x for name, x in theirs.state.items()}
    load_host(ours, {name: x for name, x in ones.items() if "gamma" not in name})
    theirs.state = ones
    image = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-5)


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
def test_the_plain_host_exports_once_for_every_size() -> None:
    # The second stage's map is smaller than a neighbourhood in the example, and larger at another size.
    model = of_one_size(NAME, slide_stages=(), neighborhood_size=9)
    shapes = ({0: Dim("batch"), 2: Dim("height", min=33), 3: Dim("width", min=33)},)
    program = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes)
    for batch, height, width in [(1, 33, 33), (2, 97, 130)]:
        image = torch.randn(batch, 3, height, width)
        torch.testing.assert_close(program.module()(image), model(image), atol=1e-5, rtol=1e-5)
