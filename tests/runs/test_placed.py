# SPDX-License-Identifier: Apache-2.0
"""Where a run computes changes its speed, not its answers, and not the run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from slideformer.errors import UserError
from slideformer.models.merge import is_merged
from slideformer.runs import EvalTransform, Run
from slideformer.runs.classifier import classifier_run
from slideformer.runs.placed import PRECISIONS, Normalise, find_device, placed
from slideformer.runs.run import TaskName
from tests.dense.small_detectors import pictures, small_run
from tests.exported import CLASSES, ONE_BLOCK, classifier_of_one_block

PIXELS = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def run() -> Run:
    model = classifier_of_one_block(CLASSES).eval()
    return classifier_run(model, class_names=CLASSES, arguments=ONE_BLOCK)


def test_a_copy_is_merged_and_gives_the_answers_of_the_run(run: Run) -> None:
    ready = placed(run, device="cpu", precision=None, merge=True)
    assert is_merged(ready.model)
    assert not is_merged(run.model)
    assert run.preprocessing is not None
    with torch.no_grad():
        wanted = run.model(Normalise(run.preprocessing)(PIXELS))
    torch.testing.assert_close(ready.model(PIXELS), wanted, rtol=1e-4, atol=1e-5)
    assert (ready.class_names, ready.blueprint) == (run.class_names, run.blueprint)


def test_8_bit_pixels_are_normalised_and_other_numbers_are_the_models_input(run: Run) -> None:
    ready = placed(run, device=None, precision=None, merge=False)
    assert run.preprocessing is not None
    assert torch.equal(ready.model(PIXELS), ready.model(Normalise(run.preprocessing)(PIXELS)))


def test_normalised_pixels_are_timms(run: Run) -> None:
    assert run.preprocessing is not None
    transform = EvalTransform(run.preprocessing)
    mean, std = (torch.tensor(x)[:, None, None] for x in (run.preprocessing.mean, run.preprocessing.std))
    torch.testing.assert_close(transform.normalise(PIXELS), (PIXELS / 255 - mean) / std)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if name != "float32"])
def test_a_lower_precision_gives_nearly_the_same_answers_in_float32(precision: str, run: Run) -> None:
    exact = placed(run, device="cpu", precision="float32", merge=True).model(PIXELS)
    found = placed(run, device="cpu", precision=precision, merge=True).model(PIXELS)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def test_a_detector_answers_in_float32_for_images_of_different_sizes() -> None:
    run = small_run("retinanet")
    images = [(255 * image).to(torch.uint8) for image in pictures()]
    found = placed(run, device="cpu", precision="bfloat16", merge=True).model(images)
    assert len(found) == 2
    assert {x.dtype for output in found for x in output.values()} == {torch.float32, torch.int64}


def test_auto_is_the_gpu_that_is_here_and_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, wanted in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here=cuda: here)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda here=mps: here)
        assert find_device("auto") == torch.device(wanted)


def test_a_device_that_is_not_here_is_an_error(run: Run) -> None:
    with pytest.raises(UserError, match=r"`device` must be one that is here, got 'nowhere': "):
        placed(run, device="nowhere", precision=None, merge=False)


def test_an_unknown_precision_is_an_error(run: Run) -> None:
    with pytest.raises(UserError, match="`precision` must be one of float32, bfloat16, float16, got 'int8'"):
        placed(run, device=None, precision="int8", merge=False)


def test_a_device_that_only_has_shapes_is_an_error(run: Run) -> None:
    with pytest.raises(UserError, match=r"`device` must be one that computes, got 'meta', .*; give cpu"):
        placed(run, device="meta", precision=None, merge=False)


@pytest.mark.parametrize(
    ("task", "count", "words"),
    [
        ("classify", 2, "a batch of 2 images; lower `batch_size`"),
        ("detect", 2, "a batch of 2 images; lower `batch_size`"),
        ("detect", 1, "an image; give a smaller one, or another `device`"),
        ("segment", 1, "an image; give a smaller `window`"),
    ],
)
def test_images_beyond_the_memory_are_an_error(task: TaskName, count: int, words: str, run: Run) -> None:
    class Large(nn.Module):
        def forward(self, images: Tensor | list[Tensor]) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    blueprint = replace(run.blueprint, task=task)
    ready = placed(replace(run, model=Large(), blueprint=blueprint), device=None, precision=None, merge=False)
    images = PIXELS[:count]
    with pytest.raises(UserError) as raised:
        ready.model(list(images) if task == "detect" else images)
    assert str(raised.value) == f"cpu has too little memory for {words}"
