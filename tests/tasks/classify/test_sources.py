# SPDX-License-Identifier: Apache-2.0
"""Sources behind one interface: folders, digits, timm's, and what a user registers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from slideformer.errors import UserError
from slideformer.runs.classifier import classifier_run
from slideformer.tasks.classify import Request, Source, register_source
from slideformer.tasks.classify.data import ClassificationData
from slideformer.tasks.classify.samples import images_of, stack
from slideformer.tasks.classify.sources import FOLDER, KINDS, find_kind, open_hold_out, open_source
from slideformer.tasks.evaluate import evaluate
from slideformer.tasks.training.batches import Batch, Stream, Unreadable, collate
from tests.conftest import CLASSES, COLOURS, COUNTS, train


@pytest.fixture
def broken(photos: Path) -> Path:
    """The photos with a truncated one and one that is text."""
    truncated = photos / "train" / "lemon" / "3.jpg"
    truncated.write_bytes(truncated.read_bytes()[:300])
    (photos / "train" / "kiwi" / "0.jpg").write_text("a photo of a kiwi")
    return photos


@pytest.fixture
def own_kinds() -> Iterator[None]:
    """The table of sources as it was, after a test."""
    before = dict(KINDS)
    yield
    KINDS.clear()
    KINDS.update(before)


def loader(root: Path, on_bad_image: Any, workers: int = 0) -> DataLoader[Batch]:
    images = images_of(open_source(Request(name=str(root))), "train", pil_to_tensor, on_bad_image)
    return DataLoader(images, 6, num_workers=workers, collate_fn=partial(collate, stack=stack))


def test_every_image_comes_once_with_the_class_of_its_folder(photos: Path) -> None:
    source = open_source(Request(name=str(photos)))
    reader: Any = source.open("train")
    assert len(reader) == len(CLASSES) * COUNTS["train"]
    for index in range(len(reader)):
        image, target = reader[index]
        folder = Path(reader.name(index)).parent.name
        assert source.class_names[target] == folder
        mean = pil_to_tensor(image).float().mean((1, 2))
        assert (mean - torch.tensor(COLOURS[folder])).abs().max() < 12


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_left_out_and_named(broken: Path, workers: int) -> None:
    batches = list(loader(broken, "skip", workers))
    named = {Path(path).relative_to(broken) for batch in batches for path in batch.unreadable}
    assert named == {Path("train/lemon/3.jpg"), Path("train/kiwi/0.jpg")}
    assert sum(len(batch.images) for batch in batches) == len(CLASSES) * COUNTS["train"] - 2
    assert all(len(batch.images) == len(batch.targets) for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_stops_where_that_is_asked(broken: Path, workers: int) -> None:
    with pytest.raises(UserError, match=r"an image must be complete and readable, got .*kiwi/0\.jpg"):
        [batch.check() for batch in loader(broken, "stop", workers)]


def test_a_batch_stacks_what_is_readable() -> None:
    images = [torch.full((3, 2, 2), value) for value in (1.0, 2.0)]
    batch = collate([(images[0], 4), Unreadable("bad"), (images[1], 7)], stack=stack)
    assert batch.images.shape == (2, 3, 2, 2)
    assert batch.targets.tolist() == [4, 7]
    assert batch.targets.dtype == torch.long
    assert batch.unreadable == ("bad",)


def test_a_hold_out_is_val_or_the_folder_itself(photos: Path) -> None:
    for folder in (photos, photos / "val"):
        source = open_hold_out(str(folder))
        assert list(source.class_names) == sorted(CLASSES)
        assert len(source.open("val")) == len(CLASSES) * COUNTS["val"]


def test_a_source_of_timm_is_not_evaluated_on() -> None:
    assert find_kind("wds/x") is not FOLDER
    assert find_kind("WDS/x") is find_kind("wds/x")
    with pytest.raises(UserError, match="wds/x is a source to train on alone; give a folder"):
        open_hold_out("wds/x")


class Squares:
    """Red and blue squares; a reader as a user writes it."""

    def __init__(self, split: str) -> None:
        self.colours = ["red", "blue"] * (6 if split == "train" else 2)

    def __len__(self) -> int:
        return len(self.colours)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (32, 32), self.colours[index]), index % 2

    def name(self, index: int) -> str:
        return f"square {index}"


@pytest.mark.usefixtures("own_kinds")
def test_a_registered_source_is_trained_and_evaluated_on(tmp_path: Path) -> None:
    register_source("squares", lambda request: Source(("red", "blue"), Squares))
    run = train(Path("squares"), tmp_path / "run", "--trainer.max_epochs=2")
    assert (run / "model.safetensors").is_file()
    assert open_hold_out("squares").class_names == ("red", "blue")
    assert ClassificationData("squares", num_workers=0).evaluable


@pytest.mark.usefixtures("own_kinds")
def test_a_registered_prefix_gets_the_text_and_the_options() -> None:
    requests: list[Request] = []

    def open_squares(request: Request) -> Source:
        requests.append(request)
        return Source(("red", "blue"), Squares)

    register_source("squares:", open_squares, evaluable=False)
    data = ClassificationData("squares:bright", num_workers=0, root="there", num_classes=2)
    assert not data.evaluable
    assert [(x.name, x.root, x.num_classes) for x in requests] == [("squares:bright", "there", 2)]
    assert find_kind("squares") is FOLDER


@pytest.mark.parametrize("name", ["", "digits", "wds/", "WDS/"])
def test_a_source_needs_a_name_of_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="a source must have a name of its own, got"):
        register_source(name, lambda request: Source((), Squares))


@pytest.mark.usefixtures("own_kinds")
def test_the_longest_beginning_that_is_registered_counts() -> None:
    for name in ("wds/mine", "lmdb:", "LMDB:Special/"):
        register_source(name, lambda request: Source((), Squares))
    own, kinds = find_kind("wds/mine"), {name: find_kind(name) for name in ("lmdb:x", "lmdb:special/x")}
    assert own is not find_kind("wds/other")
    assert len({id(kind) for kind in kinds.values()}) == 2


class Marching(Stream):
    """The same squares one by one."""

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[tuple[str, Callable[[], tuple[Any, Any]]]]:
        squares = Squares("val")
        return ((squares.name(n), partial(squares.__getitem__, n)) for n in range(4))

    def set_epoch(self, epoch: int) -> None:
        return None


@pytest.mark.usefixtures("own_kinds")
def test_a_stream_is_trained_on_and_not_evaluated_on() -> None:
    register_source("stream", lambda request: Source(("red", "blue"), lambda split: Marching()))
    data = ClassificationData("stream", num_workers=0)
    assert [batch.targets.tolist() for batch in data.val_dataloader()] == [[0, 1, 0, 1]]
    model = timm.create_model("slide_swin_nano", num_classes=2).eval()
    with pytest.raises(UserError, match=r"must give its images by number .*, got the stream stream"):
        evaluate(classifier_run(model, class_names=("red", "blue")), "stream")
