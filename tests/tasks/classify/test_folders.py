# SPDX-License-Identifier: Apache-2.0
"""A folder of images is checked before any training."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from slideformer.cli.main import main
from slideformer.errors import UserError
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.folders import FolderReader, class_names, shared_class_names
from slideformer.tasks.classify.sources import open_hold_out
from slideformer.tasks.images import image_paths
from tests.conftest import CLASSES, train


def test_classes_are_the_sorted_folders(photos: Path) -> None:
    (photos / "train" / ".cache").mkdir()
    (photos / "train" / "notes.txt").write_text("no class")
    assert shared_class_names(photos) == sorted(CLASSES)


def test_images_may_lie_deeper(photos: Path) -> None:
    deeper = photos / "val" / "kiwi" / "2024"
    (photos / "val" / "kiwi").rename(photos / "val" / "moved")
    deeper.parent.mkdir()
    (photos / "val" / "moved").rename(deeper)
    assert class_names(photos / "val") == sorted(CLASSES)


def test_every_image_of_a_folder_is_found(photos: Path) -> None:
    folder = photos / "train" / "kiwi"
    before = set(image_paths(folder))
    with Image.open(folder / "0.jpg") as image:
        for name in ("deep/er/a.webp", "b.BMP", "c.tiff", ".hidden.png", ".cache/d.png", "notes.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(folder / name, format="png")
    (folder / "deep" / "loop").symlink_to(folder)
    found = list(image_paths(folder))
    assert set(found) - before == {str(folder / name) for name in ("deep/er/a.webp", "b.BMP", "c.tiff")}
    assert len(found) == len(set(found))
    reader = FolderReader(photos / "train", class_names(photos / "train"))
    assert len(reader) == 3 * 8 + 3
    assert {reader[i][1] for i in range(len(reader)) if "deep" in reader.name(i)} == {0}


def one_class(root: Path) -> None:
    for path in [*root.glob("*/lemon"), *root.glob("*/ö*")]:
        shutil.rmtree(path)


def remove_val(root: Path) -> None:
    shutil.rmtree(root / "val")


def remove_all(root: Path) -> None:
    shutil.rmtree(root)


def empty_a_class(root: Path) -> None:
    for path in (root / "train" / "kiwi").iterdir():
        path.rename(path.with_suffix(".txt"))


def add_a_class(root: Path) -> None:
    shutil.copytree(root / "val" / "kiwi", root / "val" / "apple")


def remove_classes(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_all, r"`data` must be a folder, got .*photos, which does not exist; check the path"),
        (
            remove_val,
            r"must hold train/ and val/, got no val/ \(found: train\); split the images into",
        ),
        (remove_classes, r"train must hold one folder of images for each class, got none; put the images"),
        (
            empty_a_class,
            r"every class folder must hold an image .*, got none in .*train/kiwi; add images or remove",
        ),
        (one_class, r"must hold two classes or more, got kiwi alone; add a folder for the rest"),
        (
            add_a_class,
            r"must hold the same classes, got only in train/: none; only in val/: apple; rename or add",
        ),
    ],
    ids=lambda x: x.__name__ if callable(x) else "",
)
def test_a_bad_folder_is_refused(photos: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(photos)
    with pytest.raises(UserError) as caught:
        shared_class_names(photos)
    assert re.search(message, str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.fixture
def flat(photos: Path) -> Path:
    """The 8 photos of each class for training, without train/ and val/."""
    return photos / "train"


def test_a_part_of_each_class_is_held_out_and_the_same_always(flat: Path) -> None:
    data = ClassificationData(str(flat), num_workers=0, val_fraction=0.25)
    assert data.class_names == sorted(CLASSES)
    parts = (data.opened.open(split) for split in ("train", "val"))
    names = [{reader.name(n) for n in range(len(reader))} for reader in parts]
    assert [len(x) for x in names] == [18, 6]
    assert not names[0] & names[1]
    held = [Path(name).parent.name for name in names[1]]
    assert all(held.count(name) == 2 for name in CLASSES)
    # The same files, wherever the folder is.
    moved = shutil.copytree(flat, flat.with_name("moved"))
    again = open_hold_out(str(moved), 0.25).open("val")
    assert {Path(again.name(n)).relative_to(moved) for n in range(len(again))} == {
        Path(name).relative_to(flat) for name in names[1]
    }


def test_a_run_on_a_part_is_evaluated_on_the_other(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(flat, tmp_path / "run", "--val-fraction=0.25", "--epochs=2")
    assert f"slideformer evaluate {run} --data {flat}\n" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--data", str(flat)]) == 0
    assert "(6 images)" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--data", str(flat), "--val-fraction", "1"]) == 0
    assert "(24 images)" in capsys.readouterr().out
    assert "val_fraction: 0.25" in (run / "config.yaml").read_text()


def test_a_part_needs_two_images_of_each_class(flat: Path, photos: Path) -> None:
    with pytest.raises(UserError, match="has train/ and val/, which are the two parts; leave `val_fraction`"):
        ClassificationData(str(photos), num_workers=0, val_fraction=0.25)
    for path in sorted((flat / "lemon").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"every class must have 2 images, .* got 1 in lemon; add images"):
        ClassificationData(str(flat), num_workers=0, val_fraction=0.25)
    with pytest.raises(UserError, match=r"`val_fraction` must be from 0\.001 to 0\.999, got 1"):
        ClassificationData(str(flat), num_workers=0, val_fraction=1.0)


def test_a_source_with_a_hold_out_of_its_own_has_no_other_part() -> None:
    for source, classes in (("digits", None), ("wds/x", 3)):
        with pytest.raises(UserError, match=r"has a hold-out of its own; leave `val_fraction` out"):
            ClassificationData(source, num_workers=0, num_classes=classes, val_fraction=0.2)
