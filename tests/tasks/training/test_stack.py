# SPDX-License-Identifier: Apache-2.0
"""A batch without a usable sample is made for every task, and refused in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slideformer.errors import UserError
from slideformer.tasks.classify import samples
from slideformer.tasks.detect import dataset
from slideformer.tasks.segment import data
from slideformer.tasks.training.batches import Unreadable, collate

STACKS = {"classify": samples.stack, "detect": dataset.stack, "segment": data.stack}


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_a_batch_without_a_readable_image_is_refused_in_training_alone(stack: Callable[..., Any]) -> None:
    bad = [Unreadable("a.jpg"), Unreadable("b.jpg")]
    batch = collate(bad, stack=stack)
    assert len(batch.check().images) == 0
    assert batch.unreadable == ("a.jpg", "b.jpg")
    with pytest.raises(UserError, match=r"a batch must hold a readable image, got 2 .* the first a.jpg"):
        collate(bad, stack=stack, training=True).check()
