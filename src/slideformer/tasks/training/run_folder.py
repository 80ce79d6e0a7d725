# SPDX-License-Identifier: Apache-2.0
"""The folder of a training run: its files, checkpoints, and whether it can be continued."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch.optim import Optimizer

from slideformer.errors import UserError
from slideformer.files import locked, regular_file
from slideformer.tasks.model_card import CARD
from slideformer.tasks.training.settings import read_settings


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run.

    Attributes:
        path: the folder itself.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def last(self) -> Path:
        """The checkpoint after the last complete epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The weights after the best epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def weights(self) -> Path:
        """The weights of a finished run."""
        return self.path / "model.safetensors"

    @property
    def metrics(self) -> Path:
        """The figures of every logged update and evaluated epoch."""
        return self.path / "metrics.csv"

    @property
    def first_batch(self) -> Path:
        """Images and labels of the first batch, as the model sees them."""
        return self.path / "first_batch.png"

    @property
    def curves(self) -> Path:
        """The figures over the training, drawn."""
        return self.path / "curves.png"

    @property
    def predictions(self) -> Path:
        """Predictions for images of the hold-out, drawn."""
        return self.path / "predictions.png"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path / CARD

    @contextmanager
    def held(self) -> Iterator[None]:
        """Create the folder and lock it against other trainings; remove it again if it stays empty.

        Raises:
            UserError: it cannot be written, or another process holds it.
        """
        logs = self.path / "logs"
        old = logs.exists()
        created = [path for path in (self.path, *self.path.parents) if not path.exists()]
        try:
            self.prepare()
            with locked(self.path / ".lock"):
                yield
        finally:
            if not old and not self.config.exists():  # Lightning makes them before anything is trained
                shutil.rmtree(logs, ignore_errors=True)
            with suppress(OSError):  # the first one that is not empty ends it
                for path in created:
                    path.rmdir()

    def prepare(self) -> None:
        """Create the folder and try to write in it, before hours of work."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(b"x")
        except OSError as error:
            raise UserError(
                f"the output folder must be writable, got {self.path} ({error.strerror}); "
                "choose another `output`"
            ) from error

    def check_unused(self) -> None:
        """Check that no other run is overwritten, but for one that stopped within its first epoch."""
        if self.last.exists() or self.has_later_epochs():
            raise UserError(
                f"{self.path} already holds a run; continue it with `resume`, or choose another `output`"
            )
        # A run writes its configuration before its card.
        foreign = self.config if self.config.exists() else self.card
        if foreign.exists() and not (foreign == self.config and is_configuration(foreign)):
            raise UserError(
                f"{self.path} must be a new folder, or that of a run, got one with another {foreign.name}; "
                "choose another `output`"
            )

    def has_later_epochs(self) -> bool:
        """Whether a run has finished its first epoch."""
        return self.weights.exists() or (self.best.exists() and read_checkpoint(self.best)["epoch"] > 0)

    def checkpoint_to_resume(self) -> Path | None:
        """The last checkpoint, or None where the run stopped within its first epoch."""
        if not self.config.exists():
            raise UserError(f"`resume` needs a run, got {self.path}, which holds none; check the folder")
        if self.last.exists():
            return self.last
        if self.has_later_epochs():
            raise UserError(
                f"`resume` needs the best and the last checkpoint, got no {self.last}; restore it"
            )
        return None


# The keys of every checkpoint, and those of one to continue from.
WEIGHTS = {"state_dict": dict, "hyper_parameters": dict, "epoch": int, "best_score": (float, NoneType)}
STATE = {
    **WEIGHTS,
    "global_step": int,
    "images_per_update": int,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
}
# Types of the options and moments of optimisers.
NUMBERS = (int, float, torch.Tensor)


def read_checkpoint(path: Path, keys: Mapping[str, Any] = WEIGHTS) -> dict[str, Any]:
    """Load a checkpoint; no code in it is run.

    Args:
        path: of the file.
        keys: that it must have, with their types.

    Raises:
        UserError: it does not exist, or is not a checkpoint of this program.
    """
    try:
        state = torch.load(regular_file(path), map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give the folder of a run") from error
    except UserError:
        raise
    except Exception as error:
        # A file that is damaged, of another kind, or wants to run code: PyTorch's reader raises any error.
        raise UserError(
            f"{path} must be a checkpoint of this program, but cannot be read; restore or delete it"
        ) from error
    if not isinstance(state, dict):
        raise UserError(
            f"{path} must be a checkpoint of this program, got another kind of file; restore or delete it"
        )
    state.setdefault("best_score", earlier_best_score(state))
    wrong = [key for key, kind in keys.items() if key not in state or not isinstance(state[key], kind)]
    if wrong:
        raise UserError(
            f"{path} must be a checkpoint of this program, got one without a valid {', '.join(wrong)}; "
            "restore or delete it"
        )
    return state


def earlier_best_score(state: Mapping[str, Any]) -> float | None:
    """The score of the best epoch in a checkpoint of version 0.1: in the states of Lightning's callbacks."""
    callbacks = state.get("callbacks")
    states = callbacks.values() if isinstance(callbacks, dict) else ()
    scores = [x.get("best_model_score") for x in states if isinstance(x, dict) and x.get("monitor")]
    return next((float(x) for x in scores if isinstance(x, torch.Tensor)), None)


def score_so_far(folder: RunFolder, state: Mapping[str, Any]) -> float | None:
    """The score of the best epoch of a run that continues from the last checkpoint.

    Where the run was stopped between the two, the best one is of the epoch after the last one.
    """
    if not folder.best.exists() and state["best_score"] is None:
        return None
    if not folder.best.exists():
        raise UserError(f"`resume` needs the best and the last checkpoint, got no {folder.best}; restore it")
    best = read_checkpoint(folder.best)
    shapes = [{key: getattr(x, "shape", None) for key, x in y["state_dict"].items()} for y in (state, best)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{folder.best} must be of the model of {folder.last}, got another one; restore it")
    # The best checkpoint of 0.1 has weights alone, and is never newer than the last one's score.
    score: float | None = state["best_score"] if best["best_score"] is None else best["best_score"]
    return score


def check_optimisers(path: Path, optimisers: Iterable[Optimizer]) -> None:
    """Check the state of optimisers that a checkpoint restored, before the next update uses it."""
    for optimiser in optimisers:
        usual = optimiser.defaults
        # PyTorch adds this one to all defaults when it restores, but to the groups of some optimisers only.
        names = usual.keys() - {"differentiable"}
        wrong = [
            name
            for group in optimiser.param_groups
            for name in sorted(names)
            if name not in group or not same_kind(group[name], usual[name])
        ]
        kept = [x for state in optimiser.state.values() for x in state.values()]
        wrong += [] if all(map(is_number, kept)) else ["moments"]
        if wrong:
            raise UserError(f"{path} must hold an optimiser's state, but not its {wrong[0]}; restore it")


def is_number(x: object) -> bool:
    """Whether a moment is a tensor, a number, or several of them, as Kron's factors are."""
    return all(map(is_number, x)) if isinstance(x, (tuple, list)) else isinstance(x, NUMBERS)


def same_kind(x: object, usual: object) -> bool:
    """Whether an option is a number, a switch, a text or a sequence of these, as it usually is."""
    if isinstance(usual, (tuple, list)):
        return isinstance(x, (tuple, list)) and len(x) == len(usual) and all(map(same_kind, x, usual))
    return usual is None or (isinstance(x, NUMBERS) if isinstance(usual, NUMBERS) else type(x) is type(usual))


def check_same_run(path: Path, state: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that a run is continued with its own model, optimiser and average."""
    saved = dict(state["hyper_parameters"])
    if saved != wanted:
        changed = ", ".join(
            f"{key} {saved.get(key)!r} instead of {wanted.get(key)!r}"
            for key in sorted(saved.keys() | wanted.keys())
            if saved.get(key) != wanted.get(key)
        )
        raise UserError(
            f"{path} must be a checkpoint of this model and optimiser, got {changed}; "
            "resume without the change, or choose another `output`"
        )


def is_configuration(file: Path) -> bool:
    """Whether a file is the configuration of a training."""
    try:
        values = read_settings(file)
    except UserError:
        return False
    return isinstance(values, dict) and {"model", "data", "trainer"} <= values.keys()
