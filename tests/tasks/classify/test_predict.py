# SPDX-License-Identifier: Apache-2.0
"""Pictures that nobody has labelled: found, classified, told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.data import create_transform

from slideformer.errors import UserError
from slideformer.models import load_pretrained
from slideformer.tasks.classify import predict as module
from slideformer.tasks.classify.predict import predict
from slideformer.tasks.pictures import find_images, read_image


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
    with pytest.raises(UserError, match="must be a picture, a folder of pictures or a glob, but names none"):
        find_images([pattern])


def test_predictions_are_the_models_in_order(
    finished_run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    model, info = load_pretrained(finished_run)
    paths = find_images([str(photos / "val")])
    found = list(predict(model, info, paths, top=2))
    assert [Path(p.path) for p in found] == paths
    transform = create_transform(
        info.input_size,
        interpolation=info.interpolation,
        mean=info.mean,
        std=info.std,
        crop_pct=info.crop_pct,
    )
    for prediction in found:
        with torch.inference_mode():
            shares = model(transform(read_image(prediction.path))[None]).softmax(1)[0]
        expected = [(info.label_names[i], float(shares[i])) for i in shares.argsort(descending=True)[:2]]
        assert [name for name, _ in prediction.classes] == [name for name, _ in expected]
        assert [p for _, p in prediction.classes] == pytest.approx([p for _, p in expected], abs=1e-5)
        assert prediction.classes[0][0] == Path(prediction.path).parent.name


def test_an_unreadable_picture_is_told_or_stops(finished_run: Path, photos: Path) -> None:
    model, info = load_pretrained(finished_run)
    bad, good = photos / "val/kiwi/0.jpg", photos / "val/kiwi/1.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    first, second = predict(model, info, [bad, good])
    assert first.error is not None
    assert first.classes == ()
    assert second.classes[0][0] == "kiwi"
    with pytest.raises(UserError, match=r"must be complete and readable, got .*kiwi/0\.jpg"):
        list(predict(model, info, [bad, good], on_bad_image="stop"))


def test_more_classes_than_there_are_gives_all(finished_run: Path, all_photos: Path) -> None:
    model, info = load_pretrained(finished_run)
    (prediction,) = predict(model, info, [all_photos / "val/kiwi/0.jpg"], top=50)
    assert len(prediction.classes) == 3
    assert sum(share for _, share in prediction.classes) == pytest.approx(1)
