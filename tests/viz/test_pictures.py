# SPDX-License-Identifier: Apache-2.0
"""What the pictures show, by what is in their axes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from slideformer import viz
from slideformer.errors import UserError
from slideformer.viz.attention import attention_figure
from slideformer.viz.confusion import confusion_figure
from slideformer.viz.figure import array
from slideformer.viz.patterns import pattern_figure
from slideformer.viz.training import training_figure

PICTURE = np.zeros((32, 32, 3), dtype=np.uint8)
METRICS = """\
epoch,step,train/loss,val/loss,val/top1,lr-AdamW/pg1,lr-AdamW/pg2
0,9,2.0,,,,
,9,,,,0.001,0.001
0,19,1.0,1.5,0.5,,
1,29,0.5,1.25,0.75,,
"""


def test_confusion_counts_stand_in_their_cells() -> None:
    axes = confusion_figure([[9, 1], [0, 10]], ["cat", "dog"]).axes[0]
    assert {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axes.texts} == {
        (0, 0): "9",
        (0, 1): "1",
        (1, 1): "10",
    }
    np.testing.assert_allclose(axes.images[0].get_array(), [[90, 10], [0, 100]])
    assert axes.get_title() == "95.00 % right: 19 of 20 images"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


NAMES = ("cat\x1b[2J\n", "a $ and $\\frac{$", "\udcff")
COUNTS, SQUARES = np.eye(3), np.arange(1024).reshape(32, 32) % 3


def saved(image: Image.Image, out: Path) -> Path:
    image.save(out)
    return out


DRAWN: dict[str, Callable[[Path], Path]] = {
    "confusion": lambda out: viz.confusion_matrix(COUNTS, NAMES, out),
    "predictions": lambda out: saved(
        viz.draw_predictions([PICTURE] * 3, [0, 1, 2], [0, 2, 1], [0.5] * 3, NAMES), out
    ),
    "segmentation": lambda out: saved(viz.draw_segmentation(PICTURE, SQUARES, NAMES), out),
    "classes": lambda out: saved(
        viz.draw_classes(Image.fromarray(PICTURE), [(name, 1 / 3) for name in NAMES]), out
    ),
    "detections": lambda out: saved(
        viz.draw_detections(
            PICTURE, boxes=[[2, 2, 30, 30]] * 3, labels=[1, 2, 3], scores=[0.9] * 3, class_names=NAMES
        ),
        out,
    ),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_any_name_can_be_drawn(draw: Callable[[Path], Path], tmp_path: Path) -> None:
    with Image.open(draw(tmp_path / "drawn.png")) as image:
        assert image.format == "PNG"


def test_a_class_without_images_is_no_division_by_zero() -> None:
    axes = confusion_figure([[3, 0], [0, 0]], ["cat", "dog"]).axes[0]
    assert axes.images[0].get_array()[1].tolist() == [0, 0]


@pytest.mark.parametrize("classes", [21, 200, 1000])
def test_many_classes_have_few_names_and_no_numbers(classes: int) -> None:
    axes = confusion_figure(np.eye(classes, dtype=int), [f"class {i}" for i in range(classes)]).axes[0]
    assert not axes.texts
    assert len(axes.get_yticks()) <= 40


def test_a_matrix_of_another_size_than_its_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matrix must be 3 x 3, one row a class name, got \(2, 2\)"):
        confusion_figure(np.eye(2), ["a", "b", "c"])


def test_curves_show_what_was_logged(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    loss, accuracy, rate = training_figure(tmp_path / "metrics.csv").axes
    training, held_out = loss.get_lines()
    assert training.get_xydata().tolist() == [[9, 2], [19, 1], [29, 0.5]]
    assert held_out.get_xydata().tolist() == [[19, 1.5], [29, 1.25]]
    assert accuracy.get_lines()[0].get_xydata().tolist() == [[19, 50], [29, 75]]
    assert rate.get_lines()[0].get_xydata().tolist() == [[9, 0.001]]


def test_curves_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; give the metrics\.csv of a run"):
        training_figure(tmp_path / "metrics.csv")
    (tmp_path / "metrics.csv").write_text("epoch,step,val/loss\n0,1,2\n")
    with pytest.raises(UserError, match="must have the column train/loss, got epoch, step, val/loss"):
        training_figure(tmp_path / "metrics.csv")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_numbers_of_a_tensor_in_a_graph_can_be_drawn(dtype: torch.dtype) -> None:
    weights = torch.tensor([[0.25, 0.75]], dtype=dtype, requires_grad=True) * 1
    np.testing.assert_array_equal(array(weights, np.float64), [[0.25, 0.75]])


def test_attention_marks_position_and_window_and_hatches_what_lies_outside() -> None:
    weights = np.arange(18, dtype=float).reshape(2, 9) / 36
    figure = attention_figure(PICTURE, weights, (0, 3), patch_size=2, title="title")
    picture, *heads = figure.axes
    window, position = (patch.get_bbox().bounds for patch in picture.patches)
    assert window == (2 * 2 - 0.5, -2 - 0.5, 6, 6)
    assert position == (3 * 2 - 0.5, -0.5, 2, 2)
    assert len(heads) == 2
    for head, panel in enumerate(heads):
        np.testing.assert_allclose(panel.images[0].get_array(), weights[head].reshape(3, 3))
        assert [patch.get_xy() for patch in panel.patches] == [(-0.5, -0.5), (0.5, -0.5), (1.5, -0.5)]
        assert len(panel.texts) == 9


@pytest.mark.parametrize(
    ("weights", "position", "message"),
    [
        (np.ones((2, 8)), (0, 0), r"weights must be \(heads, K \* K\), got \(2, 8\)"),
        (np.ones((2, 9)), (16, 0), r"position must be on the map of 16 x 16, got \(16, 0\)"),
    ],
)
def test_attention_that_does_not_fit_is_refused(
    weights: np.ndarray, position: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        attention_figure(PICTURE, weights, position, patch_size=2, title="")


def test_a_panel_shows_what_the_query_sees_and_marks_it() -> None:
    wide, narrow = np.full((4, 4), 0.5), np.zeros((4, 4))
    wide[1, 2], wide[0, 0] = 1000.0, 0.25
    narrow[1, 1:4] = [2.0, 9.0, 1e-12]
    figure = pattern_figure({"wide": wide, "narrow": narrow}, (1, 2), captions={"narrow": "two"}, title="")
    first, second = figure.axes
    assert [panel.get_title() for panel in (first, second)] == ["wide", "narrow"]
    assert second.get_xlabel() == "two"
    assert first.patches[0].get_xy() == (1.5, 0.5)
    shade = first.images[0].get_array()
    # The query is far above all others, and still they are told apart.
    assert (shade[3, 3], shade[0, 0]) == (1, 0.5)
    shown = np.ma.filled(second.images[0].get_array(), np.nan)
    assert np.argwhere(~np.isnan(shown)).tolist() == [[1, 1]]


def test_a_query_that_sees_itself_alone_can_be_drawn() -> None:
    assert len(pattern_figure({"only": np.ones((1, 1))}, (0, 0), captions={}, title="").axes) == 1


@pytest.mark.parametrize(
    ("footprints", "message"),
    [
        ({}, "`footprints` must have at least one, got none"),
        ({"a": np.ones((3, 3))}, r"`query` must be on the map of a, \(3, 3\), got \(3, 0\)"),
        ({"a": np.ones(9)}, r"`query` must be on the map of a, \(9,\), got \(3, 0\)"),
    ],
    ids=["none", "outside", "no map"],
)
def test_a_query_off_the_map_is_refused(footprints: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pattern_figure(footprints, (3, 0), captions={}, title="")


DRAWN: dict[str, Callable[[Path, Path], Path]] = {
    "attention": lambda out, metrics: viz.attention_map(
        PICTURE, np.ones((1, 9)) / 9, (1, 1), out, patch_size=2
    ),
    "confusion": lambda out, metrics: viz.confusion_matrix(np.eye(3), ["a", "b", "c"], out),
    "patterns": lambda out, metrics: viz.pattern_map({"a": np.eye(3)}, (1, 1), out, captions={}),
    "training": lambda out, metrics: viz.training_curves(metrics, out),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_picture_is_one_whole_png(draw: Callable[[Path, Path], Path], tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(METRICS)
    out = draw(tmp_path / "picture.png", metrics)
    with Image.open(out) as image:
        image.load()
        assert image.format == "PNG"
        assert image.convert("L").getextrema()[0] < 128, "something is drawn"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "picture.png"]


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be writable, but No such file"):
        viz.confusion_matrix(np.eye(2), ["a", "b"], tmp_path / "nowhere" / "picture.png")
    assert not list(tmp_path.iterdir())
