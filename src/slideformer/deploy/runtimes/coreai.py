# SPDX-License-Identifier: Apache-2.0
"""Core AI assets for Apple's devices, run by Core AI's own runtime, on Linux as well."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.export import ExportedProgram

from slideformer.deploy.job import INPUT, InHalf, Job, Session, quiet
from slideformer.errors import UserError
from slideformer.files import read_text, regular_file
from slideformer.runs.fields import MOST_BYTES, parse_json

Answer = TypeVar("Answer")
# The files of an asset, which is a folder: the program, its SHA-256, and the metadata with an entry for ours.
PROGRAM, HASH, METADATA, CARD = "main.mlirb", "main.hash", "metadata.json", "creatorDefinedMetadata"
# The one function of the program.
FUNCTION = "main"


def write(job: Job, file: Path) -> None:
    """Convert the graph and write the asset, a folder."""
    with quiet():
        from coreai.runtime import AIModelAssetMetadata
        from coreai_torch import TorchConverter

        metadata = AIModelAssetMetadata()
        for name, text in job.card.texts().items():
            metadata.set_custom(name, text)
        # The other mode writes the paths of this machine's sources into the asset.
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        try:
            converter.add_exported_program(
                program(job), input_names=[INPUT], output_names=job.outputs, entrypoint_name=FUNCTION
            )
            converted = converter.to_coreai()
        except ValueError as error:
            raise UserError(
                f"the model must consist of operations that Core AI's converter knows, but: "
                f"{str(error).split('. ')[0]}; choose another runtime"
            ) from error
        converted.save_asset(file, metadata)


def program(job: Job) -> ExportedProgram:
    """The graph in the card's precision, of operations that the converter knows."""
    from coreai_torch import get_decomp_table

    module = InHalf(deepcopy(job.module)) if job.card.precision == "float16" else None
    table = get_decomp_table()
    # Core AI samples no grids; as sums of four indexed values they are known.
    table.update(get_decompositions([torch.ops.aten.grid_sampler_2d.default]))
    return job.folded(module).run_decompositions(table)


def read(file: Path) -> dict[str, str]:
    """The texts of the asset's card."""
    texts: dict[str, str] = parse_json(read_text(file / METADATA, most=MOST_BYTES)).get(CARD, {})
    return texts


def open_file(file: Path, threads: int | None) -> Session:
    """A function from images to what the asset gives for them; the runtime chooses its threads."""
    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    check_complete(file)

    async def load() -> Any:
        # The function keeps what it needs of the model.
        async with AIModelAsset.load(file).executable() as model:
            return model.load_function(FUNCTION)

    function = finished(load())

    def run(image: Tensor) -> list[Tensor]:
        found = finished(function({INPUT: NDArray(image.numpy())}))
        return [torch.tensor(x.numpy()) for x in found.values()]

    return run


def check_complete(file: Path) -> None:
    """Check that the program is the one that was written: Core AI would end the process where it is cut.

    Raises:
        UserError: it is not.
    """
    found = hashlib.sha256(regular_file(file / PROGRAM).read_bytes()).digest()
    if found != regular_file(file / HASH).read_bytes():
        raise UserError(
            f"{file} must be a complete asset of Core AI's, but {PROGRAM} is not what {HASH} says; "
            "export it again"
        )


def finished(task: Coroutine[Any, Any, Answer]) -> Answer:
    """The result of a coroutine, run in a thread of its own: a notebook calls from within an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, task).result()
