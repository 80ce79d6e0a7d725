# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slideformer.errors import UserError
from slideformer.tasks.segment.layout import ade20k_class_names, class_names, open_source
from tests.tasks.segment.pictures import NAMES


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(file)


def test_images_are_paired_by_name_whatever_their_ending(labelled: Path) -> None:
    source = open_source(labelled)
    assert source.class_names == NAMES
    pairs = source.split("train").pairs
    assert [(pair.image.name, pair.labels.name) for pair in pairs] == [
        (f"{n}.jpg", f"{n}.png") for n in range(6)
    ]


@pytest.mark.parametrize("images", ["images/{}", "{}"])
def test_both_layouts_of_folders_are_known(images: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / images.format(split) / "a" / "1.png", tmp_path / "masks" / split / "a" / "1.png")
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    source = open_source(tmp_path)
    assert [len(source.split(split).pairs) for split in ("train", "val")] == [1, 1]
    assert not source.layout.unlabelled_zero


def test_ade20k_is_known_by_its_folders(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        touch(tmp_path / "images" / split / "1.jpg", tmp_path / "annotations" / split / "1.png")
    source = open_source(tmp_path)
    assert source.layout.unlabelled_zero
    assert source.class_names[0] == "1"
    assert len(source.class_names) == 150
    rows = "".join(f"{n}\t0.1\t5\t6\tclass {n}; again\t\n" for n in range(1, 151))
    (tmp_path / "objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tName\t\n{rows}")
    assert open_source(tmp_path).class_names[149] == "class 150; again"
    (tmp_path / "objectInfo150.txt").write_text("Idx\tRatio\n1\t0.2\n")
    with pytest.raises(UserError, match="must be ADE20K's table"):
        open_source(tmp_path)


def test_files_without_a_partner_and_doubles_are_listed(labelled: Path) -> None:
    (labelled / "train" / "0.jpg").unlink()
    (labelled / "masks" / "train" / "1.png").unlink()
    touch(labelled / "train" / "2.png")
    split = open_source(labelled).split("train")
    assert [path.name for path in split.labels_alone] == ["0.png"]
    assert [path.name for path in split.images_alone] == ["1.jpg"]
    assert [path.name for path in split.doubles] == ["2.png"]
    assert len(split.pairs) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "must hold classes.txt, one class a line"),
        ("one\n", "2 to 255 different classes, one a line, got 1 names"),
        ("one\none\n", "got 2 names, 1 of them different"),
    ],
)
def test_a_set_without_names_of_its_classes_is_refused(text: str | None, words: str, labelled: Path) -> None:
    (labelled / "classes.txt").unlink()
    if text is not None:
        (labelled / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=words):
        open_source(labelled)


NOT_UTF8 = {"latin 1": "ölbaum\nRand\n".encode("latin-1"), "UTF-16": "a\nb\n".encode("utf-16")}


@pytest.mark.parametrize("content", NOT_UTF8.values(), ids=NOT_UTF8)
@pytest.mark.parametrize("ade", [False, True], ids=["classes.txt", "objectInfo150.txt"])
def test_names_that_are_not_utf8_are_refused_in_a_line(content: bytes, ade: bool, labelled: Path) -> None:
    with pytest.raises(
        UserError, match=r"must be text in UTF-8, got other bytes; save it as UTF-8"
    ) as caught:
        names_of(labelled, content, ade)
    assert "\n" not in str(caught.value)


def names_of(root: Path, content: bytes, ade: bool) -> tuple[str, ...]:
    file = root / ("objectInfo150.txt" if ade else "classes.txt")
    file.write_bytes(content)
    return ade20k_class_names(root) if ade else class_names(root)


def test_a_byte_order_mark_is_no_part_of_a_name(labelled: Path) -> None:
    assert names_of(labelled, b"\xef\xbb\xbfcat\ndog\n", ade=False) == ("cat", "dog")


def test_another_folder_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError, match=r"images/train/ and masks/train/; .*, got pictures; rename"):
        open_source(tmp_path)
    with pytest.raises(UserError, match="which does not exist"):
        open_source(tmp_path / "nowhere")


def test_a_missing_split_is_an_error(labelled: Path) -> None:
    (labelled / "val").rename(labelled / "test")
    with pytest.raises(UserError, match="the images of val must be a folder"):
        open_source(labelled).split("val")
