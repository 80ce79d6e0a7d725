# SPDX-License-Identifier: Apache-2.0
"""Detectors that propose regions and look at each: Faster, Mask and Cascade R-CNN, of torchvision's parts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from slideformer.dense.cascade import REFINEMENTS, CascadeHeads, Refinement
from slideformer.dense.detector_options import CascadeOptions, MaskOptions, RegionOptions
from slideformer.dense.features import OverBackbone
from slideformer.dense.pyramid import FeaturePyramid, answer_in_own_dtype

ASPECT_RATIOS = (0.5, 1.0, 2.0)
# Positions a side to which a region is brought for its box, and for its mask.
BOX_SIDE, MASK_SIDE = 7, 14
MASK_CONVS = 4


class Regions(OverBackbone, GeneralizedRCNN):
    """Torchvision's detector of two stages."""


def proposal_network(neck: FeaturePyramid, scale: float, options: RegionOptions) -> RegionProposalNetwork:
    """Build the network that proposes regions, on the backbone's maps and a coarser one.

    Args:
        neck: the pyramid.
        scale: side of an anchor, in the strides of its map.
        options: how many regions, and from how many it learns.
    """
    sizes = tuple((int(scale * stride),) for stride in (*neck.strides, 2 * neck.strides[-1]))
    anchors = AnchorGenerator(sizes, (ASPECT_RATIOS,) * len(sizes))
    kept = {"training": options.proposals_training, "testing": options.proposals}
    return RegionProposalNetwork(
        anchors,
        answer_in_own_dtype(RPNHead(neck.out_channels, anchors.num_anchors_per_location()[0])),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=options.rpn_samples,
        positive_fraction=0.5,
        pre_nms_top_n=kept,
        post_nms_top_n=kept,
        nms_thresh=0.7,
    )


def region_pool(strides: Sequence[int], side: int, sampling_ratio: int) -> MultiScaleRoIAlign:
    """Build the pooling of regions, to ``side`` positions a side, each from so many points a side.

    The strides are set here: torchvision guesses them from its first images, and guesses wrong where these
    are much smaller than what they are padded to.
    """
    pool = MultiScaleRoIAlign([str(level) for level in range(len(strides))], side, sampling_ratio)
    pool.scales = [1 / stride for stride in strides]
    finest, coarsest = (stride.bit_length() - 1 for stride in (strides[0], strides[-1]))
    pool.map_levels = LevelMapper(finest, coarsest, pool.canonical_scale, pool.canonical_level)
    return pool


def region_heads(
    neck: FeaturePyramid,
    num_classes: int,
    options: RegionOptions,
    box_head: nn.Module,
    refinement: Refinement = REFINEMENTS[0],
) -> RoIHeads:
    """Torchvision's heads on regions; with masks where the options have them.

    Args:
        neck: the pyramid.
        num_classes: without the background.
        options: channels, and from how many regions they learn.
        box_head: makes a vector of ``head_channels`` of a region's map.
        refinement: the overlap with an object from which a region counts as it, and the weights of distances.
    """
    heads = RoIHeads(
        region_pool(neck.strides, BOX_SIDE, options.sampling_ratio),
        box_head,
        answer_in_own_dtype(FastRCNNPredictor(options.head_channels, num_classes + 1)),
        fg_iou_thresh=refinement.iou,
        bg_iou_thresh=refinement.iou,
        batch_size_per_image=options.box_samples,
        positive_fraction=options.positive_share,
        bbox_reg_weights=refinement.box_weights,
        score_thresh=options.score_threshold,
        nms_thresh=options.nms_threshold,
        detections_per_img=options.detections,
    )
    if isinstance(options, MaskOptions):
        channels = options.mask_channels
        heads.mask_roi_pool = region_pool(neck.strides, MASK_SIDE, options.sampling_ratio)
        heads.mask_head = MaskRCNNHeads(neck.out_channels, [channels] * MASK_CONVS, dilation=1)
        heads.mask_predictor = answer_in_own_dtype(MaskRCNNPredictor(channels, channels, num_classes + 1))
    return heads


def plain_heads(neck: FeaturePyramid, num_classes: int, options: RegionOptions) -> RoIHeads:
    """Heads with two fully connected layers, as Faster and Mask R-CNN have them."""
    box_head = TwoMLPHead(neck.out_channels * BOX_SIDE**2, options.head_channels)
    return region_heads(neck, num_classes, options, box_head)


def cascade_heads(neck: FeaturePyramid, num_classes: int, options: CascadeOptions) -> CascadeHeads:
    """Three heads that refine each other's boxes, each with convolutions and one fully connected layer."""
    stages = []
    for refinement in REFINEMENTS:
        channels = neck.out_channels
        box_head = FastRCNNConvFCHead(
            (channels, BOX_SIDE, BOX_SIDE),
            [channels] * options.box_convs,
            [options.head_channels],
            norm_layer=nn.BatchNorm2d,
        )
        stage = region_heads(neck, num_classes, options, box_head, refinement)
        # A first guess near the proposals: the stages after it learn from what it gives.
        nn.init.normal_(stage.box_predictor.cls_score.weight, std=0.01)
        nn.init.normal_(stage.box_predictor.bbox_pred.weight, std=0.001)
        for layer in (stage.box_predictor.cls_score, stage.box_predictor.bbox_pred):
            nn.init.zeros_(layer.bias)
        stages.append(stage)
    weights = [refinement.loss_weight for refinement in REFINEMENTS]
    return CascadeHeads(stages, weights, options.box_loss)
