# SPDX-License-Identifier: Apache-2.0
"""Half precision and 8 bits stay within what they may change, in files that are smaller."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from slideformer.deploy import RUNTIMES, export_model, mebibytes
from tests.deploy.small import FACTS, image, needs
from tests.models.families import small

SIZE = (1, 40, 72)
DEVICES = ("onnx", "openvino", "executorch", "coreml", "coreai")


# The stages that slide, by what the only block does: two small graphs compile faster than one of both.
BLOCKS: dict[str, tuple[int, ...]] = {"slide": (0,), "window": ()}


def model(slide_stages: tuple[int, ...]) -> nn.Module:
    """A small Slide-Swin with a sharp head, always the same, of wide layers: most of a file are weights."""
    torch.manual_seed(0)
    made = small(
        "slide_swin_tiny", embed_dim=96, depths=(1,), num_heads=(2,), slide_stages=slide_stages, mlp_ratio=8
    )
    nn.init.normal_(made.head.fc.weight)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("device", DEVICES)
def test_fewer_bits_make_smaller_files(device: str, block: str, tmp_path: Path) -> None:
    needs(device)
    row = RUNTIMES[device]
    generator = torch.Generator().manual_seed(2)
    fitted = [torch.randn(1, 3, *SIZE[1:], generator=generator) for _ in range(4)]
    sizes = {}
    for precision in row.precisions:
        file = tmp_path / f"{precision}{row.suffix}"
        report = export_model(
            model(BLOCKS[block]),
            file,
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
        assert row.card(file).precision == precision
        sizes[precision] = mebibytes(file)
    assert sizes["float16"] < 0.75 * sizes["float32"]
    assert sizes.get("int8", 0) < 0.6 * sizes["float32"]
