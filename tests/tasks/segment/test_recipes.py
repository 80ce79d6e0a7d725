# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from slideformer.tasks.table import SEGMENT
from slideformer.tasks.training.command_line import expand, parse
from slideformer.tasks.training.fit import quiet
from slideformer.tasks.training.recipes import find_config, read_config, recipe_names
from tests.tiers import fast


@pytest.mark.parametrize("recipe", fast(recipe_names("segment"), "scenes"))
def test_a_recipe_can_be_read_and_is_what_it_says(recipe: str, labelled: Path, tmp_path: Path) -> None:
    words = [f"--config={recipe}", f"--data={labelled}", f"--output={tmp_path / 'run'}"]
    # The machine of the tests has neither the devices nor the precision of the recipes.
    words += ["--trainer.precision=32", "--trainer.accelerator=cpu"]
    with quiet(), ExitStack() as stack:
        cli = parse(SEGMENT, expand(SEGMENT, words), stack)
    kept = cli.model.hparams
    if recipe == "scenes":
        assert kept["backbone"].startswith("slide_")
        return
    _, head, backbone = recipe.replace("semantic_fpn", "semantic-fpn").split("_", 2)
    assert kept["name"] == head.replace("-", "_")
    assert kept["backbone"] == backbone
    assert (cli.datamodule.crop_size, cli.datamodule.short_side) == (512, 512)
    assert cli.model.optimise.schedule == "poly"


@pytest.mark.parametrize("recipe", [name for name in recipe_names("segment") if name.startswith("ade20k")])
def test_ade20k_is_trained_as_in_the_paper(recipe: str) -> None:
    content = read_config("segment", find_config("segment", recipe))
    optimise, updates = content["model"]["optimise"], content["trainer"]["max_epochs"] * (20_210 // 16)
    upernet = content["model"]["name"] == "upernet"
    assert updates == pytest.approx(160_000 if upernet else 40_000, rel=0.011)
    wanted = (6e-5, 0.01, 1.0) if upernet else (2e-4, 1e-4, 0.9)
    assert (optimise["lr"], optimise["weight_decay"], optimise["decay"]) == wanted
    assert optimise.get("warmup_steps", 0) == (1500 if upernet else 0)
