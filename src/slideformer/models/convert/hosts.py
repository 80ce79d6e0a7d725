# SPDX-License-Identifier: Apache-2.0
"""Public weights of the plain hosts: for each family a table of renames, and changes of layout."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.layers.slide_attention import SlideAttention
from slideformer.models.convert.authors import check_constant
from slideformer.models.convert.state import check_state, check_unique, load_all_or_none
from slideformer.models.slide_cswin import SlideCSwin
from slideformer.models.slide_dat import SlideDat
from slideformer.models.slide_mvit_v2 import SlideMvitV2
from slideformer.models.slide_nat import SlideNat
from slideformer.models.slide_pvt import SlidePvt
from slideformer.models.slide_pvt_v2 import SlidePvtV2
from slideformer.models.slide_swin import SlideSwin

State = dict[str, Tensor]
# A pattern of their names, and its replacement or a function that computes it.
Renames = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


@dataclass(frozen=True)
class Host:
    """The differences between the public weights of one host and ours.

    Attributes:
        renames: applied to each name one after the other, all that match.
        layout: further changes of the renamed state. It does not change a tensor of an unexpected shape, so
            that loading rejects it by name.
    """

    renames: Renames
    layout: Callable[[State], State] = lambda state: state


def drop_constants(state: State) -> State:
    """Remove Swin's indices and masks, which its older files hold and our layers compute."""
    constants = ("relative_position_index", "attn_mask")
    for name, tensor in state.items():
        if name.endswith(constants):
            check_constant(name, tensor)
    return {name: tensor for name, tensor in state.items() if not name.endswith(constants)}


def unfold_positions(state: State) -> State:
    """Turn PVT's position embeddings ``(1, H W, C)`` into maps, and add the class token's to the token."""
    changed = dict(state)
    for name, position in state.items():
        if not name.endswith("downsample.1.weight") or position.ndim != 3:
            continue
        token = name.replace("downsample.1.weight", "class_token")
        if token in state:
            first, position = position[:, :1], position[:, 1:]
            if state[token].shape != first.shape:
                continue
        side = math.isqrt(position.shape[1])
        if side * side != position.shape[1]:
            continue
        changed[name] = position.unflatten(1, (side, side))
        if token in state:
            changed[token] = state[token] + first
    return changed


# DAT's 1 x 1 convolutions that are linear maps here.
LINEAR = re.compile(r"\.(query|proj_[kv]|attention\.proj|offsets\.proj|fc[12])\.weight$")


def join_keys_and_values(state: State) -> State:
    """Join DAT's projections to keys and values, and turn its 1 x 1 convolutions into linear maps."""
    changed = {
        name: x.flatten(1) if LINEAR.search(name) and x.shape[2:] == (1, 1) else x
        for name, x in state.items()
    }
    for name in state:
        value, both = (name.replace(".proj_k.", f".{other}.") for other in ("proj_v", "key_value"))
        # Without ".proj_k." all three are one name.
        if value in state and both not in state and state[name].shape == state[value].shape != ():
            changed[both] = torch.cat([changed.pop(name), changed.pop(value)])
    return changed


def block_norm(found: re.Match[str]) -> str:
    """Our name of one of DAT's norms: a block has two, and theirs are numbered throughout a stage."""
    number = int(found[1])
    return f".blocks.{number // 2}.norm{number % 2 + 1}."


REDUCTION: Renames = (
    (r"\.attn\.q\.", ".attention.query."),
    (r"\.attn\.kv\.", ".attention.key_value."),
    (r"\.attn\.sr\.", ".attention.reduce."),
    (r"\.attn\.", ".attention."),
    (r"^head\.", "head.fc."),
)
# Both PVT and PVTv2, by their authors: names of modules end in the number of their stage, from 1.
STAGES: Renames = (
    (r"^patch_embed1\.", "patch_embed."),
    *((rf"^block{stage + 1}\.", f"stages.{stage}.blocks.") for stage in range(4)),
)
HOSTS: dict[type[nn.Module], Host] = {
    # By timm.
    SlideSwin: Host(((r"^layers\.", "stages."), (r"\.attn\.", ".attention.")), drop_constants),
    SlideMvitV2: Host(
        (
            (r"\.attn\.(norm|pool)_q\.", r".attention.query_pool.\1."),
            (r"\.attn\.(norm|pool)_k\.", r".attention.key_pool.\1."),
            (r"\.attn\.(norm|pool)_v\.", r".attention.value_pool.\1."),
            (r"_pool\.pool\.", "_pool.conv."),
            (r"\.rel_pos_h$", ".relative_position_rows"),
            (r"\.rel_pos_w$", ".relative_position_columns"),
            (r"\.attn\.", ".attention."),
            (r"\.shortcut_proj_attn\.", ".shortcut."),
        )
    ),
    # By their authors.
    SlidePvt: Host(
        (
            *REDUCTION,
            *STAGES,
            *((rf"^patch_embed{stage + 1}\.", f"stages.{stage}.downsample.0.") for stage in (1, 2, 3)),
            *((rf"^pos_embed{stage + 1}$", f"stages.{stage}.downsample.1.weight") for stage in range(4)),
            (r"^cls_token$", "stages.3.class_token"),
        ),
        unfold_positions,
    ),
    SlideDat: Host(
        (
            (r"^patch_proj\.[01]\.", "patch_embed.0."),
            (r"^patch_proj\.[34]\.", "patch_embed.2."),
            *((rf"^down_projs\.{stage - 1}\.[01]\.", f"stages.{stage}.downsample.") for stage in (1, 2, 3)),
            (r"^(patch_embed\.[02]|stages\.\d\.downsample)\.(weight|bias)$", r"\1.proj.\2"),
            (r"\.layer_norms\.(\d+)\.", block_norm),
            (r"\.local_perception_units\.(\d+)\.", r".blocks.\1.perception."),
            (r"\.attns\.(\d+)\.", r".blocks.\1.attention."),
            (r"\.mlps\.(\d+)\.", r".blocks.\1.mlp."),
            (r"\.linear([12])\.0\.", r".fc\1."),
            (r"\.dwc\.", ".depthwise."),
            (r"\.conv_offset\.0\.", ".offsets.depthwise."),
            (r"\.conv_offset\.1\.", ".offsets."),
            (r"\.conv_offset\.3\.", ".offsets.proj."),
            (r"\.proj_q\.", ".query."),
            (r"\.proj_out\.", ".proj."),
            (r"\.(rpb|rpe_table)$", ".relative_position_bias_table"),
            (r"^cls_norm\.", ""),
            (r"^cls_head\.", "head.fc."),
            (r"(norm[12]?)\.norm\.", r"\1."),
        ),
        join_keys_and_values,
    ),
    # By timm or by their authors, whose names do not collide.
    SlidePvtV2: Host(
        (
            *REDUCTION,
            *STAGES,
            *((rf"^patch_embed{stage + 1}\.", f"stages.{stage}.downsample.") for stage in (1, 2, 3)),
            *((rf"^norm{stage + 1}\.", f"stages.{stage}.norm.") for stage in range(4)),
            (r"\.dwconv(\.dwconv)?\.", ".depthwise."),
        )
    ),
    # By their authors.
    SlideCSwin: Host(
        (
            (r"^stage1_conv_embed\.0\.", "patch_embed.proj."),
            (r"^stage1_conv_embed\.2\.", "patch_embed.norm."),
            *((rf"^stage{stage + 1}\.", f"stages.{stage}.blocks.") for stage in range(4)),
            *((rf"^merge{stage}\.conv\.", f"stages.{stage}.downsample.proj.") for stage in (1, 2, 3)),
            *((rf"^merge{stage}\.norm\.", f"stages.{stage}.downsample.norm.") for stage in (1, 2, 3)),
            (r"(blocks\.\d+)\.(qkv|proj)\.", r"\1.attention.\2."),
            (r"\.attns\.(\d)\.get_v\.", r".attention.lepe.\1."),
            (r"^head\.", "head.fc."),
        )
    ),
    # By their authors, who merge at the end of a stage.
    SlideNat: Host(
        (
            *((rf"^levels\.{stage}\.downsample", f"stages.{stage + 1}.downsample") for stage in range(3)),
            (r"\.downsample\.reduction\.", ".downsample.proj."),
            (r"^levels\.", "stages."),
            (r"\.attn\.rpb$", ".attention.relative_position_bias_table"),
            (r"\.attn\.", ".attention."),
            (r"\.gamma([12])$", r".scale\1.gamma"),
            (r"^head\.", "head.fc."),
        )
    ),
}


def convert_host(family: type[nn.Module], state: Mapping[str, Tensor]) -> State:
    """Convert a plain host's public state dict to our names and layouts; unknown names stay unchanged.

    Args:
        family: class of the model that will load it.
        state: Swin's by timm, PVTv2's by timm or its authors, all others' by their authors.

    Raises:
        UserError: no public weights are known for the family, a constant is damaged, or two names
            become one of ours.
    """
    if family not in HOSTS:
        raise UserError(
            f"the model must be one of {', '.join(each.__name__ for each in HOSTS)}, got {family.__name__}"
        )
    host = HOSTS[family]
    ours = {name: rename(name, host.renames) for name in state}
    check_unique(ours)
    return host.layout({ours[name]: tensor for name, tensor in state.items()})


def rename(name: str, renames: Renames) -> str:
    """Our name of a parameter."""
    for theirs, ours in renames:
        name = re.sub(theirs, ours, name)
    return name


def load_host(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load public weights of a plain host, either all of them or none.

    Args:
        model: of the same structure, with ``slide_stages=()``.
        state: as `convert_host` takes it.

    Raises:
        UserError: the model slides, or names or shapes do not fit: which, and in what way.

    Example:
        >>> import timm
        >>> model = timm.create_model("slide_pvt_v2_b1", slide_stages=())
        >>> load_host(model, timm.create_model("pvt_v2_b1").state_dict())
    """
    if any(isinstance(module, SlideAttention) for module in model.modules()):
        raise UserError("a plain host's weights need a model without slide attention; use slide_stages=()")
    check_state(model, state)
    load_all_or_none(model, convert_host(type(model), state))
