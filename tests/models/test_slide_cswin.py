# SPDX-License-Identifier: Apache-2.0
"""Slide-CSwin: the plain host is the authors' model, written down anew here, and takes their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.export import Dim

from slideformer.layers import CrossWindowAttention
from slideformer.models import load_host
from tests.models.families import of_one_size, small
from tests.models.functions import Functions, Shape, affine

NAME = "slide_cswin_tiny"
DEPTHS, HEADS, WIDTHS, DIMS = (1, 2, 1, 1), (2, 2, 4, 4), (1, 2, 2, None), (8, 16, 32, 64)
SHAPE = {"embed_dim": 8, "depths": DEPTHS, "num_heads": HEADS, "stripe_widths": WIDTHS}


def shapes() -> Iterator[Shape]:
    """Names and shapes in a state dict of the authors' class, of this test's sizes and 5 classes."""
    yield from affine("stage1_conv_embed.0", 8, 3, 7, 7)
    yield from affine("stage1_conv_embed.2", 8)
    for stage, dim in enumerate(DIMS):
        if stage:
            yield from affine(f"merge{stage}.conv", dim, dim // 2, 3, 3)
            yield from affine(f"merge{stage}.norm", dim)
        for block in range(DEPTHS[stage]):
            prefix = f"stage{stage + 1}.{block}"
            yield from affine(f"{prefix}.qkv", 3 * dim, dim)
            yield from affine(f"{prefix}.proj", dim, dim)
            yield from affine(f"{prefix}.norm1", dim)
            yield from affine(f"{prefix}.norm2", dim)
            yield from affine(f"{prefix}.mlp.fc1", 4 * dim, dim)
            yield from affine(f"{prefix}.mlp.fc2", dim, 4 * dim)
            branches = 1 if stage == 3 else 2
            for branch in range(branches):
                yield from affine(f"{prefix}.attns.{branch}.get_v", dim // branches, 1, 3, 3)
    yield from affine("norm", 64)
    yield from affine("head", 5, 64)


class Authors(Functions):
    """The authors' model as functions of its state dict, for maps that the stripes divide."""

    def attend(self, qkv: list[Tensor], heads: int, name: str) -> Tensor:
        """Attention of all positions of one stripe to each other, and its values' convolution."""
        query, key, value = (x.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2) for x in qkv)
        weights = (query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)).softmax(-1)
        out = (weights @ value).transpose(1, 2).reshape(qkv[2].shape)
        return out + self.convolution(qkv[2], name, padding=1, groups=qkv[2].shape[-1])

    def attention(self, x: Tensor, stage: int, name: str) -> Tensor:
        qkv, width = self.linear(x, f"{name}.qkv").chunk(3, -1), WIDTHS[stage]
        if width is None:
            return self.attend(list(qkv), HEADS[stage], f"{name}.attns.0.get_v")
        halves = []
        for branch, axis in enumerate((2, 1)):  # first the stripes of columns, then those of rows
            stripes = zip(*(y.chunk(2, -1)[branch].split(width, axis) for y in qkv), strict=True)
            out = [self.attend(list(s), HEADS[stage] // 2, f"{name}.attns.{branch}.get_v") for s in stripes]
            halves.append(torch.cat(out, axis))
        return torch.cat(halves, -1)

    def __call__(self, image: Tensor) -> Tensor:
        x = self.convolution(image.permute(0, 2, 3, 1), "stage1_conv_embed.0", stride=4, padding=2)
        x = self.norm(x, "stage1_conv_embed.2")
        for stage in range(4):
            if stage:
                x = self.convolution(x, f"merge{stage}.conv", stride=2, padding=1)
                x = self.norm(x, f"merge{stage}.norm")
            for block in range(DEPTHS[stage]):
                name = f"stage{stage + 1}.{block}"
                x = x + self.linear(
                    self.attention(self.norm(x, f"{name}.norm1"), stage, name), f"{name}.proj"
                )
                y = F.gelu(self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.fc1"))
                x = x + self.linear(y, f"{name}.mlp.fc2")
        return self.linear(self.norm(x, "norm").mean((1, 2)), "head")


@pytest.mark.parametrize("size", [(64, 64), (96, 160)], ids=str)
def test_a_host_with_the_authors_weights_gives_their_outputs(size: tuple[int, int]) -> None:
    theirs, ours = Authors(shapes()), small(NAME, slide_stages=(), **SHAPE)
    load_host(ours, theirs.state)
    image = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-4, rtol=1e-5)


def test_stages_that_do_not_slide_attend_in_stripes() -> None:
    model = small(NAME)
    assert [type(stage.blocks[0].attention) is CrossWindowAttention for stage in model.stages] == [
        False,
        False,
        True,
        True,
    ]


def test_stripes_must_be_given_for_each_stage() -> None:
    with pytest.raises(ValueError, match=r"stripe_widths must have one entry for each stage.*\(1, 2\)"):
        small(NAME, stripe_widths=(1, 2))


@pytest.mark.slow
def test_the_plain_host_exports_once_for_every_size() -> None:
    model = of_one_size(NAME, slide_stages=())
    shapes = ({0: Dim("batch"), 2: Dim("height", min=33), 3: Dim("width", min=33)},)
    program = torch.export.export(model, (torch.randn(2, 3, 64, 96),), dynamic_shapes=shapes)
    for batch, height, width in [(1, 33, 33), (2, 97, 130)]:
        image = torch.randn(batch, 3, height, width)
        torch.testing.assert_close(program.module()(image), model(image), atol=1e-5, rtol=1e-5)
