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
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from slideformer.errors import UserError
from slideformer.files import whole, write_text
from slideformer.models.convert import load_whole
from slideformer.models.merge import is_merged

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# How an image becomes the model's input, by timm's names.
PREPROCESSING = ("input_size", "mean", "std", "interpolation", "crop_pct")
# What the folder says by itself, and what only timm's factory may be told: a file may not.
NOT_ARGUMENTS = frozenset(inspect.signature(timm.create_model).parameters) | {"num_classes"}


@dataclass(frozen=True)
class Pretrained:
    """What a folder tells beside the weights.

    Attributes:
        architecture: timm's name of the model.
        label_names: name of each class, in the order of the logits; empty if unknown.
        input_size: channels, height and width of the images it was made for.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, by which pixels are then divided.
        interpolation: timm's word for how images are resized.
        crop_pct: share of the resized image's side that the centre crop keeps.
    """

    architecture: str
    label_names: tuple[str, ...]
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float

    def preprocessing(self) -> dict[str, Any]:
        """How an image becomes the model's input, by the names that timm's ``create_transform`` takes."""
        return {name: getattr(self, name) for name in PREPROCESSING}

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
        crop_pct: share of the resized image's side that the centre crop keeps.
        arguments: with which ``timm.create_model`` built it, beside the name; our models know theirs.

    Raises:
        ValueError: the model was merged, was not built by name, or has another number of classes.
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
    given = (input_size, mean, std, interpolation, crop_pct)
    if arguments is None:
        if not hasattr(model, "arguments"):
            raise ValueError(
                "a model of timm's own does not tell how it was built; pass arguments=, {} for none"
            )
        arguments = cast("Mapping[str, Any]", model.arguments)
    config = describe(model, num_classes, dict(zip(PREPROCESSING, given, strict=True)), arguments)
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
    config = read_config(folder / CONFIG)
    try:
        architecture, facts = config["architecture"], config["pretrained_cfg"]
        info = Pretrained(
            architecture=architecture,
            label_names=tuple(facts.get("label_names", ())),
            input_size=tuple(facts["input_size"]),
            mean=tuple(facts["mean"]),
            std=tuple(facts["std"]),
            interpolation=facts["interpolation"],
            crop_pct=facts["crop_pct"],
        )
        arguments = {**config.get("model_args", {}), "num_classes": config["num_classes"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder / CONFIG} must describe a model, but lacks {error}; train it anew"
        ) from error
    if info.label_names and len(info.label_names) != config["num_classes"]:
        raise UserError(
            f"{folder / CONFIG} must name all {config['num_classes']} classes, got "
            f"{len(info.label_names)} label_names; correct or remove them"
        )
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise UserError(f"{folder / CONFIG} names the model {architecture!r}, which is not known here")
    model = build(architecture, arguments, folder / CONFIG)
    try:
        load_whole(model, load_file(folder / WEIGHTS))
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(
            f"{folder / WEIGHTS} must hold the weights ({error}); copy the folder again"
        ) from error
    except UserError as error:
        raise UserError(f"{folder / WEIGHTS}: {error}") from error
    return model.eval(), info


def read_config(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: there is no such file, or no object in it.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the folder of a finished run")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} must be JSON ({error}); copy the folder again") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} must be a JSON object, got {type(config).__name__}; train the model anew")
    return config


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
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{source} describes no {architecture} ({error}); train the model anew") from error
