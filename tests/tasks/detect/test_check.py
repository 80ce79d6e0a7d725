# SPDX-License-Identifier: Apache-2.0
"""Every error that annotations can have is found, reported with file and number, and counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.detect.check import check_data
from slideformer.tasks.detect.coco import read_coco
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.detect.layout import Split, find_split
from slideformer.tasks.training.findings import ERROR, LEFT_OUT, NOTE, Findings
from tests.tasks.detect import examples

BOX = [2.0, 3.0, 10.0, 8.0]
POLYGON = [[2, 3, 12, 3, 12, 11, 2, 11]]


def document() -> dict[str, Any]:
    """One image of 30 x 40 pixels, with two objects."""
    common = {"image_id": 4, "bbox": BOX, "area": 80, "iscrowd": 0, "segmentation": POLYGON}
    return {
        "images": [{"id": 4, "file_name": "a.png", "height": 30, "width": 40}],
        "annotations": [{"id": 1, "category_id": 3, **common}, {"id": 2, "category_id": 7, **common}],
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "cat"}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for side in ("train", "val"):
        examples.picture(tmp_path / side, "a.png", 30, 40)
        examples.write(tmp_path / "annotations" / f"instances_{side}.json", document())
    return tmp_path


def spoil(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    file = folder / "annotations" / "instances_train.json"
    changed = json.loads(file.read_text())
    change(changed)
    return examples.write(file, changed)


def annotation(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: document["annotations"][1].update(values)


def test_good_data_have_no_findings(folder: Path) -> None:
    findings = check_data(folder)
    assert findings.found == {}
    assert findings.lines() == [
        f"{side}: 1 images (0 without an object), 2 annotations, 2 classes "
        f"({folder / 'annotations' / f'instances_{side}.json'})"
        for side in ("train", "val")
    ]


def test_labels_have_no_holes_and_remember_the_numbers(folder: Path) -> None:
    data = read_coco(find_split(folder, "train"), Findings())
    assert data.class_names == ["cat", "cup"]
    assert data.category_ids == [3, 7]
    assert [row.label for row in data.annotations[4]] == [1, 2]


ERRORS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown image": (annotation(image_id=9), "annotation 2 must belong to a listed image, got image_id 9"),
    "unknown category": (
        annotation(category_id=4),
        "annotation 2 must belong to a listed category, got category_id 4",
    ),
    "box that is none": (annotation(bbox=[1, 2, 3]), "entry 1 of the annotation list must have id, image_id"),
    "box not a number": (annotation(bbox=[1, 2, 3, None]), "entry 1 of the annotation list must have"),
    "box without an end": (annotation(bbox=[1, 2, 3, float("inf")]), "entry 1 of the annotation list must"),
    "box too large": (annotation(bbox=[1, 2, 3, 10**400]), "entry 1 of the annotation list must have"),
    "polygon too far": (
        annotation(segmentation=[[0, 0, 9, 0, 9, -3e9]]),
        "annotation 2 must have polygons within 1e\\+06 pixels of the image, got 3e\\+09",
    ),
    "image number too large": (
        lambda document: document["images"][0].update(id=2**63),
        "entry 0 of the image list must have id, file_name, height, width .* got id 9223372036854775808",
    ),
    "annotation twice": (annotation(id=1), "every annotation must have its own id, got 1 twice"),
    "broken polygon": (
        annotation(segmentation=[[1, 2, 3]]),
        "the segmentation of annotation 2 must have polygons of x and y in turn, got 3 numbers",
    ),
    "run lengths of another size": (
        annotation(segmentation={"size": [40, 30], "counts": [1200]}),
        r"the segmentation of annotation 2 must have the image's size \[30, 40\]",
    ),
    "no file name": (
        lambda document: document["images"][0].pop("file_name"),
        "entry 0 of the image list must have id, file_name, height, width .* got file_name None",
    ),
    "image twice": (
        lambda document: document["images"].append(document["images"][0]),
        "every image must have its own id, got 4 twice",
    ),
    "category twice": (
        lambda document: document["categories"].append({"id": 7, "name": "mug"}),
        "every category must have its own id, got 7 twice",
    ),
    "other classes": (
        lambda document: document["categories"].append({"id": 8, "name": "mug"}),
        "must list the same categories, got only in the first: 8 mug; only in the second: none",
    ),
    "missing image": (
        lambda document: document["images"][0].update(file_name="b.png"),
        r"the file of image 4 must exist, got .*b\.png, which does not",
    ),
    "other size": (
        lambda document: document["images"][0].update(height=31),
        r"a\.png \(image 4 of .*\) must be 40 x 31 pixels as annotated, got 40 x 30",
    ),
    "a crowd as text": (
        annotation(iscrowd="0"),
        "entry 1 of the annotation list must have .* got iscrowd '0'",
    ),
    "no categories": (lambda document: document.pop("categories"), "got no categories; convert it"),
    "lists of another kind": (
        lambda document: document.update(images={}),
        "COCO's format with the lists .* got another kind of images",
    ),
    "no images": (lambda document: document["images"].clear(), "must list images, got none"),
}


@pytest.mark.parametrize(("change", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_names_file_and_number_and_stops_a_training(
    change: Callable[[dict[str, Any]], Any], message: str, folder: Path
) -> None:
    spoil(folder, change)
    findings = check_data(folder)
    assert findings.errors
    with pytest.raises(UserError, match=message):
        findings.check()

    def train() -> None:
        data = DetectionData(str(folder))
        data.prepare_data()

    with pytest.raises(UserError, match=message):
        train()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON, got Expecting"),
        ("[]", "must be COCO's format"),
        ("", "must be JSON"),
        ("[" * 100_000, "must be JSON, got maximum recursion depth"),
    ],
    ids=lambda x: x[:20],
)
def test_a_file_that_is_none_of_coco_is_refused(text: str, message: str, folder: Path) -> None:
    (folder / "annotations" / "instances_val.json").write_text(text)
    with pytest.raises(UserError, match=message):
        check_data(folder).check()


OTHERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no width": ({"bbox": [2, 3, 0, 8]}, LEFT_OUT, "boxes without an area"),
    "negative height": ({"bbox": [2, 3, 5, -8]}, LEFT_OUT, "boxes without an area"),
    "box outside": ({"bbox": [40, 3, 5, 8]}, LEFT_OUT, "boxes outside of their image"),
    "no mask": ({"segmentation": []}, LEFT_OUT, "empty masks"),
    "mask without a pixel": ({"segmentation": {"size": [30, 40], "counts": [1200]}}, LEFT_OUT, "empty masks"),
    "crowd": (
        {"iscrowd": 1, "segmentation": {"size": [30, 40], "counts": [0, 1200]}},
        NOTE,
        "crowd regions, neither trained on nor counted as missed",
    ),
    "box partly outside": (
        {"bbox": [-5, 20, 20, 20]},
        NOTE,
        "boxes that reach beyond their image, clipped in training",
    ),
    "no area": ({"area": None}, NOTE, "annotations without an area, computed instead"),
}


@pytest.mark.parametrize(("values", "severity", "kind"), OTHERS.values(), ids=OTHERS.keys())
def test_what_is_not_used_as_it_stands_is_counted_and_stops_nothing(
    values: dict[str, Any], severity: str, kind: str, folder: Path
) -> None:
    spoil(folder, annotation(**values))
    findings = check_data(folder)
    finding = findings.found[(severity, kind)]
    assert finding.count == 1
    assert finding.examples == ["instances_train.json annotation 2"]
    assert len(findings.found) == 1
    findings.check()


def named_alike(document: dict[str, Any]) -> None:
    document["categories"][0]["name"] = "cat"


def file_twice(document: dict[str, Any]) -> None:
    document["images"].append({**document["images"][0], "id": 5})


WARNINGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "two categories of one name": (
        named_alike,
        "warning: names that several categories have: 2 ('cat' of 3, 7",
    ),
    "an image listed twice": (file_twice, "warning: files that several images name: 2 ("),
}


@pytest.mark.parametrize(("change", "line"), WARNINGS.values(), ids=WARNINGS)
def test_what_is_hardly_meant_so_is_warned_of_before_and_in_training(
    change: Callable[[dict[str, Any]], Any], line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("train", "val"):
        changed = document()
        change(changed)
        examples.write(folder / "annotations" / f"instances_{side}.json", changed)
    assert any(found.startswith(line) for found in check_data(folder).lines())
    DetectionData(str(folder), num_workers=0).prepare_data()
    assert capsys.readouterr().out.startswith(line)


def fractions(document: dict[str, Any]) -> None:
    for rows in (document["images"], document["annotations"], document["categories"]):
        for row in rows:
            row.update({key: float(x) for key, x in row.items() if type(x) is int})


def test_a_whole_number_may_be_written_with_a_fraction_of_nothing(folder: Path) -> None:
    spoil(folder, fractions)
    findings = Findings()
    read = read_coco(find_split(folder, "train"), findings)
    assert findings.found == {}
    assert read == read_coco(find_split(folder, "train"), findings)
    (row,) = read.images
    assert [type(value) for value in (row.image_id, row.height, row.width)] == [int, int, int]
    assert [type(row.annotation_id) for row in read.annotations[4]] == [int, int]
    assert list(map(type, read.category_ids)) == [int, int]


@pytest.mark.parametrize("value", [True, "4", 4.5, None, float("nan"), 1e300, [4]], ids=repr)
@pytest.mark.parametrize("key", ["id", "height"])
def test_what_is_no_whole_number_is_refused(key: str, value: Any, folder: Path) -> None:
    spoil(folder, lambda document: document["images"][0].update({key: value}))
    with pytest.raises(UserError, match="entry 0 of the image list must have id, file_name, height, width"):
        check_data(folder).check()


NOTHING: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no annotations": lambda document: document["annotations"].clear(),
    "crowds only": lambda document: [row.update(iscrowd=1) for row in document["annotations"]],
    "no masks": lambda document: [row.update(segmentation=[]) for row in document["annotations"]],
    "boxes without an area": lambda document: [
        row.update(bbox=[1, 1, 0, 0]) for row in document["annotations"]
    ],
}


@pytest.mark.parametrize("change", NOTHING.values(), ids=NOTHING)
def test_check_and_training_refuse_the_same(change: Callable[[dict[str, Any]], Any], folder: Path) -> None:
    spoil(folder, change)
    for check in (lambda: check_data(folder).check(), lambda: DetectionData(str(folder), num_workers=0)):
        with pytest.raises(
            UserError, match=r"instances_train.json must hold an object to train on, got none"
        ):
            check()


def test_images_of_which_none_can_be_read_are_an_error(folder: Path) -> None:
    complete = (folder / "train" / "a.png").read_bytes()
    (folder / "train" / "a.png").write_bytes(complete[: len(complete) // 2])
    with pytest.raises(UserError, match="must list an image that can be read, got none"):
        check_data(folder).check()


def test_without_need_of_masks_none_is_missed(folder: Path) -> None:
    spoil(folder, annotation(segmentation=[]))
    assert check_data(folder, with_masks=False).found == {}


def test_boxes_without_masks_get_the_hint_that_some_detectors_need_none(folder: Path) -> None:
    for file in (folder / "annotations").iterdir():
        data = json.loads(file.read_text(encoding="utf-8"))
        for annotation in data["annotations"]:
            annotation["segmentation"] = []
        file.write_text(json.dumps(data), encoding="utf-8")
    assert "or train faster_rcnn or retinanet, which need boxes alone" in "\n".join(
        check_data(folder).lines()
    )


def test_a_box_is_clipped_for_training_and_kept_for_evaluation(folder: Path) -> None:
    spoil(folder, annotation(bbox=[-5, 20, 20, 20]))
    row = read_coco(find_split(folder, "train"), Findings()).annotations[4][1]
    assert row.corners == (0, 20, 15, 30)
    assert row.box == (-5, 20, 20, 20)


def test_a_missing_area_is_that_of_the_mask(folder: Path) -> None:
    spoil(folder, lambda document: document["annotations"][1].pop("area"))
    row = read_coco(find_split(folder, "train"), Findings()).annotations[4][1]
    assert row.area == examples.coco_mask.area(examples.coco_mask.frPyObjects(POLYGON, 30, 40)[0])


def turn(file: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(file, exif=exif)


def test_an_image_annotated_upright_is_noted_and_one_as_stored_is_not(folder: Path) -> None:
    turn(folder / "train" / "a.png", 6)  # stored 30 wide and 40 high, annotated 40 wide and 30 high
    findings = check_data(folder)
    assert findings.found[(NOTE, "images rotated to upright, as they are annotated")].count == 1
    spoil(folder, lambda document: document["images"][0].update(width=30, height=40))
    assert check_data(folder).found == {}


def test_an_unreadable_image_is_counted_with_progress(folder: Path) -> None:
    (folder / "val" / "a.png").write_bytes(b"no image")
    calls: list[tuple[int, int]] = []
    findings = check_data(folder, progress=lambda done, total: calls.append((done, total)))
    assert findings.found[(LEFT_OUT, "unreadable images")].count == 1
    assert calls == [(1, 2), (2, 2)]
    assert findings.count(ERROR) == 0


def test_the_layout_of_coco_2017_is_found(folder: Path) -> None:
    for side in ("train", "val"):
        (folder / side).rename(folder / f"{side}2017")
        file = folder / "annotations" / f"instances_{side}.json"
        file.rename(file.with_name(f"instances_{side}2017.json"))
    (folder / "train2014").mkdir()
    split = find_split(folder, "train")
    assert split == Split("train", folder / "annotations" / "instances_train2017.json", folder / "train2017")


def test_files_elsewhere_are_named_by_options(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    file = Path(shutil.move(folder / "annotations" / "instances_val.json", elsewhere / "labels.json"))
    images = Path(shutil.move(folder / "val", elsewhere / "photos"))
    assert check_data(folder).errors
    assert check_data(folder, val_annotations=file, val_images=images).found == {}


@pytest.mark.parametrize(
    ("spoilt", "message"),
    [
        (lambda root: shutil.rmtree(root / "annotations"), r"must hold one instances_train\*.json, got none"),
        (
            lambda root: shutil.copy(
                root / "annotations" / "instances_train.json", root / "annotations" / "instances_train2.json"
            ),
            r"got instances_train.json, instances_train2.json; name it with `train_annotations`",
        ),
        (lambda root: shutil.rmtree(root / "train"), r"must hold one folder train\*/ of images, got none"),
        (shutil.rmtree, "`data` must be a folder, got .* which does not exist"),
    ],
)
def test_a_layout_that_is_none_is_refused(spoilt: Callable[[Path], Any], message: str, folder: Path) -> None:
    spoilt(folder)
    with pytest.raises(UserError, match=message):
        find_split(folder, "train")
