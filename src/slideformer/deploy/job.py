# SPDX-License-Identifier: Apache-2.0
"""The job of a runtime: a merged model, an example input, and the metadata of the file to write."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from slideformer.deploy.card import Card

INPUT = "image"
# An opened file: from images (B, channels, height, width), contiguous float32 on the CPU, to its outputs.
Session = Callable[[Tensor], list[Tensor]]
# Names of the outputs of each task.
OUTPUTS = {"classify": ("logits",), "segment": ("logits",), "detect": ("boxes", "scores", "labels", "masks")}


@dataclass(frozen=True)
class Job:
    """One file to write.

    Attributes:
        module: the merged model in evaluation mode, its slide attention in the runtime's form.
        example: an input ``(B, channels, height, width)`` to trace with.
        card: the metadata of the file.
        calibration: inputs like the example, whose ranges int8 is fitted to; empty for other precisions.
        sides: of a detector, whose example is resized: the shorter side of a resized image, and the most that
            the longer may have; the file is to take images as they are. None where nothing is resized.
    """

    module: nn.Module
    example: Tensor
    card: Card
    calibration: Sequence[Tensor] = field(default_factory=tuple)
    sides: tuple[int, int] | None = None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the model gives."""
        names = OUTPUTS[self.card.task]
        names = names[:3] if self.card.task == "detect" and not self.card.masks else names
        return (*names, *(layer.output for layer in self.card.attention))

    def dynamic_shapes(self) -> tuple[dict[int, Any]]:
        """The axes of the input that stay dynamic, for ``torch.export``."""
        sizes = self.card.sizes
        axes = {0: sizes.batch, 2: sizes.height, 3: sizes.width}
        return ({axis: torch.export.Dim.DYNAMIC for axis, size in axes.items() if size is None},)

    def program(self, module: nn.Module | None = None) -> torch.export.ExportedProgram:
        """The graph of the model, or of a module in its place, without its training-only parts."""
        traced = self.module if module is None else module
        with torch.no_grad():
            return torch.export.export(
                traced.requires_grad_(False), (self.example,), dynamic_shapes=self.dynamic_shapes()
            )

    def folded(self, module: nn.Module | None = None) -> torch.export.ExportedProgram:
        """The same for one size, with all that does not depend on the image computed once and kept.

        Compilers for small devices take a linear layer or a mask as a constant only where the graph holds
        it in the form in which it is used.
        """
        from torch._inductor.constant_folding import ConstantFolder, replace_node_with_constant

        graph = self.program(module).module()
        # PyTorch's own `constant_fold` leaves what begins with a constructor, such as all index arithmetic.
        folder = ConstantFolder(graph)
        folder.run()
        for node, constant in folder.node_replacements.items():
            replace_node_with_constant(graph, node, constant)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        for constant in graph.buffers():
            # Read in the order of memory, whatever their strides say.
            constant.data = constant.contiguous()
        with torch.no_grad():
            return torch.export.export(graph, (self.example,))


class InHalf(nn.Module):
    """A model in half precision with inputs and outputs in single."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()

    def forward(self, image: Tensor) -> Tensor:
        """Run the model: ``(B, channels, height, width)`` to its logits."""
        logits: Tensor = self.module(image.half())
        return logits.float()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, logs below errors, bars and what is printed; errors are raised as ever."""
    before, said = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
