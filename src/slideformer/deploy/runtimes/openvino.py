# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's pairs of files, ``.xml`` and ``.bin``, made from ONNX and run by OpenVINO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slideformer.deploy.job import Job, Session, quiet
from slideformer.deploy.runtimes import onnx
from slideformer.errors import UserError
from slideformer.files import regular_file

# The section of the file with the card.
SECTION = "slideformer"


def write(job: Job, file: Path) -> None:
    """Write the graph as ``file`` and the weights next to it, with the ending ``.bin``."""
    import openvino

    single = file.with_suffix(".onnx")
    onnx.write(replace(job, card=replace(job.card, precision="float32")), single)
    model = openvino.convert_model(single)
    if job.card.precision == "int8":
        model = quantized(model, job)
    for name, text in job.card.texts().items():
        model.set_rt_info(text, [SECTION, name])
    openvino.save_model(model, file, compress_to_fp16=job.card.precision == "float16")
    single.unlink()


def quantized(model: Any, job: Job) -> Any:
    """The model with weights and what they are multiplied with as int8, by NNCF."""
    with quiet():
        import nncf

        inputs = [image.numpy() for image in job.calibration]
        # Smoothing moves factors from activations to weights, which made errors larger here.
        unsmoothed = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
        return nncf.quantize(
            model,
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            advanced_parameters=nncf.AdvancedQuantizationParameters(smooth_quant_alphas=unsmoothed),
        )


def read(file: Path) -> dict[str, str]:
    """The texts of the file's card."""
    model = model_of(file)
    if not model.has_rt_info([SECTION]):
        return {}
    return {name: str(text) for name, text in model.get_rt_info([SECTION]).value.items()}


def model_of(file: Path) -> Any:
    """The model, not yet made for a device."""
    import openvino

    weights = file.with_suffix(".bin")
    if not weights.exists():
        raise UserError(f"{file} must have its weights next to it, {weights}, which is not there; copy both")
    regular_file(weights)
    try:
        return openvino.Core().read_model(file)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-200:]
        raise UserError(
            f"{file} must be a complete model of OpenVINO's, but it refuses it ({reason}); export it again"
        ) from error


def open_file(file: Path, threads: int | None) -> Session:
    """A function from images to what the file gives for them."""
    import openvino

    # Else some processors multiply in half precision, whatever the file says.
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    model = model_of(file)
    try:
        compiled = openvino.Core().compile_model(model, "CPU", config)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[-200:]
        raise UserError(
            f"{file} must be a model that OpenVINO can run here, but is not ({reason}); export it again"
        ) from error

    def run(image: Tensor) -> list[Tensor]:
        found = compiled([image.numpy()])
        # A copy: the runtime writes its next answer to the same place.
        return [torch.tensor(found[output]) for output in compiled.outputs]

    return run
