# SPDX-License-Identifier: Apache-2.0
"""What a training says before it begins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import nn

from slideformer.tasks.training import outlook

MODULE: Any = SimpleNamespace(
    over_images=nn.Sequential(nn.Flatten(), nn.Linear(12, 5)),
    device=torch.device("cpu"),
    trainer=SimpleNamespace(precision="32-true"),
)
# 48 inputs an image, and 65 weights with gradient and moments.
DATA: Any = SimpleNamespace(batch_size=2**24, train_size=(2, 2))


def memory(monkeypatch: pytest.MonkeyPatch, free: float, module: Any = MODULE) -> str:
    monkeypatch.setattr(outlook, "available_bytes", lambda device: free)
    return outlook.memory(cast("Any", module), DATA)


def test_memory_is_compared_with_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "a step takes at least 0.8 GiB of memory, of 8.0 GiB that are free"
    assert memory(monkeypatch, 2.0**33) == line


def test_a_batch_that_does_not_fit_gets_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    line = memory(monkeypatch, 0.375 * 2**30)
    assert line.endswith(", which is not enough; try `batch_size` 4194299 or `grad_checkpointing`")


def test_half_precision_keeps_half(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(**{**vars(MODULE), "trainer": SimpleNamespace(precision="bf16-mixed")})
    assert memory(monkeypatch, float("inf"), module) == "a step takes at least 0.4 GiB of memory"


def test_a_model_that_cannot_be_counted_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Looks(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    module = SimpleNamespace(**{**vars(MODULE), "over_images": Looks()})
    assert memory(monkeypatch, 2.0**33, module) == ""
