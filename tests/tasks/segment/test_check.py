# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.segment.check import check_data
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.labels import ROTATED, read_pair
from slideformer.tasks.segment.layout import Pair, open_source
from tests.tasks.segment.pictures import COLOURS

IMAGE, MASK = "train/0.jpg", "masks/train/0.png"


def mask_of(root: Path) -> np.ndarray:
    return np.asarray(Image.open(root / MASK))


def smaller(root: Path) -> None:
    Image.fromarray(mask_of(root)[:20]).save(root / MASK)


def out_of_range(root: Path) -> None:
    Image.fromarray(mask_of(root) + 2).save(root / MASK)


def wide_out_of_range(root: Path) -> None:
    Image.fromarray(mask_of(root).astype(np.uint16) * 300).save(root / MASK)


def colours(root: Path) -> None:
    Image.fromarray(COLOURS[mask_of(root)].astype(np.uint8)).save(root / MASK)


def lossy(root: Path) -> None:
    Image.fromarray(mask_of(root)).save((root / MASK).with_suffix(".jpg"))
    (root / MASK).unlink()


def no_mask(root: Path) -> None:
    (root / MASK).unlink()


def no_image(root: Path) -> None:
    (root / IMAGE).unlink()


def twice(root: Path) -> None:
    Image.open(root / IMAGE).save((root / IMAGE).with_suffix(".png"))


def no_split(root: Path) -> None:
    (root / "val").rename(root / "test")


ERRORS: dict[str, tuple[Callable[[Path], None], str]] = {
    "smaller": (smaller, r"0.png must be 48 x 40 pixels, as .*0.jpg, got 48 x 20"),
    "range": (out_of_range, r"0.png must hold labels from 0 to 2, or 255 for none, got 3, 4; correct"),
    "16 bits": (wide_out_of_range, r"0.png must hold labels from 0 to 2, or 255 for none, got 300, 600"),
    "colours": (colours, r"one number a pixel, got .*0.png in colours \(RGB\); save class numbers"),
    "lossy": (lossy, r"stored without loss, got .*0.jpg; save it as PNG"),
    "no mask": (no_mask, r"train/0.jpg must have a label map of its name, got none; add it"),
    "no image": (no_image, r"0.png must have an image of its name, got none; add it"),
    "twice": (twice, r"train/0.png must have a name of its own"),
    "no split": (no_split, r"the images of val must be a folder"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_cannot_be_trained_on_is_reported_in_a_line_before_training(name: str, labelled: Path) -> None:
    spoil, words = ERRORS[name]
    spoil(labelled)
    findings = check_data(labelled)
    assert findings.errors == 1
    with pytest.raises(UserError, match=words) as caught:
        SegmentationData(str(labelled), num_workers=0).prepare_data()
    assert "\n" not in str(caught.value)


def test_a_clean_set_has_facts_and_nothing_else(labelled: Path) -> None:
    seen: list[tuple[int, int]] = []
    findings = check_data(labelled, progress=lambda *x: seen.append(x))
    assert findings.lines() == [
        "3 classes: ground, square, bar",
        "train: 6 images, 100.0 % of the pixels labelled",
        "val: 2 images, 100.0 % of the pixels labelled",
    ]
    assert seen == [(n, 8) for n in range(1, 9)]


def test_unreadable_images_are_left_out_and_counted(
    labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (labelled / "train" / "0.jpg").write_bytes(b"no image")
    whole = (labelled / "masks" / "train" / "1.png").read_bytes()
    (labelled / "masks" / "train" / "1.png").write_bytes(whole[:60])
    data = SegmentationData(str(labelled), num_workers=0, batch_size=6, crop_size=32)
    data.prepare_data()
    assert "left out of the training: 2 unreadable images or label maps" in capsys.readouterr().out
    (batch,) = data.train_dataloader()
    assert len(batch.check().images) == 4
    assert sorted(Path(name).name for name in batch.unreadable) == ["0.jpg", "1.jpg"]


def test_asked_to_stop_an_unreadable_image_stops(labelled: Path) -> None:
    (labelled / "train" / "0.jpg").write_bytes(b"no image")
    data = SegmentationData(str(labelled), num_workers=0, batch_size=6, crop_size=32, on_bad_image="stop")
    (batch,) = data.train_dataloader()
    with pytest.raises(UserError, match=r"an image must be complete and readable, got .*0.jpg"):
        batch.check()


def palette(image: Image.Image) -> Image.Image:
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    return image


STORED: dict[str, tuple[Callable[[Image.Image], Image.Image], str]] = {
    "palette": (palette, ""),
    "16 bits": (lambda x: Image.fromarray(np.asarray(x).astype(np.uint16)), "label maps of 16 bits"),
    "32 bits": (lambda x: Image.fromarray(np.asarray(x).astype(np.int32)), "label maps of 16 bits"),
    "grey in colour": (lambda x: x.convert("RGB"), "label maps stored in colour, all channels equal"),
}


@pytest.mark.parametrize("name", STORED)
def test_label_maps_are_read_however_they_are_stored(name: str, labelled: Path) -> None:
    store, kind = STORED[name]
    wanted = mask_of(labelled)
    file = labelled / MASK
    store(Image.open(file).copy()).save(file.with_suffix(".tif" if name == "32 bits" else ".png"))
    if name == "32 bits":
        file.unlink()
        file = file.with_suffix(".tif")
    found = read_pair(Pair(labelled / IMAGE, file), open_source(labelled))
    assert np.array_equal(found.labels, wanted)
    lines = check_data(labelled).lines()[3:]
    assert lines == ([f"note: {kind}: 1 ({file})"] if kind else [])


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("upright", [True, False], ids=["upright map", "map as stored"])
def test_a_map_is_aligned_with_its_image(orientation: int, upright: bool, labelled: Path) -> None:
    """Either the map has the size of the upright image, or it is rotated with the image."""
    classes = mask_of(labelled)
    image = Image.fromarray(COLOURS[classes].astype(np.uint8))
    back = {3: 3, 5: 1 + 4, 6: 8, 7: 7, 8: 6}.get(orientation, 1)
    turn = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    undo = turn[back]
    stored = image if undo is None else image.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(labelled / IMAGE, exif=exif, quality=100)
    quarter_turn = orientation >= 5
    if not upright and quarter_turn:
        assert undo is not None
        Image.fromarray(classes).transpose(undo).save(labelled / MASK)
    found = read_pair(Pair(labelled / IMAGE, labelled / MASK), open_source(labelled))
    assert found.labels.shape == (found.image.height, found.image.width)
    assert np.array_equal(found.labels, classes)
    distance = np.abs(np.asarray(found.image).astype(int) - COLOURS[classes]).sum(-1)
    assert np.median(distance) < 20  # JPEG
    assert (ROTATED in found.notes) == (quarter_turn and not upright)


def test_ade20ks_zero_is_no_label_and_its_classes_begin_with_one(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        for folder in ("images", "annotations"):
            (tmp_path / folder / split).mkdir(parents=True)
        Image.new("RGB", (3, 1)).save(tmp_path / "images" / split / "1.jpg")
        Image.fromarray(np.array([[0, 1, 150]], np.uint8)).save(tmp_path / "annotations" / split / "1.png")
    source = open_source(tmp_path)
    (pair,) = source.split("train").pairs
    assert read_pair(pair, source).labels.tolist() == [[255, 0, 149]]
    Image.fromarray(np.array([[0, 151, 255]], np.uint8)).save(pair.labels)
    with pytest.raises(UserError, match="labels from 1 to 150, or 255 for none, got 151;"):
        read_pair(pair, source)


def test_absent_classes_and_empty_maps_are_noted(labelled: Path) -> None:
    for file in (labelled / "masks" / "val").iterdir():
        Image.fromarray(np.where(mask_of(labelled) == 1, 0, mask_of(labelled))).save(file)
    Image.new("L", (48, 40), 255).save(labelled / MASK)
    lines = check_data(labelled).lines()
    assert f"note: label maps without any label: 1 ({labelled / MASK})" in lines
    assert "note: classes that val lacks: 1 (square)" in lines


def relabel(root: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for split in ("train", "val"):
        for file in (root / "masks" / split).iterdir():
            Image.fromarray(change(np.asarray(Image.open(file))).astype(np.uint8)).save(file)


ONE_CLASS = "warning: splits that show one class only: 2 (train, val)"
MEANS_NO_LABEL = "which means no label: neither trained on nor counted: 2 (train: "
HARDLY_MEANT: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, list[str]]] = {
    "0 and 255": (
        lambda x: np.where(x > 0, 255, 0),
        "ground\nobject\n",
        ["classes that train lacks: 1 (object)", "have pixels of 255, " + MEANS_NO_LABEL, ONE_CLASS],
    ),
    "classes from 1": (lambda x: np.minimum(x, 1) + 1, "other\na\nb\n", ["train lacks: 1 (other)"]),
    "one class only": (lambda x: 0 * x, "a\nb\n", ["train lacks: 1 (b)", ONE_CLASS]),
    "a class that is nowhere": (lambda x: x, "a\nb\nc\nd\n", ["train lacks: 1 (d)"]),
}


@pytest.mark.parametrize("name", HARDLY_MEANT)
def test_labels_that_are_hardly_meant_so_are_warned_of_before_and_in_training(
    name: str, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, names, words = HARDLY_MEANT[name]
    relabel(labelled, change)
    (labelled / "classes.txt").write_text(names)
    findings = check_data(labelled)
    assert findings.errors == 0
    SegmentationData(str(labelled), num_workers=0).prepare_data()
    printed = capsys.readouterr().out
    for report in ("\n".join(findings.lines()), printed):
        warnings = [line for line in report.splitlines() if line.startswith("warning: ")]
        assert len(warnings) == len(words)
        assert all(word in line for word, line in zip(words, warnings, strict=True))


UNFIT: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "all pixels without a label": (lambda x: 0 * x + 255, "train of .* must hold labelled pixels, got none"),
    "more labels than classes": (lambda x: x + 1, "must hold labels from 0 to 2, or 255 for none, got 3"),
}


@pytest.mark.parametrize(("change", "words"), UNFIT.values(), ids=UNFIT)
def test_check_and_training_refuse_the_same(
    change: Callable[[np.ndarray], np.ndarray], words: str, labelled: Path
) -> None:
    relabel(labelled, change)
    for check in (check_data(labelled).check, SegmentationData(str(labelled), num_workers=0).prepare_data):
        with pytest.raises(UserError, match=words):
            check()


def test_grey_and_16_bit_images_come_as_colour(labelled: Path) -> None:
    grey = (mask_of(labelled).astype(np.uint16) + 1) * 20_000
    (labelled / IMAGE).unlink()
    Image.fromarray(grey).save(labelled / "train" / "0.png")
    found = read_pair(Pair(labelled / "train" / "0.png", labelled / MASK), open_source(labelled))
    assert found.image.mode == "RGB"
    assert np.allclose(np.asarray(found.image)[..., 0], np.round(grey / 257))
