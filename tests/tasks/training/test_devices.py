# SPDX-License-Identifier: Apache-2.0
"""Two processes train a detector and a segmenter as one does, with half of each batch."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from slideformer.errors import UserError
from slideformer.runs import open_run
from slideformer.tasks.detect.module import DetectorLearner
from slideformer.tasks.evaluate import evaluate
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.module import SegmenterLearner
from slideformer.tasks.table import find_task
from slideformer.tasks.training.batches import Batch
from slideformer.tasks.training.devices import device_mean
from slideformer.tasks.training.fit import fit
from slideformer.tasks.training.run_folder import RunFolder
from tests.conftest import command, finish
from tests.shared import made_once
from tests.tasks.segment.pictures import write_set
from tests.tasks.training.even_sets import TRAIN, write_annotated, write_labelled

# One update an epoch, proportional to the gradient, and nothing that is random.
STEADY = (
    "--backbone=slide_swin_nano",
    "--model.drop_path_rate=0",
    "--model.optimise={name: sgd, lr: 0.05, warmup_epochs: 0}",
    "--data.num_workers=0",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.log_every_n_steps=1",
)
PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp")


class Case(NamedTuple):
    """A task, its data, and which of the logged figures the saved run must reach again."""

    write: Callable[[Path], None]
    words: tuple[str, ...]
    figure: Callable[[dict[str, Any]], float]


CASES = {
    # All anchors are proposed, and all regions are learned from: none is drawn by chance.
    "detect": Case(
        write_annotated,
        (
            "--model.head={fpn_channels: 8, head_channels: 16, mask_channels: 8, anchor_scale: 1, "
            "min_size: 32, max_size: 32, proposals_training: 1000, rpn_samples: 4000, box_samples: 4000, "
            "proposals: 300, detections: 300, score_threshold: 0.0}",
            "--data.augment={sides: [32], longest_side: 32, crop_probability: 0, hflip: 0}",
        ),
        lambda figures: figures["box"]["AP"],
    ),
    "segment": Case(
        write_labelled,
        (
            "--model.head={channels: 16, head_channels: 16, dropout: 0.0}",
            "--data.crop_size=32",
            "--data.augment={scale: [1.0, 1.0], max_class_share: 1, hflip: 0, photometric: 0}",
        ),
        lambda figures: figures["miou"],
    ),
}
SCORES = {"detect": "val/box_AP", "segment": "val/miou"}
FILES = {"config.json", "config.yaml", "model.safetensors", "metrics.csv", "curves.png", "predictions.png"}


def run_command(*words: object) -> str:
    """Run the command line to its end; what it printed."""
    process = command("train", *words)
    out, err = finish(process)
    assert process.returncode == 0, err
    return out


@pytest.fixture(params=CASES)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def trained(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, the run of one process and the run of two; not to be changed."""

    def make(folder: Path) -> None:
        case = CASES[task]
        case.write(folder / "data")
        words = (*STEADY, *case.words, f"--data={folder / 'data'}")
        fit(find_task(task), [*words, f"--output={folder / 'one'}", f"--data.batch_size={TRAIN}"])
        half = f"--data.batch_size={TRAIN // 2}"
        said = run_command(task, *words, f"--output={folder / 'two'}", half, *PROCESSES)
        (folder / "said.txt").write_text(said)

    return made_once(tmp_path_factory, f"devices-{task}", make)


def rows(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def assert_same_weights(one: Path, two: Path, updates: int) -> None:
    states = [torch.load(RunFolder(run).last, weights_only=True) for run in (one, two)]
    assert [state["global_step"] for state in states] == [updates, updates]
    for name, x in states[0]["state_dict"].items():
        # Of fewer samples a variance is estimated higher, by n / (n - 1).
        if not name.endswith("running_var"):
            torch.testing.assert_close(states[1]["state_dict"][name], x, rtol=1e-5, atol=2e-6, msg=name)


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_update_of_one(trained: Path) -> None:
    one, two = trained / "one", trained / "two"
    with (one / "metrics.csv").open(newline="") as file:
        losses = [name for name in next(csv.reader(file)) if name.startswith("train/")]
    assert "train/loss" in losses
    for name in losses:
        assert rows(two, name) == pytest.approx(rows(one, name), rel=1e-5), name
    assert_same_weights(one, two, updates=1)


@pytest.mark.slow
def test_two_processes_count_every_image_of_the_hold_out_once(trained: Path, task: str) -> None:
    # One process looks at the three images again, of which the two had two and one.
    found = evaluate(open_run(trained / "two"), trained / "data").to_dict()
    (logged,) = rows(trained / "two", SCORES[task])
    assert logged == pytest.approx(CASES[task].figure(found), rel=1e-6)
    assert logged > 0


@pytest.mark.slow
def test_two_processes_leave_one_complete_run(trained: Path) -> None:
    assert {path.name for path in (trained / "two").iterdir()} >= FILES
    assert (trained / "said.txt").read_text().count("on the hold-out:") == 1


@pytest.mark.slow
def test_a_run_of_two_processes_resumes_as_that_of_one_does(trained: Path, task: str, tmp_path: Path) -> None:
    one, two = (Path(shutil.copytree(trained / name, tmp_path / name)) for name in ("one", "two"))
    fit(find_task(task), [f"--resume={one}", "--trainer.max_epochs=2"])
    run_command(task, f"--resume={two}", "--trainer.max_epochs=2")
    assert_same_weights(one, two, updates=2)
    assert rows(two, "train/loss") == pytest.approx(rows(one, "train/loss"), rel=1e-5)
    assert len(rows(two, SCORES[task])) == 2


class Devices:
    """Stands for the devices of a training, whose calls come one after the other.

    Args:
        theirs: for each exchange of this device the sum of all other devices.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *theirs: Any, count: int = 2) -> None:
        self.theirs = [torch.as_tensor(x) for x in theirs]
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_world_size", lambda: count)
        patch.setattr(torch.distributed, "all_reduce", self.all_reduce)

    def all_reduce(self, x: torch.Tensor) -> None:
        x += self.theirs.pop(0)


def test_a_mean_is_over_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([1.0, 4.0])
    assert device_mean(x) is x
    Devices(monkeypatch, [5.0, 4.0], count=3)
    assert device_mean(x).tolist() == [2.0, pytest.approx(8 / 3)]
    assert x.tolist() == [1.0, 4.0]


def test_a_labelled_pixel_counts_alike_on_whichever_device(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    learner = SegmenterLearner("semantic_fpn", "slide_swin_nano", 3, head={"channels": 8}).eval()
    monkeypatch.setattr(learner, "log", lambda *words, **options: None)
    images, masks = torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, 32, 32))
    masks[0, :31] = 255
    wanted = learner.training_step(Batch(images, masks), 0)
    shares = []
    for device in (0, 1):
        with monkeypatch.context() as patch:
            Devices(patch, float((masks[1 - device] != 255).sum()), [0.0])
            shares.append(learner.training_step(Batch(images[[device]], masks[[device]]), 0))
    torch.testing.assert_close((shares[0] + shares[1]) / 2, wanted)
    assert shares[0] < shares[1] / 20, "one row of labels next to 32"


@pytest.mark.parametrize("loss", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_on_another_device_ends_this_one(
    loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = DetectorLearner("retinanet", "slide_swin_nano", 3, head={"fpn_channels": 8})
    monkeypatch.setattr(learner, "log", lambda *words, **options: None)
    monkeypatch.setattr(learner, "diverged", UserError)
    learner.log_losses({"loss": torch.tensor(1.0)}, 2)
    Devices(monkeypatch, [loss])
    with pytest.raises(UserError, match=f"the loss must be finite, got {loss}"):
        learner.log_losses({"loss": torch.tensor(1.0)}, 2)


def test_losses_are_logged_as_means_over_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = DetectorLearner("retinanet", "slide_swin_nano", 3, head={"fpn_channels": 8})
    logged = {}
    monkeypatch.setattr(learner, "log", lambda name, x, **options: logged.update({name: float(x)}))
    Devices(monkeypatch, [3.0, 1.0])
    learner.log_losses({"loss": torch.tensor(1.0), "box": torch.tensor(0.5)}, 2)
    assert logged == {"train/loss": 2.0, "train/box": 0.75}


def test_a_hold_out_of_fewer_images_than_devices_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = SegmentationData(str(write_set(tmp_path / "set", val=2)))
    monkeypatch.setattr(data, "place", lambda: (2, 1))
    assert len(data.val_dataloader()) == 1
    monkeypatch.setattr(data, "place", lambda: (3, 2))
    with pytest.raises(UserError, match=r"must have an image for each of the 3 devices, got 2; hold more"):
        data.val_dataloader()
