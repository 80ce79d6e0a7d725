# SPDX-License-Identifier: Apache-2.0
"""The table of runtimes: what each takes and needs, and the form of slide attention that it runs best."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from torch import Tensor

from slideformer.deploy.card import PRECISIONS, TASKS, Card
from slideformer.deploy.job import Job, Session
from slideformer.errors import UserError
from slideformer.files import regular_file


class Implementation(Protocol):
    """The functions of a runtime; each is a module with them."""

    def write(self, job: Job, file: Path) -> None:
        """Write a file, or several, of which this is the one that is opened."""

    def read(self, file: Path) -> dict[str, str]:
        """The texts of the card of a file, without running any of its code."""

    def open_file(self, file: Path, threads: int | None) -> Session:
        """A function that runs the file, on so many threads of the CPU; None for all."""


@dataclass(frozen=True)
class Runtime:
    """One way to run an exported model.

    Attributes:
        name: the word to choose it by, and the extra that brings its packages.
        title: what it is called.
        suffix: what a file's name ends in.
        load: imports its implementation.
        packages: that must be installed, by the names they are imported by.
        one_size: the precisions whose files take one image of one size; others take any batch, height, width.
        form: of slide attention, a backend of the operator: the fastest measured (docs/deploy.md).
        precisions: that it has.
        tasks: whose models it takes.
        platform: the only system that runs it, as Python calls it; empty for every one.
        made_for: the system that it is fast on; on others it only checks files. Empty for every one.
        holds_code: whether opening a file runs machine code that is in it.
        faults: finds, where the files cannot be run, what would keep them from running, as sentences.
    """

    name: str
    title: str
    suffix: str
    load: Callable[[], Implementation]
    packages: tuple[str, ...]
    one_size: tuple[str, ...] = ()
    form: str = "matmul"
    precisions: tuple[str, ...] = PRECISIONS
    tasks: tuple[str, ...] = ("classify", "segment")
    platform: str = ""
    made_for: str = ""
    holds_code: bool = False
    faults: Callable[[Path], list[str]] = lambda file: []

    @property
    def missing(self) -> list[str]:
        """Packages that it needs and that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]

    def check_installed(self) -> None:
        """Check that all packages are installed.

        Raises:
            UserError: one is missing.
        """
        if self.missing:
            raise UserError(
                f"{self.title} needs {', '.join(self.missing)}, which is not installed; "
                f"pip install 'slideformer[{self.name}]'"
            )

    @property
    def implementation(self) -> Implementation:
        """Its functions.

        Raises:
            UserError: a package is missing.
        """
        self.check_installed()
        return self.load()

    @property
    def runs_here(self) -> bool:
        """Whether this system can run its files."""
        return self.platform in ("", sys.platform)

    @property
    def is_fast_here(self) -> bool:
        """Whether its speed on this system is the one to expect of it."""
        return self.runs_here and self.made_for in ("", sys.platform)

    def write(self, job: Job, file: Path) -> None:
        """Write a file, or several, of which this is the one that is opened."""
        self.implementation.write(job, file)

    def card(self, file: Path) -> Card:
        """The metadata of a file; none of its code is run.

        Raises:
            UserError: the file is broken, or not of slideformer.
        """
        with decoding(file, self.title):
            return Card.of(self.implementation.read(file), file)

    def open_file(self, file: Path, threads: int | None = None) -> Session:
        """A function from images to what the file gives for them.

        Args:
            file: exported for this runtime.
            threads: of the CPU; None for all.

        Raises:
            UserError: the file is broken.
        """
        implementation = self.implementation
        with decoding(file, self.title):
            opened = implementation.open_file(file, threads)

        def run(image: Tensor) -> list[Tensor]:
            with decoding(file, self.title):
                return opened(image)

        return run


@contextmanager
def decoding(file: Path, title: str) -> Iterator[None]:
    """Say in one line what a runtime raises for a file, whose bytes may be anything."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # decoders of many libraries, given bytes that nobody has checked
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{file} must be a complete file for {title}, but it fails ({reason}); export it again"
        ) from error


def load_onnx() -> Implementation:
    """ONNX Runtime."""
    from slideformer.deploy.runtimes import onnx

    return onnx


def load_openvino() -> Implementation:
    """OpenVINO."""
    from slideformer.deploy.runtimes import openvino

    return openvino


def load_executorch() -> Implementation:
    """ExecuTorch."""
    from slideformer.deploy.runtimes import executorch

    return executorch


def load_coreml() -> Implementation:
    """Core ML."""
    from slideformer.deploy.runtimes import coreml

    return coreml


def coreml_faults(file: Path) -> list[str]:
    """List what would keep a package from running on Apple's devices."""
    from slideformer.deploy.runtimes import coreml

    return coreml.faults(file)


def load_coreai() -> Implementation:
    """Core AI."""
    from slideformer.deploy.runtimes import coreai

    return coreai


def load_aoti() -> Implementation:
    """AOTInductor."""
    from slideformer.deploy.runtimes import aoti

    return aoti


RUNTIMES = {
    row.name: row
    for row in (
        Runtime(
            "onnx",
            "ONNX Runtime",
            ".onnx",
            load_onnx,
            ("onnx", "onnxscript", "onnxruntime"),
            tasks=TASKS,
        ),
        Runtime(
            "openvino",
            "OpenVINO",
            ".xml",
            load_openvino,
            ("openvino", "nncf", "onnx", "onnxscript"),
            # OpenVINO 2026.4 does not compile what NNCF makes of a graph with open sizes.
            one_size=("int8",),
            tasks=TASKS,
        ),
        Runtime("executorch", "ExecuTorch", ".pte", load_executorch, ("executorch",), one_size=PRECISIONS),
        Runtime(
            "coreml",
            "Core ML",
            ".mlpackage",
            load_coreml,
            ("coremltools",),
            one_size=PRECISIONS,
            platform="darwin",
            faults=coreml_faults,
        ),
        Runtime(
            "coreai",
            "Core AI",
            ".aimodel",
            load_coreai,
            ("coreai", "coreai_torch"),
            one_size=PRECISIONS,
            precisions=("float32", "float16"),
            made_for="darwin",
        ),
        Runtime(
            "torch",
            "AOTInductor",
            ".pt2",
            load_aoti,
            (),
            precisions=("float32",),
            holds_code=True,
        ),
    )
}


def of_file(file: Path) -> Runtime:
    """The runtime of an exported file, by the ending of its name.

    Raises:
        UserError: the file does not exist, or no runtime has this ending.
    """
    if not file.exists():
        raise UserError(f"{file} must be an exported file, but does not exist; check the path")
    for runtime in RUNTIMES.values():
        if file.suffix == runtime.suffix:
            for part in file.rglob("*") if file.is_dir() else [file]:
                if not part.is_dir():
                    regular_file(part)
            return runtime
    endings = ", ".join(runtime.suffix for runtime in RUNTIMES.values())
    raise UserError(f"an exported file must end in one of {endings}, got {file}; give the file itself")
