# SPDX-License-Identifier: Apache-2.0
"""Saved folders: timm loads them, we load them, and a bad one is told in a line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from slideformer.errors import UserError
from slideformer.models import reparameterize
from tests.saved import opened, save_classifier

LABELS = ("cat", "dog", "owl")


@pytest.fixture
def model() -> torch.nn.Module:
    return timm.create_model("slide_swin_nano", num_classes=3, in_chans=1, kernel_size=5).eval()


@pytest.fixture
def folder(model: torch.nn.Module, tmp_path: Path) -> Path:
    save_classifier(
        model, tmp_path / "run", class_names=LABELS, input_size=(1, 28, 28), mean=(0.1,), std=(0.3,)
    )
    return tmp_path / "run"


def test_a_saved_model_comes_back_in_evaluation_mode(model: torch.nn.Module, folder: Path) -> None:
    loaded, info = opened(folder)
    image = torch.randn(2, 1, 28, 33)
    assert not loaded.training
    torch.testing.assert_close(loaded(image), model(image), atol=0, rtol=0)
    assert (info.blueprint.backbone, info.class_names) == ("slide_swin_nano", LABELS)
    assert (info.preprocessing.input_size, info.preprocessing.mean, info.preprocessing.std) == (
        (1, 28, 28),
        (0.1,),
        (0.3,),
    )
    assert (info.preprocessing.interpolation, info.preprocessing.crop_pct) == ("bicubic", 1.0)


def test_timm_loads_a_saved_model(model: torch.nn.Module, folder: Path) -> None:
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    image = torch.randn(2, 1, 28, 33)
    torch.testing.assert_close(loaded(image), model(image), atol=0, rtol=0)
    data = timm.data.resolve_model_data_config(loaded)
    assert (tuple(data["input_size"]), tuple(data["mean"])) == ((1, 28, 28), (0.1,))
    assert tuple(loaded.pretrained_cfg["label_names"]) == LABELS


def test_class_names_at_the_root_come_first_as_in_timm(folder: Path) -> None:
    others = ("ape", "bat", "cow")
    edit(label_names=others)(folder)
    assert opened(folder)[1].class_names == others
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert tuple(loaded.pretrained_cfg["label_names"]) == others


def test_class_names_that_only_the_inner_part_has_are_read(folder: Path) -> None:
    edit(label_names=None)(folder)
    assert opened(folder)[1].class_names == LABELS


def test_timm_fine_tunes_a_saved_model_for_other_classes(folder: Path) -> None:
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=7)
    assert loaded(torch.randn(1, 1, 28, 28)).shape == (1, 7)


def test_a_classifier_that_was_replaced_is_saved_as_it_is(model: torch.nn.Module, tmp_path: Path) -> None:
    model.reset_classifier(2)
    save_classifier(model, tmp_path)
    loaded, info = opened(tmp_path)
    assert loaded(torch.randn(1, 1, 32, 32)).shape == (1, 2)
    assert info.class_names == ()


def test_position_embeddings_come_back_in_their_own_size(tmp_path: Path) -> None:
    model = timm.create_model("slide_pvt_tiny", img_size=64, depths=(1, 1, 1, 1), num_classes=2).eval()
    save_classifier(model, tmp_path)
    image = torch.randn(1, 3, 40, 70)
    for loaded in (
        opened(tmp_path)[0],
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval(),
    ):
        torch.testing.assert_close(loaded(image), model(image), atol=0, rtol=0)


def test_saving_again_replaces_the_files_and_leaves_nothing_else(
    model: torch.nn.Module, folder: Path
) -> None:
    save_classifier(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert opened(folder)[1].class_names == ()


def test_an_interrupted_save_keeps_the_old_file(
    model: torch.nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / "model.safetensors").read_bytes()

    def fail(path: Path, data: bytes) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match="No space left on device; make room"):
        save_classifier(model, folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert len(list(folder.iterdir())) == 2


def test_a_merged_model_is_not_saved(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a merged model cannot be saved"):
        save_classifier(reparameterize(model), tmp_path)


def test_a_model_that_was_not_built_by_name_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must come from timm\.create_model"):
        save_classifier(torch.nn.Linear(1, 1), tmp_path)


def test_labels_must_name_every_class(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="class_names must name all 3 classes, got 2"):
        save_classifier(model, tmp_path, class_names=("cat", "dog"))


def edit(**changes: object):
    """A change of the configuration."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


FAULTS = {
    "no_config": (lambda f: (f / "config.json").unlink(), "config.json does not exist; give the folder"),
    "no_json": (lambda f: (f / "config.json").write_text("{"), "config.json must be JSON"),
    "no_object": (lambda f: (f / "config.json").write_text("[]"), "must be a JSON object, got list"),
    "foreign": (lambda f: (f / "config.json").write_text("{}"), "must describe a model, but lacks"),
    "unknown_model": (edit(architecture="nosuchnet"), "names the model 'nosuchnet', which is not known"),
    "unknown_argument": (edit(model_args={"depth": 1}), "does not describe a valid slide_swin_nano"),
    "forbidden_argument": (edit(model_args={"checkpoint_path": "x.pth"}), "sets checkpoint_path, which"),
    "other_weights": (edit(model_args={"in_chans": 3}), "model.safetensors: the weights must fit"),
    "no_weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors must hold the weights"),
    "cut_weights": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors must hold the weights",
    ),
}


def said(**changes: object):
    """A change of the part that timm calls ``pretrained_cfg``."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "pretrained_cfg": {**config["pretrained_cfg"], **changes}}))

    return change


def written(content: bytes):
    """A configuration of these bytes."""
    return lambda folder: (folder / "config.json").write_bytes(content)


def fifo(name: str):
    """A FIFO in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def broken_weight(folder: Path) -> None:
    """One number of one weight is NaN."""
    state = load_file(folder / "model.safetensors")
    state["head.fc.weight"][1, 2] = torch.nan
    save_file(state, folder / "model.safetensors")


FAULTS |= {
    "nan_mean": (said(mean=[float("nan")]), "config.json must be JSON .NaN is not a number"),
    "number_mean": (said(mean=0.1), "mean in .*config.json must be a list .* got 0.1"),
    "long_mean": (said(mean=[0.1, 0.1, 0.1]), "mean in .* a number for each of 1 channels, got 3"),
    "empty_mean": (said(mean=[]), "mean in .* must be a list of 1 to"),
    "negative_std": (said(std=[-0.3]), "std in .* must be a list .* a number from 1e-06"),
    "zero_std": (said(std=[0]), "std in .* must be a list"),
    "bool_std": (said(std=[True]), "std in .* must be a list"),
    "labels_word": (said(label_names="cat"), "label_names in .* must be a list .* got 'cat'"),
    "labels_numbers": (said(label_names=[1, 2, 3]), "label_names in .* must be a list"),
    "root_labels_word": (edit(label_names="cat"), "label_names in .* must be a list .* got 'cat'"),
    "labels_count": (edit(label_names=["cat"]), "must name all 3 classes, got 1 label_names"),
    "crop_word": (said(crop_pct="most"), "crop_pct in .* must be a number from 0.05 to 20"),
    "crop_tiny": (said(crop_pct=1e-9), "crop_pct in .* must be a number"),
    "crop_mode": (said(crop_mode="corner"), "crop_mode in .* must be one of center, squash, border"),
    "interpolation": (said(interpolation=3), "interpolation in .* must be one of"),
    "huge_input": (said(input_size=[1, 100_000, 100_000]), "input_size in .* from 1 to 4096"),
    "negative_input": (said(input_size=[1, -28, 28]), "input_size in .* from 1 to 4096"),
    "float_input": (said(input_size=[1, 28.0, 28]), "input_size in .* whole number"),
    "two_sides": (said(input_size=[28, 28]), "input_size in .* must be a list of 3 values"),
    "absurd_classes": (edit(num_classes=10**9), "num_classes in .* must be a whole number from 0 to 1000000"),
    "many_classes": (edit(num_classes=10**6, pretrained_cfg={}, label_names=None), "lacks 'input_size'"),
    "classes_word": (edit(num_classes="3"), "num_classes in .* must be a whole number"),
    "cfg_list": (edit(pretrained_cfg=[]), "pretrained_cfg in .* must be an object"),
    "args_list": (edit(model_args=[1]), "model_args in .* must be an object"),
    "args_nested": (
        edit(model_args={"depths": {"a": {"b": 3}}}),
        "does not describe a valid slide_swin_nano",
    ),
    "args_huge": (
        edit(model_args={"embed_dim": 200_000}),
        "the weights must fit|does not describe",
    ),
    "architecture": (edit(architecture=["slide_swin_nano"]), "architecture in .* must be text"),
    "nested": (written(b"[" * 100_000), "config.json must be JSON"),
    "nested_whole": (written(b'{"a":' * 500 + b"1" + b"}" * 500), "must be JSON .it is nested too deep"),
    "twice": (written(b'{"architecture": "a", "architecture": "b"}'), "two values of one name"),
    "digits": (written(b'{"num_classes": ' + b"9" * 5000 + b"}"), "config.json must be JSON"),
    "latin": (written(b'{"architecture": "\xe4"}'), "config.json must be text in UTF-8"),
    "mark": (written(b"\xef\xbb\xbf{}"), "config.json must describe a model, but lacks"),
    "huge": (written(b" " * (2**24 + 1)), "config.json must have at most 16777216 bytes"),
    "fifo_config": (fifo("config.json"), "config.json must be a regular file, got a FIFO"),
    "fifo_weights": (fifo("model.safetensors"), "model.safetensors must be a regular file, got a FIFO"),
    "nan_weight": (broken_weight, "model.safetensors must hold finite numbers, .* in head.fc.weight"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_folder_is_told_in_a_line(folder: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(folder)
    with pytest.raises(UserError, match=message):
        opened(folder)
