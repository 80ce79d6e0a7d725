# SPDX-License-Identifier: Apache-2.0
"""A model as an ONNX file: merged, of any batch, height and width, and checked before it is kept."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from slideformer.deploy.retina import RetinaGraph
from slideformer.deploy.verify import DetectionDifference, Difference, verify_detector, verify_onnx
from slideformer.errors import UserError
from slideformer.files import whole
from slideformer.models import reparameterize
from slideformer.version import __version__

TOLERANCE = 1e-4
INPUT, OUTPUT = "image", "logits"
DETECTIONS = ("boxes", "scores", "labels")
# The share of boxes that may be others: of two that overlap and whose scores are equal but for rounding,
# either may be kept.
UNMATCHED = 0.05
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(
    model: nn.Module,
    file: str | Path,
    *,
    input_size: tuple[int, int, int],
    sizes: Sequence[tuple[int, int, int]],
    metadata: Mapping[str, object],
    tolerance: float = TOLERANCE,
) -> list[Difference]:
    """Write a model as ONNX and check the file in ONNX Runtime against the model.

    Learned shifts are merged in a copy; the model stays as it is. The file is written under another name
    and renamed once it has passed, so that a file that exists is a file that was checked.

    Args:
        model: maps ``(B, channels, height, width)`` to logits ``(B, classes)`` or, a segmenter's,
            ``(B, classes, height, width)``; in evaluation mode.
        file: to write.
        input_size: channels, height and width of the example to trace with.
        sizes: batch, height and width of each input to check with.
        metadata: kept in the file as text, numbers and lists as JSON.
        tolerance: largest difference of a logit that passes.

    Returns:
        The difference at each size.

    Raises:
        UserError: a package is missing, or the file differs from the model by more than ``tolerance``.
    """
    require_packages()
    merged = reparameterize(model)
    with whole(file) as unfinished:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        write(merged, unfinished, input_size, metadata)
        differences = verify_onnx(unfinished, model, sizes=sizes, channels=input_size[0])
        worst = max(differences, key=lambda row: row.largest)
        # Not a number compares as false with everything: ask for what must hold.
        if not worst.largest <= tolerance:
            raise UserError(
                f"the exported file must agree with the model to {tolerance:.0e}, got a difference of "
                f"{worst.largest:.2e} at {worst.batch} x {worst.height} x {worst.width}; nothing was kept"
            )
    return differences


def export_detector(
    detector: nn.Module,
    file: str | Path,
    *,
    input_size: tuple[int, int, int],
    sizes: Sequence[tuple[int, int]],
    metadata: Mapping[str, object],
    tolerance: float = TOLERANCE,
) -> list[DetectionDifference]:
    """Write a RetinaNet as ONNX and check the file in ONNX Runtime against the model.

    The file takes one picture ``(1, 3, height, width)`` of any size with pixels in [0, 1] and gives what
    `RetinaGraph` does: boxes in the picture's pixels, scores in descending order and labels from 1.

    Args:
        detector: a RetinaNet of ours, in evaluation mode; stays as it is.
        file: to write; like those of `export_onnx`, it is there once it has passed.
        input_size: channels, height and width of the example to trace with.
        sizes: height and width of each picture to check with.
        metadata: kept in the file as text, numbers and lists as JSON.
        tolerance: largest difference of a score that passes.

    Returns:
        The difference at each size.

    Raises:
        UserError: a package is missing, the detector is of another kind, or the file differs from it.
    """
    require_packages()
    graph = RetinaGraph(reparameterize(detector)).eval()
    with whole(file) as unfinished:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        write(graph, unfinished, input_size, metadata, outputs=DETECTIONS, single=True)
        differences = verify_detector(unfinished, RetinaGraph(detector).eval(), sizes=sizes)
        for row in differences:
            if not (row.score <= tolerance and row.unmatched <= UNMATCHED * row.detections):
                raise UserError(
                    f"the exported file must agree with the model to {tolerance:.0e}, got scores that differ "
                    f"by {row.score:.2e} and {row.unmatched} of {row.detections} boxes that are not the "
                    f"model's at {row.height} x {row.width}; nothing was kept"
                )
    return differences


def write(
    model: nn.Module,
    file: Path,
    input_size: tuple[int, int, int],
    metadata: Mapping[str, object],
    *,
    outputs: Sequence[str] = (OUTPUT,),
    single: bool = False,
) -> None:
    """Trace the model for any batch, height and width, and write one file with weights and metadata.

    Args:
        model: to be traced, merged.
        file: to write.
        input_size: channels, height and width of the example to trace with.
        metadata: kept in the file as text.
        outputs: names of what the model gives.
        single: whether the batch is one image, always.
    """
    any_size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    if not single:
        any_size[0] = torch.export.Dim.DYNAMIC
    parameter = next(model.parameters())
    # Two images where there may be any number: an example of one would make the batch a constant.
    images = 1 if single else 2
    example = torch.zeros(images, *input_size, dtype=parameter.dtype, device=parameter.device)
    with warnings.catch_warnings():
        # The exporter's own deprecations and remarks, of no use to whoever exports.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=(any_size,),
            input_names=[INPUT],
            output_names=list(outputs),
        )
    assert program is not None  # dynamo=True gives a program
    texts = {key: x if isinstance(x, str) else json.dumps(x) for key, x in metadata.items()}
    program.model.metadata_props.update({**texts, "slideformer": __version__})
    program.save(file)


def require_packages() -> None:
    """Refuse to start without what the export needs.

    Raises:
        UserError: a package is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the export needs {', '.join(missing)}, which is not installed; pip install 'slideformer[onnx]'"
        )
