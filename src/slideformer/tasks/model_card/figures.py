# SPDX-License-Identifier: Apache-2.0
"""The figures of a card: their names for a reader and on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A row of the table of figures.

    Attributes:
        name: for a reader.
        metric: the Hub's name of its kind.
        share: whether it is a share of 1, which is shown in percent.
    """

    name: str
    metric: str
    share: bool = True

    def show(self, x: float) -> str:
        """A value for a reader."""
        return f"{100 * x:.2f} %" if self.share else f"{x:.4f}"


# COCO's twelve, of boxes and of masks.
PRECISIONS = ("AP", "AP50", "AP75", "APs", "APm", "APl")
RECALLS = ("AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
# The name in metrics.csv, after val/, and in evaluation.json, where that of a kind is before it: box_AP.
FIGURES = {
    "top1": Figure("top-1 accuracy", "accuracy"),
    "top5": Figure("top-5 accuracy", "accuracy"),
    "agreement": Figure("agreement with the teacher", "agreement"),
    "agreement5": Figure("the teacher's class among the five likeliest", "agreement"),
    "miou": Figure("mIoU", "mean_iou"),
    "macc": Figure("mAcc", "mean_accuracy"),
    "aacc": Figure("aAcc", "overall_accuracy"),
    **{
        f"{kind}_{name}": Figure(f"{kind} {name}", f"mean_average_{metric}")
        for kind in ("box", "mask")
        for metric, names in (("precision", PRECISIONS), ("recall", RECALLS))
        for name in names
    },
    "loss": Figure("loss", "loss", share=False),
}


def known_figures(values: Mapping[str, Any]) -> dict[str, float]:
    """The figures of the table among plain values, in the order of the table.

    Args:
        values: by name; those of boxes and masks may be tables of their own, ``{"box": {"AP": ...}}``.
    """
    flat = dict(values)
    for kind, inner in values.items():
        if isinstance(inner, Mapping):
            flat |= {f"{kind}_{name}": x for name, x in inner.items()}
    return {name: float(flat[name]) for name in FIGURES if is_finite(flat.get(name))}


def is_finite(x: object) -> bool:
    """Whether a value is a number that a card can state."""
    return type(x) in (int, float) and isfinite(x)  # type: ignore[arg-type]
