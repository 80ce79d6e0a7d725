# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's files, an XML with its BIN, by OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from slideformer_runtime.engines import Run, check_regular, failed, unreadable
from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import KEYS

# Where the facts lie in a file.
SECTION = "slideformer"


def open_file(path: Path, threads: int | None) -> tuple[Mapping[str, str], Run]:
    """The metadata of an OpenVINO file, and what runs it.

    Raises:
        UserError: OpenVINO cannot read it, or its weights are not beside it.
    """
    weights = path.with_suffix(".bin")
    if weights.exists():
        check_regular(weights)
    else:
        raise UserError(
            f"{path} must have its weights beside it, but {weights} does not exist; copy both files"
        )
    # Of itself OpenVINO computes in bfloat16 on processors that have it, and answers differ from the model's.
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        core = openvino.Core()
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise unreadable(path, "OpenVINO", error) from error
    request = compiled.create_infer_request()

    def run(images: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        try:
            results = request.infer([images])
        except RuntimeError as error:
            raise failed("OpenVINO", images, error) from error
        return [np.array(results[port]) for port in compiled.outputs]

    return read_metadata(model), run


def read_metadata(model: Any) -> dict[str, str]:
    """The facts in a model's runtime information."""
    places = {key: [SECTION, key] for key in KEYS}
    return {
        key: str(model.get_rt_info(place).value) for key, place in places.items() if model.has_rt_info(place)
    }
