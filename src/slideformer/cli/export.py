# SPDX-License-Identifier: Apache-2.0
"""`slideformer export`: a model for another runtime, checked there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from slideformer.deploy import DetectionDifference, Difference

HELP = """Write a model for another runtime, with merged weights and for any image size, and check it there.

Classifiers, segmenters, and of the detectors retinanet."""
# Height and width of the picture that a dense model is traced with; the file takes others as well.
SIDES = (160, 192)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare model, runtime and file."""
    parser.add_argument(
        "model", metavar="RUN|MODEL", help="folder of a finished run, or a model's name (random weights)"
    )
    parser.add_argument("--to", choices=("onnx",), required=True, help="runtime")
    parser.add_argument(
        "--output", type=Path, default=None, help="file; RUN/model.onnx or MODEL.onnx if not given"
    )
    parser.add_argument("--num-classes", type=int, default=None, help="classes of a model given by name")


def run(arguments: argparse.Namespace) -> int:
    """Export, check, print."""
    from slideformer.deploy import check_sizes, export_onnx
    from slideformer.errors import UserError
    from slideformer.models.dense.saved import CLASSIFY, task_of

    if arguments.output is not None and arguments.output.is_dir():
        raise UserError(
            f"--output must be a file, got the folder {arguments.output}; add a name such as model.onnx"
        )
    if Path(arguments.model).is_dir() and task_of(arguments.model) != CLASSIFY:
        return export_dense(arguments)
    model, facts, file = open_model(arguments.model, arguments.num_classes)
    if arguments.output is not None:
        file = arguments.output
    size = facts["input_size"]
    differences = export_onnx(
        model, file, input_size=size, sizes=check_sizes(size[1], size[2]), metadata=facts
    )
    print(table(differences))
    print(f"written: {file} ({file.stat().st_size / 2**20:.1f} MiB)")
    return 0


def export_dense(arguments: argparse.Namespace) -> int:
    """Export a segmenter, or a detector of one stage.

    Raises:
        UserError: the detector is of another kind, or a number of classes is given.
    """
    from slideformer.deploy import check_sizes, export_detector, export_onnx
    from slideformer.errors import UserError
    from slideformer.models.dense.saved import load_dense

    if arguments.num_classes is not None:
        raise UserError(
            "--num-classes goes with a model's name; the classes of a run are known, leave it out"
        )
    model, info = load_dense(arguments.model)
    file = Path(arguments.model) / "model.onnx" if arguments.output is None else arguments.output
    facts = {**info.facts(), "input": "RGB, pixels from 0 to 1; the model normalises"}
    sizes = check_sizes(*SIDES)
    if info.blueprint.task == "segment":
        print(table(export_onnx(model, file, input_size=(3, *SIDES), sizes=sizes, metadata=facts)))
    else:
        pictures = [size[1:] for size in sizes]
        rows = export_detector(model, file, input_size=(3, *SIDES), sizes=pictures, metadata=facts)
        print(detection_table(rows))
    print(f"written: {file} ({file.stat().st_size / 2**20:.1f} MiB)")
    return 0


def open_model(name: str, num_classes: int | None) -> tuple[nn.Module, dict[str, Any], Path]:
    """The model of a run's folder, or a named one with random weights; its facts; where to write it.

    Raises:
        UserError: neither a run nor a model.
    """
    import timm
    from timm.data import resolve_data_config

    from slideformer.errors import UserError
    from slideformer.models import PREPROCESSING, load_pretrained
    from slideformer.models.names import pretrained_cfg

    if Path(name).is_dir():
        if num_classes is not None:
            raise UserError(
                "--num-classes goes with a model's name; the classes of a run are known, leave it out"
            )
        model, info = load_pretrained(name)
        return model, info.facts(), Path(name) / "model.onnx"
    if num_classes is not None and num_classes < 1:
        raise UserError(f"--num-classes must be at least 1, got {num_classes}")
    if "/" in name:
        raise UserError(f"{name} must be the folder of a finished run, but does not exist; check the path")
    config = resolve_data_config({}, pretrained_cfg=pretrained_cfg(name))
    classes: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    model = timm.create_model(name, **classes).eval()
    print(f"{name} with random weights: for its speed, not for its answers")
    facts = {key: config[key] for key in PREPROCESSING}
    return model, {**facts, "architecture": name, "class_names": []}, Path(f"{name}.onnx")


def table(differences: Sequence[Difference]) -> str:
    """One line a checked size."""
    lines = [f"{'batch x height x width':<24}{'largest difference':>20}{'mean':>12}"]
    for row in differences:
        size = f"{row.batch} x {row.height} x {row.width}"
        lines.append(f"{size:<24}{row.largest:>20.2e}{row.mean:>12.2e}")
    return "\n".join(lines)


def detection_table(differences: Sequence[DetectionDifference]) -> str:
    """One line a checked size."""
    lines = [f"{'height x width':<16}{'detections':>12}{'unmatched':>11}{'box px':>10}{'score':>10}"]
    for row in differences:
        size = f"{row.height} x {row.width}"
        lines.append(f"{size:<16}{row.detections:>12}{row.unmatched:>11}{row.box:>10.1e}{row.score:>10.1e}")
    return "\n".join(lines)
