# SPDX-License-Identifier: Apache-2.0
"""The style of all figures, and how they are written; no global state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from slideformer.errors import UserError, printable
from slideformer.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#1f2933", "#6b7785", "#dfe3e8"
RIGHT, WRONG, ACCENT = "#1b7f5c", "#c0392b", "#2563a8"
COLOURS = (ACCENT, "#d97706", RIGHT, "#7c3aed")
# Lines that the colour-blind can tell apart, on white (matplotlib's style petroff10).
DISTINCT = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)


def array(data: Any, dtype: type) -> np.ndarray[Any, Any]:
    """Numbers to draw, from whatever holds them: a list, an array, a tensor on any device, with its graph."""
    return np.asarray(data.detach().double().cpu() if isinstance(data, Tensor) else data, dtype=dtype)


def drawable(name: str) -> str:
    """A name as matplotlib draws it: no control characters, which it warns of, and no mathematics."""
    return printable(name).replace("$", r"\$")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, drawn without a window."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "figures need matplotlib, which is not installed; pip install 'slideformer[train]'"
        ) from error
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def rendered(figure: Figure) -> Image.Image:
    """A figure as an RGB image."""
    canvas: Any = figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def save(figure: Figure, out: str | Path) -> Path:
    """Write a figure as PNG, atomically."""
    with atomic_write(out) as unfinished:
        figure.savefig(unfinished, format="png")
    return Path(out)
