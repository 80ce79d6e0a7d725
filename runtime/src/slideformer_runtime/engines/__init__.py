# SPDX-License-Identifier: Apache-2.0
"""What runs a file: a row for each kind of file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from slideformer_runtime.errors import UserError

# From pictures (B, 3, H, W) to all outputs, in the file's order.
Run: TypeAlias = Callable[[NDArray[np.float32]], "list[NDArray[np.generic]]"]


@dataclass(frozen=True)
class Engine:
    """A package that runs one kind of file.

    Attributes:
        module: of ours, with ``open_file(path, threads) -> (metadata, run)``; imported when it is needed.
        package: that it needs.
        extra: of ours, that brings the package.
    """

    module: str
    package: str
    extra: str


# By the ending of the file's name.
ENGINES = {
    ".onnx": Engine("slideformer_runtime.engines.onnx", "onnxruntime", "onnx"),
    ".xml": Engine("slideformer_runtime.engines.openvino", "openvino", "openvino"),
}

# Each is started, whether it has work or not.
MOST_THREADS = 1024


def open_file(path: str | os.PathLike[str], threads: int | None) -> tuple[Mapping[str, str], Run]:
    """What a file says of itself, and what runs it.

    Args:
        path: of the file.
        threads: how many to compute with; the engine's own choice where None.

    Raises:
        UserError: there is no such file, no engine for its kind, the engine's package is not installed, or
            the engine cannot read it.
    """
    path = Path(path)
    if path.suffix.lower() not in ENGINES:
        raise UserError(
            f"a model must be a file ending in {' or '.join(ENGINES)}, got {path}; give what "
            "`slideformer export` wrote"
        )
    check_regular(path)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UserError(
            f"threads must be from 1 to {MOST_THREADS}, got {threads}; leave it out for the engine's "
            "own choice"
        )
    engine = ENGINES[path.suffix.lower()]
    if find_spec(engine.package) is None:
        raise UserError(
            f"{path.name} needs {engine.package}, which is not installed; "
            f"pip install 'slideformer-runtime[{engine.extra}]'"
        )
    try:
        metadata, run = import_module(engine.module).open_file(path, threads)
    except UserError:
        raise
    except Exception as error:  # decoders of many formats, given bytes that nobody has checked
        raise unreadable(path, engine.package, error) from error
    return metadata, run


def check_regular(path: Path) -> None:
    """Refuse what is not a regular file: a FIFO or a device would block whoever opens it.

    Raises:
        UserError: it is something else, or does not exist.
    """
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is not a regular file"
        found = kind if path.exists() else "does not exist"
        raise UserError(f"a model must be a file, got {path}, which {found}; check the path")


def unreadable(path: Path, kind: str, error: Exception) -> UserError:
    """What is said of a file that its engine refuses."""
    return UserError(f"{path} must be a whole {kind} file, but {first_line(error)}; copy or export it again")


def failed(package: str, images: NDArray[np.float32], error: Exception) -> UserError:
    """What is said where an engine gives up on an input."""
    batch, _, height, width = images.shape
    return UserError(
        f"{package} must be able to run {batch} x {height} x {width} pixels, but {first_line(error)}; give a "
        "picture of another size, or export the file again"
    )


def first_line(error: Exception) -> str:
    """An engine's message without what only its authors need."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
