# SPDX-License-Identifier: Apache-2.0
"""Draw the image at the top of the README.

python docs/front.py RUN ROOT    with a run of the recipe fashion_mnist, and the folder of Fashion-MNIST
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle
from PIL import Image
from torchvision.datasets import FashionMNIST

import slideformer
from slideformer.layers import SlideAttention
from slideformer.runs import Run
from slideformer.runs.preprocessing import EvalTransform
from slideformer.viz.figure import ACCENT, INK, SOFT, WRONG, new_figure, save

HERE = Path(__file__).parent
# An ankle boot of the test split, a position at the edge of its shaft, and one of the heads.
NUMBER, POSITION, HEAD = 0, (5, 8), 0
LIGHT = "#8ab8ff"
# What is measured, and what the image calls it.
FORMS = {
    "authors' form": "the authors' code",
    "authors' form, merged": "merged convolution",
    "slideformer unfold": "Im2Col",
    "slideformer matmul": "ours, any device",
    "slideformer cpu": "ours, CPU",
}


def first_layer(run: Run) -> SlideAttention:
    """The first layer that slides."""
    return next(module for module in run.model.modules() if isinstance(module, SlideAttention))


def weights_of(run: Run, image: Image.Image) -> np.ndarray[Any, Any]:
    """Attention weights of the first layer, (H, W, heads, T)."""
    assert run.preprocessing is not None  # every classifier has it
    layer, maps = first_layer(run), list[torch.Tensor]()
    handle = layer.register_forward_pre_hook(lambda module, inputs: maps.append(inputs[0]))
    with torch.no_grad():
        run.model(EvalTransform(run.preprocessing)(image.convert("RGB"))[None])
        handle.remove()
        return layer.attention_weights(maps[0])[0].numpy()


def draw_window(axes: Axes, image: Image.Image, weights: np.ndarray[Any, Any]) -> None:
    """One position and its window and, larger, where its attention goes, in percent."""
    axes.imshow(image.convert("RGB"), interpolation="nearest")
    cell = image.width / weights.shape[1]
    y, x = (place * cell - 0.5 for place in POSITION)
    axes.add_patch(
        Rectangle((x - cell, y - cell), 3 * cell, 3 * cell, fill=False, edgecolor=LIGHT, linewidth=2)
    )
    axes.add_patch(Rectangle((x, y), cell, cell, fill=False, edgecolor=WRONG, linewidth=2))
    shares = weights[POSITION][HEAD].reshape(3, 3)
    inset = axes.inset_axes((0.03, 0.6, 0.37, 0.37))
    inset.imshow(shares, cmap="Blues", vmin=0, vmax=shares.max())
    for (row, column), share in np.ndenumerate(shares):
        shade = "white" if share > 0.6 * shares.max() else INK
        inset.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=shade)
    inset.spines[:].set(edgecolor=LIGHT, linewidth=2)
    axes.set_title("a position attends to its window, in %", fontsize=9, color=INK)
    for panel in (axes, inset):
        panel.set_xticks([])
        panel.set_yticks([])


def draw_shift(axes: Axes, layer: SlideAttention) -> None:
    """The merged kernel of each tap, averaged over channels: fixed shift and learned shift together."""
    assert layer.shift is not None
    kernels = layer.shift()[0].detach().abs().mean(0).reshape(3, 3, 3, 3)  # (D, T, T) -> tap, neighbour
    sheet = np.full((11, 11), np.nan)
    for row in range(3):
        for column in range(3):
            sheet[4 * row : 4 * row + 3, 4 * column : 4 * column + 3] = kernels[row, column]
    axes.imshow(sheet, cmap="Blues", norm=PowerNorm(0.6, vmin=0))
    for row in range(3):
        for column in range(3):
            corner = (4 * column - 0.5, 4 * row - 0.5)
            axes.add_patch(Rectangle(corner, 3, 3, fill=False, edgecolor=SOFT, linewidth=0.8))
            fixed = (5 * column - 0.5, 5 * row - 0.5)
            axes.add_patch(Rectangle(fixed, 1, 1, fill=False, edgecolor=WRONG, linewidth=1.5))
    axes.set_title("each tap (red) a learned mixture", fontsize=9, color=INK)
    axes.set(xlim=(-0.8, 10.8), ylim=(10.8, -0.8))
    axes.axis("off")


def draw_speed(axes: Axes) -> None:
    """The operator's time in its forms, as it was measured."""
    figures = json.loads((HERE.parent / "benchmarks/results/operator-56-forward-native.json").read_text())
    times = {row["name"]: row["median_ms"] for row in figures["groups"][0]["rows"]}
    values = [times[name] for name in FORMS]
    colours = [ACCENT if "ours" in label else "#b6c0cc" for label in FORMS.values()]
    axes.barh(list(FORMS.values()), values, color=colours, height=0.62)
    for place, value in enumerate(values):
        axes.text(value + 8, place, f"{value:.0f} ms", va="center", fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(values))
    axes.set_title("the operator, 8 maps of 56 x 56, two CPU threads", fontsize=9, color=INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(labelsize=8, colors=INK, length=0)


def main(folder: str, root: str) -> None:
    """Draw the three panels."""
    run = slideformer.open_run(folder)
    image, _ = FashionMNIST(root, train=False)[NUMBER]
    figure = new_figure(9.6, 2.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.35])
    draw_window(left, image, weights_of(run, image))
    draw_shift(middle, first_layer(run))
    draw_speed(right)
    print(save(figure, HERE / "images" / "front.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
