# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a model for dense tasks, and what a paper prints of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DenseCounts:
    """Size and cost of a model.

    Attributes:
        parameters: as the paper trains it: the frozen kernel of every shift beside the learned one.
        multiply_adds: of one picture, by part, in the order of the computation.
    """

    parameters: int
    multiply_adds: dict[str, int]

    @property
    def total(self) -> int:
        """Multiply-adds of all parts."""
        return sum(self.multiply_adds.values())


@dataclass(frozen=True)
class PublishedDense:
    """What the paper prints of a model for a dense task.

    Attributes:
        head: our name of the head, such as ``mask_rcnn``.
        backbone: our name of the backbone.
        host: whether the row is that of the plain host: ours with ``slide_stages=()``.
        parameters_m: in millions.
        multiply_adds_g: in billions.
        accuracy: the paper's figures by name, in percent, such as ``{"box AP": 46.8}``; empty for a host.
        note: why ours differ; empty if there is nothing to say.
    """

    head: str
    backbone: str
    host: bool
    parameters_m: float
    multiply_adds_g: float
    accuracy: dict[str, float]
    note: str = ""
