# SPDX-License-Identifier: Apache-2.0
"""Engines that models are measured in: PyTorch itself, or a runtime with an exported file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
from pathlib import Path

import torch
from torch import Tensor, nn

from slideformer.bench.deployed import Variant
from slideformer.deploy import RUNTIMES, Runtime, Sizes, export_model, fingerprint, mebibytes
from slideformer.deploy.export import in_form
from slideformer.deploy.job import Session
from slideformer.errors import UserError
from slideformer.layers import SlideAttention
from slideformer.models import reparameterize
from slideformer.ops import explain
from slideformer.runs import Facts

# Images that int8 is fitted to: noise, for its speed, as the weights are random, too.
CALIBRATION = 16


@dataclass(frozen=True)
class Subject:
    """A model, in evaluation mode and not merged, that is to be measured in an engine.

    Attributes:
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
    """A model in memory: ``reload`` runs from the file or a new copy of the weights, which takes memory."""

    run: Session
    reload: Session


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
        title: as the tables show it.
        precisions: that it has.
        prepare: makes a model ready for it, which may take minutes.
        package: whose version the figures depend on, besides PyTorch; empty if none.
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

        def reload(image: Tensor) -> list[Tensor]:
            weights = [x.clone() for x in module.state_dict().values()]
            found = run(image)
            del weights  # until here they take part in the peak
            return found

        return Opened(run, reload)

    return Ready(form or "", None, open_module)


def in_runtime(row: Runtime) -> Callable[[Subject], Ready]:
    """An exported file, which the folder has or which is written."""

    def prepare(subject: Subject) -> Ready:
        form = row.form if subject.variant.form is None else subject.variant.form
        file = exported(row, subject, form)

        def open_file(threads: int) -> Opened:
            return Opened(row.open_file(file, threads), lambda image: row.open_file(file, threads)(image))

        return Ready(form if subject.slides else "", mebibytes(file), open_file)

    return prepare


def exported(row: Runtime, subject: Subject, form: str) -> Path:
    """The file of a model for a runtime; written if the folder has none of this very model."""
    batch, _, height, width = subject.image.shape
    fixed = batch == 1 or subject.precision in row.one_size
    sizes = Sizes(1, height, width) if fixed else Sizes()
    host = [] if subject.variant.slide_stages is None else ["host"]
    words = [subject.variant.name, *host, form, subject.precision, str(sizes).replace(" ", "")]
    file = subject.folder / f"{'-'.join(words)}{row.suffix}"
    if not matches(row, file, (fingerprint(subject.model), form, subject.precision, sizes)):
        write(row, subject, file, form=form, fixed=fixed)
    return file


def write(row: Runtime, subject: Subject, file: Path, *, form: str, fixed: bool) -> None:
    """Export a model; int8 is fitted to noise."""
    generator = torch.Generator().manual_seed(1)
    noise = [torch.randn(1, *subject.image.shape[1:], generator=generator) for _ in range(CALIBRATION)]
    export_model(
        subject.model,
        file,
        row.name,
        inputs=[subject.image],
        facts=Facts(task="classify", architecture=subject.variant.label),
        precision=subject.precision,
        calibration=noise if subject.precision == "int8" else (),
        form=form,
        fixed=fixed,
    )


def matches(row: Runtime, file: Path, wanted: tuple[str, str, str, Sizes]) -> bool:
    """Whether a file exists and holds these weights, in this form, precision and size."""
    if not file.exists():
        return False
    try:
        card = row.card(file)
    except UserError:  # broken, or of another version: it is written again
        return False
    return (card.weights, card.form, card.precision, card.sizes) == wanted


# Compiled means one graph: PyTorch would continue uncompiled after too many graphs.
IN_PYTORCH = {
    "eager": Engine("PyTorch", ("float32",), lambda subject: in_pytorch(subject, lambda module: module)),
    "compiled": Engine(
        "PyTorch compiled",
        ("float32",),
        lambda subject: in_pytorch(
            subject, lambda module: torch.compile(module, fullgraph=True, dynamic=False)
        ),
    ),
}
# The package that runs a runtime's files, where it is not PyTorch.
PACKAGES = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "executorch": "executorch",
    "coreml": "coremltools",
    "coreai": "coreai",
}
ENGINES = IN_PYTORCH | {
    name: Engine(row.title, row.precisions, in_runtime(row), PACKAGES.get(name, ""))
    for name, row in RUNTIMES.items()
}


def usable(*, batch: int, precisions: Sequence[str]) -> list[str]:
    """Names of the runtimes that are installed, fast here, and take such a batch in each precision."""
    return [
        name
        for name, row in RUNTIMES.items()
        if row.is_fast_here and not row.missing and (batch == 1 or set(precisions).isdisjoint(row.one_size))
    ]


def version_of(package: str) -> str:
    """Version of a package by the name that it is imported by, as of onnxruntime or onnxruntime-gpu."""
    distributed = packages_distributions().get(package, [])
    name = package if package in distributed else next(iter(distributed), None)
    return "unknown" if name is None else version(name)
