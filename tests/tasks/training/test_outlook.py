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
    assert line.endswith("; try `batch_size` 4194299, or `grad_checkpointing` if it is off")


@pytest.mark.parametrize(
    ("batch_size", "accumulated", "hint"),
    [
        (128, 1, "try `batch_size` 50 or `max_epochs` above 2"),
        (8, 16, "try `accumulate_grad_batches` 1 or `max_epochs` above 2"),
        (64, 1, "try `max_epochs` above 2"),
    ],
)
def test_few_updates_get_a_hint_that_makes_more(batch_size: int, accumulated: int, hint: str) -> None:
    trainer: Any = SimpleNamespace(
        estimated_stepping_batches=6,
        max_epochs=2,
        train_dataloader=SimpleNamespace(dataset=range(400)),
        accumulate_grad_batches=accumulated,
    )
    line = outlook.updates(trainer, batch_size * accumulated, batch_size)
    assert line.endswith(f"3 updates an epoch, 6 in all, which is few; {hint}")


def test_half_precision_keeps_half(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(**{**vars(MODULE), "trainer": SimpleNamespace(precision="bf16-mixed")})
    assert memory(monkeypatch, float("inf"), module) == "a step takes at least 0.4 GiB of memory"


def test_a_model_that_cannot_be_counted_has_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Looks(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    module = SimpleNamespace(**{**vars(MODULE), "over_images": Looks()})
    assert memory(monkeypatch, 2.0**33, module) == ""
