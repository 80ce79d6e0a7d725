# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.tasks.segment.task import SEGMENT
from slideformer.tasks.training.command_line import expand, parse


@pytest.mark.parametrize("recipe", SEGMENT.recipes())
def test_a_recipe_can_be_read_and_is_what_it_says(
    recipe: str, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"--config={recipe}", f"--data={labelled}", f"--output={tmp_path / 'run'}"]
    cli = parse(SEGMENT, expand(SEGMENT, [*words, "--trainer.precision=32", "--trainer.accelerator=cpu"]))
    kept = cli.model.hparams
    if recipe == "scenes":
        assert kept["backbone"].startswith("slide_")
        return
    _, head, backbone = recipe.replace("semantic_fpn", "semantic-fpn").split("_", 2)
    assert kept["name"] == head.replace("-", "_")
    assert kept["backbone"] == backbone
    assert (cli.datamodule.crop_size, cli.datamodule.short_side) == (512, 512)
    assert cli.model.optimise.schedule == "poly"
