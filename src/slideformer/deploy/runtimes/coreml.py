# SPDX-License-Identifier: Apache-2.0
"""Core ML packages for Apple's devices: converted anywhere, run on a Mac only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from slideformer.deploy.job import INPUT, Job, Session, quiet
from slideformer.errors import UserError

# No tensor of a higher rank is taken.
RANK = 5


def write(job: Job, file: Path) -> None:
    """Convert the graph to an ML program and write the package, a folder."""
    with quiet():
        import coremltools

        precision = coremltools.precision
        half = job.card.precision == "float16"
        model = coremltools.convert(
            without_aliases(job.folded().run_decompositions({})),
            convert_to="mlprogram",
            inputs=[coremltools.TensorType(name=INPUT, shape=tuple(job.example.shape), dtype=np.float32)],
            outputs=[coremltools.TensorType(name=name, dtype=np.float32) for name in job.outputs],
            compute_precision=precision.FLOAT16 if half else precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS16,
        )
        if job.card.precision == "int8":
            model = with_int8_weights(model)
        model.user_defined_metadata.update(job.card.texts())
        model.save(str(file))


def without_aliases(program: ExportedProgram) -> ExportedProgram:
    """The program without operations that only rename a tensor, which the converter does not know."""
    for node in program.graph.nodes:
        if node.target == torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    return program


def with_int8_weights(model: Any) -> Any:
    """The model with its weights as int8; it still computes in float32."""
    from coremltools.optimize import coreml

    config = coreml.OptimizationConfig(coreml.OpLinearQuantizerConfig(mode="linear_symmetric"))
    return coreml.linear_quantize_weights(model, config)


def read(file: Path) -> dict[str, str]:
    """The texts of the package's card."""
    texts = dict(specification(file).description.metadata.userDefined)
    # The converter adds entries of its own.
    return {name: text for name, text in texts.items() if not name.startswith("com.github.apple.")}


def specification(file: Path) -> Any:
    """The package's content, without weights."""
    with quiet():
        import coremltools
        from google.protobuf.message import DecodeError

        try:
            return coremltools.models.utils.load_spec(str(file))
        except (RuntimeError, OSError, ValueError, DecodeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{file} must be a complete package of Core ML's, but is not ({reason}); export it again"
            ) from error


def open_file(file: Path, threads: int | None) -> Session:
    """A function from images to what the package gives for them, on a Mac, which chooses its threads."""
    import coremltools

    model = coremltools.models.MLModel(str(file))

    def run(image: Tensor) -> list[Tensor]:
        found = model.predict({INPUT: image.numpy()})
        return [torch.from_numpy(x) for x in found.values()]

    return run


def faults(file: Path) -> list[str]:
    """List what would keep the package from running on Apple's devices, as far as that shows without one."""
    import coremltools.proto.FeatureTypes_pb2 as feature_types

    spec = specification(file)
    array = feature_types.ArrayFeatureType
    description = spec.description
    found = [
        f"{entry.name} must be an array of float32, got {entry.type.WhichOneof('Type')}"
        for entry in (*description.input, *description.output)
        if entry.type.multiArrayType.dataType != array.FLOAT32
    ]
    for operation in operations(spec):
        for output in operation.outputs:
            rank = output.type.tensorType.rank
            if rank > RANK:
                found.append(f"{operation.type} gives {output.name} of rank {rank}, more than {RANK}")
    return found


def operations(spec: Any) -> Iterator[Any]:
    """Every operation of the program."""
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations
