# SPDX-License-Identifier: Apache-2.0
"""The weights of a folder, loaded into the model that its configuration describes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from slideformer.errors import UserError
from slideformer.files import regular_file
from slideformer.models.convert.state import check_fit, listed, load_whole


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
        load_whole(model, state)
    broken = [name for name, x in model.named_parameters() if not torch.isfinite(x).all()]
    if broken:
        raise UserError(
            f"{file} must hold finite numbers, but some are not, in {listed(broken)}; copy the folder again, "
            "or train the model again"
        )
    model.loaded_from = file  # type: ignore[assignment]
    return model.eval()


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Say of which file an error is.

    Raises:
        UserError: the block raises one.
    """
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
