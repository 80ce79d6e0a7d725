# SPDX-License-Identifier: Apache-2.0
"""The heads of Cascade R-CNN (Cai and Vasconcelos, 2018): each refines the boxes of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, maskrcnn_loss
from torchvision.ops import clip_boxes_to_image, generalized_box_iou_loss, remove_small_boxes

from slideformer.errors import UserError

Maps = dict[str, Tensor]
Sizes = list[tuple[int, int]]
Target = dict[str, Tensor]


@dataclass(frozen=True)
class Refinement:
    """The settings of one stage of the cascade.

    Attributes:
        iou: overlap with an object from which a proposal counts as that object.
        box_weights: by which the distances x, y, width and height are multiplied.
        loss_weight: of the stage's losses.
    """

    iou: float
    box_weights: tuple[float, float, float, float]
    loss_weight: float


REFINEMENTS = (
    Refinement(0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
    Refinement(0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
    Refinement(0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
)


def smooth_l1(deltas: Tensor, proposals: Tensor, boxes: Tensor, coder: BoxCoder) -> Tensor:
    """Loss of coded distances ``(N, 4)`` from proposals ``(N, 4)`` to boxes ``(N, 4)``, summed."""
    return F.smooth_l1_loss(deltas, coder.encode_single(boxes, proposals), beta=1 / 9, reduction="sum")


def giou(deltas: Tensor, proposals: Tensor, boxes: Tensor, coder: BoxCoder) -> Tensor:
    """Loss of the decoded boxes' overlap, of the same shapes, with the weight that Swin's authors give it."""
    return 10 * generalized_box_iou_loss(coder.decode_single(deltas, proposals), boxes, reduction="sum")


BOX_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, BoxCoder], Tensor]] = {
    "smooth_l1": smooth_l1,
    "giou": giou,
}


class CascadeHeads(nn.Module):
    """Heads of which each takes the boxes that the one before has refined, in place of torchvision's one.

    In training the first stage samples proposals, and the later ones learn from the same, refined, which
    they match again by their own overlap. In evaluation the scores of all stages are averaged, at boxes that
    the last one gives, and so are the masks.

    Args:
        stages: torchvision's heads, in order, each with its overlap and its weights of distances; sampling,
            thresholds and pooling of the first hold for all.
        loss_weights: of each stage's losses.
        box_loss: a name in `BOX_LOSSES`.

    Raises:
        UserError: there is no such loss.
    """

    def __init__(self, stages: Sequence[RoIHeads], loss_weights: Sequence[float], box_loss: str) -> None:
        super().__init__()
        if box_loss not in BOX_LOSSES:
            raise UserError(f"box_loss must be one of {', '.join(BOX_LOSSES)}, got {box_loss!r}")
        self.stages: Any = nn.ModuleList(stages)
        self.loss_weights = tuple(loss_weights)
        self.box_loss = box_loss

    def forward(
        self, features: Maps, proposals: list[Tensor], sizes: Sizes, targets: list[Target] | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections of each image in evaluation, losses by name in training; the other is empty.

        Args:
            features: maps of all images, by name.
            proposals: boxes ``(N, 4)`` of each image, in pixels.
            sizes: height and width of each image.
            targets: of each image; boxes ``(M, 4)``, labels ``(M,)`` from 1, masks ``(M, height, width)``.
        """
        if not self.training:
            return self.detect(features, proposals, sizes), {}
        assert targets is not None  # torchvision's detectors refuse to train without
        return [], self.losses(features, proposals, sizes, targets)

    def losses(
        self, features: Maps, proposals: list[Tensor], sizes: Sizes, targets: list[Target]
    ) -> dict[str, Tensor]:
        """Losses of all stages by name, weighted."""
        truth = [target["boxes"].to(proposals[0].dtype) for target in targets]
        classes = [target["labels"] for target in targets]
        losses = {}
        proposals, matches, labels, _ = self.stages[0].select_training_samples(proposals, targets)
        for number, (stage, weight) in enumerate(zip(self.stages, self.loss_weights, strict=True), start=1):
            if number > 1:
                matches, labels = stage.assign_targets_to_proposals(proposals, truth, classes)
            logits, deltas = box_answers(stage, features, proposals, sizes)
            found = {
                "classifier": F.cross_entropy(logits, torch.cat(labels)),
                "box_reg": self.loss_of_boxes(stage, deltas, proposals, truth, matches, labels),
                "mask": loss_of_masks(stage, features, proposals, sizes, targets, matches, labels),
            }
            losses.update({f"loss_{name}_{number}": weight * loss for name, loss in found.items()})
            chosen = torch.where(torch.cat(labels) > 0, torch.cat(labels), likeliest(logits))
            proposals = [
                boxes[remove_small_boxes(boxes, min_size=1e-2)]
                for boxes in refine(stage, deltas, proposals, chosen, sizes)
            ]
        return losses

    def loss_of_boxes(
        self,
        stage: RoIHeads,
        deltas: Tensor,
        proposals: list[Tensor],
        truth: list[Tensor],
        matches: list[Tensor],
        labels: list[Tensor],
    ) -> Tensor:
        """Loss of the boxes of objects, a mean over all proposals."""
        objects = [label > 0 for label in labels]
        every = torch.cat(labels)
        rows = torch.where(every > 0)[0]
        wanted = torch.cat([boxes[m[o]] for boxes, m, o in zip(truth, matches, objects, strict=True)])
        own = deltas.unflatten(1, (-1, 4))[rows, every[rows]]
        loss = BOX_LOSSES[self.box_loss](own, torch.cat(proposals)[rows], wanted, stage.box_coder)
        return loss / max(len(every), 1)

    def detect(self, features: Maps, proposals: list[Tensor], sizes: Sizes) -> list[dict[str, Tensor]]:
        """Boxes, labels, scores and masks ``(N, 1, side, side)``, each in its box, of every image."""
        probabilities = []
        for number, stage in enumerate(self.stages, start=1):
            logits, deltas = box_answers(stage, features, proposals, sizes)
            probabilities.append(logits.softmax(-1))
            if number < len(self.stages):
                proposals = refine(stage, deltas, proposals, likeliest(logits), sizes)
        # What is called takes the softmax of logits: that of a probability's logarithm is the probability.
        mean = torch.stack(probabilities).mean(0).log()
        boxes, scores, labels = stage.postprocess_detections(mean, deltas, proposals, sizes)
        of_stages = [
            maskrcnn_inference(mask_answers(stage, features, boxes, sizes), labels) for stage in self.stages
        ]
        masks = [torch.stack(same).mean(0) for same in zip(*of_stages, strict=True)]
        return [
            {"boxes": b, "labels": y, "scores": s, "masks": m}
            for b, y, s, m in zip(boxes, labels, scores, masks, strict=True)
        ]


def box_answers(
    stage: RoIHeads, features: Maps, proposals: list[Tensor], sizes: Sizes
) -> tuple[Tensor, Tensor]:
    """Logits ``(N, 1 + classes)`` and coded distances ``(N, 4 (1 + classes))`` of all proposals."""
    return stage.box_predictor(stage.box_head(stage.box_roi_pool(features, proposals, sizes)))


def mask_answers(stage: RoIHeads, features: Maps, boxes: list[Tensor], sizes: Sizes) -> Tensor:
    """Logits ``(N, 1 + classes, side, side)`` of the masks in all boxes."""
    return stage.mask_predictor(stage.mask_head(stage.mask_roi_pool(features, boxes, sizes)))


def likeliest(logits: Tensor) -> Tensor:
    """The class of each proposal, from 1, whatever speaks for no object: ``(N, 1 + classes) -> (N,)``."""
    return logits[:, 1:].argmax(1) + 1


def refine(
    stage: RoIHeads, deltas: Tensor, proposals: list[Tensor], classes: Tensor, sizes: Sizes
) -> list[Tensor]:
    """The boxes that a stage makes of proposals, inside their images; no gradient goes through them.

    Args:
        stage: has the weights of the distances.
        deltas: coded distances ``(N, 4 (1 + classes))``, for every class.
        proposals: boxes ``(N, 4)`` of each image.
        classes: whose distances are taken ``(N,)``.
        sizes: height and width of each image.
    """
    rows = torch.arange(len(deltas), device=deltas.device)
    own = deltas.detach().unflatten(1, (-1, 4))[rows, classes]
    boxes = stage.box_coder.decode_single(own, torch.cat(proposals))
    apart = boxes.split([len(boxes) for boxes in proposals])
    return [clip_boxes_to_image(boxes, size) for boxes, size in zip(apart, sizes, strict=True)]


def loss_of_masks(
    stage: RoIHeads,
    features: Maps,
    proposals: list[Tensor],
    sizes: Sizes,
    targets: list[Target],
    matches: list[Tensor],
    labels: list[Tensor],
) -> Tensor:
    """Loss of the masks of objects, a mean over their pixels."""
    objects = [label > 0 for label in labels]
    boxes = [box[o] for box, o in zip(proposals, objects, strict=True)]
    chosen = [match[o] for match, o in zip(matches, objects, strict=True)]
    logits = mask_answers(stage, features, boxes, sizes)
    masks, classes = ([target[name] for target in targets] for name in ("masks", "labels"))
    return maskrcnn_loss(logits, boxes, masks, classes, chosen)
