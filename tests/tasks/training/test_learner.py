# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
import torch

from slideformer.tasks.detect.module import DetectorLearner
from slideformer.tasks.training.batches import Batch


def test_what_every_device_left_out_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = DetectorLearner("retinanet", "slide_swin_nano", 3, head={"fpn_channels": 8})
    for path in ("a.jpg", "b.jpg", "a.jpg"):
        learner.usable(Batch([], [], unreadable=(path,), cropped_away=1))
    assert capsys.readouterr().out == "left out, unreadable: a.jpg\nleft out, unreadable: b.jpg\n"
    learner.cropped_away += 1

    def gather(shares: list[Any], own: Any) -> None:
        shares[:] = [own, 3 if isinstance(own, int) else {"b.jpg", "c.jpg"}]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    learner.on_train_end()
    assert learner.left_out() == [
        "images left out because they were unreadable: 3",
        "times that a random crop left nothing of an object: 7",
    ]
