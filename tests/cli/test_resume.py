# SPDX-License-Identifier: Apache-2.0
"""A run whose files are damaged, or that is resumed with other settings, is one line or goes on."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from slideformer.cli.main import main
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.training.run_folder import RunFolder
from tests.cli.mistakes import mistake
from tests.conftest import QUICK


def not_a_checkpoint(path: Path) -> None:
    path.write_text("no checkpoint")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without(key: str) -> Callable[[Path], None]:
    """A spoiler that takes a part of a checkpoint away."""

    def spoil(path: Path) -> None:
        state = torch.load(path, weights_only=True)
        del state[key]
        torch.save(state, path)

    spoil.__name__ = f"without_{key}"
    return spoil


def with_other(key: str, value: object) -> Callable[[Path], None]:
    """A spoiler that replaces a part of a checkpoint."""

    def spoil(path: Path) -> None:
        torch.save({**torch.load(path, weights_only=True), key: value}, path)

    spoil.__name__ = f"with_other_{key}"
    return spoil


def with_moments_that_are_text(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["optimizer_states"][0]["state"][0]["exp_avg"] = "text"
    torch.save(state, path)


def with_a_rate_that_is_text(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    state["optimizer_states"][0]["param_groups"][0]["weight_decay"] = "text"
    torch.save(state, path)


def without_a_tensor(path: Path) -> None:
    state = torch.load(path, weights_only=True)
    del state["state_dict"]["model.head.fc.weight"]
    torch.save(state, path)


KEYS = (
    "state_dict", "hyper_parameters", "epoch", "global_step", "loops", "callbacks", "optimizer_states",
    "images_per_update", "pytorch-lightning_version", "lr_schedulers",
)  # fmt: skip


@pytest.mark.parametrize(
    "spoil",
    [
        *(without(key) for key in KEYS),
        *(
            with_other(key, None)
            for key in ("state_dict", "epoch", "global_step", "loops", "optimizer_states")
        ),
        with_other("loops", {"fit_loop": {}}),
        with_other("optimizer_states", []),
        with_other("optimizer_states", [{}]),
        with_moments_that_are_text,
        with_a_rate_that_is_text,
        without_a_tensor,
    ],
    ids=lambda spoil: spoil.__name__,
)
def test_a_checkpoint_without_a_part_is_one_line(
    spoil: Callable[[Path], None], finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    spoil(run.last)
    code = main(["train", "--resume", str(run.path), "--trainer.max_epochs=4"])
    err = capsys.readouterr().err
    assert (code, err.count("error: "), len(err.splitlines())) == (2, 1, 1), err
    assert "checkpoint" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1:\n", "a key must be text, got another kind of value"),
        (b"task: \xff", "config.yaml must be text in UTF-8, got other bytes; save it as UTF-8"),
        (b"[" * 5000, "30 levels, got more"),
        (b"a: &a [*a]", "must not refer to itself"),
        (None, "config.yaml must be a regular file, got a FIFO"),
    ],
)
@pytest.mark.parametrize("option", ["--resume={}", "--config={}/config.yaml"])
def test_a_configuration_that_cannot_be_read_is_one_line(
    option: str, content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    if content is None:
        os.mkfifo(file)
    else:
        file.write_bytes(content)
    for words in ([], ["classify"]):
        line = mistake([*words, option.format(tmp_path)], capsys)
        assert message in line or "--config must be a YAML file" in line
        assert str(file) in line


@pytest.mark.parametrize("name", ["logs", "checkpoints", "metrics.csv"])
def test_what_is_removed_from_a_run_in_training_is_made_again(
    name: str, all_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    step = Classifier.training_step

    def removing(self: Classifier, batch: Any, index: int) -> Tensor:
        if self.global_step == 4:
            shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
        return step(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", removing)
    words = [*QUICK, f"--data={all_photos}", f"--output={run}", "--model.optimise.lr=1e-4"]
    assert main(["train", *words, "--trainer.log_every_n_steps=1"]) == 0
    assert (run / name).exists()
    assert (run / "model.safetensors").exists()


def other_content(path: Path) -> None:
    torch.save({"epoch": 3}, path)


class RunsCode:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.target, "code was run")


def with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": RunsCode(path.parent / "ran"), "hyper_parameters": {}}))


def with_code_in_torch(path: Path) -> None:
    torch.save({"state_dict": RunsCode(path.parent / "ran"), "hyper_parameters": {}}, path)


@pytest.mark.parametrize(
    "spoil", [not_a_checkpoint, cut_in_half, other_content, with_code, with_code_in_torch]
)
def test_a_file_that_is_no_checkpoint(
    spoil: Callable[[Path], None], finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    spoil(run.last)
    line = mistake(["--resume", run.path], capsys)
    assert f"{run.last} must be a checkpoint of this program" in line
    assert not (run.last.parent / "ran").exists()


def test_a_checkpoint_of_another_model(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    line = mistake(["--resume", run, "--model=slide_swin_tiny"], capsys)
    assert (
        "must be a checkpoint of this model and optimiser, got name 'slide_swin_nano' instead of "
        "'slide_swin_tiny'" in line
    )


def test_a_run_of_an_earlier_version_goes_on_with_its_best_score(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    score = torch.tensor(2.0)  # above all that comes
    for path in (run.best, run.last):
        state = torch.load(path, weights_only=True)
        del state["best_score"]
        state["callbacks"] = {"Checkpoint": {"monitor": "val/top1", "best_model_score": score}}
        torch.save(state if path == run.last else {**state, "callbacks": {}}, path)
    best = run.best.read_bytes()
    assert main(["train", "--resume", str(run.path), "--trainer.max_epochs=4"]) == 0
    assert "best top-1 on the hold-out: 200.00 %" in capsys.readouterr().out
    assert run.best.read_bytes() == best


def test_a_finished_run_resumed_is_finished(finished_run: Path, all_photos: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    assert main(["evaluate", str(run), "--data", str(all_photos)]) == 0
    files = [run / name for name in ("model.safetensors", "metrics.csv", "README.md")]
    before = [file.read_bytes() for file in files]
    assert b"Evaluated afterwards" in before[-1]
    assert main(["train", "--resume", str(run)]) == 0
    assert [file.read_bytes() for file in files] == before


def test_a_longer_training_that_stops_at_its_card_writes_it_when_resumed(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("slideformer.tasks.training.fit.write_card", stop)
        assert main(["train", "--resume", str(run), "--trainer.max_epochs=4"]) == 130
    assert "of 3, chosen" in (run / "README.md").read_text()
    assert main(["train", "--resume", str(run)]) == 0
    assert "of 4, chosen" in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.ema_decay=0.9"], "got ema_decay None instead of 0.9; resume without the change"),
        (["--model.optimise.name=sgd"], "got optimiser 'adamw' instead of 'sgd'"),
        (["--model.optimise.weight_decay=0.1"], "got weight_decay 0.05 instead of 0.1"),
        (
            ["--trainer.max_epochs=2"],
            "must be at least as long as it is, 3 epochs, got --epochs 2",
        ),
        (["--data.batch_size=4"], "must keep its 8 images an update, got 4; resume with the same"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_what_a_resumed_run_may_not_change(
    words: list[str], message: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    assert message in mistake([f"--resume={run}", *words], capsys)
    assert (run / "config.yaml").read_text() == config


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_run_that_lost_a_checkpoint_is_not_begun_anew(
    name: str, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(finished_run, tmp_path / "run")))
    getattr(run, name).unlink()
    line = mistake(["--resume", run.path], capsys)
    assert f"--resume needs the best and the last checkpoint, got no {getattr(run, name)}" in line
