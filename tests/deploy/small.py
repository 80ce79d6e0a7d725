# SPDX-License-Identifier: Apache-2.0
"""A classifier that every runtime compiles in a blink."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slideformer.deploy import RUNTIMES, Report, export_model
from slideformer.runs import Facts

# Batch, height and width.
SIZE = (1, 16, 24)
FACTS = Facts(task="classify", architecture="tiny", class_names=("ant", "bee", "cat"))


class Tiny(nn.Module):
    """A convolution and a linear layer, the same for each seed; logits that differ by more than rounding."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 8, 3, 2, padding=1)
        self.head = nn.Linear(8, 3)
        nn.init.normal_(self.head.weight)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        return self.head(nn.functional.gelu(self.conv(image)).mean((2, 3)))


def image(batch: int, height: int, width: int) -> Tensor:
    """Noise, the same always."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def written(folder: Path, runtime: str, *, precision: str = "float32", fixed: bool = True) -> Path:
    """A file of `Tiny` for a runtime."""
    file = folder / f"model{RUNTIMES[runtime].suffix}"
    report = exported(file, runtime, precision=precision, fixed=fixed)
    assert report.fault is None
    return file


def needs(runtime: str) -> None:
    """Skip a test of a runtime that is not installed: Core AI's exists for few systems."""
    if missing := RUNTIMES[runtime].missing:
        pytest.skip(f"needs {', '.join(missing)}")


def exported(file: Path, runtime: str, *, precision: str = "float32", fixed: bool = True) -> Report:
    """Export `Tiny`."""
    needs(runtime)
    return export_model(
        Tiny(), file, runtime, inputs=[image(*SIZE)], facts=FACTS, precision=precision, fixed=fixed
    )
