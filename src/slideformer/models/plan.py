# SPDX-License-Identifier: Apache-2.0
"""The constructor arguments that all families share, and the plan of a family's stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from timm.layers import get_norm_layer
from torch import nn

from slideformer.layers.deformed_shift import SHIFT_INITS
from slideformer.layers.map_checks import check_choice
from slideformer.layers.neighborhood import NeighborhoodAttention
from slideformer.layers.slide_attention import SlideAttention


class SharedArguments(TypedDict, total=False):
    """Constructor arguments that every family takes; what is not given is that of `DEFAULTS`.

    Keys:
        img_size: side, or height and width, of the images that learned positions are made for, where a
            family has any (PVT, DAT, MViTv2). Models take images of every size at every call.
        in_chans: channels of an image.
        num_classes: classes; 0 for no classifier.
        global_pool: timm's name of the pooling before the classifier; ``""`` for none.
        kernel_size: odd side of the neighbourhood where slide attention is used, in positions.
        slide_stages: the stages, from 0, that use slide attention; ``()`` is the plain host.
        deform: whether slide attention has a learned shift.
        shift_init: how the learned shift begins, ``"uniform"`` (the authors) or ``"zeros"``.
        local_attention: what ``slide_stages`` use, ``"slide"``, or its rival ``"neighborhood"`` of the same
            ``kernel_size``.
        qkv_bias: whether the projections to query, key and value have a bias.
        drop_rate: dropout before the classifier, a probability as all of these.
        proj_drop_rate: dropout after projections and MLPs.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        norm_layer: normalisation, by timm's name or as a class.
        backend: of the slide attention operator, which neighborhood attention uses as well.
    """

    img_size: int | tuple[int, int]
    in_chans: int
    num_classes: int
    global_pool: str
    kernel_size: int
    slide_stages: Sequence[int]
    deform: bool
    shift_init: str
    local_attention: str
    qkv_bias: bool
    drop_rate: float
    proj_drop_rate: float
    attn_drop_rate: float
    drop_path_rate: float
    norm_layer: str | type[nn.Module]
    backend: str


DEFAULTS = SharedArguments(
    img_size=224,
    in_chans=3,
    num_classes=1000,
    global_pool="avg",
    kernel_size=3,
    slide_stages=(0, 1),
    deform=True,
    shift_init="uniform",
    local_attention="slide",
    qkv_bias=True,
    drop_rate=0.0,
    proj_drop_rate=0.0,
    attn_drop_rate=0.0,
    drop_path_rate=0.1,
    norm_layer=nn.LayerNorm,
    backend="auto",
)


class AttentionOptions(TypedDict):
    """Options that every kind of attention has."""

    qkv_bias: bool
    attn_drop: float
    proj_drop: float


class Plan:
    """The stages of a model and the options of their layers, which a family builds its parts from.

    Args:
        shared: the arguments that all families share, after the family's own defaults.
        dims: channels of each stage, or of the first, which every further stage doubles.
        depths: blocks of each stage.
        num_heads: heads of each stage.
        patch_size: pixels a side that the stem makes one position of; each further stage doubles them.
        per_stage: the family's own arguments that have one entry for each stage, by name.
        last_stays: the reason why the last stage cannot slide, where it cannot.

    Raises:
        TypeError: an argument that neither the family nor `SharedArguments` has.
        ValueError: arguments of the stages do not fit together.
    """

    def __init__(
        self,
        shared: SharedArguments,
        dims: int | Sequence[int],
        depths: Sequence[int],
        num_heads: Sequence[int],
        patch_size: int,
        per_stage: Mapping[str, Sequence[Any]],
        *,
        last_stays: str = "",
    ) -> None:
        unknown = ", ".join(repr(name) for name in shared if name not in DEFAULTS)
        if unknown:
            raise TypeError(f"unexpected argument {unknown}; all families take {', '.join(DEFAULTS)}")
        self.options: SharedArguments = {**DEFAULTS, **shared}
        self.slide_stages = self.options["slide_stages"]
        check_choice("local_attention", self.options["local_attention"], ("slide", "neighborhood"))
        check_choice("shift_init", self.options["shift_init"], SHIFT_INITS)
        check_stages(depths, {"num_heads": num_heads, **per_stage}, self.slide_stages, last_stays=last_stays)
        self.stages = range(len(depths))
        self.dims = [dims * 2**stage for stage in self.stages] if isinstance(dims, int) else dims
        self.depths, self.num_heads, self.patch_size = depths, num_heads, patch_size
        self.norm: Callable[[int], nn.Module] = get_norm_layer(self.options["norm_layer"])
        self.drop = self.options["proj_drop_rate"]
        self.attention = AttentionOptions(
            qkv_bias=self.options["qkv_bias"], attn_drop=self.options["attn_drop_rate"], proj_drop=self.drop
        )

    def local_attention(self, stage: int, dilation: int = 1) -> SlideAttention | NeighborhoodAttention:
        """The attention of a block that slides, whose taps are ``dilation`` positions apart."""
        if self.options["local_attention"] == "neighborhood":
            return self.neighborhood_attention(stage, self.options["kernel_size"], dilation)
        return SlideAttention(
            self.dims[stage],
            self.num_heads[stage],
            self.options["kernel_size"],
            dilation=dilation,
            deform=self.options["deform"],
            shift_init=self.options["shift_init"],
            backend=self.options["backend"],
            **self.attention,
        )

    def neighborhood_attention(self, stage: int, size: int, dilation: int = 1) -> NeighborhoodAttention:
        """Neighborhood attention of ``size`` taps a side."""
        return NeighborhoodAttention(
            self.dims[stage],
            self.num_heads[stage],
            size,
            dilation=dilation,
            backend=self.options["backend"],
            **self.attention,
        )

    def drop_path(self, stage: int, block: int) -> float:
        """Stochastic depth of a block: it grows linearly from 0 at the first block to that of the last."""
        place, last = sum(self.depths[:stage]) + block, max(sum(self.depths) - 1, 1)
        return self.options["drop_path_rate"] * place / last

    def map_size(self, stage: int) -> tuple[int, int]:
        """Rows and columns of a stage's map of an image of ``img_size``."""
        size, pixels = self.options["img_size"], self.patch_size * 2**stage
        height, width = (size, size) if isinstance(size, int) else size
        return -(-height // pixels), -(-width // pixels)

    def blocks(self, stage: int, make_block: Callable[[int, int], nn.Module]) -> list[nn.Module]:
        """The blocks of a stage, each made from the numbers of stage and block."""
        return [make_block(stage, block) for block in range(self.depths[stage])]


def check_stages(
    depths: Sequence[int],
    per_stage: Mapping[str, Sequence[Any]],
    slide_stages: Sequence[int],
    *,
    last_stays: str = "",
) -> None:
    """Check that the arguments of the stages fit together.

    Args:
        depths: blocks of each stage, at least one.
        per_stage: further arguments that have one entry for each stage, by name.
        slide_stages: the stages that slide.
        last_stays: the reason why the last stage cannot slide, where it cannot.

    Raises:
        ValueError: they do not.
    """
    for name, entries in {"depths": depths, **per_stage, "slide_stages": slide_stages}.items():
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ValueError(
                f"{name} must be a sequence of numbers, got {entries!r}; use ({entries!r},) for one"
            )
    if not depths or any(len(entries) != len(depths) for entries in per_stage.values()):
        *names, last = ("depths", *per_stage)
        *given, final = (str(tuple(entries)) for entries in (depths, *per_stage.values()))
        raise ValueError(
            f"{', '.join(names)} and {last} must have one entry for each stage, "
            f"got {', '.join(given)} and {final}"
        )
    if min(depths) < 1:
        raise ValueError(f"depths must be at least 1 block in each stage, got {tuple(depths)}")
    sliding = range(len(depths) - bool(last_stays))
    if not set(slide_stages) <= set(sliding):
        bounds = f"from 0, the first, to {len(sliding) - 1}" if sliding else "()"
        reason = f", because {last_stays}" if last_stays else ""
        raise ValueError(f"slide_stages must be {bounds}{reason}, got {tuple(slide_stages)}")
