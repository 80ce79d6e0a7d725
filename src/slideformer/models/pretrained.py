# SPDX-License-Identifier: Apache-2.0
"""A trained model as a folder in timm's format: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timm
from safetensors.torch import save
from torch import nn

from slideformer.errors import UserError
from slideformer.files import whole, write_text
from slideformer.models.fields import CLASSES, NAMES, TABLE, TEXT, check_fields, optional, read_object
from slideformer.models.merge import is_merged
from slideformer.models.preprocessing import PREPROCESSING, Preprocessing, read_preprocessing
from slideformer.models.weights import load_built

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# What the folder says by itself, and what only timm's factory may be told: a file may not.
NOT_ARGUMENTS = frozenset(inspect.signature(timm.create_model).parameters) | {"num_classes"}


# What ``config.json`` says, by timm's names, and in its part ``pretrained_cfg`` beside the preprocessing.
FIELDS = {
    "architecture": TEXT,
    "num_classes": CLASSES,
    "pretrained_cfg": TABLE,
    "model_args": optional(TABLE, {}),
}
LABELS = {"label_names": optional(NAMES, ())}


@dataclass(frozen=True, kw_only=True)
class Pretrained(Preprocessing):
    """What a folder says besides the weights: its preprocessing, and names.

    Attributes:
        architecture: timm's name of the model.
        label_names: name of each class, in the order of the logits; empty if unknown.
    """

    architecture: str
    label_names: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """All that travels with an exported model."""
        names = {"architecture": self.architecture, "class_names": list(self.label_names)}
        return {**self.preprocessing(), **names}


def save_pretrained(
    model: nn.Module,
    folder: str | Path,
    *,
    label_names: Sequence[str] = (),
    input_size: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Write a model so that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads it.

    Each file is written under another name and then renamed: a folder never holds half of one.

    Args:
        model: from ``timm.create_model``, not merged.
        folder: created where it does not exist.
        label_names: name of each class; empty if there are none.
        input_size: channels, height and width; like the following, the model's own where None.
        mean: of each channel.
        std: of each channel.
        interpolation: timm's word for how images are resized.
        crop_pct: share of the resized image's side that the crop keeps.
        crop_mode: timm's word for how the crop is taken.
        arguments: with which ``timm.create_model`` built it, beside the name; our models know theirs.

    Raises:
        ValueError: the model was merged, was not built by name, has another number of classes, or could
            not be loaded again with this preprocessing.
        UserError: the folder cannot be written.
    """
    if is_merged(model):
        raise ValueError("a merged model cannot be saved for loading; save it before reparameterize()")
    if not hasattr(model, "pretrained_cfg"):
        raise ValueError(
            "the model must come from timm.create_model(name), which knows how to build it again"
        )
    num_classes = int(model.num_classes)  # type: ignore[arg-type]
    if label_names and len(label_names) != num_classes:
        raise ValueError(f"label_names must name all {num_classes} classes, got {len(label_names)}")
    given = (input_size, mean, std, interpolation, crop_pct, crop_mode)
    if arguments is None:
        if not hasattr(model, "arguments"):
            raise ValueError(
                "a model of timm's own does not tell how it was built; pass arguments=, {} for none"
            )
        arguments = cast("Mapping[str, Any]", model.arguments)
    config = describe(model, num_classes, dict(zip(PREPROCESSING, given, strict=True)), arguments)
    read_preprocessing(config["pretrained_cfg"], "the model's preprocessing")
    if label_names:
        # At the root is where timm writes them and transformers reads them.
        config["label_names"] = config["pretrained_cfg"]["label_names"] = list(label_names)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / WEIGHTS) as unfinished:  # by its bytes: safetensors' own files are for one user
        unfinished.write_bytes(save(state, metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def describe(
    model: Any, num_classes: int, preprocessing: Mapping[str, Any], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of ``config.json``."""
    facts = dict(model.pretrained_cfg)
    architecture = facts.pop("architecture")
    kept = {key: value for key, value in facts.items() if value is not None and not is_source(key)}
    kept.update({key: value for key, value in preprocessing.items() if value is not None})
    kept_arguments = {key: x for key, x in arguments.items() if key not in NOT_ARGUMENTS}
    pool = getattr(model, "global_pool", None)
    # Some of timm's models keep the pooling as a module, not as the word that their constructor takes.
    words = {"global_pool": pool} if isinstance(pool, str) else {}
    return {
        "architecture": architecture,
        "num_classes": num_classes,
        "num_features": model.num_features,
        **words,
        "model_args": {**kept_arguments, **words},
        "pretrained_cfg": {**kept, "num_classes": num_classes},
    }


def is_source(key: str) -> bool:
    """Whether an entry of timm's facts says where weights came from."""
    return key in ("url", "file", "state_dict", "source", "tag", "label_names") or key.startswith("hf_hub")


def load_pretrained(folder: str | Path) -> tuple[nn.Module, Pretrained]:
    """The model of a folder, in evaluation mode, and what is known about it; runs no code from the folder.

    Raises:
        UserError: a file is absent, truncated or not ours, or weights and model do not fit.
    """
    folder = Path(folder)
    source = folder / CONFIG
    config = check_fields(read_object(source), FIELDS, source)
    architecture, facts, classes = (
        config[name] for name in ("architecture", "pretrained_cfg", "num_classes")
    )
    labels = check_fields(facts, LABELS, source)["label_names"]
    if labels and len(labels) != classes:
        raise UserError(
            f"{source} must name all {classes} classes, got {len(labels)} label_names; correct or remove them"
        )
    how = read_preprocessing(facts, source).preprocessing()
    info = Pretrained(architecture=architecture, label_names=tuple(labels), **how)
    if not timm.is_model(architecture):
        raise UserError(f"{source} names the model {architecture!r}, which is not known here")
    arguments = {**config["model_args"], "num_classes": classes}
    return load_built(lambda: build(architecture, arguments, source), folder / WEIGHTS), info


def build(architecture: str, arguments: dict[str, Any], source: Path) -> nn.Module:
    """The model that a configuration describes, with fresh weights.

    Raises:
        UserError: an argument is none of the model's.
    """
    foreign = sorted(NOT_ARGUMENTS.intersection(arguments) - {"num_classes"})
    if foreign:
        raise UserError(f"{source} sets {', '.join(foreign)}, which a saved model may not; remove it")
    try:
        return timm.create_model(architecture, **arguments)
    except Exception as error:  # constructors of many authors, given values that nobody has checked
        raise UserError(f"{source} describes no {architecture} ({error}); train the model again") from error
