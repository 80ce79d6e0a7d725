# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's files give the results of ONNX's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from slideformer_runtime import Classification, Detections, Model, Segmentation, UserError

from tests.runtime.made_images import NAMES

openvino = pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def converted(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same models as OpenVINO's files."""
    folder = tmp_path_factory.mktemp("openvino")
    files = {}
    for task, file in models.items():
        model = openvino.convert_model(file)
        for entry in onnx.load(file).metadata_props:
            model.set_rt_info(entry.value, ["slideformer", entry.key])
        files[task] = folder / f"{task}.xml"
        openvino.save_model(model, files[task], compress_to_fp16=False)
    return files


def test_all_facts_are_in_the_file(converted: dict[str, Path], models: dict[str, Path]) -> None:
    for task in models:
        assert Model(converted[task]).facts == Model(models[task]).facts


def test_classes_are_the_same(
    converted: dict[str, Path], models: dict[str, Path], images: dict[str, Path]
) -> None:
    paths = [images[name] for name in NAMES]
    results = Model(converted["classify"], threads=1).stream(paths)
    for found, wanted in zip(results, Model(models["classify"]).stream(paths), strict=True):
        assert isinstance(found, Classification)
        assert isinstance(wanted, Classification)
        assert found.class_names == wanted.class_names
        np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-5)


def test_label_maps_and_boxes_are_the_same(
    converted: dict[str, Path], models: dict[str, Path], images: dict[str, Path]
) -> None:
    path = images["coffee.png"]
    found, wanted = (Model(files["segment"]).predict(path) for files in (converted, models))
    assert isinstance(found, Segmentation)
    assert isinstance(wanted, Segmentation)
    np.testing.assert_array_equal(found.label_map, wanted.label_map)
    found, wanted = (Model(files["detect"]).predict(path, score=0.0) for files in (converted, models))
    assert isinstance(found, Detections)
    assert isinstance(wanted, Detections)
    np.testing.assert_allclose(found.boxes, wanted.boxes)
    np.testing.assert_allclose(found.scores, wanted.scores)
    assert found.names() == wanted.names()


def test_weights_that_are_missing_are_reported(converted: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "model.xml"
    file.write_bytes(converted["classify"].read_bytes())
    with pytest.raises(UserError, match=r"must have its weights next to it, but .*model.bin does not exist"):
        Model(file)


def test_a_file_that_is_cut_short_is_rejected(converted: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "model.xml"
    file.write_bytes(converted["classify"].read_bytes()[:400])
    file.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(UserError, match="must be a complete OpenVINO file, but"):
        Model(file)
