# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from slideformer.dense.segmenter import create_segmenter
from slideformer.dense.sliding import Sliding, bands, label_map
from slideformer.errors import UserError


class Position(nn.Module):
    """Logits that depend on where in its window a pixel lies, so that windows differ where they overlap."""

    def forward(self, x: Tensor) -> Tensor:
        slope = torch.linspace(0, 3, x.shape[-1]) + torch.linspace(0, 2, x.shape[-2])[:, None]
        return torch.cat([x * slope, x.flip(1) - slope], 1)


def averaged(model: nn.Module, image: Tensor, window: int, stride: int) -> Tensor:
    """The definition: every window added to sums of the whole picture, by the count of windows."""
    height, width = image.shape[-2:]
    total, count = torch.zeros(6, height, width), torch.zeros(height, width)

    def starts(length: int) -> list[int]:
        found = [0]
        while found[-1] + window < length:
            found.append(min(found[-1] + stride, length - window))
        return found

    for top in starts(height):
        for left in starts(width):
            part = slice(top, top + window), slice(left, left + window)
            total[:, part[0], part[1]] += model(image[None, :, part[0], part[1]])[0]
            count[part] += 1
    return total / count


SIZES = [(50, 70), (16, 64), (64, 16), (17, 33), (5, 40), (10, 12), (48, 48)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("window", "stride"), [(16, 11), (16, 16), (16, 3), (32, 20)])
def test_bands_together_are_the_average_over_windows(size: tuple[int, int], window: int, stride: int) -> None:
    image = torch.rand(3, *size)
    found = [(first, logits.clone()) for first, logits in bands(Position(), image, Sliding(window, stride))]
    rows = [first for first, _ in found]
    ends = [first + logits.shape[1] for first, logits in found]
    assert rows == [0, *ends[:-1]]
    wanted = averaged(Position(), image, window, stride)
    torch.testing.assert_close(torch.cat([logits for _, logits in found], 1), wanted)
    labels = label_map(Position(), image, sliding=Sliding(window, stride))
    assert (labels == wanted.argmax(0)).float().mean() > 0.999  # all but ties


@pytest.mark.parametrize("head", ["semantic_fpn", "upernet"])
@pytest.mark.parametrize("size", [(64, 64), (50, 41)], ids=str)
def test_a_window_that_covers_the_picture_gives_the_whole_pictures_logits(
    head: str, size: tuple[int, int]
) -> None:
    model = create_segmenter(head, "slide_swin_nano", 5, channels=16).eval()
    image = torch.rand(3, *size)
    ((first, logits),) = bands(model, image, Sliding(64, 40))
    with torch.no_grad():
        wanted = model(image[None])[0]
    assert first == 0
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)
    assert label_map(model, image).equal(wanted.argmax(0).int())


def test_a_picture_of_8_bits_is_brought_to_the_range_of_the_model() -> None:
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    assert label_map(Position(), image).equal(label_map(Position(), image / 255))


def test_progress_counts_every_window() -> None:
    seen: list[tuple[int, int]] = []
    label_map(Position(), torch.rand(3, 40, 50), sliding=Sliding(16, 12), progress=lambda *x: seen.append(x))
    assert seen == [(n, 12) for n in range(1, 13)]


@pytest.mark.parametrize(
    ("window", "stride", "words"),
    [
        (0, 1, "`window` must be at least 1, got 0"),
        (8, 0, "`stride` must be at least 1"),
        (8, 9, "`stride` must be at most the window, 8, got 9; lower it"),
    ],
)
def test_windows_with_gaps_are_refused(window: int, stride: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Sliding(window, stride)


MEMORY = """
import resource, torch
from torch import nn
from slideformer.dense.sliding import Sliding, label_map
model = nn.Conv2d(3, 40, 1).eval()
image = torch.zeros(3, 4096, 4096, dtype=torch.uint8)
label_map(model, image[:, :256, :256], sliding=Sliding(256, 256))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
label_map(model, image, sliding=Sliding(256, 256))
print(peak() - before)
"""


@pytest.mark.slow
def test_a_large_picture_is_segmented_in_bounded_memory() -> None:
    """Logits of all of it would take 2,560 MiB; a band of rows takes 160, its labels 64."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(done.stdout) < 500
