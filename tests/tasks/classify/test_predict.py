# SPDX-License-Identifier: Apache-2.0
"""Pictures that nobody has labelled: found, classified, told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.data import create_transform

from slideformer.errors import UserError
from slideformer.runs import open_run
from slideformer.tasks.classify import predict as module
from slideformer.tasks.images import find_images, read_image
from slideformer.tasks.predict import predict
from slideformer.tasks.results import Classification, Unreadable


def test_files_folders_and_globs_give_each_picture_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos / "val")
    (Path("kiwi") / "notes.txt").write_text("no picture")
    assert find_images(["kiwi/1.jpg", "kiwi"]) == [Path(f"kiwi/{n}.jpg") for n in (1, 0, 2)]
    assert find_images(["*/0.jpg"]) == [
        Path(f"{name}/0.jpg") for name in ("kiwi", "lemon", "ölbaum und Rand")
    ]
    assert len(find_images(["**/*.jpg"])) == 9


@pytest.mark.parametrize("pattern", ["nowhere", "*.tiff", "empty"])
def test_what_names_no_picture_is_refused(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="must be an image, a folder of images or a glob, but names none"):
        find_images([pattern])


def test_predictions_are_the_models_in_order(
    finished_run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    run = open_run(finished_run)
    paths = find_images([str(photos / "val")])
    found = list(predict(run, paths, top=2))
    assert [Path(p.path) for p in found] == paths
    assert run.preprocessing is not None
    transform = create_transform(**run.preprocessing.values())
    for prediction in found:
        assert isinstance(prediction, Classification)
        with torch.inference_mode():
            shares = run.model(transform(read_image(prediction.path))[None]).softmax(1)[0]
        expected = [(run.class_names[i], float(shares[i])) for i in shares.argsort(descending=True)[:2]]
        assert [name for name, _ in prediction.classes] == [name for name, _ in expected]
        assert [p for _, p in prediction.classes] == pytest.approx([p for _, p in expected], abs=1e-5)
        assert prediction.classes[0][0] == Path(prediction.path).parent.name


def test_an_unreadable_picture_is_told_or_stops(finished_run: Path, photos: Path) -> None:
    run = open_run(finished_run)
    bad, good = photos / "val/kiwi/0.jpg", photos / "val/kiwi/1.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    first, second = predict(run, [bad, good])
    assert isinstance(first, Unreadable)
    assert isinstance(second, Classification)
    assert second.classes[0][0] == "kiwi"
    with pytest.raises(UserError, match=r"must be complete and readable, got .*kiwi/0\.jpg"):
        list(predict(run, [bad, good], on_bad_image="stop"))


def test_more_classes_than_there_are_gives_all(finished_run: Path, all_photos: Path) -> None:
    (prediction,) = predict(open_run(finished_run), all_photos / "val/kiwi/0.jpg", top=50)
    assert isinstance(prediction, Classification)
    assert len(prediction.classes) == 3
    assert sum(share for _, share in prediction.classes) == pytest.approx(1)
