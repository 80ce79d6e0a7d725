# SPDX-License-Identifier: Apache-2.0
"""One rule for both dense tasks: sizes say on which pixels annotations were drawn, else the option does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slideformer.cli.main import main
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.orientation import Header, read_header, read_with_header
from slideformer.tasks.segment.data import SegmentationData
from slideformer.tasks.segment.labels import read_pair
from tests.tasks.odd_images import encoded, turned_by

AMBIGUOUS = [*((n, (24, 16)) for n in (2, 3, 4)), *((n, (16, 16)) for n in range(2, 9))]
# How EXIF's orientations are defined, on arrays: the upright image of a stored one.
UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def pattern(size: tuple[int, int]) -> np.ndarray:
    """Two classes, the second in the upper left corner, in a long block."""
    classes = np.zeros(size[::-1], np.uint8)
    classes[:4, :9] = 1
    return classes


def labelled(root: Path, orientation: int, size: tuple[int, int], drawn: str) -> Path:
    """A segmentation set of one rotated image a split, labelled on the upright or the stored pixels."""
    stored = pattern(size)
    labels = stored if drawn == "stored" else np.ascontiguousarray(UPRIGHT[orientation](stored))
    for split in ("train", "val"):
        for folder in (root / split, root / "masks" / split):
            folder.mkdir(parents=True)
        image = Image.fromarray(stored * 200).convert("RGB")
        (root / split / "a.png").write_bytes(encoded(image, "png", exif=turned_by(orientation)))
        Image.fromarray(labels).save(root / "masks" / split / "a.png")
    (root / "classes.txt").write_text("ground\nblock\n")
    return root


def annotated(root: Path, orientation: int, size: tuple[int, int], drawn: str) -> Path:
    """A detection set likewise, the block in its box."""
    stored = pattern(size)
    shown = stored if drawn == "stored" else UPRIGHT[orientation](stored)
    rows, columns = np.nonzero(shown)
    box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        image = Image.fromarray(stored * 200).convert("RGB")
        (root / split / "a.png").write_bytes(encoded(image, "png", exif=turned_by(orientation)))
        document: dict[str, Any] = {
            "images": [{"id": 1, "file_name": "a.png", "width": shown.shape[1], "height": shown.shape[0]}],
            "categories": [{"id": 1, "name": "block"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 36, "iscrowd": 0}
            ],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return root


@pytest.mark.parametrize("drawn", ["upright", "stored"])
@pytest.mark.parametrize(("orientation", "size"), AMBIGUOUS)
def test_labels_lie_on_what_they_were_drawn_on(
    orientation: int, size: tuple[int, int], drawn: Any, tmp_path: Path
) -> None:
    data = SegmentationData(str(labelled(tmp_path / "set", orientation, size, drawn)), orientation=drawn)
    found = read_pair(data.splits["train"].pairs[0], data.opened)
    np.testing.assert_array_equal(np.asarray(found.image)[..., 0], found.labels * 200)


@pytest.mark.parametrize("drawn", ["upright", "stored"])
@pytest.mark.parametrize(("orientation", "size"), AMBIGUOUS)
def test_boxes_lie_on_what_they_were_drawn_on(
    orientation: int, size: tuple[int, int], drawn: Any, tmp_path: Path
) -> None:
    source = annotated(tmp_path / "set", orientation, size, drawn)
    data = DetectionData(str(source), detector="retinanet", orientation=drawn, num_workers=0)
    (batch,) = data.val_dataloader()
    left, top, right, bottom = map(int, batch.targets[0]["boxes"][0])
    assert batch.images[0][0, top:bottom, left:right].mean() * 255 == pytest.approx(200)
    assert int((batch.images[0][0] > 0.5).sum()) == (right - left) * (bottom - top)


@pytest.mark.parametrize(("make", "task"), [(labelled, "segment"), (annotated, "detect")])
def test_ambiguous_files_are_counted_by_check_data_and_reported_before_a_training(
    make: Any, task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make(tmp_path / "set", 3, (24, 16), "upright")
    options = () if task == "segment" else ("--no-masks",)
    assert main(["check-data", task, str(source), *options]) == 0
    words = "images that EXIF rotates without a change of size, annotations taken as drawn on the"
    assert f"note: {words} upright image: 2 (" in capsys.readouterr().out
    assert main(["check-data", task, str(source), "--orientation", "stored", *options]) == 0
    assert f"note: {words} stored pixels: 2 (" in capsys.readouterr().out
    if task == "segment":
        SegmentationData(str(source), num_workers=0).prepare_data()
    else:
        DetectionData(str(source), detector="retinanet").prepare_data()
    assert f"2 {words} upright image; `orientation` stored takes the other" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_one_opening_gives_the_stored_pixels_and_both_sizes(
    kind: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.linspace(0, 255, 16 * 24).astype(np.uint8).reshape(16, 24)
    data = encoded(Image.fromarray(pixels), kind, exif=turned_by(orientation))
    opened, decoded = [], []
    open_file, decode = Image.open, Image._getdecoder  # type: ignore[attr-defined]
    monkeypatch.setattr(Image, "open", lambda *words: opened.append(1) or open_file(*words))
    monkeypatch.setattr(Image, "_getdecoder", lambda *words: decoded.append(1) or decode(*words))
    image, header = read_with_header(data)
    assert (len(opened), len(decoded)) == (1, 1)
    assert header == Header((24, 16), (16, 24) if orientation >= 5 else (24, 16), orientation)
    assert header == read_header(data)
    assert header.ambiguous == (orientation == 3)
    assert np.abs(np.asarray(image)[..., 0].astype(int) - pixels).max() <= 8


def test_sizes_that_decide_are_stronger_than_the_option() -> None:
    header = Header((24, 16), (16, 24), 6)
    assert [header.drawn((24, 16), "upright"), header.drawn((16, 24), "stored")] == ["stored", "upright"]
    assert header.drawn((24, 24), "upright") is None
