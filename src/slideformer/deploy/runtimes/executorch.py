# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch programs for phones, their products by XNNPACK, run by ExecuTorch's own runtime on this CPU."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from slideformer.deploy.job import InHalf, Job, Session, quiet
from slideformer.errors import UserError
from slideformer.runs.fields import parse_json

# A method of the program that returns the card as the bytes of its JSON.
CARD = "slideformer_card"


def write(job: Job, file: Path) -> None:
    """Lower the graph to XNNPACK and write one file."""
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        text = json.dumps(job.card.texts()).encode()
        edge = to_edge_transform_and_lower(
            program(job),
            partitioner=[XnnpackPartitioner()],
            constant_methods={CARD: torch.tensor(list(text), dtype=torch.int32)},
        )
        file.write_bytes(edge.to_executorch().buffer)


def program(job: Job) -> ExportedProgram:
    """The graph in the card's precision."""
    if job.card.precision == "int8":
        return quantized(job)
    if job.card.precision == "float16":
        return job.folded(with_single_norms(InHalf(deepcopy(job.module))))
    return job.folded()


class SingleNorm(nn.Module):
    """A layer norm in single precision, of half precision numbers.

    ExecuTorch's own kernel gives wrong answers in half precision from 256 channels on.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm.float()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over the channels, in single precision."""
        normalised: Tensor = self.norm(x.float())
        return normalised.to(x.dtype)


def with_single_norms(module: nn.Module) -> nn.Module:
    """The module, its layer norms in single precision."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.LayerNorm):
                setattr(parent, name, SingleNorm(child))
    return module


def quantized(job: Job) -> ExportedProgram:
    """The graph with weights and what they are multiplied with as int8 (PT2E)."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(job.folded().module(), quantizer)
    with torch.no_grad():
        for image in job.calibration:
            prepared(image)
    with torch.no_grad():
        return torch.export.export(convert_pt2e(prepared), (job.example,))


def read(file: Path) -> dict[str, str]:
    """The texts of the file's card."""
    loaded = load(file)
    if CARD not in loaded.method_names:
        return {}
    with quiet():
        (text,) = loaded.load_method(CARD).execute([])
    texts: dict[str, str] = parse_json(bytes(text.tolist()))
    return texts


def load(file: Path) -> Any:
    """The program."""
    try:
        # The runtime prints the processor, and its errors twice.
        with quiet():
            from executorch.runtime import Runtime

            return Runtime.get().load_program(file)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{file} must be a complete ExecuTorch program, but it is rejected ({reason}); export it again"
        ) from error


def open_file(file: Path, threads: int | None) -> Session:
    """A function from images to what the file gives for them."""
    loaded = load(file)
    with quiet():
        if threads is not None:
            from executorch.extension.pybindings import portable_lib

            # One pool serves the process, and programs that are loaded keep hold of it.
            if portable_lib._threadpool_get_thread_count() != threads:
                portable_lib._unsafe_reset_threadpool(threads)
        method = loaded.load_method("forward")

    def run(image: Tensor) -> list[Tensor]:
        return [x.clone() for x in method.execute([image])]

    return run
