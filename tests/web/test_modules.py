# SPDX-License-Identifier: Apache-2.0
"""The page's modules without a page: the input is timm's, and other files are rejected."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from timm.data import create_transform

from slideformer.tasks.images import read_image
from tests.runtime.files import PREPARED, classifier, mask_detector, segmenter
from tests.runtime.hostile import CHANGES
from tests.runtime.made_images import NAMES, write_images

if shutil.which("node") is None:
    pytest.skip("needs node", allow_module_level=True)

WEB = Path(__file__).parents[2] / "web"
TENSOR = """
import { readFileSync, writeFileSync } from "node:fs";
import { toTensor } from "./tensor.js";

for (const { pixels, width, height, facts, output } of JSON.parse(readFileSync(0))) {
  const tensor = toTensor({ data: new Uint8ClampedArray(readFileSync(pixels)), width, height }, facts);
  writeFileSync(output, new Uint8Array(tensor.buffer));
}
"""
READING = """
import { readFileSync } from "node:fs";
import { readFacts } from "./facts.js";
import { readMetadata } from "./metadata.js";

const read = (file) => {
  try {
    return { facts: readFacts(readMetadata(new Uint8Array(readFileSync(file)))) };
  } catch (error) {
    return { kind: error.constructor.name, message: error.message };
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(read)));
"""
USUAL: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
}
CASES: dict[str, dict[str, Any]] = {
    "usual": USUAL,
    "bilinear": {**USUAL, "interpolation": "bilinear", "crop_pct": 0.875},
    "small": {**USUAL, "input_size": (3, 32, 32), "crop_pct": 0.95},
    "odd": {**USUAL, "input_size": (3, 65, 65), "crop_pct": 1.0},
    "wide": {**USUAL, "input_size": (3, 48, 96)},
    "larger than resized": {**USUAL, "input_size": (3, 64, 64), "crop_pct": 1.3},
    "squash": {**USUAL, "input_size": (3, 64, 64), "crop_mode": "squash"},
    "border": {**USUAL, "input_size": (3, 64, 64), "crop_mode": "border"},
    "wide squash": {**USUAL, "input_size": (3, 48, 96), "crop_mode": "squash", "crop_pct": 1.0},
    "wide border": {**USUAL, "input_size": (3, 48, 96), "crop_mode": "border", "interpolation": "bilinear"},
    "nearest": {**USUAL, "input_size": (3, 64, 64), "interpolation": "nearest"},
    "box": {**USUAL, "input_size": (3, 64, 64), "interpolation": "box", "crop_mode": "squash"},
    "hamming": {**USUAL, "input_size": (3, 64, 64), "interpolation": "hamming", "crop_mode": "border"},
    "lanczos": {**USUAL, "input_size": (3, 64, 64), "interpolation": "lanczos"},
}


def node(script: str, given: object) -> str:
    """Run a script next to the page's modules and return what it prints."""
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        cwd=WEB,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image.Image]:
    paths = write_images(tmp_path_factory.mktemp("images"))
    return {name: read_image(path) for name, path in paths.items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_input_is_that_of_timm(
    case: dict[str, Any], images: dict[str, Image.Image], tmp_path: Path
) -> None:
    facts = {
        "height": case["input_size"][1],
        "width": case["input_size"][2],
        "mean": case["mean"],
        "std": case["std"],
        "interpolation": case["interpolation"],
        "cropPct": case["crop_pct"],
        "cropMode": case["crop_mode"],
    }
    given = []
    for name, image in images.items():
        pixels, output = tmp_path / f"{name}.rgba", tmp_path / f"{name}.tensor"
        pixels.write_bytes(image.convert("RGBA").tobytes())
        size = {"width": image.width, "height": image.height}
        given.append({"pixels": str(pixels), "output": str(output), "facts": facts, **size})
    node(TENSOR, given)
    transform = create_transform(**case, is_training=False)
    for name in NAMES:
        found = np.fromfile(tmp_path / f"{name}.tensor", dtype=np.float32).reshape(case["input_size"])
        np.testing.assert_allclose(found, transform(images[name]).numpy(), rtol=0, atol=1e-6, err_msg=name)


def test_impossible_metadata_are_rejected_in_one_line(tmp_path: Path) -> None:
    for number, change in enumerate(CHANGES.values()):
        classifier(tmp_path / f"{number}.onnx", {**PREPARED, **change})
    rows = json.loads(node(READING, [str(tmp_path / f"{number}.onnx") for number in range(len(CHANGES))]))
    for name, row in zip(CHANGES, rows, strict=True):
        assert row.get("kind") == "UserError", (name, row)
        assert "\n" not in row["message"]
        assert len(row["message"]) < 400


LOGITS = """
import { readFileSync } from "node:fs";
import { logitsOf } from "./classes.js";

const read = ({ dims, type, values, names }) => {
  const data = Float32Array.from(values, (x) => x ?? NaN);
  const about = { batch: 1, classNames: names, file: "m.onnx", image: "a.png" };
  try {
    return Array.from(logitsOf([{ dims, type, data }], about));
  } catch (error) {
    return { kind: error.constructor.name, message: error.message };
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(read)));
"""


def test_outputs_that_are_not_a_classifiers_are_rejected() -> None:
    good = {"dims": [1, 3], "type": "float32", "values": [1, 2, 3], "names": ["a", "b", "c"]}
    cases = [
        good,
        {**good, "names": []},
        {**good, "names": ["a", "b"]},
        {**good, "values": [1, None, 3]},
        {**good, "dims": [3]},
        {**good, "dims": [1, 3, 8, 8]},
        {**good, "type": "int64"},
        {**good, "dims": [2, 3]},
    ]
    first, unnamed, *rejected = json.loads(node(LOGITS, cases))
    assert first == unnamed == [1, 2, 3]
    assert all(row["kind"] == "UserError" for row in rejected)
    assert "must name all 3 classes of its model, but has 2 names" in rejected[0]["message"]
    assert "m.onnx must give finite outputs, but does not for a.png" in rejected[1]["message"]
    assert all("is not a classifier" in row["message"] for row in rejected[2:])


def test_a_page_without_its_runtime_says_what_to_do() -> None:
    script = (WEB / "page.js").read_text(encoding="utf-8")
    assert "make web" in script
    # An import at the top would end the page before it could say anything.
    assert not [line for line in script.splitlines() if line.startswith("import ") and "model.js" in line]


def test_facts_are_read_from_the_bytes_of_the_file(tmp_path: Path) -> None:
    file = classifier(tmp_path / "model.onnx", {**PREPARED, "class_names": ["käse", "パン", ""]})
    (row,) = json.loads(node(READING, [str(file)]))
    assert row["facts"] == {
        "task": "classify",
        "exporter": "0.1.0",
        "architecture": "small",
        "precision": "float32",
        "classNames": ["käse", "パン", ""],
        "batch": None,
        "height": 8,
        "width": 8,
        "attention": [],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic",
        "cropPct": 0.875,
        "cropMode": "center",
    }


def test_files_of_other_tasks_need_no_preprocessing(tmp_path: Path) -> None:
    files = [segmenter(tmp_path / "a.onnx"), mask_detector(tmp_path / "b.onnx", {"batch": 1, "width": 12})]
    first, second = (row["facts"] for row in json.loads(node(READING, [str(file) for file in files])))
    assert (first["task"], first["batch"], first["height"], first["width"]) == ("segment", None, None, None)
    assert (second["task"], second["batch"], second["height"], second["width"]) == ("detect", 1, None, 12)
    assert "mean" not in first


def test_other_files_are_rejected_in_one_line(tmp_path: Path) -> None:
    complete = classifier(tmp_path / "complete.onnx")
    foreign = onnx.load(complete)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "short.onnx").write_bytes(complete.read_bytes()[:-20])
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_bytes(b"not a model\n" * 20)
    classifier(tmp_path / "newer.onnx", {**PREPARED, "slideformer_format": "4"})
    classifier(tmp_path / "unknown.onnx", {**PREPARED, "task": "count"})
    lacking = {key: x for key, x in PREPARED.items() if key != "std"}
    classifier(tmp_path / "lacking.onnx", lacking)
    classifier(tmp_path / "no_json.onnx", {**PREPARED, "mean": "[0.5,"})
    messages = {
        "foreign": "was not exported by slideformer",
        "short": "must be a complete ONNX file",
        "empty": "must be a complete ONNX file",
        "text": "must be a complete ONNX file",
        "newer": "must be of format 1 to 3, but is of format 4, of slideformer 0.1.0",
        "unknown": "task must be one of classify, segment, detect, but is count",
        "lacking": "must have valid metadata, but std is missing",
        "no_json": "mean must be JSON, but is [0.5,",
    }
    rows = json.loads(node(READING, [str(tmp_path / f"{name}.onnx") for name in messages]))
    for row, message in zip(rows, messages.values(), strict=True):
        assert row["kind"] == "UserError"
        assert message in row["message"]
