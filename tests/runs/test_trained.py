# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from slideformer.dense.features import Features
from slideformer.errors import UserError
from slideformer.runs import save_run
from slideformer.runs.backbone import load_backbone
from tests.dense.small_detectors import small_run
from tests.saved import save_classifier

NAME = "slide_swin_nano"


@pytest.fixture
def classifier() -> torch.nn.Module:
    torch.manual_seed(7)
    return timm.create_model(NAME, num_classes=4).eval()


@pytest.fixture
def folder(classifier: torch.nn.Module, tmp_path: Path) -> Path:
    save_classifier(classifier, tmp_path / "run")
    return tmp_path / "run"


def assert_same_maps(features: Features, classifier: torch.nn.Module) -> None:
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted = classifier.forward_intermediates((image - features.mean) / features.std)[1]
        for x, y in zip(features.eval()(image), wanted, strict=True):
            torch.testing.assert_close(x, y, atol=0, rtol=0)


def test_a_run_gives_its_weights_and_the_rest_is_told(classifier: torch.nn.Module, folder: Path) -> None:
    features = Features(NAME, norm=False, frozen_stages=1)
    frozen = [weight.requires_grad for weight in features.parameters()]
    told = load_backbone(features, folder)
    assert_same_maps(features, classifier)
    assert told == [f"not used of {folder}: norm.weight, norm.bias, head.fc.weight, head.fc.bias"]
    assert [weight.requires_grad for weight in features.parameters()] == frozen


def test_a_file_gives_its_weights(classifier: torch.nn.Module, tmp_path: Path) -> None:
    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    features = Features(NAME, norm=False)
    load_backbone(features, tmp_path / "weights.safetensors")
    assert_same_maps(features, classifier)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "resnet18"])
def test_models_of_timm_take_a_file_of_their_own(name: str, tmp_path: Path) -> None:
    model = timm.create_model(name).eval()
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    features = Features(name, norm=False)
    (told,) = load_backbone(features, tmp_path / "weights.safetensors")
    assert "fc.weight" in told
    own = features.model.state_dict()
    assert all(torch.equal(x, model.state_dict()[entry]) for entry, x in own.items())


def test_another_normalisation_is_told(classifier: torch.nn.Module, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path, mean=(0.5, 0.5, 0.5))
    told = load_backbone(Features(NAME), tmp_path)
    assert told[1] == f"{tmp_path} was trained with mean 0.5, 0.5, 0.5, and is used with 0.485, 0.456, 0.406"


def test_another_backbone_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="must hold a resnet18, got a slide_swin_nano; choose that backbone"):
        load_backbone(Features("resnet18"), folder)


def test_weights_of_another_size_are_refused_and_nothing_is_loaded(folder: Path) -> None:
    features = Features(NAME, options={"embed_dim": 16})
    before = {name: x.clone() for name, x in features.state_dict().items()}
    with pytest.raises(UserError, match=r"does not fit slide_swin_nano: .*of another shape: patch_embed"):
        load_backbone(features, folder)
    assert all(torch.equal(x, before[name]) for name, x in features.state_dict().items())


def test_a_foreign_tensor_is_refused(classifier: torch.nn.Module, tmp_path: Path) -> None:
    state = {**classifier.state_dict(), "neck.weight": torch.zeros(3)}
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match=r"unexpected: neck\.weight"):
        load_backbone(Features(NAME), tmp_path / "weights.safetensors")


def test_a_detector_is_no_source(tmp_path: Path) -> None:
    save_run(small_run("retinanet"), tmp_path)
    with pytest.raises(UserError, match="must be a classification run, got one of the task 'detect'"):
        load_backbone(Features(NAME), tmp_path)


def test_models_without_published_weights_are_told() -> None:
    with pytest.raises(UserError, match=r"timm must have weights of slide_swin_nano, but .*; give a run or"):
        load_backbone(Features(NAME), "timm")
