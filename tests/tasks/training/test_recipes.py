# SPDX-License-Identifier: Apache-2.0
"""The shipped recipes: their values, of differences as well, and what their first lines say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from slideformer.errors import UserError
from slideformer.tasks.table import TASKS
from slideformer.tasks.training.recipes import (
    config_option,
    find_config,
    merged,
    read_config,
    recipe_files,
    recipe_names,
    values_of,
)
from slideformer.tasks.training.settings import load

# The values of every recipe, one a line. A recipe that is changed on purpose is changed here, too.
VALUES: dict[str, Any] = json.loads(Path(__file__).with_name("recipes.json").read_text(encoding="utf-8"))
RECIPES = [(task, name) for task in TASKS for name in recipe_names(task)]


def test_every_recipe_has_its_values() -> None:
    assert {f"{task}/{name}" for task, name in RECIPES} == set(VALUES)


@pytest.mark.parametrize(("task", "name"), RECIPES)
def test_a_recipe_resolves_to_its_values(task: str, name: str) -> None:
    assert read_config(task, find_config(task, name)) == VALUES[f"{task}/{name}"]


@pytest.mark.parametrize(("task", "name"), RECIPES)
def test_the_option_gives_the_parser_the_same_values(task: str, name: str) -> None:
    value = config_option(task, name).removeprefix("--config=")
    text = value if "\n" in value else Path(value).read_text(encoding="utf-8")
    assert load(text) == VALUES[f"{task}/{name}"]


@pytest.mark.parametrize(("task", "name"), RECIPES)
def test_a_recipe_opens_with_what_it_reaches_and_how_it_is_used(task: str, name: str) -> None:
    lines = recipe_files(task)[name].read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("# Reaches: ")
    command = TASKS[task].command
    assert any(line.startswith("# Use: ") and f"{command} --config {name} " in line for line in lines)


def test_a_users_file_may_be_a_difference_from_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("base: digits\nmodel: {smoothing: 0.2, optimise: {lr: 1e-2}}\ntrainer: {max_epochs: 3}\n")
    wanted = yaml.safe_load(recipe_files("classify")["digits"].read_text(encoding="utf-8"))
    wanted["model"]["smoothing"], wanted["model"]["optimise"]["lr"] = 0.2, 0.01
    wanted["trainer"]["max_epochs"] = 3
    assert load(config_option("classify", str(file)).removeprefix("--config=")) == wanted


def test_a_users_file_without_a_base_is_given_to_the_parser_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {smoothing: 0.2}\n")
    assert config_option("classify", str(file)) == f"--config={file}"


@pytest.mark.parametrize("base", ["nope", "scenes", "[digits]", "mine.yaml"])
def test_a_base_must_be_a_recipe_of_the_task(base: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"base: {base}\n")
    with pytest.raises(UserError, match=r"base in .*mine.yaml must be one of digits, fashion_mnist, fine"):
        config_option("classify", str(file))


def test_values_are_listed_by_the_last_word_of_their_path() -> None:
    config = {"model": {"optimise": {"lr": 3e-4}, "smoothing": 0.1}, "data": {"augment": {"scale": [0.3, 1]}}}
    assert list(values_of(config)) == ["lr 0.0003", "smoothing 0.1", "scale [0.3, 1]"]


def test_tables_are_merged_and_lists_are_replaced() -> None:
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merged(base, {"a": {"c": [3]}, "d": {"e": 5}}) == {"a": {"b": 1, "c": [3]}, "d": {"e": 5}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}
