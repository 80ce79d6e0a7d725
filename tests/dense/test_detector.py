# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection import FasterRCNN, MaskRCNN, RetinaNet
from torchvision.ops import remove_small_boxes

from slideformer.dense.detector import HEADS, create_detector
from slideformer.dense.regions import region_pool
from slideformer.errors import UserError
from slideformer.models import reparameterize
from slideformer.models.merge import is_merged
from tests.dense.small_detectors import CLASSES, objects, pictures, small, targets
from tests.tiers import fast

SMALL_SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
BACKBONES = {
    "slide_pvt_tiny": {"embed_dims": (16, 16, 32, 64), "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 4)},
    "swin_tiny_patch4_window7_224": SMALL_SWIN,
    "resnet18": {},
    "pvt_v2_b0": {},
}


# Steps until the one object of one picture is found.
STEPS = {"faster_rcnn": 60, "mask_rcnn": 60, "cascade_mask_rcnn": 80, "retinanet": 40}


def seeded_losses(detector: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Losses of the pictures, with always the same samples."""
    torch.manual_seed(3)
    detector.train()
    losses = detector(pictures(), targets())
    detector.eval()
    return losses


@pytest.mark.parametrize("head", HEADS)
def test_fresh_losses_are_finite_and_reach_every_weight(head: str) -> None:
    detector = small(head, drop_path_rate=0.0)
    losses = seeded_losses(detector)
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()
    without = [name for name, weight in detector.named_parameters() if weight.grad is None]
    assert not without
    assert all(weight.grad.isfinite().all() for weight in detector.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_a_detection_lies_in_its_picture_and_has_a_class_from_1(head: str) -> None:
    with torch.inference_mode():
        found = small(head)(pictures())
    for picture, detection in zip(pictures(), found, strict=True):
        height, width = picture.shape[1:]
        left, top, right, bottom = detection["boxes"].T
        assert len(left) > 0
        assert (left >= 0).all()
        assert (left < right).all()
        assert (right <= width).all()
        assert (top >= 0).all()
        assert (top < bottom).all()
        assert (bottom <= height).all()
        assert detection["labels"].min() >= 1
        assert detection["labels"].max() <= CLASSES
        if HEADS[head].masks:
            assert detection["masks"].shape == (len(left), 1, height, width)
            assert detection["masks"].min() >= 0
            assert detection["masks"].max() <= 1
        else:
            assert "masks" not in detection


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", ["mask_rcnn", "retinanet"])
def test_any_backbone_trains_and_detects(head: str, backbone: str) -> None:
    detector = small(head, backbone, options=BACKBONES[backbone])
    assert all(loss.isfinite() for loss in seeded_losses(detector).values())
    assert len(detector(pictures())) == 2


# Torchvision's class, and what makes ours and it the same: its heads have one size.
OF_REGIONS = {"box_score_thresh": 0.0, "rpn_pre_nms_top_n_test": 40, "rpn_post_nms_top_n_test": 40}
THEIRS = {
    "faster_rcnn": (FasterRCNN, {"head_channels": 1024}, OF_REGIONS),
    "mask_rcnn": (
        MaskRCNN,
        {"fpn_channels": 256, "head_channels": 1024, "mask_channels": 256},
        OF_REGIONS,
    ),
    "retinanet": (RetinaNet, {}, {"score_thresh": 0.0, "detections_per_img": 100}),
}


@pytest.mark.parametrize("head", fast(THEIRS, "retinanet"))
def test_weights_give_what_they_give_in_torchvisions_own_detector(head: str) -> None:
    build, own, arguments = THEIRS[head]
    ours = small(head, **own)
    one_stage = head == "retinanet"
    background, shift = (0, 1) if one_stage else (1, 0)
    anchors = ours.anchor_generator if one_stage else ours.rpn.anchor_generator
    named = {("anchor_generator" if one_stage else "rpn_anchor_generator"): anchors}
    theirs = build(ours.backbone, CLASSES + background, **named, **arguments, min_size=64, max_size=128)
    theirs.load_state_dict(ours.state_dict())
    theirs.eval()
    for mine, other in zip(ours(pictures()), theirs(pictures()), strict=True):
        # Theirs in one stage keeps boxes that the picture's border has cut to nothing.
        kept = remove_small_boxes(other["boxes"], min_size=1e-2)
        wanted = {name: x[kept] for name, x in other.items()}
        torch.testing.assert_close({**mine, "labels": mine["labels"] - shift}, wanted)


@pytest.mark.parametrize("head", HEADS)
def test_pictures_without_objects_train(head: str) -> None:
    detector = small(head).train()
    losses = detector(pictures(), [objects([], [], 70, 90), objects([], [], 64, 50)])
    assert all(loss.isfinite() for loss in losses.values())
    assert all(loss == 0 for name, loss in losses.items() if "box" in name or "mask" in name)
    sum(losses.values()).backward()


@pytest.mark.parametrize("head", HEADS)
def test_a_box_without_width_is_refused(head: str) -> None:
    with pytest.raises(AssertionError, match="positive height and width"):
        small(head).train()(pictures(), [objects([[5, 5, 5, 20]], [1], 70, 90), targets()[1]])


@pytest.mark.parametrize("head", fast(HEADS, "retinanet"))
def test_a_detector_learns_the_object_that_it_is_shown(head: str) -> None:
    detector = small(head, drop_path_rate=0.0, options={"depths": (1, 1, 1, 1)})
    picture = torch.zeros(3, 64, 64)
    picture[:, 16:40, 20:52] = 1
    shown = [objects([[20, 16, 52, 40]], [2], 64, 64)]
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    detector.train()
    for _ in range(STEPS[head]):
        optimiser.zero_grad()
        sum(detector([picture], shown).values()).backward()
        optimiser.step()
    with torch.inference_mode():
        (found,) = detector.eval()([picture])
    assert found["labels"][0] == 2
    torch.testing.assert_close(found["boxes"][0], shown[0]["boxes"][0], atol=6, rtol=0)
    if HEADS[head].masks:
        inside = found["masks"][0, 0] > 0.5
        wanted = shown[0]["masks"][0] > 0
        assert (inside & wanted).sum() / (inside | wanted).sum() > 0.7


@pytest.mark.parametrize("head", HEADS)
def test_autocast_changes_little_and_boxes_keep_their_digits(head: str) -> None:
    detector = small(head, drop_path_rate=0.0)
    exact = seeded_losses(detector)
    with torch.autocast("cpu", torch.bfloat16):
        losses = seeded_losses(detector)
        found = detector(pictures())
    for name, loss in losses.items():
        torch.testing.assert_close(loss, exact[name], atol=0.02, rtol=0.05)
    assert {x.dtype for detection in found for x in detection.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("head", HEADS)
def test_a_merged_detector_finds_the_same(head: str) -> None:
    detector = small(head)
    with torch.inference_mode():
        merged = reparameterize(detector)(pictures())
        torch.testing.assert_close(merged, detector(pictures()), atol=1e-4, rtol=1e-4)
    assert is_merged(reparameterize(detector))


def test_pictures_are_normalised_once_and_padded_with_their_mean() -> None:
    detector = small("retinanet")
    picture = pictures()[0][:, :64, :64]
    padded, _ = detector.transform([torch.nn.functional.pad(picture, (0, 4, 0, 0))])
    assert padded.tensors.shape[-2:] == (64, 96)
    assert (padded.tensors[..., 68:] == 0).all()
    features = detector.backbone.features
    wanted = features(picture[None])
    (images, _) = detector.transform([picture])
    for x, y in zip(features.of_normalised(images.tensors), wanted, strict=True):
        torch.testing.assert_close(x, y)


def test_regions_of_a_picture_much_smaller_than_its_padding_are_cut_where_they_lie() -> None:
    # A map of stride 4 whose values are the places themselves, of a picture of 40 pixels padded to 64.
    place = (torch.arange(16.0) * 4 + 2).expand(16, 16)[None, None]
    maps = {"0": place, "1": torch.zeros(1, 1, 8, 8)}
    region = region_pool((4, 8), 2, 2)(maps, [torch.tensor([[8.0, 8, 24, 24]])], [(40, 40)])
    # Centres of the two halves; a sample lies half a position beside what it is taken from.
    torch.testing.assert_close(region[0, 0, 0], torch.tensor([14.0, 22.0]))


@pytest.mark.parametrize(("backbone", "finest"), [("slide_swin_nano", 2), ("resnet18", 4)])
def test_anchors_follow_the_strides_of_the_backbone(backbone: str, finest: int) -> None:
    regions = small("mask_rcnn", backbone).rpn.anchor_generator.sizes
    assert regions == tuple((8 * finest * 2**level,) for level in range(5))
    retina = small("retinanet", backbone).anchor_generator.sizes
    assert [sizes[0] for sizes in retina] == [8 * finest * 2**level for level in range(5)]
    assert retina[0][1] == math.floor(8 * finest * 2 ** (1 / 3))


def test_frozen_stages_drop_path_and_checkpointing_reach_the_backbone() -> None:
    detector = small("retinanet", frozen_stages=1, drop_path_rate=0.3, grad_checkpointing=True)
    stages = detector.backbone.features.model.stages
    assert not any(weight.requires_grad for weight in stages[0].parameters())
    assert all(weight.requires_grad for weight in stages[1].parameters())
    assert stages[-1].blocks[-1].drop_path.drop_prob == pytest.approx(0.3)
    assert stages[1].grad_checkpointing


FAULTS = {
    "head": (("yolo", "slide_swin_nano", 2), {}, "the head must be one of faster_rcnn, .*, got 'yolo'"),
    "backbone": (("retinanet", "slide_swin_nan", 2), {}, "did you mean slide_swin_nano"),
    "classes": (("retinanet", "slide_swin_nano", 0), {}, "num_classes must be at least 1, got 0"),
    "argument": (
        ("retinanet", "slide_swin_nano", 2),
        {"mask_channels": 8},
        "retinanet takes .*, got mask_chan",
    ),
    "channels": (("retinanet", "slide_swin_nano", 2), {"fpn_channels": 0}, "fpn_channels must be from 1 to"),
    "word": (
        ("retinanet", "slide_swin_nano", 2),
        {"min_size": "big"},
        "min_size must be of type int, got 'big'",
    ),
    "share": (("retinanet", "slide_swin_nano", 2), {"nms_threshold": 2}, "nms_threshold must be from 0 to 1"),
    "loss": (
        ("cascade_mask_rcnn", "slide_swin_nano", 2),
        {"box_loss": "l3"},
        "box_loss must be one of smooth",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_is_told_in_a_line(fault: str) -> None:
    words, arguments, message = FAULTS[fault]
    with pytest.raises(UserError, match=message):
        create_detector(*words, **arguments)
