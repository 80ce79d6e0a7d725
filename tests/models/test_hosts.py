# SPDX-License-Identifier: Apache-2.0
"""Public weights of the plain hosts: timm's outputs come out, and what does not fit is refused whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from slideformer.errors import UserError
from slideformer.models import SlideSwin, load_host
from slideformer.models.convert import convert_host
from slideformer.models.slide_dat import SlideDat
from tests.models import authors_of_pvt
from tests.models.families import small
from tests.tiers import fast

GOLDEN = Path(__file__).parents[1] / "golden"
# Our host, timm's, what lets timm's take any size, and a size beside 224. Timm decides once, for an image of
# 224, that the windows of Swin's last stage, which are as large as its map, are not shifted; so the map of
# the second image is no larger. Its MViTv2 is made for one size; for others, see the family's own test.
TIMMS = {
    "slide_swin_tiny": ("swin_tiny_patch4_window7_224", {"dynamic_img_size": True}, (180, 212)),
    "slide_pvt_v2_b2": ("pvt_v2_b2", {}, (180, 212)),
    "slide_mvit_v2_tiny": ("mvitv2_tiny", {}, (224, 224)),
}


def shaken(model: nn.Module) -> nn.Module:
    """A model none of whose weights is as it started, so that none can be mistaken for another."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("name", fast(TIMMS, "slide_pvt_v2_b2"))
def test_a_host_with_timms_weights_gives_timms_outputs(name: str) -> None:
    host, options, size = TIMMS[name]
    theirs = shaken(timm.create_model(host, **options))
    ours = timm.create_model(name, slide_stages=()).eval()
    load_host(ours, theirs.state_dict())
    for side in {(224, 224), size}:
        image = torch.randn(1, 3, *side)
        with torch.no_grad():
            torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=0)


def by_their_authors(name: str) -> str:
    """The name that PVTv2's authors give to a tensor of timm's."""
    name = re.sub(
        r"^stages\.(\d)\.downsample|^patch_embed", lambda m: f"patch_embed{int(m[1] or 0) + 1}", name
    )
    name = re.sub(r"^stages\.(\d)\.blocks", lambda m: f"block{int(m[1]) + 1}", name)
    return re.sub(r"^stages\.(\d)\.norm", lambda m: f"norm{int(m[1]) + 1}", name).replace(
        "dwconv", "dwconv.dwconv"
    )


def test_pvt_v2_loads_by_the_names_of_its_authors_too() -> None:
    shape = {"depths": (1, 1, 1, 1), "embed_dims": (8, 8, 16, 16), "num_heads": (1, 2, 2, 2)}
    theirs = shaken(timm.create_model("pvt_v2_b0", num_classes=5, **shape))
    ours = small("slide_pvt_v2_b1", slide_stages=(), **shape)
    state = {by_their_authors(name): x for name, x in theirs.state_dict().items()}
    assert "block1.0.mlp.dwconv.dwconv.weight" in state
    load_host(ours, state)
    image = torch.randn(1, 3, 61, 90)
    torch.testing.assert_close(ours(image), theirs(image), atol=1e-5, rtol=0)


def test_dat_gives_its_authors_logits() -> None:
    golden = load_file(GOLDEN / "dat_micro.safetensors")
    state = {name.removeprefix("state."): x.double() for name, x in golden.items() if "state." in name}
    model = small("slide_dat_tiny", slide_stages=(), embed_dim=8, neighborhood_size=3, mlp_ratio=2.0).double()
    load_host(model, state)
    torch.testing.assert_close(model(golden["input"].double()), golden["logits"], atol=1e-12, rtol=0)


def test_a_projection_that_dat_lacks_is_told() -> None:
    state = {"stages.0.attns.1.proj_k.weight": torch.zeros(4, 4, 1, 1)}
    with pytest.raises(UserError, match=r"unexpected: stages.0.blocks.1.attention.proj_k.weight"):
        load_host(small("slide_dat_tiny", slide_stages=()), state)


def test_weights_that_fit_in_part_are_refused_whole() -> None:
    theirs = authors_of_pvt.Authors(authors_of_pvt.shapes()).state
    model = small("slide_pvt_tiny", slide_stages=(), num_classes=3, **authors_of_pvt.SHAPE)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    theirs["block9.0.norm1.weight"] = theirs.pop("norm.weight")
    with pytest.raises(
        UserError,
        match=r"nothing was loaded; missing: norm.weight; unexpected: block9.0.norm1.weight; of another "
        r"shape: head.fc.weight \(want \(3, 32\), got \(5, 32\)\)",
    ):
        load_host(model, theirs)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_model_that_slides_is_refused() -> None:
    with pytest.raises(UserError, match=r"without slide attention; use slide_stages=\(\)"):
        load_host(small("slide_pvt_tiny"), {})


# Two tensors of theirs that have one name here.
COLLISIONS = {
    "another's name": ("slide_pvt_tiny", "block1.0.norm1.weight", "stages.0.blocks.0.norm1.weight"),
    "a stem twice": ("slide_pvt_tiny", "patch_embed1.proj.weight", "patch_embed.proj.weight"),
    "timm's and the authors'": ("slide_pvt_v2_b1", "patch_embed.norm.bias", "patch_embed1.norm.bias"),
    "two norms": ("slide_dat_tiny", "stages.0.layer_norms.3.weight", "stages.0.layer_norms.3.norm.weight"),
}


@pytest.mark.parametrize(("family", "one", "other"), COLLISIONS.values(), ids=COLLISIONS)
def test_two_tensors_that_become_one_are_both_named(family: str, one: str, other: str) -> None:
    state = {one: torch.zeros(4), other: torch.ones(4)}
    with pytest.raises(UserError, match=f"{re.escape(one)} and {re.escape(other)} are both "):
        load_host(small(family, slide_stages=()), state)


# One tensor of PVT's authors replaced: its name there and here, and its new shape.
MALFORMED = {
    "a token of one channel": ("cls_token", "stages.3.class_token", (1, 1, 1)),
    "a token of other channels": ("cls_token", "stages.3.class_token", (1, 1, 31)),
    "a token of another rank": ("cls_token", "stages.3.class_token", (32,)),
    "a list of positions": ("pos_embed1", "stages.0.downsample.1.weight", (12,)),
    "positions that are not square": ("pos_embed1", "stages.0.downsample.1.weight", (1, 12, 8)),
    "no positions but the token's": ("pos_embed4", "stages.3.downsample.1.weight", (1, 0, 32)),
}


@pytest.mark.parametrize(("theirs", "ours", "shape"), MALFORMED.values(), ids=MALFORMED)
def test_a_tensor_of_another_shape_is_named_as_it_came(
    theirs: str, ours: str, shape: tuple[int, ...]
) -> None:
    model = small("slide_pvt_tiny", slide_stages=(), **authors_of_pvt.SHAPE)
    state = authors_of_pvt.Authors(authors_of_pvt.shapes()).state
    state[theirs] = torch.zeros(shape)
    told = rf"nothing was loaded; of another shape: .*{ours} \(want .*, got {re.escape(str(shape))}\)"
    with pytest.raises(UserError, match=told):
        load_host(model, state)


@pytest.mark.parametrize("shape", [(4, 5, 1, 1), (4, 4), ()], ids=str)
def test_keys_and_values_of_dat_that_do_not_match_are_named(shape: tuple[int, ...]) -> None:
    prefix = "stages.0.attns.1.proj_"
    state = {f"{prefix}k.weight": torch.zeros(4, 4, 1, 1), f"{prefix}v.weight": torch.zeros(shape)}
    with pytest.raises(UserError, match=r"unexpected: .*proj_k.weight, .*proj_v.weight$"):
        load_host(small("slide_dat_tiny", slide_stages=()), state)


def test_keys_and_values_do_not_overwrite_what_has_their_name() -> None:
    prefix = "stages.0.attns.1."
    state = {f"{prefix}{name}.weight": torch.zeros(4, 4) for name in ("proj_k", "proj_v", "key_value")}
    assert len(convert_host(SlideDat, state)) == 3


def test_a_depthwise_kernel_of_one_position_stays_a_convolution() -> None:
    kernel, projection = torch.zeros(8, 1, 1, 1), torch.zeros(2, 8, 1, 1)
    prefix = "stages.0.attns.1.conv_offset"
    state = convert_host(SlideDat, {f"{prefix}.0.weight": kernel, f"{prefix}.3.weight": projection})
    assert [tuple(x.shape) for x in state.values()] == [(8, 1, 1, 1), (2, 8)]


def test_norms_of_dat_are_told_apart_in_stages_of_any_length() -> None:
    state = {f"stages.2.layer_norms.{number}.norm.weight": torch.zeros(4) for number in (0, 1, 52, 53)}
    assert list(convert_host(SlideDat, state)) == [
        f"stages.2.blocks.{block}.norm{norm}.weight" for block in (0, 26) for norm in (1, 2)
    ]


def test_a_model_that_holds_no_numbers_is_refused() -> None:
    state = authors_of_pvt.Authors(authors_of_pvt.shapes()).state
    model = small("slide_pvt_tiny", slide_stages=(), device="meta", **authors_of_pvt.SHAPE)
    with pytest.raises(UserError, match="is on the meta device, where nothing can be loaded"):
        load_host(model, state)


def test_swins_old_constants_are_left_out_if_they_are_swins() -> None:
    state = {"layers.1.blocks.1.attn_mask": torch.zeros(4, 49, 49)}
    assert convert_host(SlideSwin, state) == {}
    with pytest.raises(UserError, match="attn_mask must be Swin's for a window of 7"):
        convert_host(SlideSwin, {name: x + 1 for name, x in state.items()})


@pytest.mark.parametrize("shape", [(), (4,), (0,), (4, 49, 48), (49, 49)], ids=str)
@pytest.mark.parametrize("name", ["attn_mask", "relative_position_index"])
def test_swins_constants_of_another_shape_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=f"1.blocks.1.{name} must be Swin's"):
        convert_host(SlideSwin, {f"layers.1.blocks.1.{name}": torch.zeros(shape, dtype=torch.long)})


def test_a_family_without_public_weights_is_told() -> None:
    with pytest.raises(UserError, match=r"must be one of SlideSwin, .*got Linear"):
        convert_host(nn.Linear, {})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "must be a state dict, tensors by name, got NoneType; read a file"),
        ({"a": 3, "b": torch.zeros(1)}, r"some are not: 'a' \(int\); leave them out"),
        ({7: torch.zeros(1)}, r"some are not: 7 \(Tensor\)"),
        ({"model": {"a": torch.zeros(1)}, "epoch": 3}, "pass the value of 'model'"),
        ({"module.a": torch.zeros(1)}, "drop it from every name"),
        ({f"a{i}": torch.zeros(1) for i in range(30)}, r"a19 and 10 more$"),
    ],
    ids=["None", "number", "no name", "wrapped", "parallel", "many"],
)
def test_what_is_no_state_dict_of_theirs_is_told(state: Any, message: str) -> None:
    model = small("slide_pvt_v2_b1", slide_stages=())
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_host(model, state)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_our_own_state_dict_is_told_from_theirs() -> None:
    model = small("slide_pvt_v2_b1", slide_stages=())
    with pytest.raises(UserError, match="our own names already"):
        load_host(model, model.state_dict())
