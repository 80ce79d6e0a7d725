# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from slideformer.dense.cascade import BOX_LOSSES, REFINEMENTS, CascadeHeads, likeliest, refine
from tests.dense.small_detectors import pictures, small, targets

BOX_LOSS = sorted(BOX_LOSSES)


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    detector = small("cascade_mask_rcnn")
    for stage in detector.roi_heads.stages:  # so that scores and boxes of the stages differ
        torch.nn.init.normal_(stage.box_predictor.cls_score.weight, std=0.3)
        torch.nn.init.normal_(stage.box_predictor.bbox_pred.weight, std=0.3)
    return detector


@pytest.fixture
def given(detector: torch.nn.Module) -> tuple:
    """Maps, proposals and sizes of the pictures."""
    with torch.no_grad():
        images, _ = detector.transform(pictures())
        maps = detector.backbone(images.tensors)
        proposals, _ = detector.rpn(images, maps)
    return maps, proposals, images.image_sizes


def test_a_cascade_of_one_stage_is_torchvisions_head(detector: torch.nn.Module, given: tuple) -> None:
    stage = detector.roi_heads.stages[0]
    alone = CascadeHeads([stage], [1.0], "smooth_l1").eval()
    found, _ = alone(*given)
    wanted, _ = stage(*given)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    alone.train()
    losses = []
    for heads in (alone, stage):
        torch.manual_seed(5)
        losses.append(heads(*given, targets())[1])
    mine, other = losses
    torch.testing.assert_close({name.removesuffix("_1"): x for name, x in mine.items()}, other)
    detector.eval()


def test_scores_and_masks_are_averaged_over_the_stages(detector: torch.nn.Module, given: tuple) -> None:
    stages = list(detector.roi_heads.stages)
    # Stages that move no box: all see the same regions, so that each could be asked by itself.
    for stage in stages:
        stage.score_thresh, stage.nms_thresh, stage.detections_per_img = -1.0, 1.0, 1000
        torch.nn.init.zeros_(stage.box_predictor.bbox_pred.weight)
    found, _ = CascadeHeads(stages, [1, 1, 1], "smooth_l1").eval()(*given)
    each = [CascadeHeads([stage], [1], "smooth_l1").eval()(*given)[0] for stage in stages]

    def ordered(detection: dict[str, torch.Tensor], name: str) -> torch.Tensor:
        key = detection["labels"] * 1e6 + detection["boxes"] @ torch.tensor([1.0, 100.0, 7.0, 13.0])
        return detection[name][key.argsort()]

    for number, detection in enumerate(found):
        for name in ("scores", "masks"):
            mean = torch.stack([ordered(every[number], name) for every in each]).mean(0)
            torch.testing.assert_close(ordered(detection, name), mean, atol=1e-5, rtol=1e-4)


def test_a_stage_refines_what_the_one_before_gave() -> None:
    (stage,) = small("cascade_mask_rcnn").roi_heads.stages[:1]
    proposals = [torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60]])]
    deltas = torch.zeros(3, 4, 4)
    deltas[0, 2] = torch.tensor([10.0 * 0.5, 0, 0, 0])  # half a width to the right, for class 2 alone
    deltas[1, 1] = torch.tensor([0.0, 10 * -0.5, 0, 0])  # half a height up, out of the picture
    moved = refine(stage, deltas.flatten(1), proposals, torch.tensor([2, 1, 3]), [(60, 60), (64, 64)])
    torch.testing.assert_close(moved[0], torch.tensor([[20.0, 10, 40, 50]]))
    torch.testing.assert_close(moved[1], torch.tensor([[0.0, 0, 20, 10], [40, 40, 60, 60]]))


def test_the_background_is_nobodys_likeliest_class() -> None:
    assert likeliest(torch.tensor([[9.0, 1, 2], [0, 3, 2]])).tolist() == [2, 1]


@pytest.mark.parametrize("name", BOX_LOSS)
@pytest.mark.parametrize("row", REFINEMENTS, ids=lambda row: f"{row.iou}")
def test_a_box_loss_is_least_at_the_object(name: str, row: object) -> None:
    coder = BoxCoder(row.box_weights)
    proposals, boxes = torch.tensor([[10.0, 10, 30, 50]]), torch.tensor([[12.0, 9, 33, 44]])
    exact = coder.encode_single(boxes, proposals)
    assert BOX_LOSSES[name](exact, proposals, boxes, coder) == pytest.approx(0, abs=1e-4)
    losses = [BOX_LOSSES[name](exact + step, proposals, boxes, coder) for step in (0.5, 1.0)]
    assert 0 < losses[0] < losses[1]


def test_giou_is_that_of_the_decoded_boxes() -> None:
    coder = BoxCoder(REFINEMENTS[0].box_weights)
    proposals, boxes = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, 0, 15, 10]])
    # Overlap 50 of a union of 150, which fills what encloses both.
    loss = BOX_LOSSES["giou"](torch.zeros(1, 4), proposals, boxes, coder)
    assert loss == pytest.approx(10 * (1 - 50 / 150))


@pytest.mark.parametrize("box_loss", BOX_LOSS)
def test_every_stage_has_losses_of_its_weight(box_loss: str) -> None:
    detector = small("cascade_mask_rcnn", drop_path_rate=0.0, box_loss=box_loss).train()
    losses = []
    for weights in ((1.0, 0.5, 0.25), (1.0, 1.0, 1.0)):
        detector.roi_heads.loss_weights = weights
        torch.manual_seed(2)
        losses.append(detector(pictures(), targets()))
    for number, weight in enumerate((1.0, 0.5, 0.25), start=1):
        for name in ("classifier", "box_reg", "mask"):
            weighted, plain = (every[f"loss_{name}_{number}"] for every in losses)
            torch.testing.assert_close(weighted, weight * plain)


def test_no_gradient_goes_through_refined_boxes() -> None:
    detector = small("cascade_mask_rcnn", drop_path_rate=0.0).train()
    torch.manual_seed(2)
    losses = detector(pictures(), targets())
    (losses["loss_classifier_3"] + losses["loss_box_reg_3"] + losses["loss_mask_3"]).backward()
    grads = [
        any(weight.grad is not None and bool(weight.grad.any()) for weight in stage.parameters())
        for stage in detector.roi_heads.stages
    ]
    assert grads == [False, False, True]
