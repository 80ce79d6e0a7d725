# SPDX-License-Identifier: Apache-2.0
"""What `slideformer export` writes by which name, and what `slideformer verify` says of it."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import pytest
import timm

from slideformer.cli.main import main
from slideformer.cli.ranges import side_lengths
from slideformer.deploy import RUNTIMES, Sizes, mebibytes
from tests.exported import ONE_BLOCK, classifier_of_one_block
from tests.saved import save_classifier
from tests.shared import made_once


@pytest.fixture(scope="module")
def all_exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one block, with what one command exported from it; not to be changed."""
    names = ["kiwi", "lemon", "ölbaum und Rand"]

    def make(folder: Path) -> None:
        save_classifier(classifier_of_one_block(names), folder, class_names=names, input_size=(3, 32, 32))
        words = ["--to", "onnx", "openvino", "--precision", "float32", "float16", "--fixed"]
        assert main(["export", str(folder), *words]) == 0

    return made_once(tmp_path_factory, "exported in precisions", make)


@pytest.fixture
def exported(all_exported: Path, tmp_path: Path) -> Path:
    """The same, to be changed at will."""
    return Path(shutil.copytree(all_exported, tmp_path / "run"))


def test_every_runtime_and_precision_has_a_file_of_its_own(all_exported: Path) -> None:
    assert sorted(entry.name for entry in all_exported.iterdir()) == [
        "config.json",
        "model-float16.bin",
        "model-float16.onnx",
        "model-float16.xml",
        "model.bin",
        "model.onnx",
        "model.safetensors",
        "model.xml",
    ]
    card = RUNTIMES["openvino"].card(all_exported / "model-float16.xml")
    assert (card.precision, card.sizes) == ("float16", Sizes(1, 32, 32))


@pytest.mark.slow
def test_two_sizes_are_two_files(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--to", "executorch", "--size", "32", "24x40"]
    assert main(["export", str(exported), *words]) == 0
    out = capsys.readouterr().out
    for name, size in {"model-32x32.pte": Sizes(1, 32, 32), "model-24x40.pte": Sizes(1, 24, 40)}.items():
        assert RUNTIMES["executorch"].card(exported / name).sizes == size
        assert f"written: {exported / name} (" in out
    assert not (exported / "model.pte").exists()


def test_int8_is_fitted_to_the_pictures_that_are_named(exported: Path, all_photos: Path) -> None:
    words = ["export", str(exported), "--to", "onnx", "--precision", "int8", "--fixed"]
    assert main([*words, "--calibrate", str(all_photos / "train" / "kiwi")]) == 0
    assert RUNTIMES["onnx"].card(exported / "model-int8.onnx").precision == "int8"


REFUSED = {
    "output for several": (
        ["--to", "onnx", "openvino", "--output", "x.onnx"],
        "error: --output names one file, got 2 to write; leave it out, or export one",
    ),
    "no size": (["--to", "onnx", "--size", "large"], "must be HxW in pixels, such as 224x320, got 'large'"),
    "int8 alone": (
        ["--to", "onnx", "--precision", "int8"],
        "error: int8 needs images to be calibrated with, got none; name some with --calibrate",
    ),
    "precision": (["--to", "torch", "--precision", "int8"], "error: AOTInductor has the precisions float32"),
    "runtime": (["--to", "abacus"], "invalid choice: 'abacus'"),
    "ending": (["--to", "onnx", "--output", "x.pte"], "error: a file for ONNX Runtime must end in .onnx"),
    "classes of a run": (["--to", "onnx", "--num-classes", "7"], "error: --num-classes goes with a model's"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_one_line(
    words: list[str],
    message: str,
    exported: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = sorted(exported.iterdir())
    monkeypatch.chdir(exported)
    assert main(["export", str(exported), *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert sorted(exported.iterdir()) == before


def test_a_folder_is_no_output(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(exported), "--to", "onnx", "--output", str(exported)]) == 2
    assert f"error: --output must be a file, got the folder {exported}" in capsys.readouterr().err


SIDES = {"224": (224, 224), "224x320": (224, 320), "16X8": (16, 8)}


@pytest.mark.parametrize("text", SIDES)
def test_sides_are_height_and_width(text: str) -> None:
    assert side_lengths(text) == SIDES[text]


@pytest.mark.parametrize("text", ["", "x", "0", "12x", "x12", "-3", "1.5", "1x2x3", "3 x 4"])
def test_other_words_are_no_sides(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be HxW in pixels, such as 224x320, got"):
        side_lengths(text)


def test_a_file_counts_with_what_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(bytes(2**20))
    (tmp_path / "a.xml").write_bytes(bytes(2**19))
    (tmp_path / "a.bin").write_bytes(bytes(2**20))
    (tmp_path / "a.mlpackage" / "data").mkdir(parents=True)
    for name in ("b", "data/c"):
        (tmp_path / "a.mlpackage" / name).write_bytes(bytes(2**21))
    sizes = [mebibytes(tmp_path / name) for name in ("a.onnx", "a.xml", "a.mlpackage")]
    assert sizes == [1.0, 1.5, 4.0]


def test_verify_prints_a_line_a_size(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(exported / "model.onnx")]) == 0
    first, heads, row = capsys.readouterr().out.splitlines()
    assert first == "classify, float32, slide attention as matmul, inputs of 1 x 32 x 32"
    assert heads.split() == [
        "batch",
        "x",
        "height",
        "x",
        "width",
        "largest",
        "difference",
        "mean",
        "same",
        "top-1",
    ]
    assert row.startswith("1 x 32 x 32 ")
    assert row.endswith("100.0 %")


def test_verify_compares_on_labelled_pictures(
    exported: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(exported / "model.xml"), "--data", str(all_photos)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("9 labelled images: same class 100.00 %, top-1 of the file ")
    file, model = last.removesuffix(" %").split("top-1 of the file ")[1].split(" %, of the model ")
    assert file == model


def test_verify_compares_on_what_the_training_held_out(
    exported: Path, all_photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps({**content, "val_fraction": 0.3}))
    assert main(["verify", str(exported / "model.xml"), "--data", str(all_photos / "val")]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 held-out images: same class ")


def test_verify_finds_out_another_model(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = timm.create_model("slide_swin_tiny", num_classes=3, **ONE_BLOCK)
    save_classifier(model, exported / "other", input_size=(3, 32, 32))
    words = ["verify", str(exported / "model.onnx"), "--model", str(exported / "other")]
    assert main(words) == 2
    assert (
        "must be exported from the model it is compared with, but its weights are" in capsys.readouterr().err
    )


def test_verify_refuses_a_size_that_the_file_does_not_take(
    exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(exported / "model.xml"), "--size", "48x32"]) == 2
    message = "takes inputs of 1 x 32 x 32 (batch x height x width), got 1 x 48 x 32; export it for this size"
    assert message in capsys.readouterr().err


def test_verify_asks_for_the_model_of_a_file_that_lies_alone(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = Path(shutil.copy(exported / "model.onnx", tmp_path))
    assert main(["verify", str(alone)]) == 2
    assert "must be in the folder of its run, or --model must name it" in capsys.readouterr().err
    assert main(["verify", str(alone), "--model", str(exported)]) == 0
