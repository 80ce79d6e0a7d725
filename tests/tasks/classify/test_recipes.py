# SPDX-License-Identifier: Apache-2.0
"""The shipped recipes are what the paper says, and build."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from slideformer.models.slide_swin import VARIANTS
from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training.command_line import TrainCLI, expand, parse
from slideformer.tasks.training.fit import quiet
from slideformer.tasks.training.recipes import find_config, read_config, recipe_names
from tests.tiers import fast

IMAGENET = [name for name in recipe_names("classify") if name.startswith("imagenet")]


def recipe(name: str) -> dict[str, Any]:
    return read_config("classify", find_config("classify", name))


@pytest.fixture
def parsed(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[TrainCLI]:
    words = ["--config", request.param, "--data", "digits", "--output", str(tmp_path / "run")]
    # The machine of the tests has neither the devices nor the precision of the recipes.
    with quiet(), ExitStack() as stack:
        yield parse(CLASSIFY, expand(CLASSIFY, [*words, "--trainer.accelerator=cpu"]), stack)


@pytest.mark.parametrize("parsed", fast(recipe_names("classify")), indirect=True)
def test_every_recipe_builds_its_model_data_and_trainer(parsed: TrainCLI) -> None:
    assert parsed.model.hparams["num_classes"] == 10
    assert parsed.trainer.max_epochs == parsed.config.trainer.max_epochs


@pytest.mark.parametrize("name", IMAGENET)
def test_imagenet_is_trained_as_in_the_paper(name: str) -> None:
    content = recipe(name)
    model, data, trainer = content["model"], content["data"], content["trainer"]
    assert model["name"] == name.removeprefix("imagenet_")
    assert model["drop_path_rate"] == VARIANTS[model["name"]].drop_path_rate
    assert model["smoothing"] == 0.1
    assert model["mix"] == {"mixup": 0.8, "cutmix": 1.0, "prob": 1.0, "switch_prob": 0.5}
    assert model["optimise"] == {
        "name": "adamw",
        "lr": 5e-4,
        "base_batch": 512,
        "weight_decay": 0.05,
        "betas": [0.9, 0.999],
        "schedule": "cosine",
        "warmup_epochs": 20,
        "warmup_lr": 5e-7,
        "min_lr": 5e-6,
    }
    assert data["augment"] == {
        "auto_augment": "rand-m9-mstd0.5-inc1",
        "color_jitter": 0.4,
        "erase_prob": 0.25,
        "erase_mode": "pixel",
    }
    assert (trainer["max_epochs"], trainer["gradient_clip_val"]) == (300, 5.0)
