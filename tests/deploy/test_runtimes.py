# SPDX-License-Identifier: Apache-2.0
"""Every family in every runtime: it computes what the model does, and is what the runtime takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from slideformer.deploy import RUNTIMES, Card, Report, Sizes, export_model
from slideformer.deploy.job import Job
from slideformer.deploy.runtimes import coreml
from slideformer.errors import UserError
from slideformer.models import reparameterize
from tests.deploy.small import FACTS, SIZE, Tiny, exported, image
from tests.models.families import FAMILIES, of_one_size
from tests.shared import made_once

# The first is traced with; the others are smaller, wider and higher, in other batches.
ANY_SIZE = ((1, 64, 96), (1, 33, 33), (3, 130, 64), (2, 64, 97))
ONE_SIZE = (1, 40, 72)


def sharp(build: Callable[[str], nn.Module], name: str) -> nn.Module:
    """A model, always the same, its logits further apart than a fresh one's: by more than rounding."""
    torch.manual_seed(0)
    model = build(name)
    nn.init.normal_(model.head.fc.weight)
    return model


# The cheapest of each kind of export is in test_onnx, test_broken_files and cli/test_export.
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]


@pytest.fixture(scope="module", params=SLOW)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The name of a family, and an ONNX file for any size of its model."""

    def make(folder: Path) -> None:
        model, inputs = sharp(of_one_size, request.param), [image(*size) for size in ANY_SIZE]
        report = export_model(model, folder / "model.onnx", "onnx", inputs=inputs, facts=FACTS)
        assert_agrees(report, ANY_SIZE)

    return request.param, made_once(tmp_path_factory, f"any {request.param}", make) / "model.onnx"


def assert_agrees(report: Report, sizes: tuple[tuple[int, int, int], ...]) -> None:
    """The file ran at all sizes and computes the same but for the order of sums."""
    assert report.ran
    assert [(row.batch, row.height, row.width) for row in report.differences] == list(sizes)
    assert max(row.largest for row in report.differences) <= 1e-4
    assert {row.agreement for row in report.differences} == {1.0}


def test_onnx_runtime_agrees_at_every_size_and_meets_no_rank_6(family: tuple[str, Path]) -> None:
    # That it agrees is asserted where it is exported.
    values = onnx.load(family[1]).graph.value_info
    assert max(len(value.type.tensor_type.shape.dim) for value in values) <= 5


def test_openvino_agrees_at_every_size(
    family: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, single = family
    # OpenVINO's files are made from ONNX, which takes long to trace, and is at hand.
    monkeypatch.setattr(
        "slideformer.deploy.runtimes.onnx.write", lambda job, file: shutil.copy(single, file) and None
    )
    inputs, model = [image(*size) for size in ANY_SIZE], sharp(of_one_size, name)
    assert_agrees(
        export_model(model, tmp_path / "model.xml", "openvino", inputs=inputs, facts=FACTS), ANY_SIZE
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model.bin", "model.xml"]


@pytest.mark.parametrize("name", SLOW)
def test_executorch_agrees(name: str, tmp_path: Path) -> None:
    model, inputs = sharp(of_one_size, name), [image(*ONE_SIZE)]
    report = export_model(model, tmp_path / "model.pte", "executorch", inputs=inputs, facts=FACTS)
    assert_agrees(report, (ONE_SIZE,))
    assert report.card.sizes == Sizes(*ONE_SIZE)


@pytest.mark.parametrize("name", SLOW)
def test_core_ml_takes_the_model(name: str, tmp_path: Path) -> None:
    file = tmp_path / "model.mlpackage"
    report = export_model(sharp(of_one_size, name), file, "coreml", inputs=[image(*ONE_SIZE)], facts=FACTS)
    assert report.faults == []
    spec = coreml.specification(file)
    ranks = [out.type.tensorType.rank for entry in coreml.operations(spec) for out in entry.outputs]
    assert max(ranks) in (4, 5)
    (given,), (logits,) = spec.description.input, spec.description.output
    assert (given.name, list(given.type.multiArrayType.shape)) == ("image", [1, 3, *ONE_SIZE[1:]])
    assert logits.name == "logits"


def test_what_cannot_run_here_is_reported_as_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    report = exported(tmp_path / "model.mlpackage", "coreml")
    assert not report.ran
    assert report.differences == []
    assert report.fault is None


def test_a_package_that_core_ml_does_not_take_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(coreml, "RANK", 3)
    with pytest.raises(UserError, match=r"but .* of rank 4, more than 3; nothing was kept"):
        exported(tmp_path / "model.mlpackage", "coreml")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_fixed_file_takes_its_size_alone(runtime: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{RUNTIMES[runtime].suffix}"
    model = sharp(of_one_size, "slide_pvt_v2_b1")
    report = export_model(model, file, runtime, inputs=[image(*ONE_SIZE)], facts=FACTS, fixed=True)
    assert_agrees(report, (ONE_SIZE,))
    assert RUNTIMES[runtime].card(file).sizes == Sizes(*ONE_SIZE)
    run = RUNTIMES[runtime].open_file(file)
    for other in [(2, 40, 72), (1, 72, 40)]:
        # Whatever the runtime raises: that it takes no such input is asked, and it is not our sentence.
        with pytest.raises(Exception, match=r"(?i)dimension|shape"):
            run(image(*other))


def test_what_does_not_depend_on_the_image_is_computed_once() -> None:
    model, example = sharp(of_one_size, "slide_nat_mini"), image(*ONE_SIZE)
    card = Card("classify", "float32", "matmul", "", Sizes(*ONE_SIZE))
    program = Job(reparameterize(model), example, card).folded()
    depends = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        # What checks a dtype computes nothing, and goes when the program is lowered.
        if node.op == "call_function" and "_assert_tensor_metadata" not in node.name:
            assert depends & {source.name for source in node.all_input_nodes}, f"{node} is a constant"
            depends.add(node.name)
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(example), model(example), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_package_of_machine_code_agrees(tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    report = exported(file, "torch", fixed=False)
    assert_agrees(report, (SIZE,))
    run, other = RUNTIMES["torch"].open_file(file, 1), image(3, 40, 18)
    with torch.inference_mode():
        torch.testing.assert_close(run(other)[0], Tiny()(other), rtol=1e-5, atol=1e-5)
