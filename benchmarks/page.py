# SPDX-License-Identifier: Apache-2.0
"""How soon the page in ``web/`` shows something, and answers, in milliseconds, as JSON.

    python benchmarks/page.py MODEL.onnx IMAGE

MODEL.onnx is of ``slideformer export RUN --to onnx --with attention``. Debian's Chromium opens the page from
localhost again in each round: its first paint, the model ready, the image looked at, and clicked positions,
each until the browser has painted what they show. Needs ``make web``, and nothing else running.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import threading
from collections import defaultdict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import expect, sync_playwright

WEB = Path(__file__).parents[1] / "web"
CHROMIUM = "/usr/bin/chromium"
ROUNDS, CLICKS = 7, 10
SIZE = {"width": 1280, "height": 900}

PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
# From the click to the frame after all of its handlers.
CLICK = """([x, y]) => new Promise(resolve => {
  const scene = document.getElementById("scene"), box = scene.getBoundingClientRect();
  const place = { clientX: box.x + x * box.width, clientY: box.y + y * box.height };
  const start = performance.now();
  scene.dispatchEvent(new MouseEvent("click", place));
  requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
})"""
# When the page says that the image is looked at, painted; started just before the image is chosen.
LOOK = """() => new Promise(resolve => {
  const start = performance.now(), status = document.getElementById("status");
  new MutationObserver(() => {
    if (status.textContent.startsWith("Done")) {
      requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - start)));
    }
  }).observe(status, { childList: true, characterData: true, subtree: true });
})"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def visit(browser: Any, address: str, image: Path, places: Any) -> dict[str, list[float]]:
    """Open the page once, look at the image, and click; milliseconds by what was waited for."""
    page = browser.new_page(viewport=SIZE)
    page.goto(address)
    status = page.locator("#status")
    expect(status).to_contain_text("Choose an image", timeout=60_000)
    ready = page.evaluate("performance.now()")
    looked = page.evaluate_handle(f"({{ done: ({LOOK})() }})")
    page.locator("#image-file").set_input_files(image)
    look = page.evaluate("async ({ done }) => await done", looked)
    found = {
        "first paint": [page.evaluate(PAINT)],
        "model ready": [ready],
        "image chosen": [look],
        "position clicked": [page.evaluate(CLICK, place) for place in places],
    }
    page.close()
    return found


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(description="Measure the page in web/.")
    parser.add_argument("model", type=Path)
    parser.add_argument("image", type=Path)
    arguments = parser.parse_args()
    for needed, what in (
        (WEB / "ort", "run make web"),
        (arguments.model, "export it"),
        (arguments.image, "choose one"),
    ):
        if not needed.exists():
            parser.error(f"{needed} must be there, but is not; {what}")
    places = np.random.default_rng(0).uniform(0.02, 0.98, (ROUNDS, CLICKS, 2)).tolist()
    times: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        shutil.copytree(WEB, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        shutil.copy(arguments.model, Path(folder) / "model.onnx")
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for number in range(ROUNDS):
            address = f"http://127.0.0.1:{server.server_port}"
            for name, found in visit(browser, address, arguments.image, places[number]).items():
                times[name] += found
        version = browser.version
        browser.close()
        server.shutdown()
    shown = {
        name: {"median_ms": round(statistics.median(x), 1), "largest_ms": round(max(x), 1)}
        for name, x in times.items()
    }
    print(json.dumps({"chromium": version, "model": arguments.model.name, "times": shown}, indent=2))


if __name__ == "__main__":
    main()
