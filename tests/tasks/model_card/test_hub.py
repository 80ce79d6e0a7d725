# SPDX-License-Identifier: Apache-2.0
"""A published run loads by the Hub's and timm's own code, from a cache in place of a network."""

from __future__ import annotations

import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import snapshot_download

import slideformer

ROOT = Path(__file__).parents[3]
REVISION = "0" * 40


def published() -> list[str]:
    """The files that the documented command uploads."""
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    command = re.search(r"hf upload [^#\n]+", page)
    assert command is not None
    return re.findall(r"--include (\S+)", command[0])


@pytest.fixture
def cache(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's cache, in which a run is as it is downloaded: links to files without names."""
    repository = tmp_path / "models--user--name"
    snapshot, blobs = repository / "snapshots" / REVISION, repository / "blobs"
    for folder in (snapshot, blobs, repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    for number, name in enumerate(published()):
        shutil.copy(finished_run / name, blobs / str(number))
        (snapshot / name).symlink_to(blobs / str(number))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def logits(model: torch.nn.Module) -> torch.Tensor:
    torch.manual_seed(0)
    with torch.inference_mode():
        return model(torch.randn(2, 3, 32, 32))


def test_only_the_card_the_model_and_its_configuration_are_uploaded(finished_run: Path) -> None:
    files = [str(path.relative_to(finished_run)) for path in finished_run.rglob("*") if path.is_file()]
    uploaded = {file for file in files if any(fnmatchcase(file, pattern) for pattern in published())}
    assert uploaded == {"README.md", "config.json", "model.safetensors"}


def test_timm_loads_a_published_run(finished_run: Path, cache: Path) -> None:
    model = timm.create_model("hf-hub:user/name", pretrained=True, cache_dir=str(cache)).eval()
    torch.testing.assert_close(
        logits(model), logits(slideformer.open_run(finished_run).model), atol=0, rtol=0
    )
    assert model.pretrained_cfg["hf_hub_id"] == "user/name"


def test_a_downloaded_run_opens(finished_run: Path, cache: Path) -> None:
    there = slideformer.open_run(snapshot_download("user/name", cache_dir=cache))
    here = slideformer.open_run(finished_run)
    assert (there.class_names, there.preprocessing) == (here.class_names, here.preprocessing)
    torch.testing.assert_close(logits(there.model), logits(here.model), atol=0, rtol=0)
