# SPDX-License-Identifier: Apache-2.0
"""Batches of annotated images, for training and for evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.detect.data import DetectionData
from slideformer.tasks.detect.transforms import Augment
from slideformer.tasks.scenes.generate import generate

# Nothing random but the order.
STILL = Augment(sides=(64,), longest_side=64, crop_probability=0, hflip=0)
LIVELY = Augment(sides=(48, 64, 80), longest_side=90, crop_probability=0.7, crop_sides=(70,), crop=(20, 50))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("scenes") / "set", train=10, val=5, size=64)


def change(scenes: Path, folder: Path, side: str, edit: Any) -> Path:
    """A copy of the scenes with other annotations."""
    folder.mkdir()
    for part in ("train", "val"):
        (folder / part).symlink_to(scenes / part)
    (folder / "annotations").mkdir()
    for part in ("train", "val"):
        document = json.loads((scenes / "annotations" / f"instances_{part}.json").read_text())
        if part == side:
            edit(document)
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    return folder


def loaded(source: Path, augment: Augment = STILL, **options: Any) -> DetectionData:
    return DetectionData(str(source), batch_size=2, num_workers=0, augment=augment, **options)


def test_a_training_target_is_what_is_annotated(scenes: Path) -> None:
    data = loaded(scenes)
    document = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    seen = set()
    for batch in data.train_dataloader():
        assert len(batch.images) == 2
        for image, target in zip(batch.images, batch.targets, strict=True):
            rows = [row for row in document["annotations"] if row["image_id"] == target["image_id"]]
            corners = [[x, y, x + width, y + height] for x, y, width, height in (r["bbox"] for r in rows)]
            assert target["boxes"].tolist() == corners
            assert target["labels"].tolist() == [row["category_id"] for row in rows]
            assert target["masks"].sum((1, 2)).tolist() == [row["area"] for row in rows]
            assert image.dtype == torch.float32
            assert 0 <= image.min() < image.max() <= 1
            name = document["images"][int(target["image_id"]) - 1]["file_name"]
            with Image.open(scenes / "train" / name) as picture:
                pixels = np.asarray(picture).transpose(2, 0, 1)
            np.testing.assert_array_equal((image * 255).round().byte().numpy(), pixels)
            seen.add(int(target["image_id"]))
    assert seen == set(range(1, 11))


def test_boxes_and_masks_follow_every_random_change(scenes: Path) -> None:
    data = loaded(scenes, LIVELY)
    sizes, cropped = set(), 0
    for _ in range(4):
        for batch in data.train_dataloader():
            cropped += batch.cropped_away
            for image, target in zip(batch.images, batch.targets, strict=True):
                sizes.add(tuple(image.shape[1:]))
                assert target["masks"].shape[1:] == image.shape[1:]
                assert len(target["boxes"]) == len(target["labels"]) == len(target["masks"])
                for box, mask in zip(target["boxes"], target["masks"], strict=True):
                    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
                    extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    # A box may be larger: a crop may cut off more of the object than of its box. A mask is
                    # enlarged up to four times, its pixels with it.
                    assert box[0] <= extent[0] + 4
                    assert box[1] <= extent[1] + 4
                    assert box[2] >= extent[2] - 4
                    assert box[3] >= extent[3] - 4
    assert len(sizes) > 5
    assert cropped > 0
    assert max(max(size) for size in sizes) <= LIVELY.longest_side


def test_a_mirror_image_mirrors_box_and_mask(scenes: Path) -> None:
    still = {int(t["image_id"]): (i, t) for i, t in samples(loaded(scenes))}
    flipped = samples(loaded(scenes, Augment(sides=(64,), longest_side=64, crop_probability=0, hflip=1)))
    for image, target in flipped:
        before_image, before = still[int(target["image_id"])]
        assert torch.equal(image, before_image.flip(-1))
        assert torch.equal(target["masks"], before["masks"].flip(-1))
        assert torch.equal(target["boxes"][:, 0], 64 - before["boxes"][:, 2])


def samples(data: DetectionData) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    batches = list(data.train_dataloader())
    return [pair for batch in batches for pair in zip(batch.images, batch.targets, strict=True)]


def test_the_hold_out_comes_once_in_order_with_crowds_and_raw_boxes(scenes: Path, tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["annotations"][0]["iscrowd"] = 1
        document["annotations"][0]["bbox"] = [-3, 4, 10, 0]

    data = loaded(change(scenes, tmp_path / "set", "val", edit))
    targets = [target for batch in data.val_dataloader() for target in batch.targets]
    assert [int(target["image_id"]) for target in targets] == [1, 2, 3, 4, 5]
    assert targets[0]["iscrowd"][0] == 1
    assert targets[0]["boxes"][0].tolist() == [-3, 4, 7, 4]


def test_crowds_are_not_trained_on(scenes: Path, tmp_path: Path) -> None:
    def edit(document: dict[str, Any]) -> None:
        for row in document["annotations"]:
            row["iscrowd"] = int(row["id"] != 1)

    data = loaded(change(scenes, tmp_path / "set", "train", edit))
    labels = [target["labels"] for _, target in samples(data)]
    assert sum(len(row) for row in labels) == 1
    masks = [target["masks"].shape for _, target in samples(data) if not len(target["labels"])]
    assert set(masks) == {(0, 64, 64)}


def test_images_without_an_object_are_left_out_on_demand_and_counted(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["annotations"] = [row for row in document["annotations"] if row["image_id"] > 4]

    source = change(scenes, tmp_path / "set", "train", edit)
    assert len(loaded(source).images_to_train_on) == 10
    data = loaded(source, keep_empty=False)
    assert len(data.images_to_train_on) == 6
    data.prepare_data()
    assert capsys.readouterr().out == (
        "left out of the training: 4 images without an object; "
        f"`slideformer check-data detect {source}` lists them\n"
    )


def test_nothing_to_train_on_is_refused(scenes: Path, tmp_path: Path) -> None:
    source = change(scenes, tmp_path / "set", "train", lambda document: document["annotations"].clear())
    with pytest.raises(UserError, match="must hold an object to train on, got none"):
        loaded(source)


def test_without_masks_none_are_given(scenes: Path) -> None:
    assert all("masks" not in target for _, target in samples(loaded(scenes, detector="retinanet")))


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_an_unreadable_image_is_left_out_or_stops(policy: str, scenes: Path, tmp_path: Path) -> None:
    source = change(scenes, tmp_path / "set", "val", lambda document: None)
    (source / "val").unlink()
    (source / "val").mkdir()
    for file in (scenes / "val").iterdir():
        (source / "val" / file.name).write_bytes(file.read_bytes())
    bad = source / "val" / "000002.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    batches = list(loaded(source, on_bad_image=policy).val_dataloader())
    if policy == "skip":
        assert batches[0].check().unreadable == (str(bad),)
        assert [len(batch.images) for batch in batches] == [1, 2, 1]
    else:
        with pytest.raises(UserError, match=r"an image must be complete and readable, got .*000002.jpg"):
            batches[0].check()


def test_grey_deep_and_rotated_images_become_what_was_annotated(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    ramp = np.arange(40 * 24, dtype=np.uint16).reshape(24, 40) * 60
    exif = Image.Exif()
    exif[0x0112] = 6  # to be rotated clockwise by a quarter
    Image.fromarray(ramp).save(tmp_path / "photos" / "deep.png")
    rotated = Image.fromarray((ramp // 257).astype(np.uint8))
    rotated.save(tmp_path / "photos" / "stored.png", exif=exif)
    rotated.save(tmp_path / "photos" / "upright.png", exif=exif)
    sizes = {"deep.png": (40, 24), "stored.png": (40, 24), "upright.png": (24, 40)}

    def edit(document: dict[str, Any]) -> None:
        document["annotations"].clear()
        document["images"] = [
            {"id": number, "file_name": name, "width": width, "height": height}
            for number, (name, (width, height)) in enumerate(sizes.items())
        ]

    source = change(scenes, tmp_path / "set", "val", edit)
    data = loaded(source, val_images=str(tmp_path / "photos"))
    data.prepare_data()
    images = [image for batch in data.val_dataloader() for image in batch.images]
    deep, stored, upright = ((image * 255).numpy() for image in images)
    np.testing.assert_allclose(deep, np.broadcast_to(ramp / 257, (3, 24, 40)), atol=0.51)
    np.testing.assert_allclose(stored[0], ramp // 257, atol=1e-3)
    np.testing.assert_allclose(upright[0], np.rot90(ramp // 257, -1), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hflip": 2}, "`augment.hflip` must be from 0 to 1, got 2"),
        ({"crop_probability": -1}, "`augment.crop_probability` must be from 0 to 1"),
        ({"sides": ()}, "`augment.sides` must be one length or more"),
        ({"crop_sides": (0,)}, "`augment.crop_sides` must be one length or more, in pixels, got"),
        ({"longest_side": 700}, "`augment.longest_side` must be at least 800, got 700"),
        ({"crop": (9, 3)}, r"`augment.crop` must rise from 1 or more, got \[9, 3\]"),
        ({"color_jitter": -0.1}, "`augment.color_jitter` must be at least 0"),
    ],
)
def test_a_change_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augment(**options)


def test_the_numbers_of_a_loader_are_checked(scenes: Path) -> None:
    with pytest.raises(UserError, match=r"`batch_size` must be at least 1, got 0"):
        DetectionData(str(scenes), batch_size=0)
