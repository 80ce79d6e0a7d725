# SPDX-License-Identifier: Apache-2.0
"""Core AI assets compute what the model does, wherever they are opened, and say nothing of this machine."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from slideformer.deploy import RUNTIMES, Sizes, export_model
from slideformer.errors import UserError
from tests.deploy.small import FACTS, SIZE, Tiny, image, written
from tests.models.families import FAMILIES, of_one_size
from tests.shared import made_once
from tests.tiers import fast

pytestmark = pytest.mark.skipif(bool(RUNTIMES["coreai"].missing), reason="needs coreai-torch")
ONE_SIZE = (1, 40, 72)


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An asset of `Tiny`, not to be changed."""
    folder = made_once(tmp_path_factory, "tiny for coreai", lambda folder: written(folder, "coreai"))
    return folder / "model.aimodel"


@pytest.mark.parametrize("name", fast(FAMILIES, "slide_pvt_v2_b1"))
def test_every_family_agrees(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = of_one_size(name)
    # Logits further apart than a fresh model's: by more than rounding.
    nn.init.normal_(model.head.fc.weight)
    file = tmp_path / "model.aimodel"
    report = export_model(model, file, "coreai", inputs=[image(*ONE_SIZE)], facts=FACTS)
    (row,) = report.differences
    assert row.largest <= 1e-4
    assert row.agreement == 1
    assert report.card.sizes == Sizes(*ONE_SIZE)
    assert report.card.facts == FACTS


class Sorted(nn.Module):
    """A model with an operation that Core AI does not have."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3)).sort().values


def test_an_operation_that_core_ai_lacks_is_named_and_nothing_is_kept(tmp_path: Path) -> None:
    message = r"operations that Core AI's converter knows, but: .*aten\.sort\.default; choose another runtime"
    with pytest.raises(UserError, match=message):
        export_model(Sorted(), tmp_path / "x.aimodel", "coreai", inputs=[image(*SIZE)], facts=FACTS)
    assert not list(tmp_path.iterdir())


def test_an_asset_runs_inside_an_event_loop(asset: Path) -> None:
    async def notebook() -> Tensor:
        return RUNTIMES["coreai"].open_file(asset)(image(*SIZE))[0]

    with torch.inference_mode():
        torch.testing.assert_close(asyncio.run(notebook()), Tiny()(image(*SIZE)), rtol=1e-5, atol=1e-5)


def test_an_answer_stays_when_the_asset_runs_again(asset: Path) -> None:
    run = RUNTIMES["coreai"].open_file(asset)
    (first,) = run(image(*SIZE))
    before = first.clone()
    run(-image(*SIZE))
    assert torch.equal(first, before)


def test_an_asset_names_no_path_of_this_machine(asset: Path) -> None:
    content = b"".join(part.read_bytes() for part in asset.iterdir())
    assert b"conv" in content
    for path in (Path(__file__).parents[2], Path(torch.__file__).parent, asset.parent):
        assert str(path).encode() not in content


def test_the_hash_of_an_asset_is_that_of_its_program(asset: Path) -> None:
    # Of it depends that a file which was cut is noticed: Core AI itself would end the process.
    program = (asset / "main.mlirb").read_bytes()
    assert (asset / "main.hash").read_bytes() == hashlib.sha256(program).digest()
