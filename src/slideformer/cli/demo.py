# SPDX-License-Identifier: Apache-2.0
"""`slideformer demo`: train, evaluate and draw, on handwritten digits or on generated scenes."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slideformer.cli.ranges import whole
from slideformer.console import print_line
from slideformer.errors import UserError
from slideformer.tasks.table import find_task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from slideformer.runs import Run


HELP = """Train a small model on one machine, evaluate and draw: a Slide-Swin on handwritten digits, with
merging and export; or, on generated scenes, a Mask R-CNN (detect) or a Semantic FPN (segment)."""
MARK = ".slideformer-demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare task, folder and length."""
    parser.add_argument(
        "task", nargs="?", choices=("classify", *REACHED), default="classify", help="what is learned"
    )
    parser.add_argument("--output", type=Path, default=None, help="folder, made empty; default: runs/demo")
    parser.add_argument("--epochs", type=whole(1, 10_000), help="default: the recipe's")


def run(arguments: argparse.Namespace) -> int:
    """Go the whole way and print what was reached."""
    folder: Path = Path("runs/demo") if arguments.output is None else arguments.output
    empty(folder)
    if arguments.task != "classify":
        return run_demo(arguments.task, folder, arguments.epochs)
    return run_digits(folder, arguments.epochs)


def run_digits(folder: Path, epochs: int | None) -> int:
    """Classification: handwritten digits."""
    from slideformer.deploy import export
    from slideformer.models import count
    from slideformer.runs import open_run
    from slideformer.tasks.classify.evaluate import ClassificationEvaluation
    from slideformer.tasks.evaluate import evaluate
    from slideformer.tasks.training.fit import fit

    start = time.perf_counter()
    short = []
    if epochs is not None:  # with the warm-up that suits so many, not the recipe's
        short = [f"--epochs={epochs}", "--model.optimise.warmup_epochs=null"]
    fit(find_task("classify"), ["--config", "digits", "--output", str(folder), "--resume=false", *short])
    seconds = time.perf_counter() - start

    opened = open_run(folder)
    result = evaluate(opened, "digits")
    assert isinstance(result, ClassificationEvaluation)
    result.save(folder)
    images = hold_out(opened)
    merge_difference = difference_of_merging(opened.model, images)
    draw_attention(opened.model, images, folder / "attention.png")
    report = export(opened, "onnx")
    print(report)
    print()
    print(f"accuracy on {result.images} held-out digits   {100 * result.top1:.2f} %")
    print(f"training                           {seconds:.0f} s")
    print(f"parameters, merged                 {count(opened.model).merged_parameters:,}")
    print(f"merging changes a logit by         {merge_difference:.1e} at most")
    largest = max(row.largest for row in report.differences)
    print(f"exporting changes a logit by       {largest:.1e} of the largest one at most")
    print_line(f"images, weights, model.onnx        {folder}")
    return 0


def empty(folder: Path) -> None:
    """Make an empty folder, in place of an earlier demo's only."""
    if folder.exists() and not (folder / MARK).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise UserError(
                f"{folder} must be empty or an earlier demo's, got other content; choose another --output"
            )
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def hold_out(run: Run) -> Tensor:
    """The held-out digits as the model takes them, ``(N, 3, height, width)``."""
    import torch

    from slideformer.runs import EvalTransform
    from slideformer.tasks.classify import digits

    assert run.preprocessing is not None  # every classifier has it
    transform = EvalTransform(run.preprocessing)
    return torch.stack([transform(image) for image in digits.load("val")[0]])


def difference_of_merging(model: nn.Module, images: Tensor) -> float:
    """Largest change of a logit by merging the shifts."""
    import torch

    from slideformer.models import reparameterize

    with torch.inference_mode():
        difference = float((model(images) - reparameterize(model)(images)).abs().max())
    if not difference <= 1e-5:
        raise UserError(f"merging must change no logit by more than 1e-5, got {difference:.1e}")
    return difference


def draw_attention(model: Any, images: Tensor, out: Path) -> None:
    """Draw the attention of the brightest position of one digit in the first layer."""
    import torch

    from slideformer.layers import SlideAttention
    from slideformer.tasks.classify import digits
    from slideformer.viz import attention_map

    layer = next(module for module in model.modules() if isinstance(module, SlideAttention))
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        model(images[:1])
        weights = layer.attention_weights(seen[0])[0]  # (H, W, G, T)
    hook.remove()
    picture = digits.load("val")[0][0]
    patch = picture.height // weights.shape[0]
    ink = torch.nn.functional.avg_pool2d(images[:1].mean(1, keepdim=True), patch)[0, 0]
    # Away from the border: the window does not reach beyond the image.
    margin = max(layer.sides) // 2
    inner = ink[margin:-margin, margin:-margin]
    row, column = (place + margin for place in divmod(int(inner.argmax()), inner.shape[1]))
    attention_map(
        picture,
        weights[row, column],
        (row, column),
        out,
        patch_size=patch,
        title="Slide attention in the first layer: weights of one position's window, %",
    )


# Held-out images that are predicted for.
IMAGES_SHOWN = 12


def detections(figures: Mapping[str, Any]) -> list[str]:
    """Boxes and masks."""
    return [
        f"{kind} AP50 on {figures['images']} held-out images   {100 * figures[kind]['AP50']:.1f} %"
        for kind in ("box", "mask")
    ]


def segmentations(figures: Mapping[str, Any]) -> list[str]:
    """Classes of pixels."""
    return [f"mIoU on {figures['images']} held-out images   {100 * figures['miou']:.1f} %"]


# Task -> the lines that report the figures of evaluation.json.
REACHED: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "detect": detections,
    "segment": segmentations,
}


def run_demo(task: str, folder: Path, epochs: int | None) -> int:
    """Generate scenes, train, evaluate, predict and draw.

    Args:
        task: a name in `REACHED`.
        folder: empty.
        epochs: of the training; the recipe's where None.
    """
    data, trained, drawn = folder / "data", folder / "run", folder / "predictions"
    say("scenes", str(data))
    start = time.perf_counter()
    short = (
        [] if epochs is None else [f"--trainer.max_epochs={epochs}", "--model.optimise.warmup_epochs=null"]
    )
    say("train", task, "--config", "scenes", "--data", str(data), "--output", str(trained), *short)
    seconds = time.perf_counter() - start
    say("evaluate", str(trained), "--data", str(data))
    pictures = sorted(str(path) for path in (data / "val").iterdir())[:IMAGES_SHOWN]
    say("predict", str(trained), *pictures, "--output", str(drawn))
    print()
    for line in REACHED[task](json.loads((trained / "evaluation.json").read_text(encoding="utf-8"))):
        print(line)
    print(f"training   {seconds:.0f} s")
    print_line(f"images     {trained / 'predictions.png'}, {trained / 'curves.png'}, {drawn}")
    return 0


def say(*words: str) -> None:
    """Print a command and run it."""
    from slideformer.cli.main import dispatch

    print()
    print_line(f"$ slideformer {shlex.join(words)}")
    dispatch(words)
