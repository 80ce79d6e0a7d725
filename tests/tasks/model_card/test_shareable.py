# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from slideformer.tasks.model_card.shareable import shareable, shareable_value

TEXTS = {
    "/home/someone/data/photos": "photos",
    "/home/someone/data/photos/": "photos",
    "host:/home/someone/runs/plain": "host:plain",
    "lmdb:/home/someone/x.lmdb": "lmdb:x.lmdb",
    "/home/someone/runs/2026-11-30T12:00/photos": "photos",
    "hfds//home/someone/beans": "hfds/beans",
    "~/photos": "photos",
    "~/of:someone/photos": "photos",
    "~someone/photos": "photos",
    "../../someone/photos": "photos",
    "data/here": "here",
    "host:data/here": "host:here",
    "/": "data",
    "": "",
    "digits": "digits",
    "timm": "timm",
    "host:timm": "host:timm",
    "hfds/someone/beans": "hfds/someone/beans",
    "rand-m9-mstd0.5-inc1": "rand-m9-mstd0.5-inc1",
    "no\0path": "no\0path",
}


@pytest.mark.parametrize(("text", "wanted"), TEXTS.items(), ids=list(map(repr, TEXTS)))
def test_folders_of_the_machine_are_left_out(
    text: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shareable(text) == wanted


def test_the_folder_that_one_is_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shareable(".") == tmp_path.name


def test_texts_within_a_value_are_found() -> None:
    value = {"logger": [{"save_dir": "/home/someone/logs"}, 1, None], "rate": 0.5}
    assert shareable_value(value) == {"logger": [{"save_dir": "logs"}, 1, None], "rate": 0.5}
