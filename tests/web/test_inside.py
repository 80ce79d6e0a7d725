# SPDX-License-Identifier: Apache-2.0
"""Looking inside shows PyTorch's attention weights of the chosen position, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from slideformer.layers import SlideAttention
from slideformer.runs import EvalTransform, Run, open_run
from slideformer.tasks.images import read_image
from tests.exported import exported_classifier, exported_with_attention
from tests.runtime.files import classifier, mask_detector
from tests.web.visit import PATIENCE, WEB, Visit, chromium, launched, playwright, serving, visiting

AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
# What axe calls the faults that keep someone out.
GRAVE = ("serious", "critical")
# A graphics processor made of the processor.
SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
SCENE = "#scene"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_with_attention(tmp_path_factory)


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return open_run(folder)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("image") / "photo.png"
    Image.fromarray(data.astronaut()).save(file)
    return file


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("served"), folder / "model.onnx") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, served: str, photo: Path) -> Iterator[Visit]:
    """The page with its model, which has looked at an image."""
    with visiting(browser.new_page(), served) as visit:
        visit.classify(photo)
        yield visit


def weights_of(run: Run, photo: Path) -> list[Tensor]:
    """PyTorch's weights of each layer for the image: ``(H, W, heads, taps)``."""
    assert run.preprocessing is not None
    images = EvalTransform(run.preprocessing)(read_image(photo))[None]
    layers = [x for x in run.model.modules() if isinstance(x, SlideAttention)]
    seen: list[Tensor] = []
    hooks = [
        x.register_forward_pre_hook(lambda layer, given: seen.append(layer.attention_weights(given[0])[0]))
        for x in layers
    ]
    with torch.inference_mode():
        run.model(images)
    for hook in hooks:
        hook.remove()
    return seen


def shown(visit: Visit) -> np.ndarray[Any, Any]:
    """The weights that the page shows: ``(heads, taps)``."""
    read = "grids => grids.map(x => [...x.querySelectorAll('span')].map(cell => Number(cell.dataset.value)))"
    return np.array(visit.page.locator("#heads .grid").evaluate_all(read))


def chosen(visit: Visit) -> tuple[int, int, int]:
    """Layer, row and column that the page says it shows, from 0."""
    words = visit.page.locator("#inside-said").inner_text()
    found = re.match(r"Layer (\d+), row (\d+) of \d+, column (\d+) of \d+\.", words)
    assert found is not None, words
    layer, row, column = (int(number) - 1 for number in found.groups())
    return layer, row, column


def click(visit: Visit, x: float, y: float) -> None:
    """Click a place of the image, each from 0 to 1."""
    box = visit.page.locator(SCENE).bounding_box()
    visit.page.locator(SCENE).click(position={"x": x * box["width"], "y": y * box["height"]})


def test_a_click_shows_the_weights_of_pytorch(visit: Visit, run: Run, photo: Path) -> None:
    wanted = weights_of(run, photo)
    for x, y, row, column in ((0.05, 0.05, 0, 0), (0.55, 0.3, 2, 4), (0.98, 0.98, 7, 7)):
        click(visit, x, y)
        assert chosen(visit) == (0, row, column)
        np.testing.assert_allclose(shown(visit), wanted[0][row, column], rtol=0, atol=1e-4)


def test_the_keyboard_alone_moves_the_position_and_chooses_the_layer(
    visit: Visit, run: Run, photo: Path
) -> None:
    wanted, page = weights_of(run, photo), visit.page
    page.locator("#image-file").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "scene"
    assert page.locator(SCENE).evaluate("x => getComputedStyle(x).outlineStyle") == "solid"
    assert chosen(visit) == (0, 4, 4)
    for key in ("ArrowUp", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert chosen(visit) == (0, 3, 2)
    np.testing.assert_allclose(shown(visit), wanted[0][3, 2], rtol=0, atol=1e-4)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    # The same place of the image, on a map of half the size.
    assert chosen(visit) == (1, 1, 1)
    np.testing.assert_allclose(shown(visit), wanted[1][1, 1], rtol=0, atol=1e-4)
    page.keyboard.press("Shift+Tab")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert chosen(visit) == (1, 1, 3)


def test_what_is_shown_is_said(visit: Visit, run: Run, photo: Path) -> None:
    click(visit, 0.3, 0.3)
    layer, row, column = chosen(visit)
    weights = weights_of(run, photo)[layer][row, column]
    words = visit.page.locator("#inside-said")
    assert words.get_attribute("role") == "status"
    for head, own in enumerate(weights, start=1):
        down, across = divmod(int(own.argmax()), 3)
        places = [*(["1 up", "", "1 down"][down],), *(["1 left", "", "1 right"][across],)]
        place = " and ".join(filter(None, places)) or "itself"
        assert f"head {head}, {place}, {100 * float(own.max()):.0f} %" in words.inner_text()
    numbers = visit.page.locator("#heads .grid").first.get_attribute("aria-label")
    assert numbers.startswith(f"Head 1, row by row: {100 * float(weights[0, 0]):.0f}, ")


def test_how_far_it_sees_grows_layer_by_layer(visit: Visit) -> None:
    # In the middle: 3 positions of 4 pixels; then 3 of 8, and one of 4 more on both sides.
    visit.page.locator("#layers label").nth(1).click()
    assert visit.page.locator("#layers .sees").all_inner_texts() == ["sees 12 x 12 px", "sees 28 x 28 px"]
    click(visit, 0.01, 0.01)
    assert visit.page.locator("#layers .sees").all_inner_texts() == ["sees 8 x 8 px", "sees 20 x 20 px"]
    visit.said("Sees 20 x 20 pixels through layers 1 to 2.", "inside-said")


def test_taps_outside_the_map_are_marked(visit: Visit) -> None:
    click(visit, 0.01, 0.5)
    marked = visit.page.locator("#heads .grid").first.locator("span")
    assert (
        marked.evaluate_all("cells => cells.map(x => x.classList.contains('outside'))")
        == [True, False, False] * 3
    )
    numbers = visit.page.locator("#heads .grid").first.get_attribute("aria-label")
    assert [row.count("outside") for row in numbers.split(";")] == [1, 1, 1]


def test_the_learned_shift_is_that_of_the_layer(visit: Visit, run: Run) -> None:
    model: Any = run.model
    for number, stage in enumerate(model.stages):
        visit.page.locator("#layers label").nth(number).click()
        weight = torch.eye(9) + stage.blocks[0].attention.shift.weight.mean(0)
        places = torch.tensor([(row, column) for row in (-1.0, 0.0, 1.0) for column in (-1.0, 0.0, 1.0)])
        share = weight.abs() / weight.abs().sum(1, keepdim=True)
        read = "dots => dots.map(x => [Number(x.dataset.row), Number(x.dataset.column)])"
        found = visit.page.locator("#shift circle").evaluate_all(read)
        np.testing.assert_allclose(found, (share @ places).detach(), rtol=0, atol=1e-3)


def test_a_file_without_weights_says_how_to_export_one(
    visit: Visit, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = exported_classifier(tmp_path_factory) / "model.onnx"
    visit.page.locator("#model-file").set_input_files(plain)
    visit.said("slideformer export RUN --to onnx --with attention", "inside-hint")
    playwright.expect(visit.page.locator(SCENE)).to_be_hidden()
    visit.page.locator("#model-file").set_input_files(mask_detector(tmp_path / "detector.onnx"))
    playwright.expect(visit.page.locator("#inside")).to_be_hidden(timeout=PATIENCE)


def test_an_output_that_is_not_its_layers_is_reported(visit: Visit, tmp_path: Path) -> None:
    layer = {"output": "attention_1", "stage": 1, "block": 1, "kernel_size": [3, 3], "dilation": [1, 1]}
    layer |= {"border": ["zeros", "zeros"], "stride": 4, "heads": 2, "shift": None}
    own = {"slideformer_format": "3", "task": "classify", "input_size": [3, 8, 8], "mean": [0.5, 0.5, 0.5]}
    own |= {"std": [0.2, 0.2, 0.2], "interpolation": "bicubic", "crop_pct": 0.875, "attention": [layer]}
    visit.page.locator("#model-file").set_input_files(classifier(tmp_path / "lacking.onnx", own))
    visit.said("must give weights of 1 x height x width x 2 x 9 as attention_1, but gives none", "problem")


def test_another_image_keeps_the_position(visit: Visit, tmp_path: Path) -> None:
    click(visit, 0.05, 0.3)
    before = chosen(visit), shown(visit)
    Image.fromarray(data.coffee()).save(tmp_path / "coffee.png")
    visit.classify(tmp_path / "coffee.png")
    assert chosen(visit) == before[0]
    assert np.abs(shown(visit) - before[1]).max() > 1e-3


def test_the_page_says_what_runs_it(visit: Visit) -> None:
    visit.said("WebAssembly", "facts")
    assert not [url for url in visit.requests if "asyncify" in url or "webgpu" in url]


@pytest.mark.slow
def test_webgpu_gives_the_weights_of_pytorch_where_the_browser_has_it(
    browser: Any, served: str, run: Run, photo: Path
) -> None:
    other = launched(browser.browser_type, *SOFTWARE)
    page = other.new_page()
    page.goto(served)
    if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
        pytest.skip("needs a browser with WebGPU, such as Chromium with SwiftShader")
    page.close()
    with visiting(other.new_page(), served) as visit:
        visit.classify(photo)
        playwright.expect(visit.page.locator("#facts div").last).to_have_text("Runs onWebGPU")
        _, row, column = chosen(visit)
        np.testing.assert_allclose(shown(visit), weights_of(run, photo)[0][row, column], rtol=0, atol=1e-3)
    other.close()


def test_where_webgpu_fails_webassembly_takes_its_place_and_the_page_says_so(
    browser: Any, served: str, photo: Path, run: Run
) -> None:
    page = browser.new_page()
    # A browser that promises what it does not keep.
    page.add_init_script(
        "Object.defineProperty(navigator, 'gpu', { value: { requestAdapter: async () => ({}) } });"
    )
    with visiting(page, served) as visit:
        visit.classify(photo)
        visit.said("WebAssembly, since WebGPU failed (", "facts")
        _, row, column = chosen(visit)
        np.testing.assert_allclose(shown(visit), weights_of(run, photo)[0][row, column], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_grave_fault(
    size: tuple[int, int], scheme: str, browser: Any, served: str, photo: Path
) -> None:
    if not AXE.exists():
        pytest.skip("needs axe-core: make web")
    width, height = size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=True)
    with visiting(page, served) as visit:
        visit.classify(photo)
        # Nothing is cut off or reached only by scrolling sideways.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("async () => (await axe.run()).violations")
    grave = [(x["id"], [node["html"] for node in x["nodes"]]) for x in found if x["impact"] in GRAVE]
    assert grave == []
