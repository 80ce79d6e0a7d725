# SPDX-License-Identifier: Apache-2.0
"""The command in a card, typed again, has the configuration that it was made of."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

import pytest

from slideformer.tasks.table import TASKS
from slideformer.tasks.training.command import command_of
from slideformer.tasks.training.command_line import TrainCLI, expand, parse
from slideformer.tasks.training.fit import quiet
from slideformer.tasks.training.settings import load
from tests.tiers import fast

NANO = ("--model.name=slide_swin_nano", "--data.num_workers=0", "--data=photos", "--trainer.accelerator=cpu")
TRAININGS = {
    "recipe": ("classify", "--config=digits", "--epochs=3"),
    "no_recipe": (
        "classify",
        *NANO,
        "--lr=0.01",
        "--model.options={kernel_size: 5}",
        "--model.ema_decay=0.9",
    ),
    "weights": ("classify", *NANO, "--weights=start.safetensors", "--model.optimise.min_lr=1e-5"),
    "weights_and_recipe": ("classify", "--config=digits", "--weights=start.safetensors"),
    "texts": ("classify", *NANO, "--output=two words", "--data.augment.auto_augment=rand-m9"),
    "lists": ("classify", *NANO, "--data.augment.scale=[0.3, 1]", "--seed_everything=3"),
    "detect": ("detect", "--config=scenes", "--data=scenes", "--model.head.min_size=128"),
    "segment": ("segment", "--config=scenes", "--data=labelled", "--data.crop_size=32"),
}
SHORT = {
    "recipe": "slideformer train --config digits --epochs 3",
    "weights_and_recipe": "slideformer train --config digits --weights start.safetensors",
    "segment": "slideformer train segment --config scenes --data labelled --image-size 32",
}


@pytest.fixture
def place(all_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, in which data and weights are found by their names alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(all_photos)
    return tmp_path


def described(task: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The resolved configuration of a command, and the command that is made of it; nothing is built."""
    monkeypatch.setattr(TrainCLI, "instantiate_classes", lambda self: None)
    with quiet(), ExitStack() as stack:
        row = TASKS[task]
        cli = parse(row, expand(row, words), stack)
        return cli.resolved(), command_of(row, load(cli.resolved()), load(cli.defaults()))


@pytest.mark.parametrize("name", fast(TRAININGS, "recipe", "weights", "detect"))
def test_the_command_gives_the_configuration_again(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, *words = TRAININGS[name]
    resolved, command = described(task, words, monkeypatch)
    assert command == SHORT.get(name, command)
    again = [word for word in shlex.split(command)[2:] if word != task]
    assert described(task, again, monkeypatch) == (resolved, command)


def test_paths_of_the_machine_are_not_in_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*NANO, f"--data={place / 'photos'}", f"--output={place / 'deep' / 'run'}"]
    _, command = described("classify", words, monkeypatch)
    assert str(place) not in command
    assert command.endswith("--data photos --workers 0 --output run")
