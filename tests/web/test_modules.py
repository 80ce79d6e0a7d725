# SPDX-License-Identifier: Apache-2.0
"""The page's modules without a page: the input is timm's, and a file that is not ours is refused."""

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

from slideformer.tasks.pictures import read_image
from tests.runtime.files import FACTS, PREPARED, classifier, segmenter
from tests.runtime.made_pictures import NAMES, write_pictures

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

const tell = (file) => {
  try {
    return { facts: readFacts(readMetadata(new Uint8Array(readFileSync(file)))) };
  } catch (error) {
    return { kind: error.constructor.name, message: error.message };
  }
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(tell)));
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
}


def node(script: str, given: object) -> str:
    """What a module prints that stands beside the page's."""
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
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image.Image]:
    paths = write_pictures(tmp_path_factory.mktemp("pictures"))
    return {name: read_image(path) for name, path in paths.items()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_input_is_that_of_timm(
    case: dict[str, Any], pictures: dict[str, Image.Image], tmp_path: Path
) -> None:
    facts = {
        "height": case["input_size"][1],
        "width": case["input_size"][2],
        "mean": case["mean"],
        "std": case["std"],
        "interpolation": case["interpolation"],
        "cropShare": case["crop_pct"],
        "cropMode": case["crop_mode"],
    }
    given = []
    for name, picture in pictures.items():
        pixels, output = tmp_path / f"{name}.rgba", tmp_path / f"{name}.tensor"
        pixels.write_bytes(picture.convert("RGBA").tobytes())
        size = {"width": picture.width, "height": picture.height}
        given.append({"pixels": str(pixels), "output": str(output), "facts": facts, **size})
    node(TENSOR, given)
    transform = create_transform(**case, is_training=False)
    for name in NAMES:
        found = np.fromfile(tmp_path / f"{name}.tensor", dtype=np.float32).reshape(case["input_size"])
        np.testing.assert_allclose(found, transform(pictures[name]).numpy(), rtol=0, atol=1e-6, err_msg=name)


def test_facts_are_read_from_the_bytes_of_the_file(tmp_path: Path) -> None:
    file = classifier(tmp_path / "model.onnx", {**PREPARED, "class_names": ["käse", "パン", ""]})
    (told,) = json.loads(node(READING, [str(file)]))
    assert told["facts"] == {
        "exporter": "0.1.0",
        "architecture": "small",
        "precision": "float32",
        "classNames": ["käse", "パン", ""],
        "batch": None,
        "height": 8,
        "width": 8,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic",
        "cropShare": 0.875,
        "cropMode": "center",
    }


def test_a_file_that_is_not_ours_is_refused_in_a_line(tmp_path: Path) -> None:
    whole = classifier(tmp_path / "whole.onnx")
    foreign = onnx.load(whole)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "short.onnx").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_bytes(b"no model at all\n" * 20)
    classifier(tmp_path / "newer.onnx", {**PREPARED, "slideformer_format": "2"})
    segmenter(tmp_path / "segmenter.onnx")
    lacking = {key: x for key, x in PREPARED.items() if key != "std"}
    classifier(tmp_path / "lacking.onnx", lacking)
    classifier(tmp_path / "no_json.onnx", {**PREPARED, "mean": "[0.5,"})
    messages = {
        "foreign": "was not exported by slideformer",
        "short": "must be a whole ONNX file",
        "empty": "must be a whole ONNX file",
        "text": "must be a whole ONNX file",
        "newer": f"must be of format {FACTS['slideformer_format']}, but is of format 2, of slideformer 0.1.0",
        "segmenter": "shows what classifiers see, but the file can segment",
        "lacking": "must tell all of its facts, but has no std",
        "no_json": "mean must be readable, but is [0.5,",
    }
    told = json.loads(node(READING, [str(tmp_path / f"{name}.onnx") for name in messages]))
    for row, message in zip(told, messages.values(), strict=True):
        assert row["kind"] == "UserError"
        assert message in row["message"]
