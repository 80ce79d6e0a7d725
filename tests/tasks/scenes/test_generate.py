# SPDX-License-Identifier: Apache-2.0
"""The folder of scenes: read by COCO's own tool, repeatable, careful with what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from slideformer.errors import UserError
from slideformer.tasks.scenes.generate import generate
from slideformer.tasks.scenes.shapes import CLASS_NAMES

COUNTS = {"train": 6, "val": 4}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("scenes") / "set", **COUNTS, size=64)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# pycocotools hands its masks to NumPy in the old way.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("split", COUNTS)
def test_coco_reads_back_what_the_label_maps_show(split: str, scenes: Path) -> None:
    coco = COCO(scenes / "annotations" / f"instances_{split}.json")
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == list(CLASS_NAMES)
    assert len(coco.imgs) == COUNTS[split]
    names = (scenes / "classes.txt").read_text().split()
    for image_id, image in coco.imgs.items():
        assert read(scenes / split / image["file_name"]).shape[1::-1] == (image["width"], image["height"])
        drawn = np.zeros((image["height"], image["width"]), dtype=np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(annotation).astype(bool)
            left, top, width, height = annotation["bbox"]
            assert mask.sum() == mask[top : top + height, left : left + width].sum() == annotation["area"]
            for border in (mask[top], mask[top + height - 1], mask[:, left], mask[:, left + width - 1]):
                assert border.any()
            drawn[mask] = names.index(coco.cats[annotation["category_id"]]["name"])
        labels = read(scenes / "masks" / split / Path(image["file_name"]).with_suffix(".png").name)
        np.testing.assert_array_equal(labels, drawn)
        assert drawn.any()


def test_the_same_seed_gives_the_same_set_and_another_one_another(scenes: Path, tmp_path: Path) -> None:
    assert contents(generate(tmp_path / "again", **COUNTS, size=64)) == contents(scenes)
    other = contents(generate(tmp_path / "other", **COUNTS, size=64, seed=1))
    assert other["train/000001.jpg"] != contents(scenes)["train/000001.jpg"]


def test_more_pictures_leave_the_first_ones_as_they_are(scenes: Path, tmp_path: Path) -> None:
    more = contents(generate(tmp_path / "more", train=8, val=5, size=64))
    few = contents(scenes)
    assert all(more[name] == few[name] for name in few if name.endswith((".jpg", ".png")))


def test_an_earlier_set_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    folder = generate(tmp_path / "set", train=3, val=1, size=64)
    assert generate(folder, train=1, val=1, size=64) == folder
    assert [file.name for file in (folder / "train").iterdir()] == ["000001.jpg"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(
        UserError, match="photos must be empty or an earlier set of scenes, got other content"
    ):
        generate(tmp_path / "photos")
    (folder / "run").mkdir()  # of somebody who trained right there
    with pytest.raises(UserError, match="set must be empty or an earlier set of scenes, got other content"):
        generate(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "set"]


def test_folders_above_are_made(tmp_path: Path) -> None:
    assert (generate(tmp_path / "data" / "more" / "set", train=1, val=1, size=64) / "classes.txt").is_file()


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match="data/set must be writable"):
        generate(tmp_path / "data" / "set", train=1, val=1, size=64)


def test_an_interruption_leaves_what_was_there(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        assert (done, total) == (1, 2)
        raise KeyboardInterrupt

    folder = generate(tmp_path / "set", train=1, val=1, size=64)
    before = contents(folder)
    with pytest.raises(KeyboardInterrupt):
        generate(folder, train=1, val=1, size=64, seed=5, progress=interrupt)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"train": 0}, "--train must be at least 1, got 0"),
        ({"val": 0}, "--val must be at least 1, got 0"),
        ({"size": 8}, "--size must be at least 32, got 8"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
    ],
)
def test_a_number_out_of_range_is_refused(numbers: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        generate(tmp_path / "set", **numbers)


def test_the_folder_says_how_it_was_made(scenes: Path) -> None:
    assert json.loads((scenes / "scenes.json").read_text()) == {**COUNTS, "size": 64, "seed": 0}
