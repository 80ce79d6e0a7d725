# SPDX-License-Identifier: Apache-2.0
"""The folder of a run, the same for every task: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from slideformer.errors import UserError
from slideformer.files import atomic_write, regular_file, write_text
from slideformer.models.convert.state import check_fit, listed, load_all_or_none
from slideformer.models.merge import is_merged
from slideformer.runs import classifier, dense
from slideformer.runs.exported import check_has_weights, open_exported
from slideformer.runs.fields import read_object
from slideformer.runs.run import Blueprint, Run, TaskName

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Format:
    """A form of ``config.json``.

    Attributes:
        read: gives everything that it says, from its content and its path; the model is still empty.
        write: gives its content.
        build: gives the model of a blueprint, with new weights; the path is for errors.
    """

    read: Callable[[Mapping[str, Any], Path], Run]
    write: Callable[[Run], dict[str, Any]]
    build: Callable[[Blueprint, Path], nn.Module]


DENSE = Format(dense.read, dense.write, dense.build)
FORMATS = {
    "classify": Format(classifier.read, classifier.write, classifier.build),
    "detect": DENSE,
    "segment": DENSE,
}


def open_run(folder: str | Path) -> Run:
    """Open a trained model, of any task, with everything known about it; no code of the folder is run.

    Args:
        folder: of a finished run, or in timm's ``local-dir`` format; or a file that was exported for ONNX
            Runtime or OpenVINO, which slideformer-runtime then runs on the CPU: it predicts and is evaluated
            like any run.

    Returns:
        The run, its model in evaluation mode, on the CPU.

    Raises:
        UserError: a file is missing, damaged or not of slideformer, or weights and model do not match.

    Example:
        ::

            run = slideformer.open_run("runs/mine")
            print(run.task, run.class_names)
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        return open_exported(folder)
    described = read_run(folder)
    build = partial(FORMATS[described.task].build, described.blueprint, folder / CONFIG)
    return replace(described, model=load_built(build, folder / WEIGHTS))


def read_run(folder: str | Path) -> Run:
    """The metadata of a trained model, of any task; its model is an empty module.

    Args:
        folder: of a finished run.

    Raises:
        UserError: the file is missing, damaged or not of slideformer.
    """
    folder = Path(folder)
    source = folder / CONFIG
    content = read_object(source)
    form = FORMATS[task_in(content.get("task", "classify"), source)]
    return replace(form.read(content, source), folder=folder)


def save_run(run: Run, folder: str | Path) -> None:
    """Write a run for `open_run`; a classifier also for ``timm.create_model("local-dir:FOLDER", ...)``.

    Each file is written under another name and then renamed: a folder never holds half of one.

    Args:
        run: its model is not merged.
        folder: created where it does not exist.

    Raises:
        ValueError: the model is merged, or the facts do not match it.
        UserError: the folder cannot be written, or the run is an exported file.
    """
    check_has_weights(run)
    if is_merged(run.model):
        raise ValueError("a merged model cannot be saved for loading; save it before reparameterize()")
    content = FORMATS[run.task].write(run)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in run.model.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # The bytes, since files that safetensors writes itself are readable for one user only.
    with atomic_write(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(save(state, metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(content, indent=2) + "\n")


def task_of(folder: str | Path) -> TaskName:
    """The task of a run, without loading its weights.

    Raises:
        UserError: the folder holds no model, or one of an unknown task.
    """
    source = Path(folder) / CONFIG
    return task_in(read_object(source).get("task", "classify"), source)


def task_in(task: object, source: Path) -> TaskName:
    """A task that a file names."""
    if not isinstance(task, str) or task not in FORMATS:
        raise UserError(f"the task in {source} must be one of {', '.join(FORMATS)}, got {task!r}")
    return cast("TaskName", task)


def load_built(build: Callable[[], nn.Module], file: Path) -> nn.Module:
    """A model with the weights of a file, in evaluation mode.

    It is first built without memory: a configuration that does not fit its weights takes none.

    Args:
        build: makes the model with fresh weights.
        file: in the format of safetensors.

    Raises:
        UserError: the file is absent, truncated, not ours or not finite, or does not fit the model.
    """
    try:
        state = load_file(regular_file(file))
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{file} must hold the weights ({error}); copy the folder again") from error
    outline = built_without_memory(build)
    with naming(file):
        if outline is not None:
            check_fit(outline, state)
    model = build()
    with naming(file):
        load_all_or_none(model, state)
    broken = [name for name, x in model.named_parameters() if not torch.isfinite(x).all()]
    if broken:
        raise UserError(
            f"{file} must hold finite numbers, but some are not, in {listed(broken)}; copy the folder again, "
            "or train the model again"
        )
    return model.eval()


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Name the file in an error."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def built_without_memory(build: Callable[[], nn.Module]) -> nn.Module | None:
    """The model without numbers, or None where its library cannot build it so."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # not every model can be built so; whether this one can at all shows where it is built
        return None
