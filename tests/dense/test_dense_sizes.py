# SPDX-License-Identifier: Apache-2.0
"""Every family as a dense task uses it: large odd pictures, frozen stages, stochastic depth, less memory."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from slideformer.dense.features import Features
from slideformer.models import load_host
from tests.models.families import FAMILIES
from tests.tiers import fast

# A quarter of 800 x 1333, of COCO's pictures, and of 512 x 2048, of ADE20K's counts.
SIZES = [(200, 333), (128, 512)]
# Families whose first stage sees the nearest positions alone, and not where it lies.
LOCAL = ["slide_swin_tiny", "slide_nat_mini", "slide_pvt_v2_b1", "slide_cswin_tiny"]
# Ours as the plain host, and timm's.
TIMMS = {"slide_swin_tiny": "swin_tiny_patch4_window7_224", "slide_pvt_v2_b1": "pvt_v2_b1"}


def features(name: str, **arguments: object) -> Features:
    """Maps of a family's small model, always the same, in evaluation mode."""
    torch.manual_seed(0)
    options = {**FAMILIES.get(name, {}), **arguments.pop("options", {})}
    return Features(name, options=options, **arguments).eval()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_maps_of_a_large_odd_picture_cover_it(name: str, size: tuple[int, int]) -> None:
    model = features(name)
    with torch.no_grad():
        maps = model(torch.rand(1, 3, *size))
    for x, channels, stride in zip(maps, model.channels, model.strides, strict=True):
        assert x.shape == (1, channels, *(-(-side // stride) for side in size))
        assert x.isfinite().all()


@pytest.mark.slow  # for images of one size it is in models/test_hosts
@pytest.mark.parametrize("size", [(256, 352), (288, 512)], ids=str)
@pytest.mark.parametrize("name", TIMMS)
def test_plain_hosts_give_timms_maps(name: str, size: tuple[int, int]) -> None:
    host = TIMMS[name]
    torch.manual_seed(0)
    theirs = timm.create_model(host)
    ours = timm.create_model(name, slide_stages=())
    load_host(ours, theirs.state_dict())
    image = torch.rand(1, 3, *size)
    maps = []
    for model, word, options in ((ours, name, {"slide_stages": ()}), (theirs, host, None)):
        wrapped = Features(word, options=options).eval()
        wrapped.model.load_state_dict(
            {key: x for key, x in model.state_dict().items() if key in wrapped.model.state_dict()}
        )
        with torch.no_grad():
            maps.append(wrapped(image))
    torch.testing.assert_close(maps[0], maps[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", LOCAL)
def test_the_first_map_sees_in_a_crop_what_it_sees_in_the_picture(name: str) -> None:
    model = features(name)
    picture = torch.rand(1, 3, 200, 333)
    top, left, height, width = 32, 64, 96, 160
    with torch.no_grad():
        whole = model(picture)[0]
        crop = model(picture[..., top : top + height, left : left + width])[0]
    inside = whole[..., top // 4 : (top + height) // 4, left // 4 : (left + width) // 4]
    # One block and a stem see four positions around each at most.
    torch.testing.assert_close(crop[..., 4:-4, 4:-4], inside[..., 4:-4, 4:-4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_position_embeddings_are_those_of_a_model_of_that_size_interpolated(size: tuple[int, int]) -> None:
    small, native = (features("slide_pvt_tiny", options={"img_size": side}) for side in (64, size))
    state = small.state_dict()
    for name, own in native.state_dict().items():
        if state[name].shape != own.shape:
            learned = state[name].permute(0, 3, 1, 2)
            enlarged = F.interpolate(learned, own.shape[1:3], mode="bilinear").permute(0, 2, 3, 1)
            state[name] = enlarged
    native.load_state_dict(state)
    image = torch.rand(1, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(small(image), native(image), atol=1e-5, rtol=1e-5)


def step(model: Features, image: Tensor) -> None:
    """A step of training that would change every weight, with decay."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    sum(x.square().mean() for x in model.train()(image)).backward()
    optimiser.step()


@pytest.mark.parametrize("name", [*FAMILIES, "resnet18"])
def test_a_step_changes_nothing_that_is_frozen_and_all_else(name: str) -> None:
    model = features(name, frozen_stages=2, norm=False)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    frozen = {key for key, weight in model.named_parameters() if not weight.requires_grad}
    step(model, torch.rand(2, 3, 64, 96))
    assert frozen
    without_gradient = {key for key, weight in model.named_parameters() if weight.grad is None}
    assert without_gradient == frozen
    same = {key for key, x in model.state_dict().items() if torch.equal(x, before[key])}
    changed = {key for key, _ in model.named_parameters()} - same
    assert not changed & frozen
    # What starts at 0, such as a bias whose gradient is 0, may stay.
    assert len(changed) > 0.8 * sum(1 for weight in model.parameters() if weight.requires_grad)


def test_statistics_of_a_frozen_stage_stay() -> None:
    model = features("resnet18", frozen_stages=1)
    before = {key: x.clone() for key, x in model.model.named_buffers()}
    step(model, torch.rand(2, 3, 64, 64))
    moved = {key for key, x in model.model.named_buffers() if not torch.equal(x, before[key])}
    assert moved
    assert all(key.startswith(("layer2", "layer3", "layer4")) for key in moved)


@pytest.mark.parametrize("name", FAMILIES)
def test_frozen_blocks_skip_nothing_and_others_do(name: str) -> None:
    model = features(name, frozen_stages=1, drop_path_rate=0.9).train()
    rates = [
        (block.drop_path.drop_prob, block.drop_path.training)
        for stage in model.model.stages
        for block in stage.blocks
    ]
    assert rates[-1] == (pytest.approx(0.9), True)
    assert [rate for rate, _ in rates] == sorted(rate for rate, _ in rates)
    assert not any(training for _, training in rates[: len(model.model.stages[0].blocks)])


def gradients(model: Features, image: Tensor) -> tuple[dict[str, Tensor], int]:
    """Gradients of a step by name, and bytes that are kept for it."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = sum(x.square().mean() for x in model.train()(image))
    held = sum(kept.values())
    loss.backward()
    return {name: weight.grad for name, weight in model.named_parameters()}, held


@pytest.mark.parametrize("name", fast([*FAMILIES, "swin_tiny_patch4_window7_224"], *FAMILIES))
def test_checkpointing_gives_the_same_gradients_and_keeps_less(name: str) -> None:
    image = torch.rand(1, 3, 128, 192)
    plain, before = gradients(features(name, drop_path_rate=0.3), image)
    saving, after = gradients(features(name, drop_path_rate=0.3, grad_checkpointing=True), image)
    for key, grad in plain.items():
        torch.testing.assert_close(saving[key], grad, msg=lambda told, key=key: f"{key}: {told}")
    assert after < 0.6 * before
