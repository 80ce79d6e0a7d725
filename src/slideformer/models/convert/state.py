# SPDX-License-Identifier: Apache-2.0
"""State dicts: read from files without running code, and loaded completely or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from slideformer.errors import UserError

# An error lists at most so many names.
MOST_NAMES = 20
# Keys of weights in files that hold other things, too, the preferred ones first.
WRAPPERS = ("model", "state_dict_ema", "state_dict")


def read_authors(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a PyTorch checkpoint; runs no code from it.

    Raises:
        UserError: the file is neither.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the weights must be a file that exists, got {path}; check the path")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} must be a complete safetensors file: {error}; fetch it again") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path} must be a PyTorch checkpoint of plain tensors only: anything else might run code; "
            "save its state dict by itself with torch.save"
        ) from error
    # Trainers store the weights with optimiser and schedule, CSwin's trainer also the averaged weights.
    state = content
    if isinstance(content, dict):
        state = next((content[name] for name in WRAPPERS if name in content), content)
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise UserError(
            f"{path} must hold a state dict, by itself or as one of {', '.join(WRAPPERS)}; "
            "save one with torch.save(model.state_dict(), path)"
        )
    return state


def check_tensors(state: Mapping[str, Tensor]) -> None:
    """Check that something is a state dict: tensors by name."""
    if not isinstance(state, Mapping):
        raise UserError(
            f"the weights must be a state dict, tensors by name, got {type(state).__name__}; "
            "read a file with read_authors(path)"
        )
    others = [
        f"{name!r} ({type(x).__name__})"
        for name, x in state.items()
        if not (isinstance(name, str) and isinstance(x, Tensor))
    ]
    if others:
        wrapper = next((name for name in WRAPPERS if isinstance(state.get(name), Mapping)), None)
        hint = "leave them out" if wrapper is None else f"pass the value of {wrapper!r}"
        raise UserError(f"the weights must be tensors by name, but some are not: {listed(others)}; {hint}")


def check_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Check a public state dict before it is converted."""
    check_tensors(state)
    if state and all(name.startswith("module.") for name in state):
        raise UserError("no name may start with 'module.', as in a parallel model's; drop it from every name")
    if state and set(state) == set(model.state_dict()):
        raise UserError("these weights have our own names already; use model.load_state_dict(state)")


def check_unique(names: Mapping[str, str]) -> None:
    """Check that no two public names become one of ours.

    Args:
        names: our name by the public one.

    Raises:
        UserError: two do; the message names them.
    """
    sources: dict[str, str] = {}
    for theirs, ours in names.items():
        if ours in sources:
            raise UserError(
                f"each tensor must have a name of its own, but {sources[ours]} and {theirs} are "
                f"both {ours}; leave one of them out"
            )
        sources[ours] = theirs


def load_all_or_none(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict in our names, either all of it or nothing.

    Raises:
        UserError: says which tensors are missing, which are unexpected and which have another shape; or the
            model is on the meta device, which holds no numbers.
    """
    if any(x.is_meta for x in model.state_dict().values()):
        raise UserError(
            "the model must hold numbers, but it is on the meta device, where nothing can be loaded; "
            "build it without device='meta'"
        )
    check_fit(model, state)
    model.load_state_dict(dict(state))


def check_fit(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Check that a state dict in our names is the model's; the model may be on the meta device."""
    own = model.state_dict()
    misshaped = [
        f"{name} (want {tuple(own[name].shape)}, got {tuple(state[name].shape)})"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": misshaped,
    }
    found = "; ".join(f"{fault}: {listed(names)}" for fault, names in faults.items() if names)
    if found:
        raise UserError(f"the weights must fit the model, but some do not, so nothing was loaded; {found}")


def listed(names: Sequence[str]) -> str:
    """Join names for a sentence, only the first ones if there are too many to read."""
    more = len(names) - MOST_NAMES
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:MOST_NAMES])} and {more} more"
