# SPDX-License-Identifier: Apache-2.0
"""Healthy inputs of every kind, which the hostile ones are made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from PIL import Image

from slideformer.runs.dense import BUILDERS
from slideformer.tasks.scenes.generate import generate
from tests.runtime.files import classifier, detector, segmenter
from tests.saved import save_dense
from tests.tasks.segment.pictures import write_set

HEADS = {
    "detect": (
        "mask_rcnn",
        {
            "fpn_channels": 8,
            "head_channels": 16,
            "mask_channels": 8,
            "min_size": 64,
            "max_size": 64,
            "proposals": 5,
            "score_threshold": 0.0,
        },
    ),
    "segment": ("semantic_fpn", {}),
}


def build(root: Path, run: Path, photos: Path) -> Path:
    """A folder with runs of each task, data of each task, exported files of each task and images.

    Args:
        root: where to build it.
        run: the folder of a finished training of a classifier.
        photos: what that was trained on.
    """
    shutil.copytree(run, root / "classify")
    shutil.copytree(photos, root / "photos")
    for task, (head, arguments) in HEADS.items():
        torch.manual_seed(0)
        model = BUILDERS[task](head, "slide_swin_nano", 3, **arguments)
        save_dense(model, root / task, task=task, head=head, arguments=arguments, class_names=("a", "b", "c"))
    generate(root / "scenes", train=4, val=2, size=64)
    write_set(root / "labelled")
    (root / "files").mkdir()
    classifier(root / "files" / "classify.onnx")
    detector(root / "files" / "detect.onnx")
    segmenter(root / "files" / "segment.onnx")
    (root / "images").mkdir()
    for number, name in enumerate(("a.jpg", "b.png", "c.webp", "d.gif", "e.bmp", "f.tiff")):
        Image.effect_noise((40 + number, 48), 60).convert("RGB").save(root / "images" / name)
    return root
