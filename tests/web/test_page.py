# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser finds in images what PyTorch finds, and contacts no other server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageColor
from skimage import data
from torch import nn

from slideformer.cli.main import main
from slideformer.runs import open_run
from slideformer.tasks.predict import predict
from slideformer.viz import class_colours
from slideformer.viz.detections import CLASS_COLOURS
from slideformer.viz.segmentation import overlay
from tests.exported import exported_mask_detector
from tests.runtime.files import PREPARED, add_facts, classifier, mask_detector, segmenter
from tests.saved import save_classifier
from tests.web.visit import PATIENCE, Visit, chromium, playwright, serving, visiting

NAMES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "ibis", "jay & <kin>"]
# What an exporter that does not write all facts yet leaves out.
EXPORTED = {
    "slideformer_format": "1",
    "task": "classify",
    "precision": "float32",
    "batch": None,
    "height": None,
    "width": None,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with an exported file."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    model = timm.create_model("slide_swin_nano", num_classes=len(NAMES))
    # Sharper than a fresh model's, so that images differ in their first class.
    nn.init.normal_(model.head.fc.weight)
    save_classifier(model, folder, class_names=NAMES)
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    add_facts(folder / "model.onnx", EXPORTED)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real photos, scans and digits."""
    from sklearn.datasets import load_digits, load_sample_images

    folder = tmp_path_factory.mktemp("images")
    arrays = {
        name: getattr(data, name)()
        for name in ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins")
    }
    china, flower = load_sample_images().images
    arrays |= {"china": china, "flower": flower}
    digits = (load_digits().images * (255 / 16)).round().astype("uint8")
    arrays |= {f"digit{number}": digits[number] for number in range(4)}
    for name, pixels in arrays.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def served(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page, with a model next to it."""
    folder = tmp_path_factory.mktemp("served")
    Image.fromarray(data.coffee()).save(folder / "photo.png")
    with serving(folder, run / "model.onnx") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, served: str) -> Iterator[Visit]:
    """The page with its model loaded; at the end without errors or requests to other servers."""
    with visiting(browser.new_page(), served) as visit:
        yield visit


def test_the_first_class_of_every_image_is_that_of_pytorch(
    visit: Visit, run: Path, images: list[Path]
) -> None:
    wanted = list(predict(open_run(run), images, top=5))
    assert len(images) >= 8
    assert len({row.classes[0][0] for row in wanted}) > 1
    for path, row in zip(images, wanted, strict=True):
        found = visit.classify(path)
        assert [name for name, _ in found] == [name for name, _ in row.classes], path.name
        assert [share for _, share in found] == pytest.approx([share for _, share in row.classes], abs=1e-3)
    assert f"{visit.origin}/model.onnx" in visit.requests


def test_a_jpeg_gives_the_first_class_of_pytorch(visit: Visit, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(data.astronaut()).save(file, quality=92, exif=exif)
    (wanted,) = predict(open_run(run), file, top=5)
    found = visit.classify(file)
    assert found[0][0] == wanted.classes[0][0]
    # Browsers decode JPEG with rounding of their own.
    assert found[0][1] == pytest.approx(wanted.classes[0][1], abs=2e-2)


def test_the_facts_of_the_model_are_shown(visit: Visit) -> None:
    for words in ("slide_swin_nano", "float32", "32 x 32 pixels", str(len(NAMES))):
        visit.said(words, "facts")


def test_a_file_that_is_dropped_is_taken_for_what_it_is(visit: Visit) -> None:
    drop = """async ([url, name]) => {
        const transfer = new DataTransfer();
        const response = await fetch(url);
        transfer.items.add(new File([await response.blob()], name));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent("drop", options));
    }"""
    visit.page.evaluate(drop, ["style.css", "style.css"])
    visit.said("style.css must be a complete image", "problem")
    visit.page.evaluate(drop, ["style.css", "style.onnx"])
    visit.said("must be a complete ONNX file", "problem")
    visit.page.evaluate(drop, ["photo.png", "photo.png"])
    visit.said("Done in")
    playwright.expect(visit.page.locator("#classes li")).to_have_count(5)
    playwright.expect(visit.page.locator("#problem")).to_be_hidden()


def test_an_image_that_cannot_be_read_is_reported_and_the_next_is_classified(
    visit: Visit, tmp_path: Path, images: list[Path]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    visit.page.locator("#image-file").set_input_files(tmp_path / "broken.png")
    visit.said("broken.png must be a complete image", "problem")
    assert len(visit.classify(images[0])) == 5


def test_a_model_that_is_chosen_classifies_the_image_that_is_there(visit: Visit, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (0, 0, 255)).save(tmp_path / "blue.png")
    visit.classify(tmp_path / "blue.png")
    visit.page.locator("#model-file").set_input_files(classifier(tmp_path / "colours.onnx"))
    playwright.expect(visit.page.locator("#classes .name").first).to_have_text("blue", timeout=PATIENCE)
    visit.said("8 x 8 pixels", "facts")


def test_a_file_that_the_page_cannot_run_is_reported(visit: Visit, tmp_path: Path) -> None:
    newer = classifier(tmp_path / "newer.onnx", {**PREPARED, "slideformer_format": "4"})
    for file, words in (
        (classifier(tmp_path / "other.onnx", {**PREPARED, "task": "count"}), "but is count"),
        (newer, "must be of format 1 to 3, but is of format 4"),
    ):
        visit.page.locator("#model-file").set_input_files(file)
        visit.said(words, "problem")


def pixel(visit: Visit, x: int, y: int) -> list[int]:
    """Red, green and blue of a place on the drawing, in its own pixels."""
    read = (
        "([x, y]) => [...document.querySelector('#drawing').getContext('2d').getImageData(x, y, 1, 1).data]"
    )
    playwright.expect(visit.page.locator("#drawing")).to_be_visible()
    playwright.expect(visit.page.locator("#image")).to_be_hidden()
    return list(visit.page.evaluate(read, [x, y])[:3])


def test_objects_are_drawn_with_their_masks(visit: Visit, tmp_path: Path) -> None:
    Image.new("RGB", (480, 480), "white").save(tmp_path / "white.png")
    visit.page.locator("#model-file").set_input_files(mask_detector(tmp_path / "detector.onnx"))
    visit.said("detect", "facts")
    # The second object of the file is not likely enough.
    assert visit.classify(tmp_path / "white.png") == [("blue", pytest.approx(0.9, abs=1e-6))]
    green = list(ImageColor.getrgb(CLASS_COLOURS[2]))
    assert pixel(visit, 1, 4) == green
    assert pixel(visit, 300, 300) == [255, 255, 255]
    visit.page.locator("#model-file").set_input_files(classifier(tmp_path / "classifier.onnx"))
    playwright.expect(visit.page.locator("#drawing")).to_be_hidden(timeout=PATIENCE)
    playwright.expect(visit.page.locator("#image")).to_be_visible()


def test_the_class_of_every_pixel_is_drawn_with_a_legend(visit: Visit, tmp_path: Path) -> None:
    image = Image.new("RGB", (480, 480), (200, 0, 0))
    image.paste((0, 0, 200), (120, 0, 480, 480))
    image.save(tmp_path / "halves.png")
    visit.page.locator("#model-file").set_input_files(segmenter(tmp_path / "segmenter.onnx"))
    visit.said("segment", "facts")
    assert visit.classify(tmp_path / "halves.png") == [("blue", 0.75), ("red", 0.25)]
    drawn = overlay(image, np.asarray(image).argmax(2), class_colours(3))
    for x, y in ((5, 5), (119, 30), (300, 200)):
        assert pixel(visit, x, y) == drawn[y, x].tolist()


def test_an_image_of_a_size_that_the_file_does_not_take_is_reported(visit: Visit, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), "white").save(tmp_path / "white.png")
    file = mask_detector(tmp_path / "detector.onnx", {"batch": 1, "height": 64, "width": 48})
    visit.page.locator("#model-file").set_input_files(file)
    visit.said("48 x 64 pixels", "facts")
    visit.page.locator("#image-file").set_input_files(tmp_path / "white.png")
    visit.said("must be 48 pixels wide and 64 high for this file, but is 50 x 40", "problem")


@pytest.mark.slow
def test_the_objects_of_every_image_are_those_of_pytorch(
    visit: Visit, images: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = exported_mask_detector(tmp_path_factory)
    visit.page.locator("#model-file").set_input_files(folder / "model.onnx")
    visit.said("mask_rcnn over resnet10t", "facts")
    for path, row in zip(images[:4], predict(open_run(folder), images[:4], score=0.5), strict=True):
        found = visit.classify(path)
        assert len(found) > 0
        assert [name for name, _ in found] == list(row.names()), path.name
        assert [score for _, score in found] == pytest.approx(row.scores.tolist(), abs=1e-4)


def test_without_a_model_next_to_it_the_page_asks_for_one(
    browser: Any, served: str, run: Path, images: list[Path]
) -> None:
    page = browser.new_page()
    page.route("**/model.onnx", lambda route: route.fulfill(status=404))
    page.goto(served)
    visit = Visit(page, served)
    visit.said("Choose a model")
    page.locator("#image-file").set_input_files(images[0])
    playwright.expect(page.locator("#image")).to_be_visible(timeout=PATIENCE)
    visit.said("Choose a model")
    page.locator("#model-file").set_input_files(run / "model.onnx")
    visit.said("Done in")
    page.close()


def test_every_control_is_reached_by_the_keyboard_and_has_a_name(visit: Visit) -> None:
    names = []
    for _ in range(2):
        visit.page.keyboard.press("Tab")
        names.append(visit.page.evaluate("document.activeElement.labels[0].innerText"))
    assert ["Choose an image" in names[0], "Choose another model" in names[1]] == [True, True]
