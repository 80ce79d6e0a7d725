# SPDX-License-Identifier: Apache-2.0
"""Half precision and 8 bits stay within what they may change, in files that are smaller."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from slideformer.deploy import RUNTIMES, export_model, mebibytes
from tests.deploy.small import FACTS, image
from tests.models.families import small

SIZE = (1, 40, 72)
DEVICES = ("onnx", "openvino", "executorch", "coreml")


def model() -> nn.Module:
    """A small Slide-Swin with a sharp head, always the same, of wide layers: most of a file are weights."""
    torch.manual_seed(0)
    made = small(
        "slide_swin_tiny", embed_dim=64, depths=(1, 1), num_heads=(2, 2), slide_stages=(0,), mlp_ratio=8
    )
    nn.init.normal_(made.head.fc.weight)
    return made


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in DEVICES])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files for one runtime, by precision; each was checked when it was written."""
    folder, row = tmp_path_factory.mktemp("precisions"), RUNTIMES[request.param]
    generator = torch.Generator().manual_seed(2)
    fitted = [torch.randn(1, 3, *SIZE[1:], generator=generator) for _ in range(4)]
    made = {}
    for precision in row.precisions:
        made[precision] = folder / f"{precision}{row.suffix}"
        report = export_model(
            model(),
            made[precision],
            row.name,
            inputs=[image(*SIZE)],
            facts=FACTS,
            precision=precision,
            calibration=fitted if precision == "int8" else (),
            fixed=True,
        )
        assert report.fault is None
        assert report.card.precision == precision
        assert report.ran == row.runs_here
        assert row.card(made[precision]).precision == precision
    return made


def test_fewer_bits_make_smaller_files(files: dict[str, Path]) -> None:
    sizes = {precision: mebibytes(file) for precision, file in files.items()}
    assert sizes["float16"] < 0.75 * sizes["float32"]
    assert sizes["int8"] < 0.6 * sizes["float32"]
