# SPDX-License-Identifier: Apache-2.0
"""PVT by its authors, written down anew: a function of a state dict in their names."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.functions import Functions, Shape, affine

DIMS, DEPTHS, HEADS, REDUCTIONS, RATIOS = (
    (8, 16, 24, 32),
    (1, 2, 1, 1),
    (1, 2, 2, 4),
    (8, 4, 2, 1),
    (8, 8, 4, 4),
)
# The same as arguments of ours; positions are learned for images of 64 x 64.
SHAPE = {"img_size": 64, "embed_dims": DIMS, "depths": DEPTHS, "num_heads": HEADS}


def shapes() -> Iterator[Shape]:
    """Names and shapes in a state dict of the authors' class, of these sizes and 5 classes."""
    yield "cls_token", (1, 1, DIMS[3])
    for stage, dim in enumerate(DIMS):
        before, side = (DIMS[stage - 1], 2) if stage else (3, 4)
        yield from affine(f"patch_embed{stage + 1}.proj", dim, before, side, side)
        yield from affine(f"patch_embed{stage + 1}.norm", dim)
        yield f"pos_embed{stage + 1}", (1, (16 // 2**stage) ** 2 + (stage == 3), dim)
        for block in range(DEPTHS[stage]):
            prefix, hidden = f"block{stage + 1}.{block}", RATIOS[stage] * dim
            for norm in ("norm1", "norm2"):
                yield from affine(f"{prefix}.{norm}", dim)
            for name, rows in (("q", dim), ("kv", 2 * dim), ("proj", dim)):
                yield from affine(f"{prefix}.attn.{name}", rows, dim)
            if REDUCTIONS[stage] > 1:
                yield from affine(f"{prefix}.attn.sr", dim, dim, REDUCTIONS[stage], REDUCTIONS[stage])
                yield from affine(f"{prefix}.attn.norm", dim)
            yield from affine(f"{prefix}.mlp.fc1", hidden, dim)
            yield from affine(f"{prefix}.mlp.fc2", dim, hidden)
    yield from affine("norm", DIMS[3])
    yield from affine("head", 5, DIMS[3])


class Authors(Functions):
    """The authors' model, for images whose sides are multiples of 32; tokens ``(B, N, C)`` throughout."""

    def positions(self, stage: int, size: tuple[int, int]) -> Tensor:
        """The learned positions of a stage, resized to a map of that size; the class token's own first."""
        learned, side = self.state[f"pos_embed{stage + 1}"], 16 // 2**stage
        token, learned = learned[:, : -(side**2)], learned[:, -(side**2) :]
        learned = learned.transpose(1, 2).unflatten(2, (side, side))
        learned = F.interpolate(learned, size=size, mode="bilinear").flatten(2).transpose(1, 2)
        return torch.cat([token, learned], 1)

    def attention(self, x: Tensor, stage: int, size: tuple[int, int], name: str) -> Tensor:
        seen = x
        if REDUCTIONS[stage] > 1:
            seen = self.convolution(x.unflatten(1, size), f"{name}.sr", stride=REDUCTIONS[stage])
            seen = self.norm(seen.flatten(1, 2), f"{name}.norm")
        query = self.linear(x, f"{name}.q").unflatten(-1, (HEADS[stage], -1))
        key, value = self.linear(seen, f"{name}.kv").unflatten(-1, (2, HEADS[stage], -1)).unbind(2)
        logits = torch.einsum("bpgd,bqgd->bgpq", query, key) * query.shape[-1] ** -0.5
        out = torch.einsum("bgpq,bqgd->bpgd", logits.softmax(-1), value)
        return self.linear(out.flatten(2), f"{name}.proj")

    def __call__(self, image: Tensor) -> Tensor:
        x = image.permute(0, 2, 3, 1)
        for stage in range(4):
            x = self.convolution(x, f"patch_embed{stage + 1}.proj", stride=2 if stage else 4)
            size, x = x.shape[1:3], self.norm(x, f"patch_embed{stage + 1}.norm").flatten(1, 2)
            if stage == 3:
                x = torch.cat([self.state["cls_token"].expand(len(x), -1, -1), x], 1)
            x = x + self.positions(stage, size)
            for block in range(DEPTHS[stage]):
                name = f"block{stage + 1}.{block}"
                x = x + self.attention(self.norm(x, f"{name}.norm1", 1e-6), stage, size, f"{name}.attn")
                y = F.gelu(self.linear(self.norm(x, f"{name}.norm2", 1e-6), f"{name}.mlp.fc1"))
                x = x + self.linear(y, f"{name}.mlp.fc2")
            x = x if stage == 3 else x.unflatten(1, size)
        return self.linear(self.norm(x, "norm", 1e-6)[:, 0], "head")
