# SPDX-License-Identifier: Apache-2.0
"""ONNX files, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slideformer.deploy.job import INPUT, InHalf, Job, Session, quiet
from slideformer.deploy.resize import RESIZED_BOXES, RESIZED_IMAGE, resized_first
from slideformer.errors import UserError

# What int8 makes smaller and faster; the rest stays as it is.
QUANTIZED = ("Conv", "MatMul", "Gemm")


def write(job: Job, file: Path) -> None:
    """Write the graph and its weights as one file."""
    module = InHalf(deepcopy(job.module)) if job.card.precision == "float16" else job.module
    image, outputs = INPUT, list(job.outputs)
    if job.sides is not None:
        image, outputs[0] = RESIZED_IMAGE, RESIZED_BOXES
    with quiet():
        program = torch.onnx.export(
            module,
            (job.example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes=job.dynamic_shapes(),
            input_names=[image],
            output_names=outputs,
        )
    assert program is not None  # dynamo=True gives a program
    if job.card.precision == "int8":
        single = file.with_name(f"single-{file.name}")
        program.save(single)
        quantize(single, file, job.calibration)
        single.unlink()
        sign(file, job.card.texts())
        return
    program.model.metadata_props.update(job.card.texts())
    if job.sides is None:
        program.save(file)
        return
    import onnx

    sizes = job.card.sizes
    onnx.save(resized_first(program.model_proto, job.sides, (sizes.height, sizes.width)), file)


def quantize(source: Path, file: Path, calibration: Sequence[Tensor]) -> None:
    """Weights and what they are multiplied with as int8, around each product (static QDQ)."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        """Gives the inputs one by one, as the quantizer asks."""

        def __init__(self) -> None:
            self.inputs: Iterator[Tensor] = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.inputs, None)
            return None if image is None else {INPUT: image.numpy()}

    simple = file.with_name(f"simple-{file.name}")
    quant_pre_process(source, simple, skip_symbolic_shape=True)
    quantize_static(
        simple,
        file,
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTIZED),
        per_channel=True,
        # Seven bits of a weight: processors without dot products of bytes add two of them in 16 bits.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # Products of two activations, as of queries and keys, stay as they are.
        extra_options={"MatMulConstBOnly": True},
    )
    simple.unlink()


def sign(file: Path, texts: Mapping[str, str]) -> None:
    """Write the texts of the card into a file."""
    import onnx

    program = onnx.load(file)
    onnx.helper.set_model_props(program, dict(texts))
    onnx.save(program, file)


def read(file: Path) -> dict[str, str]:
    """The texts of the file's card."""
    return dict(session_of(file, None).get_modelmeta().custom_metadata_map)


def open_file(file: Path, threads: int | None) -> Session:
    """A function from images to what the file gives for them."""
    session = session_of(file, threads)

    def run(image: Tensor) -> list[Tensor]:
        found = session.run(None, {INPUT: np.ascontiguousarray(image.numpy())})
        return [torch.from_numpy(x) for x in found]

    return run


def session_of(file: Path, threads: int | None) -> Any:
    """ONNX Runtime's session on the CPU; all threads where None."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    refusals = (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NoSuchFile,
        state.NotImplemented,
        state.RuntimeException,
    )
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except refusals as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{file} must be a complete ONNX file, but ONNX Runtime refuses it ({reason}); export it again"
        ) from error
