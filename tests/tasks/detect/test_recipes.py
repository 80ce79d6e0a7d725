# SPDX-License-Identifier: Apache-2.0
"""The shipped recipes are what the paper says, and build."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

from slideformer.dense.counts import PUBLISHED_DETECTORS
from slideformer.tasks.table import DETECT
from slideformer.tasks.training.command_line import expand, parse
from slideformer.tasks.training.fit import quiet
from slideformer.tasks.training.recipes import find_config, read_config, recipe_names
from tests.tiers import fast

COCO = [name for name in recipe_names("detect") if name.startswith("coco_")]


def recipe(name: str) -> dict[str, Any]:
    return read_config("detect", find_config("detect", name))


@pytest.mark.parametrize("name", fast(recipe_names("detect"), "scenes"))
def test_every_recipe_builds_its_model_data_and_trainer(name: str, scenes: Path, tmp_path: Path) -> None:
    words = ["--config", name, "--data", str(scenes), "--output", str(tmp_path), "--trainer.accelerator=cpu"]
    with quiet(), torch.device("meta"), ExitStack() as stack:
        cli = parse(DETECT, expand(DETECT, words), stack)
    assert cli.model.hparams["num_classes"] == 5
    assert cli.trainer.max_epochs == cli.config.trainer.max_epochs


def test_every_row_of_the_papers_table_has_its_recipe() -> None:
    rows = {f"coco_{row.head}_{row.backbone}": row for row in PUBLISHED_DETECTORS if not row.host}
    assert set(COCO) == set(rows)
    for name, row in rows.items():
        text = find_config("detect", name).read_text(encoding="utf-8")
        assert f"{row.accuracy['box AP']} box AP and {row.accuracy['mask AP']} mask AP by the paper" in text
        assert (recipe(name)["model"]["name"], recipe(name)["model"]["backbone"]) == (row.head, row.backbone)


@pytest.mark.parametrize("name", COCO)
def test_coco_is_trained_as_in_the_paper(name: str) -> None:
    content = recipe(name)
    optimise, swin = content["model"]["optimise"], "swin" in name
    assert (optimise["lr"], optimise["weight_decay"]) == ((1e-4, 0.05) if swin else (2e-4, 1e-4))
    assert optimise["milestones"] == ([27, 33] if swin else [8, 11])
    assert content["trainer"]["max_epochs"] == (36 if swin else 12)
    # Of these heads the cascade's alone have batch normalisation.
    assert content["trainer"].get("sync_batchnorm", False) == ("cascade" in name)
    sides = content["data"]["augment"]["sides"]
    assert (sides[0], sides[-1], content["data"]["augment"]["longest_side"]) == (
        480 if swin else 800,
        800,
        1333,
    )
    assert 8 * content["data"]["batch_size"] == 16
