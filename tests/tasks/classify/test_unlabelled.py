# SPDX-License-Identifier: Apache-2.0
"""Images without labels: which folders hold them, and how a model is trained on them by a teacher."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import slideformer
from slideformer.errors import UserError
from slideformer.runs import Facts, open_run
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.module import Classifier
from slideformer.tasks.classify.sources import Request, open_source
from slideformer.tasks.table import CLASSIFY
from slideformer.tasks.training.fit import fit
from slideformer.tasks.training.run_folder import RunFolder
from tests.cli.mistakes import mistake
from tests.conftest import CLASSES, QUICK, train
from tests.saved import save_classifier
from tests.shared import made_once
from tests.tiers import fast

TEACHER = Facts(task="classify", architecture="x", num_classes=3, class_names=tuple(sorted(CLASSES)))


def write_unlabelled(photos: Path, folder: Path) -> None:
    """The 24 training photos, some of them in folders."""
    for number, path in enumerate(sorted((photos / "train").rglob("*.jpg"))):
        place = (folder, folder / "2024", folder / "2025" / "may")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place / f"{number}.jpg")


@pytest.fixture(scope="session")
def all_unlabelled(all_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos without labels; not to be changed."""
    return made_once(tmp_path_factory, "unlabelled", lambda folder: write_unlabelled(all_photos, folder))


@pytest.fixture
def unlabelled(all_unlabelled: Path, tmp_path: Path) -> Path:
    """Photos without labels, to be changed at will."""
    return Path(shutil.copytree(all_unlabelled, tmp_path / "unlabelled"))


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """An untrained plain host of the classes, to start from."""
    torch.manual_seed(0)
    model = timm.create_model("slide_swin_nano", num_classes=len(CLASSES), slide_stages=())
    save_classifier(model, tmp_path / "host", class_names=sorted(CLASSES))
    return tmp_path / "host"


def opened(folder: Path, **options: Any) -> Any:
    return open_source(Request(name=str(folder), teacher=TEACHER, **options))


def names(reader: Any) -> set[str]:
    return {reader.name(number) for number in range(len(reader))}


def test_images_at_any_depth_are_in_one_of_two_parts(unlabelled: Path) -> None:
    source = opened(unlabelled)
    train_names, val_names = (names(source.open(split)) for split in ("train", "val"))
    assert not source.labelled
    assert source.class_names == TEACHER.class_names
    assert (len(train_names), len(val_names)) == (22, 2)
    assert train_names | val_names == set(map(str, unlabelled.rglob("*.jpg")))
    quarter = opened(unlabelled, val_fraction=0.25).open("val")
    assert len(quarter) == 6
    assert names(quarter) > val_names


def test_folders_named_after_the_classes_are_labels(photos: Path) -> None:
    assert opened(photos).labelled
    assert opened(photos / "train", val_fraction=0.25).labelled
    with pytest.raises(UserError, match="hold a part of each class out with `val_fraction`"):
        opened(photos / "train")


def remove_kiwi(folder: Path) -> None:
    shutil.rmtree(folder / "kiwi")


def add_apple(folder: Path) -> None:
    shutil.copytree(folder / "kiwi", folder / "apple")


@pytest.mark.parametrize(
    ("change", "words"),
    [(remove_kiwi, "without kiwi and with the foreign none"), (add_apple, "none and with the foreign apple")],
)
def test_folders_of_which_some_are_classes_are_refused(
    photos: Path, change: Callable[[Path], None], words: str
) -> None:
    change(photos / "train")
    with pytest.raises(UserError, match=f"must be all classes of `teacher` or none of them, got .*{words}"):
        opened(photos / "train")


def test_a_folder_without_two_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must hold 2 images .*, got 0; add images"):
        opened(tmp_path).check()


def test_images_of_which_none_can_be_read_are_refused(unlabelled: Path) -> None:
    for path in unlabelled.rglob("*.jpg"):
        path.write_text("not an image")
    with pytest.raises(UserError, match=r"an image must be readable, got 22 that are not, the first .*jpg"):
        opened(unlabelled).check()


@pytest.mark.parametrize("words", [(), ("--val-fraction=0.25",)])
def test_images_without_labels_are_refused_without_a_teacher(
    words: tuple[str, ...], unlabelled: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for folder in ("2024", "2025"):
        shutil.rmtree(unlabelled / folder)
    line = mistake([*QUICK, f"--data={unlabelled}", f"--output={tmp_path / 'run'}", *words], capsys)
    assert "must be in the folder of their class, or a --model.teacher must know it, got" in line
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_classes_is_refused(finished_run: Path, photos: Path) -> None:
    with pytest.raises(
        UserError, match=r"must have the 10 classes of the data, .* without 0, 1, .* kiwi, lemon"
    ):
        ClassificationData("digits", model="slide_swin_nano", teacher=str(finished_run))


def test_a_teacher_of_the_classes_in_another_order_is_refused(photos: Path, tmp_path: Path) -> None:
    model = timm.create_model("slide_swin_nano", num_classes=3)
    save_classifier(model, tmp_path / "other", class_names=sorted(CLASSES, reverse=True))
    with pytest.raises(UserError, match=r"in their order, got the order ölbaum und Rand, lemon, kiwi; give"):
        ClassificationData(str(photos), model="slide_swin_nano", teacher=str(tmp_path / "other"))


def test_a_model_learns_from_its_teacher_alone(
    all_unlabelled: Path,
    all_photos: Path,
    finished_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = train(all_unlabelled, tmp_path / "run", f"--model.teacher={finished_run}", "--val-fraction=0.25")
    said = capsys.readouterr().out
    for words in (
        "images without labels: 18 to train on, 6 held out to measure the agreement with the teacher\n",
        f"teacher: {finished_run} (slide_swin_nano), logits and 4 stage maps\n",
        "best agreement with the teacher on the hold-out: 100.00 %",
        f"slideformer export {run} --to onnx",
    ):
        assert words in said
    assert "top-1" not in said
    assert "top1" not in said
    with (run / "metrics.csv").open(newline="") as file:
        assert not any("top" in name for name in next(csv.reader(file)))
    learned = open_run(run)
    assert learned.class_names == tuple(sorted(CLASSES))
    assert slideformer.evaluate(learned, data=all_photos).to_dict()["top1"] >= 8 / 9


@pytest.mark.parametrize("stop", fast([3, 5]))  # in a frozen epoch, and after it
def test_a_resumed_run_of_a_teacher_equals_an_uninterrupted_one(
    stop: int,
    all_unlabelled: Path,
    finished_run: Path,
    host: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = (f"--model.teacher={finished_run}", f"--weights=host:{host}", "--epochs=3")
    words += ("--model.freeze=2", "--model.ema_decay=0.5", "--model.mix.mixup=0.4", "--data.batch_size=11")
    complete = train(all_unlabelled, tmp_path / "complete", *words)
    step = Classifier.training_step

    def breaking(self: Classifier, batch: Any, index: int) -> Any:
        if self.global_step == stop:
            monkeypatch.setattr(Classifier, "training_step", step)
            raise KeyError
        return step(self, batch, index)

    monkeypatch.setattr(Classifier, "training_step", breaking)
    with pytest.raises(KeyError):
        train(all_unlabelled, tmp_path / "broken", *words)
    shutil.rmtree(host)  # the weights are in the checkpoint by now
    fit(CLASSIFY, ["--resume", str(tmp_path / "broken")])
    one, other = (
        torch.load(RunFolder(run).last, weights_only=True) for run in (complete, tmp_path / "broken")
    )
    assert one["global_step"] == other["global_step"] == 6
    for name, x in one["state_dict"].items():
        assert torch.equal(x, other["state_dict"][name]), name


@pytest.mark.slow
def test_a_run_is_not_resumed_with_another_teacher_or_none(
    all_unlabelled: Path, finished_run: Path, host: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = Path(shutil.copytree(finished_run, tmp_path / "teacher"))
    run = train(all_unlabelled, tmp_path / "run", f"--model.teacher={teacher}", "--epochs=1")
    moved = teacher.rename(tmp_path / "moved")
    line = mistake(["--resume", run, "--epochs=2"], capsys)
    assert (
        f"--model.teacher must be the folder of a finished run, or a name that timm knows, got {teacher}"
        in line
    )
    line = mistake(["--resume", run, "--epochs=2", f"--model.teacher={host}"], capsys)
    assert "must be a checkpoint of this model and optimiser, got teacher 'slide_swin_nano " in line
    fit(CLASSIFY, ["--resume", str(run), "--epochs=2", f"--model.teacher={moved}"])
    assert torch.load(RunFolder(run).last, weights_only=True)["epoch"] == 1
