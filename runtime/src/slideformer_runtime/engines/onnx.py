# SPDX-License-Identifier: Apache-2.0
"""ONNX files, by ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from slideformer_runtime.engines import Run, failed, unreadable

# What ONNX Runtime says of a file that it cannot read, and of an input that it cannot run.
REFUSALS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoModel,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)
# Its numbers for how much it tells: only what ends the work. Every error reaches us as an exception, too.
ONLY_FATAL = 4


def open_file(path: Path, threads: int | None) -> tuple[Mapping[str, str], Run]:
    """The metadata of an ONNX file, and what runs it.

    Raises:
        UserError: ONNX Runtime cannot read it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_FATAL
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except REFUSALS as error:
        raise unreadable(path, "ONNX", error) from error
    name = session.get_inputs()[0].name

    def run(images: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        try:
            return list(session.run(None, {name: images}))
        except REFUSALS as error:
            raise failed("ONNX Runtime", images, error) from error

    return dict(session.get_modelmeta().custom_metadata_map), run
