# SPDX-License-Identifier: Apache-2.0
"""`slideformer demo`: the whole way on handwritten digits, from training to pictures."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slideformer.cli.dense_demo import REACHED, run_demo
from slideformer.cli.ranges import whole
from slideformer.console import print_line
from slideformer.errors import UserError
from slideformer.files import write_text

if TYPE_CHECKING:
    from torch import Tensor, nn

HELP = """Train a small model on one machine, evaluate and draw: a Slide-Swin on handwritten digits, with
merging and export; or, on generated scenes, a Mask R-CNN (detect) or a Semantic FPN (segment)."""
MARK = ".slideformer-demo"
SHOWN = 40  # digits in the picture of predictions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare task, folder and length."""
    parser.add_argument(
        "task", nargs="?", choices=("classify", *REACHED), default="classify", help="what is learnt"
    )
    parser.add_argument("--output", type=Path, default=None, help="folder, made anew; runs/demo if not given")
    parser.add_argument("--epochs", type=whole(1, 10_000), help="epochs; the recipe's if not given")


def run(arguments: argparse.Namespace) -> int:
    """Go the whole way and print what was reached."""
    folder: Path = Path("runs/demo") if arguments.output is None else arguments.output
    start_anew(folder)
    if arguments.task != "classify":
        return run_demo(arguments.task, folder, arguments.epochs)
    return run_digits(folder, arguments.epochs)


def run_digits(folder: Path, epochs: int | None) -> int:
    """Classification: handwritten digits."""
    from slideformer.cli import inputs
    from slideformer.cli.exported import report_table
    from slideformer.deploy import check_sizes, export
    from slideformer.models import count, load_pretrained
    from slideformer.tasks.classify.evaluate import evaluate_folder
    from slideformer.tasks.classify.task import CLASSIFY
    from slideformer.tasks.training.fit import fit
    from slideformer.viz import confusion_matrix, training_curves

    start = time.perf_counter()
    short = []
    if epochs is not None:  # with the warm-up that suits so many, not the recipe's
        short = [f"--trainer.max_epochs={epochs}", "--model.optimise.warmup_epochs=null"]
    fit(CLASSIFY, ["--config", "digits", "--output", str(folder), "--resume=false", *short])
    seconds = time.perf_counter() - start

    result = evaluate_folder(folder, "digits")
    write_text(folder / "evaluation.json", json.dumps(result.to_dict(), indent=2) + "\n")
    confusion_matrix(result.confusion, result.class_names, folder / "confusion.png")
    training_curves(folder / "metrics.csv", folder / "curves.png")

    model, info = load_pretrained(folder)
    images, labels = hold_out(info)
    merge_difference = difference_of_merging(model, images)
    draw_predictions(model, images, labels, folder / "predictions.png")
    draw_attention(model, images, folder / "attention.png")

    shown, facts = inputs.bundled(), info.facts()
    checks = [inputs.stretched(shown, facts, size) for size in check_sizes(*info.input_size[1:])]
    report = export(model, folder / "model.onnx", "onnx", inputs=checks, facts=facts)
    print(report_table(report))
    print()
    print(f"accuracy on {result.images} held-out digits   {100 * result.top1:.2f} %")
    print(f"training                           {seconds:.0f} s")
    print(f"parameters, merged                 {count(model).merged_parameters:,}")
    print(f"merging changes a logit by         {merge_difference:.1e} at most")
    largest = max(row.largest for row in report.differences)
    print(f"exporting changes a logit by       {largest:.1e} of the largest one at most")
    print_line(f"pictures, weights, model.onnx      {folder}")
    return 0


def start_anew(folder: Path) -> None:
    """Make the folder, in place of an earlier demo's and of nothing else.

    Raises:
        UserError: there is something that is no demo's.
    """
    if folder.exists() and not (folder / MARK).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise UserError(
                f"{folder} must be empty or an earlier demo's, got other content; choose another --output"
            )
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()


def hold_out(info: Any) -> tuple[Tensor, list[int]]:
    """The held-out digits as the model takes them, ``(N, 3, height, width)``, and their classes."""
    import torch

    from slideformer.models.preprocessing import EvalTransform
    from slideformer.tasks.classify import digits

    transform = EvalTransform(info)
    images, labels = digits.load("val")
    return torch.stack([transform(image) for image in images]), labels


def difference_of_merging(model: nn.Module, images: Tensor) -> float:
    """Largest change of a logit by merging the shifts.

    Raises:
        UserError: it is more than rounding.
    """
    import torch

    from slideformer.models import reparameterize

    with torch.inference_mode():
        difference = float((model(images) - reparameterize(model)(images)).abs().max())
    if not difference <= 1e-5:
        raise UserError(f"merging must change no logit by more than 1e-5, got {difference:.1e}")
    return difference


def draw_predictions(model: nn.Module, images: Tensor, labels: list[int], out: Path) -> None:
    """The first held-out digits, and before them whichever were taken for another."""
    import torch

    from slideformer.tasks.classify import digits
    from slideformer.viz import prediction_grid

    with torch.inference_mode():
        guesses = model(images).argmax(1).tolist()
    order = sorted(range(len(labels)), key=lambda i: guesses[i] == labels[i])[:SHOWN]
    pictures, _ = digits.load("val")
    prediction_grid(
        [pictures[i] for i in order],
        [labels[i] for i in order],
        [guesses[i] for i in order],
        digits.CLASS_NAMES,
        out,
    )


def draw_attention(model: Any, images: Tensor, out: Path) -> None:
    """What the brightest position of one digit attends to in the first layer."""
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
    # Away from the border: the whole window lies on the picture.
    margin = layer.kernel_size // 2
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
