# SPDX-License-Identifier: Apache-2.0
"""What an exported file tells of itself, read and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from slideformer_runtime.errors import UserError

# The number of the agreement between whoever writes such files and whoever reads them.
FORMAT = "1"
FORMAT_KEY, EXPORTER_KEY = "slideformer_format", "slideformer"
TEXTS = ("task", "architecture", "precision")
SIDES = ("batch", "height", "width")
PREPROCESSING = ("input_size", "mean", "std", "interpolation", "crop_pct")
OPTIONAL = ("crop_mode", "category_ids")
KEYS = (FORMAT_KEY, EXPORTER_KEY, *TEXTS, "class_names", *SIDES, *PREPROCESSING, *OPTIONAL)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a classifier's input, by timm's names.

    Attributes:
        input_size: channels, height and width.
        mean: of each channel, subtracted from pixels in [0, 1].
        std: of each channel, by which pixels are then divided.
        interpolation: timm's word for how pictures are resized.
        crop_pct: share of the resized picture's side that the crop keeps.
        crop_mode: timm's word for how the crop is taken.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str = "center"


@dataclass(frozen=True)
class Facts:
    """What is known of a model beside its weights.

    Attributes:
        exporter: version of slideformer that wrote the file.
        task: ``classify``, ``segment`` or ``detect``.
        architecture: name of the model.
        precision: of its weights, ``float32``, ``float16`` or ``int8``.
        class_names: in the order of the model's answers; empty if there are none.
        batch: how many pictures it takes at once; like the following, None where it takes any.
        height: of the picture that it takes, in pixels.
        width: of the picture that it takes, in pixels.
        preprocessing: a classifier's; None where the model normalises by itself.
        category_ids: a detector's, numbers of its classes in the data that it was trained on.
    """

    exporter: str
    task: str
    architecture: str
    precision: str
    class_names: tuple[str, ...]
    batch: int | None
    height: int | None
    width: int | None
    preprocessing: Preprocessing | None = None
    category_ids: tuple[int, ...] | None = None

    def names(self, count: int) -> tuple[str, ...]:
        """Names of all classes, their numbers where there are none.

        Args:
            count: how many classes the model answers for.

        Raises:
            UserError: the file names another number of classes.
        """
        if self.class_names and len(self.class_names) != count:
            raise UserError(
                f"the file must name all {count} classes of its model, got {len(self.class_names)} names; "
                "export it again"
            )
        return self.class_names if self.class_names else tuple(map(str, range(count)))


def read_facts(metadata: Mapping[str, str], source: str) -> Facts:
    """The facts in the texts of a file.

    Args:
        metadata: all that the file says, by its keys.
        source: the file, for errors.

    Raises:
        UserError: the file is not of slideformer, of another format, or lacks a fact.
    """
    refuse_another_format(metadata, source)
    try:
        batch, height, width = (read_side(metadata[key]) for key in SIDES)
        facts = Facts(
            exporter=metadata[EXPORTER_KEY],
            task=metadata["task"],
            architecture=metadata["architecture"],
            precision=metadata["precision"],
            class_names=tuple(map(str, json.loads(metadata["class_names"]))),
            batch=batch,
            height=height,
            width=width,
            preprocessing=read_preprocessing(metadata) if "input_size" in metadata else None,
            category_ids=read_category_ids(metadata),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{source} must tell all of its facts, but {reason(error)}; export it again"
        ) from error
    if facts.task == "classify" and facts.preprocessing is None:
        raise UserError(
            f"{source} must tell how a picture is prepared, but has no input_size; export it again"
        )
    return facts


def refuse_another_format(metadata: Mapping[str, str], source: str) -> None:
    """Refuse a file that another program wrote, or an older or newer slideformer.

    Raises:
        UserError: it is one.
    """
    if FORMAT_KEY not in metadata and EXPORTER_KEY not in metadata:
        raise UserError(
            f"{source} was not exported by slideformer; give a file that `slideformer export` wrote"
        )
    number = metadata.get(FORMAT_KEY, "none")
    if number != FORMAT:
        exporter = metadata.get(EXPORTER_KEY, "unknown")
        raise UserError(
            f"{source} must be of format {FORMAT}, got format {number}, of slideformer {exporter}; export it "
            "again, or install the slideformer-runtime of that version"
        )


def read_preprocessing(metadata: Mapping[str, str]) -> Preprocessing:
    """How a picture becomes the input."""
    channels, height, width = json.loads(metadata["input_size"])
    return Preprocessing(
        input_size=(int(channels), int(height), int(width)),
        mean=tuple(map(float, json.loads(metadata["mean"]))),
        std=tuple(map(float, json.loads(metadata["std"]))),
        interpolation=metadata["interpolation"],
        crop_pct=float(json.loads(metadata["crop_pct"])),
        crop_mode=metadata.get("crop_mode", "center"),
    )


def read_category_ids(metadata: Mapping[str, str]) -> tuple[int, ...] | None:
    """Numbers of a detector's classes in its data, or None."""
    numbers = json.loads(metadata.get("category_ids", "null"))
    return None if numbers is None else tuple(map(int, numbers))


def read_side(text: str) -> int | None:
    """The only size of a side that a file takes, or None."""
    side = json.loads(text)
    return None if side is None else int(side)


def reason(error: Exception) -> str:
    """What is wrong with the facts, in words."""
    return (
        f"has no {error.args[0]}" if isinstance(error, KeyError) else f"one of them is not readable ({error})"
    )
