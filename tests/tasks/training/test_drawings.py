# SPDX-License-Identifier: Apache-2.0
"""The images that a training leaves, and that none of them can stop it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from PIL import Image
from torch import nn

from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training import drawings
from slideformer.tasks.training.drawings import Drawings
from slideformer.tasks.training.run_folder import RunFolder

METRICS = "epoch,step,train/loss,val/loss\n0,9,2.0,\n0,19,1.0,1.5\n"
FILES = ("first_batch.png", "curves.png", "predictions.png")


def fails(*_: Any) -> Any:
    raise RuntimeError("no\nink")


@pytest.fixture
def drawer(tmp_path: Path) -> Drawings:
    """What draws for a task whose own drawings are a small image and a failure."""
    sheets = SimpleNamespace(draw_batch=lambda *_: Image.new("RGB", (5, 4), "teal"), draw_predictions=fails)
    task = replace(CLASSIFY, sheets=lambda: sheets)
    (tmp_path / "metrics.csv").write_text(METRICS)
    return Drawings(task, RunFolder(tmp_path), cast("Any", None))


def trainer(**values: Any) -> Any:
    return SimpleNamespace(**{"is_global_zero": True, "global_step": 0, "sanity_checking": False, **values})


def test_a_finished_run_has_its_images(finished_run: Path) -> None:
    for name in FILES:
        with Image.open(finished_run / name) as image:
            image.load()
            assert image.format == "PNG"
            assert image.width > 400
            assert len(image.convert("RGB").getcolors(2**24)) > 50


def test_a_drawing_that_fails_is_reported_once_and_leaves_the_others(
    drawer: Drawings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        drawer.draw_results(cast("Any", SimpleNamespace(model=nn.Identity())), torch.device("cpu"))
    assert capsys.readouterr().out == "predictions.png is not drawn, all else goes on: RuntimeError: no ink\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "metrics.csv"]


def test_without_matplotlib_a_line_says_what_to_install(
    drawer: Drawings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for _ in range(2):
        drawer.draw_curves()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("curves.png is not drawn, all else goes on: figures need matplotlib")
    assert line.endswith("pip install 'slideformer[train]'")
    assert not (tmp_path / "curves.png").exists()


def test_curves_that_could_not_be_drawn_are_tried_again(
    drawer: Drawings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = tmp_path / "metrics.csv"
    logged = metrics.read_text()
    metrics.unlink()
    drawer.draw_curves()  # nothing is logged yet
    metrics.write_text("damaged")
    drawer.draw_curves()
    metrics.write_text(logged)
    drawer.draw_curves()
    assert (tmp_path / "curves.png").exists()
    assert capsys.readouterr().out.count("is not drawn") <= 1


def test_only_a_training_that_begins_draws_its_first_batch_and_only_on_one_device(
    drawer: Drawings, tmp_path: Path
) -> None:
    for values in ({"global_step": 3}, {"is_global_zero": False}):
        module = SimpleNamespace(first_batch=None)
        drawer.on_train_start(trainer(**values), cast("Any", module))
        assert module.first_batch is None
    module = SimpleNamespace(first_batch=None)
    drawer.on_train_start(trainer(), cast("Any", module))
    assert callable(module.first_batch)
    module.first_batch(None)
    with Image.open(tmp_path / "first_batch.png") as image:
        assert image.size == (5, 4)


def test_curves_are_drawn_again_after_an_evaluated_epoch_but_not_all_the_time(
    drawer: Drawings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, curves = 0.0, tmp_path / "curves.png"
    monkeypatch.setattr(drawings, "time", SimpleNamespace(monotonic=lambda: now))
    drawer.on_train_start(trainer(), cast("Any", SimpleNamespace()))

    def drawn(**values: Any) -> bool:
        curves.unlink(missing_ok=True)
        drawer.on_validation_end(trainer(**values), cast("Any", None))
        return curves.exists()

    assert not drawn()
    now = drawings.EVERY
    assert not drawn(is_global_zero=False)
    assert not drawn(sanity_checking=True)
    assert drawn()
    assert not drawn()
    now = 2 * drawings.EVERY
    assert drawn()
