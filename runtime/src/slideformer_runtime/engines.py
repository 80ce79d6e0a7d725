# SPDX-License-Identifier: Apache-2.0
"""Engines: the packages that run a file, a row for each kind of file, all on the CPU."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slideformer_runtime.errors import UserError
from slideformer_runtime.facts import KEYS

# From images (B, 3, H, W) to the model's answers, in the file's order.
Run: TypeAlias = Callable[[NDArray[np.float32]], list[NDArray[np.generic]]]
# Each is started, whether it has work or not.
MAX_THREADS = 1024
# ONNX Runtime's number for logging only what ends the process; errors reach us as exceptions.
FATAL = 4
# Outputs whose names begin so are not answers: attention weights, for whoever looks inside the model.
INSIDE = "attention_"
# Where OpenVINO's files have the metadata.
SECTION = "slideformer"


def open_onnx(path: Path, threads: int | None) -> tuple[dict[str, str], Run]:
    """Open an ONNX file with ONNX Runtime; return its metadata and what runs it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    answers = [output.name for output in session.get_outputs() if not output.name.startswith(INSIDE)]

    def run(images: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        try:
            return list(session.run(answers, {name: images}))
        except Exception as error:  # classes of its own, or ValueError for a file with other inputs
            raise cannot_run("ONNX Runtime", images, error) from error

    return dict(session.get_modelmeta().custom_metadata_map), run


def open_openvino(path: Path, threads: int | None) -> tuple[dict[str, str], Run]:
    """Open OpenVINO's XML with its BIN; return the metadata and what runs it."""
    import openvino

    weights = path.with_suffix(".bin")
    if not weights.exists():
        raise UserError(
            f"{path} must have its weights next to it, but {weights} does not exist; copy both files"
        )
    check_file(weights)
    # By default OpenVINO computes in bfloat16 on processors that have it, which changes the results.
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()

    def run(images: NDArray[np.float32]) -> list[NDArray[np.generic]]:
        try:
            results = request.infer([images])
        except RuntimeError as error:
            raise cannot_run("OpenVINO", images, error) from error
        return [np.array(results[port]) for port in compiled.outputs]

    places = {key: [SECTION, key] for key in KEYS}
    texts = {key: str(model.get_rt_info(x).value) for key, x in places.items() if model.has_rt_info(x)}
    return texts, run


@dataclass(frozen=True)
class Engine:
    """A package that runs one kind of file.

    Attributes:
        kind: of file, in words.
        extra: of this distribution, which installs the package.
        open: from a file and a number of threads to its metadata and what runs it.
    """

    kind: str
    extra: str
    open: Callable[[Path, int | None], tuple[dict[str, str], Run]]


# By the ending of the file's name.
ENGINES = {
    ".onnx": Engine("ONNX", "onnx", open_onnx),
    ".xml": Engine("OpenVINO", "openvino", open_openvino),
}


def open_file(file: str | os.PathLike[str], threads: int | None) -> tuple[dict[str, str], Run]:
    """Open an exported file.

    Args:
        file: its path.
        threads: how many to compute with; the engine's choice where None.

    Returns:
        The file's metadata, not yet checked, and the function that runs it.

    Raises:
        UserError: there is no such file, no engine for its kind, the engine's package is not installed, or
            the engine cannot read it.
    """
    path = Path(file)
    engine = ENGINES.get(path.suffix.lower())
    if engine is None:
        raise UserError(
            f"a model must be a file ending in {' or '.join(ENGINES)}, got {path}; give what "
            "`slideformer export` wrote"
        )
    check_file(path)
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UserError(
            f"`threads` must be from 1 to {MAX_THREADS}, got {threads}; leave it out to let the engine choose"
        )
    try:
        return engine.open(path, threads)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"{path.name} needs {error.name}, which is not installed; "
            f"pip install 'slideformer-runtime[{engine.extra}]'"
        ) from error
    except Exception as error:  # decoders raise anything for bytes that nobody has checked
        raise UserError(
            f"{path} must be a complete {engine.kind} file, but {first_line(error)}; copy or export it again"
        ) from error


def check_file(path: Path) -> None:
    """Raise a UserError for anything but a regular file: a FIFO or a device would block whoever opens it."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not a regular file"
        found = kind if path.exists() else "does not exist"
        raise UserError(f"a model must be a file, got {path}, which {found}; check the path")


def cannot_run(engine: str, images: NDArray[np.float32], error: Exception) -> UserError:
    """Return the error for an input that an engine cannot run."""
    batch, _, height, width = images.shape
    return UserError(
        f"{engine} must be able to run {batch} x {height} x {width} pixels, but {first_line(error)}; give an "
        "image of another size, or export the file again"
    )


def first_line(error: Exception) -> str:
    """Return the first line of an engine's message; the others are for the engine's authors."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
