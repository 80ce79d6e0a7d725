# SPDX-License-Identifier: Apache-2.0
"""Checks of class folders before a training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.classify.check import check_data
from slideformer.tasks.training.findings import Findings


def draw(path: Path, number: int, size: tuple[int, int] = (12, 8)) -> Path:
    """Write an image whose pixels depend on a number alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in two splits: 4 and 2 images each."""
    root, number = tmp_path / "photos", 0
    for split, count in (("train", 4), ("val", 2)):
        for name in ("cat", "dog"):
            for place in range(count):
                number += 1
                draw(root / split / name / f"{place}.png", number)
    return root


def kinds(findings: Findings) -> dict[str, int]:
    """Number of findings of each kind, after its severity."""
    return {f"{severity}: {kind}": finding.count for (severity, kind), finding in findings.found.items()}


def test_good_folders_give_facts_alone(photos: Path) -> None:
    seen: list[tuple[int, int]] = []
    findings = check_data(photos, progress=lambda done, total: seen.append((done, total)))
    assert kinds(findings) == {}
    assert findings.lines() == [
        "2 classes: cat, dog",
        "train: 8 readable images, 4 each",
        "val: 4 readable images, 2 each",
        "all images are 12 x 8 pixels",
    ]
    assert seen == [(done, 12) for done in range(1, 13)]


def test_copies_across_the_splits_are_found_by_their_pixels(photos: Path) -> None:
    Image.open(photos / "train/cat/0.png").save(photos / "val/cat/renamed.bmp")
    findings = check_data(photos)
    assert kinds(findings) == {"warning: images that are in both train and val": 1}
    assert findings.lines()[-1].endswith("train/cat/0.png = " + f"{photos / 'val/cat/renamed.bmp'})")


def test_an_image_in_two_classes_is_a_warning_and_twice_in_one_a_note(photos: Path) -> None:
    shutil.copy(photos / "train/cat/0.png", photos / "train/dog/cat.png")
    shutil.copy(photos / "train/cat/1.png", photos / "train/cat/again.png")
    assert kinds(check_data(photos)) == {
        "warning: images that are in two classes": 1,
        "note: images that a class has twice": 1,
    }


def test_images_of_equal_bytes_and_another_shape_are_not_copies(photos: Path) -> None:
    for name, size in (("wide", (6, 4)), ("tall", (4, 6))):
        Image.new("RGB", size, "red").save(photos / "train" / "cat" / f"{name}.png")
    assert kinds(check_data(photos)) == {}


def test_unreadable_files_and_other_files_are_left_out(photos: Path) -> None:
    (photos / "train/cat/0.png").write_bytes(b"damaged")
    (photos / "train/dog/photo.heic").write_bytes(b"not read")
    (photos / "val/dog/.hidden").write_bytes(b"not listed")
    findings = check_data(photos)
    (unreadable, others) = findings.of("left out")
    assert (unreadable.kind, unreadable.count, others.count) == ("unreadable images", 1, 1)
    assert others.kind.startswith("files that are not named as an image (.jpg, ")
    assert others.examples == [str(photos / "train/dog/photo.heic")]
    assert findings.facts[1] == "train: 7 readable images, 3 (cat) to 4 (dog) each"


def test_a_class_without_a_readable_image_to_train_on_is_an_error(photos: Path) -> None:
    for split in ("train", "val"):
        for path in (photos / split / "dog").iterdir():
            path.write_bytes(b"damaged")
    findings = check_data(photos)
    assert findings.errors == 1
    assert "got none of dog in train; fix the images or remove the folder" in "\n".join(findings.lines())
    assert kinds(findings)["warning: classes that no readable image of val is of"] == 1


def test_unbalanced_classes_and_long_images_are_reported(photos: Path) -> None:
    for number in range(40):
        draw(photos / "train/cat" / f"more{number}.png", 1000 + number)
    draw(photos / "val/cat/long.png", 2000, size=(31, 10))
    findings = check_data(photos)
    assert "dog: 4 of 44" in "\n".join(findings.lines())
    assert kinds(findings) == {
        "warning: classes of train with less than a tenth of the images of the largest": 1,
        "note: images of at least 3 to 1, of which a square crop shows a part": 1,
    }
    assert findings.facts[-1] == "images of 12 x 8 to 31 x 10 pixels, in the middle 12 x 8"


def test_folders_without_splits_are_checked_in_the_parts_of_a_training(photos: Path) -> None:
    findings = check_data(photos / "train", val_fraction=0.25)
    assert findings.facts[1:3] == ["train: 6 readable images, 3 each", "val: 2 readable images, 1 each"]
    assert kinds(findings) == {}


@pytest.mark.parametrize(
    ("folder", "fraction", "message"),
    [
        ("train", None, "hold a part of each class out with `val_fraction` 0.2"),
        (".", 0.2, "leave `val_fraction` out"),
        ("train/cat", 0.2, "images must be in the folder of their class"),
        ("nowhere", None, "which does not exist; check the path"),
    ],
)
def test_folders_that_cannot_be_used_are_one_error(
    folder: str, fraction: float | None, message: str, photos: Path
) -> None:
    findings = check_data(photos / folder, val_fraction=fraction)
    assert findings.errors == 1
    assert message in findings.lines()[1]


def test_one_class_alone_is_an_error(photos: Path) -> None:
    for split in ("train", "val"):
        shutil.rmtree(photos / split / "dog")
    findings = check_data(photos)
    assert findings.errors == 1
    assert "must hold two classes or more, got cat alone" in findings.lines()[1]


def test_a_fraction_out_of_range_is_rejected(photos: Path) -> None:
    with pytest.raises(UserError, match=r"`val_fraction` must be from 0.001 to 0.999, got 1.5"):
        check_data(photos, val_fraction=1.5)
