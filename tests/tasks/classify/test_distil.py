# SPDX-License-Identifier: Apache-2.0
"""The distance of a student from its teacher is the number that the options say."""

from __future__ import annotations

import math

import pytest
import timm
import torch

from slideformer.errors import UserError
from slideformer.tasks.classify.distil import Answers, Distil, answers

STUDENT = Answers(torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]), [])
TEACHER = Answers(torch.tensor([[0.0, 4.0, 1.0], [2.0, -1.0, 0.0]]), [])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_are_compared_by_the_divergence_of_their_probabilities(temperature: float) -> None:
    def probabilities(row: list[float]) -> list[float]:
        powers = [math.exp(x / temperature) for x in row]
        return [x / sum(powers) for x in powers]

    by_hand = 0.0
    for ours, theirs in zip(STUDENT.logits.tolist(), TEACHER.logits.tolist(), strict=True):
        pairs = zip(probabilities(ours), probabilities(theirs), strict=True)
        by_hand += temperature**2 * sum(p * math.log(p / q) for q, p in pairs) / 2
    loss = Distil(logits=3.0, temperature=temperature).loss(STUDENT, TEACHER)
    assert float(loss) == pytest.approx(3 * by_hand, rel=1e-5)


def test_maps_are_compared_by_the_angle_at_every_position() -> None:
    ours = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).T.reshape(1, 2, 1, 2)  # two positions of two channels
    theirs = torch.tensor([[3.0, 0.0], [1.0, 1.0]]).T.reshape(1, 2, 1, 2)
    by_hand = ((1 - 1) + (1 - math.cos(math.pi / 4))) / 2  # of the first stage; 0 of the second
    student, teacher = STUDENT._replace(maps=[ours, ours]), STUDENT._replace(maps=[theirs, 5 * ours])
    assert float(Distil(maps=4.0).loss(student, teacher)) == pytest.approx(4 * by_hand / 2, abs=1e-6)


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    model = timm.create_model("slide_swin_nano", num_classes=3).eval()
    found = answers(model, torch.randn(2, 3, 32, 32))
    assert len(found.maps) == 4
    assert Distil().loss(found, found).item() == pytest.approx(0, abs=1e-6)


def test_logits_with_maps_are_those_without() -> None:
    model = timm.create_model("slide_swin_nano", num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(answers(model, images).logits, answers(model, images, maps=False).logits)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logits": -1}, r"`distil\.logits` must be at least 0, got -1"),
        ({"maps": math.nan}, r"`distil\.maps` must be at least 0, got nan"),
        ({"temperature": 0}, r"`distil\.temperature` must be from 0\.01 to 1000, got 0"),
    ],
)
def test_bad_weights_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Distil(**options)
