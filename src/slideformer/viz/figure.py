# SPDX-License-Identifier: Apache-2.0
"""How every picture is made and kept: one style, no global state, whole files only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from slideformer.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#1f2933", "#6b7785", "#dfe3e8"
RIGHT, WRONG, ACCENT = "#1b7f5c", "#c0392b", "#2563a8"
COLOURS = (ACCENT, "#d97706", RIGHT, "#7c3aed")


def array(data: Any, dtype: type) -> np.ndarray[Any, Any]:
    """Numbers to draw, from whatever holds them: a list, an array, a tensor on any device, with its graph."""
    return np.asarray(data.detach().double().cpu() if isinstance(data, Tensor) else data, dtype=dtype)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, drawn without a window.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "pictures need matplotlib, which is not installed; pip install 'slideformer[train]'"
        ) from error
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, out: str | Path) -> Path:
    """Write a figure as PNG under another name, then rename."""
    out = Path(out)
    unfinished = out.with_name(f".{out.name}.unfinished")
    try:
        figure.savefig(unfinished, format="png")
        os.replace(unfinished, out)
    finally:
        unfinished.unlink(missing_ok=True)
    return out
