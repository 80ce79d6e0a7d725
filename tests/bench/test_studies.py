# SPDX-License-Identifier: Apache-2.0
"""The trainings of a study differ in what is compared, and in nothing else."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import timm
import torch

import slideformer.models  # noqa: F401  (registers the models)
from slideformer.bench.studies import MODEL, SHAPE, STUDIES
from slideformer.bench.studies import planned as plan
from slideformer.bench.trials import Trial
from slideformer.cli import bench_accuracy
from slideformer.layers import NeighborhoodAttention, SlideAttention, WindowAttention
from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training.command_line import TrainCLI, expand, parse
from slideformer.tasks.training.fit import quiet


def planned(name: str, images: int | None = 100) -> list[Trial]:
    study = STUDIES[name]
    return plan(study, Path("data"), Path("runs"), images=images, epochs=study.epochs, seeds=study.seeds)


def options(trial: Trial) -> dict[str, str]:
    return dict(zip(trial.training[::2], trial.training[1::2], strict=True))


def test_the_command_line_knows_every_study() -> None:
    assert list(STUDIES) == list(bench_accuracy.STUDIES)


def test_arms_of_the_ablation_differ_in_the_arguments_of_the_model_alone() -> None:
    found = planned("ablation")
    assert len(found) == len({trial.folder for trial in found}) == 5 * 5
    same = {tuple(word for word in trial.training if "{" not in word) for trial in found if trial.seed == 3}
    assert len(same) == 1
    assert "--data.val_fraction" in same.pop()


def test_the_arms_of_a_seed_are_trained_one_after_the_other() -> None:
    assert [trial.seed for trial in planned("ablation")] == sorted(5 * [0, 1, 2, 3, 4])


@pytest.mark.parametrize("number", range(5))
def test_an_arm_of_the_ablation_has_the_attention_that_it_is_named_after(number: int) -> None:
    arm = STUDIES["ablation"].arms[number]
    model = timm.create_model(MODEL, num_classes=10, **{**SHAPE, **arm.model})
    assert sum(len(stage.blocks) for stage in model.stages) == sum(SHAPE["depths"])
    kinds = {"slide": SlideAttention, "shifted": WindowAttention, "neighborhood": NeighborhoodAttention}
    attention = [block.attention for stage in model.stages[:2] for block in stage.blocks]
    assert {type(layer) for layer in attention} == {kinds[arm.name.split()[0]]}
    sides = {layer.window_size if hasattr(layer, "window_size") else layer.kernel_size for layer in attention}
    assert sides == {7 if " 7 x 7" in arm.name else 3}
    if isinstance(attention[0], SlideAttention):
        shift = attention[0].shift
        assert (shift is None) == ("plain" in arm.name)
        if shift is not None:
            assert bool(shift.weight.any()) == ("zero" not in arm.name)
    assert any(getattr(layer, "shift", False) for layer in attention) or "shifted" not in arm.name
    assert model(torch.randn(1, 3, 28, 28)).shape == (1, 10)


def test_a_digest_is_of_the_training_and_not_of_where_its_files_are() -> None:
    study = STUDIES["warm-start"]

    def digests(root: str, output: str, images: int = 100) -> list[str]:
        places = Path(root), Path(output)
        found = plan(study, *places, images=images, epochs=study.epochs, seeds=study.seeds)
        return [trial.digest for trial in found]

    here = digests("data", "runs")
    assert len(set(here)) == len(here)
    assert digests("/other/data", "/other/runs") == here
    assert set(digests("data", "runs", images=99)).isdisjoint(here)


def test_a_warm_start_waits_for_the_host_of_its_seed() -> None:
    found = planned("warm-start")
    hosts = {trial.seed: trial for trial in found if trial.epochs == 10}
    assert len(hosts) == 3
    for trial in found:
        weights = options(trial).get("--weights")
        assert (trial.after is None) == (weights is None)
        if weights is not None:
            assert trial.after == hosts[trial.seed]
            assert weights == f"host:{trial.after.folder}"
    taught = [trial for trial in found if "--model.teacher" in trial.training]
    hosts_of = [str(trial.after.folder) for trial in taught if trial.after]
    assert [options(trial)["--model.teacher"] for trial in taught] == hosts_of
    assert len(taught) == 9


def test_the_host_of_the_warm_start_is_that_of_the_ablation() -> None:
    ablation = {trial.folder: trial for trial in planned("ablation")}
    hosts = [trial for trial in planned("warm-start") if trial.epochs == 10]
    assert [ablation[trial.folder].training for trial in hosts] == [trial.training for trial in hosts]


def test_only_the_study_that_chooses_looks_at_the_hold_out() -> None:
    for name in STUDIES:
        looks = {"--val-fraction" in trial.evaluation for trial in planned(name)}
        assert looks == {name == "rates"}


def test_the_recipe_is_trained_as_it_is() -> None:
    for trial in planned("recipe", images=None):
        given = json.dumps(trial.training)
        assert "--model.options" not in given
        assert "val_fraction" not in given


@pytest.mark.parametrize("name", STUDIES)
def test_the_command_line_takes_the_words_of_every_training(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainCLI, "instantiate_classes", lambda self: None)
    study = STUDIES[name]
    for trial in plan(study, tmp_path, tmp_path, images=study.images, epochs=(3,), seeds=1):
        with quiet(), ExitStack() as stack:
            cli = parse(CLASSIFY, expand(CLASSIFY, [*trial.training, "--output", str(trial.folder)]), stack)
        config = cli.config
        assert config.trainer.max_epochs == trial.epochs
        assert config.model.optimise.name == "nmuon"
        assert (config.data.train_images, config.data.val_fraction) == (study.images, study.held_out)
        starts = trial.after is not None
        assert config.model.weights == (f"host:{trial.after.folder}" if trial.after else None)
        assert (config.model.teacher is not None) == (starts and "taught" in trial.arm)
