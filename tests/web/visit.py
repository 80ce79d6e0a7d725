# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: served from a folder, opened, driven; needs what is skipped without."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
WEB = Path(__file__).parents[2] / "web"

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
if not CHROMIUM.exists():
    pytest.skip(f"needs Debian's chromium, {CHROMIUM}", allow_module_level=True)
if not (WEB / "ort").is_dir():
    pytest.skip("needs ONNX Runtime next to the page: make web", allow_module_level=True)

# Milliseconds until a result must be there.
PATIENCE = 60_000


@dataclass
class Visit:
    """An open page, with its requests and errors."""

    page: Any
    origin: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def classify(self, file: Path) -> list[tuple[str, float]]:
        """Choose an image; names and probabilities that the page shows."""
        self.page.locator("#image-file").set_input_files(file)
        self.said("Done in")
        rows = self.page.locator("#classes li")
        return [
            (row.locator(".name").inner_text(), float(row.locator("data").get_attribute("value")))
            for row in rows.all()
        ]

    def said(self, words: str, where: str = "status") -> None:
        """Wait until the page says something."""
        playwright.expect(self.page.locator(f"#{where}")).to_contain_text(words, timeout=PATIENCE)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(folder: Path, *files: Path) -> Iterator[str]:
    """Copy the page to a folder, with files next to it, and serve it; its address."""
    ignored = shutil.ignore_patterns("node_modules", "model.onnx")
    shutil.copytree(WEB, folder, dirs_exist_ok=True, ignore=ignored)
    for file in files:
        shutil.copy(file, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(timeout=60)
    server.server_close()


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser."""
    with playwright.sync_playwright() as started:
        browser = launched(started.chromium)
        yield browser
        browser.close()


def launched(kind: Any, *arguments: str) -> Any:
    """A browser of Playwright's kind, with arguments of its own."""
    usual = ("--no-sandbox", "--disable-background-networking")
    return kind.launch(executable_path=str(CHROMIUM), args=[*usual, *arguments])


@contextmanager
def visiting(page: Any, address: str) -> Iterator[Visit]:
    """Open the page with its model; at the end without errors or requests to other servers."""
    visit = Visit(page, address)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda entry: visit.errors.append(entry.text) if entry.type == "error" else None)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.goto(address)
    visit.said("Choose an image")
    yield visit
    page.close()
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith((f"{address}/", f"blob:{address}/"))] == []
