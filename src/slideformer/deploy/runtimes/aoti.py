# SPDX-License-Identifier: Apache-2.0
"""Packages compiled ahead of time by PyTorch's AOTInductor, which PyTorch runs, from C++ as well."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from torch import Tensor

from slideformer.deploy.job import Job, Session, quiet
from slideformer.errors import UserError
from slideformer.runs.fields import MOST_BYTES, parse_json

# The one entry of PyTorch's own metadata that is ours.
CARD = "slideformer_card"


def write(job: Job, file: Path) -> None:
    """Compile the graph for this machine's processor and write one package."""
    import torch._inductor
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise UserError(
            "AOTInductor needs a C++ compiler, which is not installed; install GCC or Clang"
        ) from error
    with quiet():
        torch._inductor.aoti_compile_and_package(
            job.program(),
            package_path=str(file),
            inductor_configs={"aot_inductor.metadata": {CARD: json.dumps(job.card.texts())}},
        )


def read(file: Path) -> dict[str, str]:
    """The texts of the package's card; none of its code is run."""
    try:
        with zipfile.ZipFile(file) as package:
            names = [name for name in package.namelist() if name.endswith("_metadata.json")]
            for name in names:
                if package.getinfo(name).file_size > MOST_BYTES:
                    raise ValueError(f"{name} is too large")
                entries = parse_json(package.read(name))
                if CARD in entries:
                    texts: dict[str, str] = parse_json(entries[CARD])
                    return texts
    except (zipfile.BadZipFile, ValueError) as error:
        raise UserError(
            f"{file} must be a complete package of AOTInductor, but is not ({error}); export it again"
        ) from error
    return {}


def open_file(file: Path, threads: int | None) -> Session:
    """A function from images to what the package gives for them; its code is run: open only your own."""
    import torch._inductor

    if threads is not None:
        torch.set_num_threads(threads)
    try:
        loaded = torch._inductor.aoti_load_package(str(file))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file} must be made for this machine and PyTorch {torch.__version__}, but PyTorch refuses it "
            f"({reason}); export it here"
        ) from error

    def run(image: Tensor) -> list[Tensor]:
        found = loaded(image)
        return [found] if isinstance(found, Tensor) else list(found)

    return run
