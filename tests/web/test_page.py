# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser sees in pictures what PyTorch sees, and asks nobody else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from skimage import data
from torch import nn

from slideformer.cli.main import main
from slideformer.models import load_pretrained, save_pretrained
from slideformer.tasks.classify.predict import predict
from tests.runtime.files import PREPARED, add_facts, classifier, segmenter

CHROMIUM = Path("/usr/bin/chromium")
WEB = Path(__file__).parents[2] / "web"

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
if not CHROMIUM.exists():
    pytest.skip(f"needs Debian's chromium, {CHROMIUM}", allow_module_level=True)
if not (WEB / "ort").is_dir():
    pytest.skip("needs ONNX Runtime beside the page: make web", allow_module_level=True)

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
# Milliseconds until an answer must be there.
PATIENCE = 60_000


@dataclass
class Visit:
    """A page that is open, and what was heard from it."""

    page: Any
    origin: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def ask(self, file: Path) -> list[tuple[str, float]]:
        """Choose a picture; names and probabilities that the page shows."""
        self.page.locator("#picture-file").set_input_files(file)
        self.said("Answered in")
        rows = self.page.locator("#classes li")
        return [
            (row.locator(".name").inner_text(), float(row.locator("data").get_attribute("value")))
            for row in rows.all()
        ]

    def said(self, words: str, where: str = "status") -> None:
        """Wait until the page says something."""
        playwright.expect(self.page.locator(f"#{where}")).to_contain_text(words, timeout=PATIENCE)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without telling of it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with an exported file."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    model = timm.create_model("slide_swin_nano", num_classes=len(NAMES))
    # Sharper than a fresh model's, so that pictures differ in their first class.
    nn.init.normal_(model.head.fc.weight)
    save_pretrained(model, folder, label_names=NAMES)
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    add_facts(folder / "model.onnx", EXPORTED)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real photos, scans and digits."""
    from sklearn.datasets import load_digits, load_sample_images

    folder = tmp_path_factory.mktemp("pictures")
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
    """Where the page is, with a model beside it."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(
        WEB, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "model.onnx")
    )
    shutil.copy(run / "model.onnx", folder)
    Image.fromarray(data.coffee()).save(folder / "photo.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, served: str) -> Iterator[Visit]:
    """The page, its model loaded; at the end nothing may have gone wrong or been asked of others."""
    page = browser.new_page()
    visit = Visit(page, served)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda told: visit.errors.append(told.text) if told.type == "error" else None)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.goto(served)
    visit.said("Choose a picture")
    yield visit
    page.close()
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith((f"{served}/", f"blob:{served}/"))] == []


def test_the_first_class_of_every_picture_is_that_of_pytorch(
    visit: Visit, run: Path, pictures: list[Path]
) -> None:
    model, info = load_pretrained(run)
    wanted = list(predict(model, info, pictures, top=5))
    assert len(pictures) >= 8
    assert len({row.classes[0][0] for row in wanted}) > 1
    for path, row in zip(pictures, wanted, strict=True):
        found = visit.ask(path)
        assert [name for name, _ in found] == [name for name, _ in row.classes], path.name
        assert [share for _, share in found] == pytest.approx([share for _, share in row.classes], abs=1e-3)
    assert f"{visit.origin}/model.onnx" in visit.requests


def test_a_jpeg_is_seen_as_pytorch_sees_it(visit: Visit, run: Path, tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(data.astronaut()).save(file, quality=92, exif=exif)
    model, info = load_pretrained(run)
    (wanted,) = predict(model, info, [file], top=5)
    found = visit.ask(file)
    assert found[0][0] == wanted.classes[0][0]
    # Browsers decode JPEG with rounding of their own.
    assert found[0][1] == pytest.approx(wanted.classes[0][1], abs=2e-2)


def test_what_the_file_tells_of_the_model_is_shown(visit: Visit) -> None:
    for words in ("slide_swin_nano", "float32", "32 x 32 pixels", str(len(NAMES))):
        visit.said(words, "facts")


def test_a_file_that_is_dropped_is_taken_for_what_it_is(visit: Visit) -> None:
    drop = """async ([url, name]) => {
        const transfer = new DataTransfer();
        const answer = await fetch(url);
        transfer.items.add(new File([await answer.blob()], name));
        const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent("drop", options));
    }"""
    visit.page.evaluate(drop, ["style.css", "style.css"])
    visit.said("style.css must be a whole picture", "problem")
    visit.page.evaluate(drop, ["style.css", "style.onnx"])
    visit.said("must be a whole ONNX file", "problem")
    visit.page.evaluate(drop, ["photo.png", "photo.png"])
    visit.said("Answered in")
    playwright.expect(visit.page.locator("#classes li")).to_have_count(5)
    playwright.expect(visit.page.locator("#problem")).to_be_hidden()


def test_a_picture_that_cannot_be_read_is_told_and_the_next_is_answered(
    visit: Visit, tmp_path: Path, pictures: list[Path]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    visit.page.locator("#picture-file").set_input_files(tmp_path / "broken.png")
    visit.said("broken.png must be a whole picture", "problem")
    assert len(visit.ask(pictures[0])) == 5


def test_a_model_that_is_chosen_answers_the_picture_that_is_there(visit: Visit, tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (0, 0, 255)).save(tmp_path / "blue.png")
    visit.ask(tmp_path / "blue.png")
    visit.page.locator("#model-file").set_input_files(classifier(tmp_path / "colours.onnx"))
    playwright.expect(visit.page.locator("#classes .name").first).to_have_text("blue", timeout=PATIENCE)
    visit.said("8 x 8 pixels", "facts")


def test_a_file_that_the_page_cannot_show_is_told(visit: Visit, tmp_path: Path) -> None:
    newer = classifier(tmp_path / "newer.onnx", {**PREPARED, "slideformer_format": "2"})
    for file, words in (
        (segmenter(tmp_path / "segmenter.onnx"), "the file can segment"),
        (newer, "must be of format 1, but is of format 2"),
    ):
        visit.page.locator("#model-file").set_input_files(file)
        visit.said(words, "problem")


def test_without_a_model_beside_it_the_page_asks_for_one(
    browser: Any, served: str, run: Path, pictures: list[Path]
) -> None:
    page = browser.new_page()
    page.route("**/model.onnx", lambda route: route.fulfill(status=404))
    page.goto(served)
    visit = Visit(page, served)
    visit.said("Choose a model")
    page.locator("#picture-file").set_input_files(pictures[0])
    playwright.expect(page.locator("#picture")).to_be_visible(timeout=PATIENCE)
    visit.said("Choose a model")
    page.locator("#model-file").set_input_files(run / "model.onnx")
    visit.said("Answered in")
    page.close()


def test_every_control_is_reached_by_the_keyboard_and_has_a_name(visit: Visit) -> None:
    names = []
    for _ in range(2):
        visit.page.keyboard.press("Tab")
        names.append(visit.page.evaluate("document.activeElement.labels[0].innerText"))
    assert ["Choose a picture" in names[0], "Choose another model" in names[1]] == [True, True]
