# SPDX-License-Identifier: Apache-2.0
"""What a model can run in to be measured: PyTorch itself, or a runtime with an exported file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from slideformer.bench import Variant
from slideformer.cli.exported import mebibytes
from slideformer.deploy import RUNTIMES, Runtime, Sizes, export, fingerprint
from slideformer.deploy.export import in_form
from slideformer.deploy.runtimes.session import Run
from slideformer.errors import UserError
from slideformer.layers import SlideAttention
from slideformer.models import reparameterize
from slideformer.ops import explain

# What int8 is fitted to: noise, for its speed, as the weights are random, too.
CALIBRATION = 16


@dataclass(frozen=True)
class Subject:
    """A model that is to be measured in an engine.

    Attributes:
        variant: what it is.
        model: in evaluation mode, not merged.
        image: the input ``(B, 3, height, width)``.
        precision: of weights and products.
        folder: where exported files are kept.
    """

    variant: Variant
    model: nn.Module
    image: Tensor
    precision: str
    folder: Path

    @property
    def slides(self) -> bool:
        """Whether some of its attention is slide attention."""
        return any(isinstance(module, SlideAttention) for module in self.model.modules())


@dataclass(frozen=True)
class Opened:
    """A model in memory.

    Attributes:
        run: from images to what it gives for them.
        afresh: the same, from the model on a disk or from its weights anew, for the memory that this takes.
    """

    run: Run
    afresh: Run


@dataclass(frozen=True)
class Ready:
    """A model that an engine can open.

    Attributes:
        form: of slide attention, a backend of the operator; empty where there is none.
        file_mib: size of its file, in MiB; None where there is none.
        open: brings it into memory, to run on so many threads.
    """

    form: str
    file_mib: float | None
    open: Callable[[int], Opened]


@dataclass(frozen=True)
class Engine:
    """Something that runs models.

    Attributes:
        title: what it is called.
        precisions: that it has.
        prepare: makes a model ready for it, which may take minutes.
        package: whose version the figures depend on, beside PyTorch; empty if none.
    """

    title: str
    precisions: tuple[str, ...]
    prepare: Callable[[Subject], Ready]
    package: str = ""


def in_pytorch(subject: Subject, compile: Callable[[nn.Module], Callable[[Tensor], Tensor]]) -> Ready:
    """The merged model, in this process."""
    module = reparameterize(subject.model)
    form = subject.variant.form
    if form is not None:
        in_form(module, form)
    elif subject.slides:
        call = subject.image.new_empty(1, 1, 1, 1, 1)
        form = explain(call, call, call).chosen

    def open_module(threads: int) -> Opened:
        torch.set_num_threads(threads)
        forward = compile(module)

        def run(image: Tensor) -> list[Tensor]:
            with torch.inference_mode():
                return [forward(image)]

        def afresh(image: Tensor) -> list[Tensor]:
            weights = [x.clone() for x in module.state_dict().values()]
            found = run(image)
            del weights  # until here they take part in the peak
            return found

        return Opened(run, afresh)

    return Ready(form or "", None, open_module)


def eager(subject: Subject) -> Ready:
    """As it is written."""
    return in_pytorch(subject, lambda module: module)


def compiled(subject: Subject) -> Ready:
    """As one graph, or not at all: PyTorch would go on without compiling after too many graphs."""
    return in_pytorch(subject, lambda module: torch.compile(module, fullgraph=True, dynamic=False))


def in_runtime(row: Runtime) -> Callable[[Subject], Ready]:
    """An exported file, written unless the folder has it."""

    def prepare(subject: Subject) -> Ready:
        form = row.form if subject.variant.form is None else subject.variant.form
        file = exported(row, subject, form)

        def open_file(threads: int) -> Opened:
            return Opened(row.open_file(file, threads), lambda image: row.open_file(file, threads)(image))

        return Ready(form if subject.slides else "", mebibytes(file), open_file)

    return prepare


def exported(row: Runtime, subject: Subject, form: str) -> Path:
    """A file of a model for a runtime: the one that the folder has, if it is of this model, or a new one.

    Raises:
        UserError: the runtime does not take the model.
    """
    batch, _, height, width = subject.image.shape
    fixed = batch == 1 or subject.precision in row.one_size
    sizes = Sizes(1, height, width) if fixed else Sizes()
    host = [] if subject.variant.slide_stages is None else ["host"]
    words = [subject.variant.name, *host, form, subject.precision, str(sizes).replace(" ", "")]
    file = subject.folder / f"{'-'.join(words)}{row.suffix}"
    if is_of(row, file, (fingerprint(subject.model), form, subject.precision, sizes)):
        return file
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(1, *subject.image.shape[1:], generator=generator) for _ in range(CALIBRATION)]
    export(
        subject.model,
        file,
        row.name,
        inputs=[subject.image],
        facts={"task": "classify", "architecture": subject.variant.label},
        precision=subject.precision,
        calibration=noise if subject.precision == "int8" else (),
        form=form,
        fixed=fixed,
    )
    return file


def is_of(row: Runtime, file: Path, wanted: tuple[str, str, str, Sizes]) -> bool:
    """Whether a file is there and holds the weights, form, precision and sizes that are wanted."""
    if not file.exists():
        return False
    try:
        card = row.card(file)
    except UserError:  # broken, or of another version: it is written anew
        return False
    return (card.weights, card.form, card.precision, card.sizes) == wanted


IN_PYTORCH = {
    "eager": Engine("PyTorch", ("float32",), eager),
    "compiled": Engine("PyTorch compiled", ("float32",), compiled),
}
# The package that runs a runtime's files, where it is not PyTorch.
PACKAGES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "executorch": "executorch",
    "coreml": "coremltools",
}
ENGINES = IN_PYTORCH | {
    name: Engine(row.title, row.precisions, in_runtime(row), PACKAGES.get(name, ""))
    for name, row in RUNTIMES.items()
}
