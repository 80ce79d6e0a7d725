# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from slideformer.dense.features import Features, features_in
from slideformer.errors import UserError
from slideformer.runs import Blueprint, save_run
from slideformer.runs.warm_start import start_from
from tests.dense.small_detectors import small_run
from tests.models.families import small
from tests.saved import save_classifier

NAME = "slide_swin_nano"
HOST_NAME = "swin_tiny_patch4_window7_224"


@pytest.fixture
def classifier() -> torch.nn.Module:
    torch.manual_seed(7)
    return timm.create_model(NAME, num_classes=4).eval()


@pytest.fixture
def folder(classifier: torch.nn.Module, tmp_path: Path) -> Path:
    save_classifier(classifier, tmp_path / "run")
    return tmp_path / "run"


def load_backbone(features: Features, source: Path | str) -> list[str]:
    """Load as a segmenter over this backbone does."""
    blueprint = Blueprint("segment", features.backbone, 5, arguments={"options": features.arguments})
    return start_from(str(source), features, blueprint)[1]


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
    total = len(features.model.state_dict())
    assert told == [f"{folder}: {total} of {total} tensors taken; 4 given tensors unused"]
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
    assert "tensors taken; " in told
    own = features.model.state_dict()
    assert all(torch.equal(x, model.state_dict()[entry]) for entry, x in own.items())


def test_another_normalisation_is_told(classifier: torch.nn.Module, tmp_path: Path) -> None:
    save_classifier(classifier, tmp_path, mean=(0.5, 0.5, 0.5))
    told = load_backbone(Features(NAME), tmp_path)
    assert told[1] == f"{tmp_path} was trained with mean 0.5, 0.5, 0.5, and is used with 0.485, 0.456, 0.406"


def test_another_backbone_is_refused(folder: Path) -> None:
    with pytest.raises(
        UserError, match="must hold a resnet18, got a slide_swin_nano; choose that one, or write host:"
    ):
        load_backbone(Features("resnet18"), folder)


def test_weights_of_another_size_are_refused_and_nothing_is_loaded(folder: Path) -> None:
    features = Features(NAME, options={"embed_dim": 16})
    before = {name: x.clone() for name, x in features.state_dict().items()}
    with pytest.raises(UserError, match=r"does not fit slide_swin_nano: .*got 5 of 82: .*patch_embed"):
        load_backbone(features, folder)
    assert all(torch.equal(x, before[name]) for name, x in features.state_dict().items())


def test_a_foreign_tensor_is_counted(classifier: torch.nn.Module, tmp_path: Path) -> None:
    state = {**classifier.state_dict(), "neck.weight": torch.zeros(3)}
    save_file(state, tmp_path / "weights.safetensors")
    (told,) = load_backbone(Features(NAME), tmp_path / "weights.safetensors")
    assert told.endswith("; 5 given tensors unused")


def test_a_detector_gives_its_backbone(tmp_path: Path) -> None:
    run = small_run("retinanet")
    save_run(run, tmp_path)
    features = Features(run.blueprint.backbone, options=run.blueprint.arguments.get("options"))
    (told,) = load_backbone(features, tmp_path)
    total = len(features.model.state_dict())
    assert told == f"{tmp_path}: {total} of {total} tensors taken"
    wanted = features_in(run.model)[1].model.state_dict()
    assert all(torch.equal(x, wanted[name]) for name, x in features.model.state_dict().items())


def test_a_hosts_run_enters_a_sliding_model(tmp_path: Path) -> None:
    host = small("slide_swin_tiny", slide_stages=())
    save_classifier(host, tmp_path)
    model = small("slide_swin_tiny", num_classes=3)
    _, (told,) = start_from(f"host:{tmp_path}", model, Blueprint("classify", "slide_swin_tiny", 3))
    assert told.startswith(f"host:{tmp_path}: 78 of 86 tensors taken; new: key bias, shift, head")


def test_timms_weights_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    host = timm.create_model(HOST_NAME)
    model = timm.create_model("slide_swin_tiny", num_classes=3)
    with monkeypatch.context() as context:  # in place of the network
        context.setattr(timm, "create_model", lambda name, pretrained: {HOST_NAME: host}[name])
        _, (told,) = start_from("host:timm", model, Blueprint("classify", "slide_swin_tiny", 3))
    assert told.startswith("host:timm: 167 of 181 tensors taken; new: key bias, shift, head")
    assert torch.equal(
        model.state_dict()["patch_embed.proj.weight"], host.state_dict()["patch_embed.proj.weight"]
    )


def test_a_model_without_a_host_in_timm_is_refused() -> None:
    with pytest.raises(UserError, match="timm must have a plain host of the model, as for slide_mvit"):
        start_from("host:timm", small("slide_nat_mini"), Blueprint("classify", "slide_nat_mini", 5))


def test_models_without_published_weights_are_told() -> None:
    with pytest.raises(UserError, match=r"timm must have weights of slide_swin_nano, but .*; give a run or"):
        load_backbone(Features(NAME), "timm")
