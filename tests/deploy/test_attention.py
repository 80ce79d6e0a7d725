# SPDX-License-Identifier: Apache-2.0
"""A file with attention gives each layer's weights next to the same answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from slideformer_runtime.model import Model
from torch import Tensor, nn

from slideformer.cli.main import main
from slideformer.deploy import RUNTIMES, check_sizes, export_model, verify_run
from slideformer.deploy.attention import AttentionGraph
from slideformer.deploy.verify import Difference, Report
from slideformer.errors import UserError
from slideformer.layers import NeighborhoodAttention, SlideAttention
from slideformer.runs import Facts, open_run
from tests.deploy.small import Tiny, image
from tests.exported import exported_classifier, exported_with_attention
from tests.models.families import FAMILIES, of_one_size
from tests.tiers import fast

SIZES = check_sizes(32, 32)
FACTS = Facts(task="classify", architecture="small")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with a file that gives attention weights; not to be changed."""
    return exported_with_attention(tmp_path_factory)


def outputs(file: Path, images: Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """All that a file gives, by name."""
    session = onnxruntime.InferenceSession(str(file))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"image": images.numpy()}), strict=True))


def weights_in_pytorch(model: nn.Module, images: Tensor) -> list[Tensor]:
    """The weights of each layer by the formula, from what it gets in the model."""
    seen: list[tuple[Any, Tensor]] = []
    layers = [x for x in model.modules() if isinstance(x, (SlideAttention, NeighborhoodAttention))]
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, given: seen.append((layer, given[0])))
    with torch.inference_mode():
        model(images)
        return [layer.attention_weights(x) for layer, x in seen]


def test_the_weights_are_those_of_each_layer_of_pytorch(run: Path) -> None:
    model = open_run(run).model
    layers = RUNTIMES["onnx"].card(run / "model.onnx").attention
    assert len(layers) == 2
    for size in SIZES:
        images = image(*size)
        found = outputs(run / "model.onnx", images)
        wanted = weights_in_pytorch(model, images)
        assert list(found) == ["logits", *(layer.output for layer in layers)]
        for layer, weights in zip(layers, wanted, strict=True):
            assert found[layer.output].shape == tuple(weights.shape)
            assert np.abs(found[layer.output] - weights.numpy()).max() <= 1e-5
            assert np.ptp(found[layer.output]) > 0.5


def test_the_logits_are_those_of_the_file_without(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = exported_classifier(tmp_path_factory)
    file = tmp_path_factory.mktemp("with") / "model.onnx"
    assert main(["export", str(folder), "--to", "onnx", "--with", "attention", "--output", str(file)]) == 0
    for size in SIZES:
        images = image(*size)
        wanted, found = outputs(folder / "model.onnx", images)["logits"], outputs(file, images)["logits"]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_the_metadata_say_what_each_layer_is(run: Path) -> None:
    model: Any = open_run(run).model
    first, second = RUNTIMES["onnx"].card(run / "model.onnx").attention
    assert (first.stage, first.block, first.stride, first.heads) == (1, 1, 4, 2)
    assert (second.stage, second.block, second.stride, second.heads) == (2, 1, 8, 4)
    assert (first.kernel_size, first.dilation, first.border) == ((3, 3), (1, 1), ("zeros", "zeros"))
    for stage, layer in zip(model.stages, (first, second), strict=True):
        learned = stage.blocks[0].attention.shift.weight.detach()
        # The mean of the sum of both shifts, channel by channel.
        wanted = [
            [float(sum(channel[t, u] for channel in learned) / len(learned)) + (t == u) for u in range(9)]
            for t in range(9)
        ]
        np.testing.assert_allclose(layer.shift, wanted, rtol=0, atol=6e-5)


def test_strides_in_a_file_of_one_size_are_those_of_the_model(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    words = ["--to", "onnx", "--with", "attention", "--fixed", "--size", "36x36", "--output", str(file)]
    assert main(["export", str(run), *words]) == 0
    # Of 36 pixels the second map has 5 rows, the last of them of padding in part.
    assert [layer.stride for layer in RUNTIMES["onnx"].card(file).attention] == [4, 8]


def test_readers_that_want_answers_take_the_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = image(2, 32, 32)
    model = open_run(run).model
    with torch.inference_mode():
        wanted = model(images)
        torch.testing.assert_close(open_run(run / "model.onnx").model(images), wanted, atol=1e-4, rtol=0)
    pixels = np.full((40, 40, 3), 90, dtype=np.uint8)
    from PIL import Image

    found = Model(run / "model.onnx").predict(Image.fromarray(pixels), top=1)
    assert found.classes[0][0] in ("ant", "bee", "cat", "dog", "elk")
    assert main(["verify", str(run / "model.onnx"), "--size", "32x32"]) == 0
    assert "attention" in capsys.readouterr().out


def test_weights_that_differ_do_not_pass(run: Path) -> None:
    report = verify_run(open_run(run), run / "model.onnx", sizes=[(32, 32)])
    (row,) = report.differences
    assert report.fault is None
    assert row.attention is not None
    assert row.attention <= 1e-5
    for difference in (1e-3, math.nan):
        changed = replace(report, differences=[replace(row, attention=difference)])
        assert str(changed.fault).startswith("the attention weights of the file must agree")


def test_a_file_without_attention_says_nothing_of_it(run: Path) -> None:
    card = replace(RUNTIMES["onnx"].card(run / "model.onnx"), attention=())
    assert "attention" not in card.texts()
    report = Report(card, ran=True, differences=[Difference(1, 8, 8, 0.0, 0.0, 1.0)])
    assert str(report).splitlines()[1].endswith("same top-1")


REFUSED = {
    "runtime": (["--to", "onnx", "openvino"], "of classifiers and segmenters, got openvino, float32"),
    "precision": (["--to", "onnx", "--precision", "float16"], "got onnx, float16, a model to classify"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_another_kind_of_file_is_refused_before_any_is_written(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run / "model.onnx").stat().st_mtime_ns
    assert main(["export", str(run), *words, "--with", "attention"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "leave --with out" in error
    assert (run / "model.onnx").stat().st_mtime_ns == before


def test_a_detector_and_a_model_without_layers_are_refused(tmp_path: Path) -> None:
    file, images = tmp_path / "model.onnx", [image(1, 16, 16)]
    with pytest.raises(UserError, match="got onnx, float32, a model to detect"):
        export_model(Tiny(), file, "onnx", inputs=images, facts=replace(FACTS, task="detect"), attention=True)
    with pytest.raises(UserError, match="with layers of slide or neighborhood attention, got one without"):
        export_model(Tiny(), file, "onnx", inputs=images, facts=FACTS, attention=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_its_weights_in_the_order_in_which_its_layers_run(family: str) -> None:
    torch.manual_seed(0)
    model, images = of_one_size(family).eval(), image(1, 40, 72)
    graph = AttentionGraph(model)
    with torch.inference_mode():
        logits, *found = graph(images)
        torch.testing.assert_close(logits, model(images))
    wanted = weights_in_pytorch(model, images)
    layers = graph.layers(images, one_size=True)
    assert len(found) == len(layers) == len(wanted) > 0
    for layer, weights, same in zip(layers, found, wanted, strict=True):
        torch.testing.assert_close(weights, same)
        assert weights.shape[3:] == (layer.heads, math.prod(layer.kernel_size))
        # Maps are rounded up.
        assert weights.shape[1:3] == (-(-40 // layer.stride), -(-72 // layer.stride))
        assert layer.stage is not None
    assert [layer.output for layer in layers] == [f"attention_{n + 1}" for n in range(len(layers))]


@pytest.mark.slow
@pytest.mark.parametrize("family", fast(FAMILIES)[1:])
def test_the_file_of_every_family_agrees(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = of_one_size(family).eval()
    report = export_model(
        model,
        tmp_path / "model.onnx",
        "onnx",
        inputs=[image(1, 40, 72)],
        facts=FACTS,
        fixed=True,
        attention=True,
    )
    (row,) = report.differences
    assert row.attention is not None
    assert row.attention <= 1e-5
