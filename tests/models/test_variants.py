# SPDX-License-Identifier: Apache-2.0
"""Every registered variant has the numbers of its host's authors, which stand here as they print them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import pytest
import timm
from torch import nn

import slideformer.models  # noqa: F401  (registers the models)
from slideformer.layers import SlideAttention


@dataclass(frozen=True)
class Numbers:
    """One variant, by stage where there are several numbers.

    Attributes:
        slides: blocks that slide.
        drop_path: of the last block.
        layer_scale: None for none.
        eps: of the norms in blocks and behind the last stage.
        host: numbers of the plain host's attention in the last block of each stage, by attribute.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    slides: tuple[int, ...]
    drop_path: float
    host: dict[str, tuple[Any, ...]]
    mlp_ratios: tuple[float, ...] = (4, 4, 4, 4)
    layer_scale: float | None = None
    eps: float = 1e-5
    image: int = 224


SWIN = Numbers(
    dims=(96, 192, 384, 768),
    depths=(2, 2, 6, 2),
    heads=(3, 6, 12, 24),
    slides=(2, 2, 0, 0),
    drop_path=0.2,
    host={"window_size": (7, 7, 7, 7), "shift": (3, 3, 3, 3)},
)
CSWIN = Numbers(
    dims=(64, 128, 256, 512),
    depths=(1, 2, 21, 1),
    heads=(2, 4, 8, 16),
    slides=(1, 2, 0, 0),
    drop_path=0.2,
    host={"stripe_width": (1, 2, 7, None)},
)
NAT = Numbers(
    dims=(64, 128, 256, 512),
    depths=(3, 4, 6, 5),
    heads=(2, 4, 8, 16),
    slides=(3, 0, 0, 0),
    drop_path=0.2,
    mlp_ratios=(3, 3, 3, 3),
    host={"kernel_size": (7, 7, 7, 7), "dilation": (1, 1, 1, 1)},
)
# The last blocks of the first and the last stage are not dilated; all of them are in test_slide_nat.
DINAT = replace(NAT, host={**NAT.host, "dilation": (1, 4, 2, 1)})
WIDER = {"depths": (3, 4, 18, 5), "mlp_ratios": (2, 2, 2, 2)}
DAT = Numbers(
    dims=(64, 128, 256, 512),
    depths=(2, 4, 18, 2),
    heads=(2, 4, 8, 16),
    slides=(1, 2, 9, 0),
    drop_path=0.2,
    host={
        "groups": (1, 2, 4, 8),
        "offset_range": (None,) * 4,
        "offsets.depthwise.kernel_size": ((9, 9), (7, 7), (5, 5), (3, 3)),
        "offsets.depthwise.stride": ((8, 8), (4, 4), (2, 2), (1, 1)),
    },
)
MVIT = Numbers(
    dims=(96, 192, 384, 768),
    depths=(1, 2, 5, 2),
    heads=(1, 2, 4, 8),
    slides=(1, 1, 0, 0),
    drop_path=0.1,
    eps=1e-6,
    host={"query_pool.stride": (1, 1, 1, 1), "key_pool.stride": (4, 2, 1, 1)},
)
PVT = Numbers(
    dims=(64, 128, 320, 512),
    depths=(2, 2, 2, 2),
    heads=(1, 2, 5, 8),
    slides=(2, 2, 0, 0),
    drop_path=0.1,
    mlp_ratios=(8, 8, 4, 4),
    eps=1e-6,
    host={"reduction": (8, 4, 2, 1)},
)
PVT_SMALL = replace(PVT, depths=(3, 4, 6, 3), slides=(3, 4, 0, 0))
PVT_MEDIUM = replace(PVT_SMALL, depths=(3, 4, 18, 3), drop_path=0.3)
VARIANTS = {
    "slide_cswin_tiny": CSWIN,
    "slide_cswin_small": replace(CSWIN, depths=(2, 4, 32, 2), slides=(2, 4, 0, 0), drop_path=0.4),
    "slide_cswin_base": replace(
        CSWIN,
        dims=(96, 192, 384, 768),
        depths=(2, 4, 32, 2),
        heads=(4, 8, 16, 32),
        slides=(2, 4, 0, 0),
        drop_path=0.5,
    ),
    "slide_dat_tiny": DAT,
    "slide_dat_small": replace(
        DAT,
        dims=(96, 192, 384, 768),
        heads=(3, 6, 12, 24),
        drop_path=0.4,
        host={**DAT.host, "groups": (1, 2, 3, 6)},
    ),
    "slide_mvit_v2_tiny": MVIT,
    "slide_mvit_v2_small": replace(MVIT, depths=(1, 2, 11, 2)),
    "slide_nat_mini": NAT,
    "slide_nat_tiny": replace(NAT, depths=(3, 4, 18, 5)),
    "slide_nat_small": replace(
        NAT, dims=(96, 192, 384, 768), heads=(3, 6, 12, 24), drop_path=0.3, layer_scale=1e-5, **WIDER
    ),
    "slide_nat_base": replace(
        NAT, dims=(128, 256, 512, 1024), heads=(4, 8, 16, 32), drop_path=0.5, layer_scale=1e-5, **WIDER
    ),
    "slide_dinat_mini": DINAT,
    "slide_dinat_tiny": replace(DINAT, depths=(3, 4, 18, 5)),
    "slide_dinat_small": replace(
        DINAT, dims=(96, 192, 384, 768), heads=(3, 6, 12, 24), drop_path=0.3, **WIDER
    ),
    "slide_dinat_base": replace(
        DINAT, dims=(128, 256, 512, 1024), heads=(4, 8, 16, 32), drop_path=0.5, layer_scale=1e-5, **WIDER
    ),
    "slide_dinat_large": replace(
        DINAT, dims=(192, 384, 768, 1536), heads=(6, 12, 24, 48), drop_path=0.35, **WIDER
    ),
    "slide_pvt_tiny": PVT,
    "slide_pvt_small": PVT_SMALL,
    "slide_pvt_medium": PVT_MEDIUM,
    "slide_pvt_v2_b1": PVT,
    "slide_pvt_v2_b2": PVT_SMALL,
    "slide_pvt_v2_b3": PVT_MEDIUM,
    "slide_pvt_v2_b4": replace(PVT_MEDIUM, depths=(3, 8, 27, 3), slides=(3, 8, 0, 0)),
    # Ours, for images of 32 x 32.
    "slide_swin_nano": replace(
        SWIN,
        dims=(32, 64, 128, 256),
        depths=(1, 1, 2, 1),
        heads=(2, 4, 8, 16),
        slides=(1, 1, 0, 0),
        drop_path=0.05,
        image=32,
        host={"window_size": (4, 4, 4, 2), "shift": (0, 0, 2, 0)},
    ),
    "slide_swin_tiny": SWIN,
    "slide_swin_small": replace(SWIN, depths=(2, 2, 18, 2), drop_path=0.3),
    "slide_swin_base": replace(
        SWIN, dims=(128, 256, 512, 1024), depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), drop_path=0.5
    ),
}


def host_numbers(model: nn.Module, names: list[str]) -> dict[str, tuple[Any, ...]]:
    """Attributes of the attention in the last block of each stage."""
    attentions = [stage.blocks[-1].attention for stage in model.stages]
    return {name: tuple(attrgetter(name)(attention) for attention in attentions) for name in names}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_the_numbers_of_its_authors(name: str) -> None:
    expected = VARIANTS[name]
    model = timm.create_model(name, device="meta")
    host = timm.create_model(name, device="meta", slide_stages=())
    stages = [list(stage.blocks) for stage in model.stages]
    scales = {
        None if scale is None else scale.init_values
        for blocks in stages
        for block in blocks
        for scale in (getattr(block, "scale1", None), getattr(block, "scale2", None))
    }
    assert len(scales) == 1
    mlps = [{(b.mlp.fc1.in_features, b.mlp.fc1.out_features) for b in blocks} for blocks in stages]
    last = model.stages[-1]
    norm = next(each for each in (model.norm, last.norm) if not isinstance(each, nn.Identity))
    built = Numbers(
        dims=tuple(dim for ((dim, _),) in mlps),
        depths=tuple(len(blocks) for blocks in stages),
        heads=tuple(heads for (heads,) in ({b.attention.num_heads for b in blocks} for blocks in stages)),
        slides=tuple(sum(isinstance(b.attention, SlideAttention) for b in blocks) for blocks in stages),
        drop_path=pytest.approx(last.blocks[-1].drop_path.drop_prob),
        host=host_numbers(host, list(expected.host)),
        mlp_ratios=tuple(hidden / dim for ((dim, hidden),) in mlps),
        layer_scale=scales.pop(),
        eps=norm.eps,
        image=timm.get_pretrained_cfg(name).input_size[2],
    )
    assert built == expected
    assert {n.eps for blocks in stages for b in blocks for n in (b.norm1, b.norm2)} == {expected.eps}


@pytest.mark.parametrize("name", ["slide_nat_mini", "slide_nat_tiny", "slide_nat_small", "slide_dinat_base"])
def test_factors_of_what_blocks_add_start_where_the_authors_start_them(name: str) -> None:
    blocks = [stage.blocks[0] for stage in timm.create_model(name, depths=(1, 1, 1, 1)).stages]
    started = [block.scale1.gamma[0].item() if hasattr(block, "scale1") else None for block in blocks]
    expected = VARIANTS[name].layer_scale
    assert started == [expected if expected is None else pytest.approx(expected)] * 4


@pytest.mark.slow  # a process of its own
def test_importing_the_package_registers_the_variants_and_no_others() -> None:
    code = "import timm, slideformer.models; print(*timm.list_models('slide_*'))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == sorted(VARIANTS)
