# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: what lies where, whether it can be written, continued, read."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slideformer.errors import UserError


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
        """The checkpoint after the last whole epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The weights after the best epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    def prepare(self) -> None:
        """Create the folder and try to write in it, before hours of work.

        Raises:
            UserError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path) as file:
                file.write(b"x")
        except OSError as error:
            raise UserError(
                f"the output folder must be writable, got {self.path} ({error.strerror}); "
                "choose another --output"
            ) from error

    def refuse_if_used(self) -> None:
        """Refuse to train over another run.

        Raises:
            UserError: there is one.
        """
        if self.best.exists() or self.last.exists():
            raise UserError(
                f"{self.path} already holds a run; continue it with --resume, or choose another --output"
            )

    def checkpoint_to_resume(self) -> Path | None:
        """The last checkpoint, or None where the run stopped within its first epoch.

        Raises:
            UserError: there is no run, or a part of it is lost.
        """
        if not self.config.exists():
            raise UserError(f"--resume needs a run, got {self.path}, which holds none; check the folder")
        found = [path.exists() for path in (self.last, self.best)]
        if any(found) and not all(found):
            lost = self.best if self.last.exists() else self.last
            raise UserError(f"--resume needs the best and the last checkpoint, got no {lost}; restore it")
        return self.last if all(found) else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint; no code in it is run.

    Raises:
        UserError: it does not exist, or is none of ours.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; give the folder of a run") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        # PyTorch's words for a file that is damaged, of another kind, or that wants to run code.
        raise UserError(
            f"{path} must be a checkpoint of this program, but cannot be read; restore or delete it"
        ) from error
    if not isinstance(state, dict) or not {"state_dict", "hyper_parameters"} <= state.keys():
        raise UserError(
            f"{path} must be a checkpoint of this program, got another kind of file; restore or delete it"
        )
    return state


def refuse_other_run(path: Path, state: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to continue a run with another model, optimiser or average.

    Raises:
        UserError: what the checkpoint was made with differs from what is wanted.
    """
    saved = dict(state["hyper_parameters"])
    if saved != wanted:
        changed = ", ".join(
            f"{key} {saved.get(key)!r} instead of {wanted.get(key)!r}"
            for key in sorted(saved.keys() | wanted.keys())
            if saved.get(key) != wanted.get(key)
        )
        raise UserError(
            f"{path} must be a checkpoint of this model and optimiser, got {changed}; "
            "resume without the change, or choose another --output"
        )
