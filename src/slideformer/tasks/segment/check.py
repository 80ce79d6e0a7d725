# SPDX-License-Identifier: Apache-2.0
"""Checks of a segmentation data set, before a training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slideformer.errors import UserError
from slideformer.runs.run import Drawn
from slideformer.tasks.images import UnreadableImageError
from slideformer.tasks.segment.labels import IGNORED, LabelError, read_pair
from slideformer.tasks.segment.layout import Pair, Source, Split, open_source
from slideformer.tasks.training.findings import Findings, Progress


@dataclass(frozen=True)
class Look:
    """The result of a look at one pair.

    Attributes:
        pixels: ``(256,)``, number of pixels of each label.
        notes: worth knowing.
        fault: why it cannot be used, or None.
        unreadable: why it cannot be read; empty if it can.
    """

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    notes: tuple[str, ...] = ()
    fault: LabelError | None = None
    unreadable: str = ""


def check_data(
    source: str | Path, *, orientation: Drawn = "upright", progress: Progress | None = None
) -> Findings:
    """Check images and label maps of both splits; every one is read.

    Args:
        source: folder in one of the layouts.
        orientation: on which pixels labels were drawn, where the size of an image does not show it.
        progress: called after each pair with the number done and the number of all.
    """
    findings = Findings()
    try:
        opened = open_source(source, orientation)
        splits = {name: opened.split(name) for name in ("train", "val")}
    except UserError as error:  # of the folder itself
        findings.error("folders that cannot be used", str(error))
        return findings
    findings.facts.append(f"{len(opened.class_names)} classes: {', '.join(opened.class_names)}")
    total, done = sum(len(split.pairs) for split in splits.values()), 0
    for name, split in splits.items():
        check_names(split, findings)
        pixels = np.zeros(256, np.int64)
        for pair, look in zip(split.pairs, looks(split, opened), strict=True):
            add_look(pair, look, findings)
            pixels += look.pixels
            done += 1
            if progress is not None:
                progress(done, total)
        check_classes(name, split, opened, pixels, findings)
    return findings


def check_names(split: Split, findings: Findings) -> None:
    """Add files without a partner, or with too many, to the findings."""
    for path in split.images_alone:
        findings.error(
            "images without a label map", f"{path} must have a label map of its name, got none; add it"
        )
    for path in split.labels_alone:
        findings.error(
            "label maps without an image", f"{path} must have an image of its name, got none; add it"
        )
    for path in split.doubles:
        findings.error(
            "names of two files",
            f"{path} must have a name of its own, got that of a file with another ending; rename it",
        )


def looks(split: Split, source: Source) -> Iterator[Look]:
    """Look at each pair, in order, several at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(partial(look_at, source=source), split.pairs)


def look_at(pair: Pair, source: Source) -> Look:
    """Read one pair."""
    try:
        labelled = read_pair(pair, source)
    except LabelError as fault:
        return Look(fault=fault)
    except UnreadableImageError as error:
        return Look(unreadable=str(error))
    return Look(np.bincount(labelled.labels.ravel(), minlength=256), labelled.notes)


def add_look(pair: Pair, look: Look, findings: Findings) -> None:
    """Add one pair to the findings."""
    if look.fault is not None:
        findings.error(look.fault.kind, str(look.fault))
    elif look.unreadable:
        findings.left_out("unreadable images or label maps", look.unreadable)
    elif not look.pixels[:IGNORED].any():
        findings.note("label maps without any label", str(pair.labels))
    for note in look.notes:
        findings.note(note, str(pair.labels))


def check_classes(
    name: str, split: Split, source: Source, pixels: NDArray[np.int64], findings: Findings
) -> None:
    """Add to the findings how much there is of a split, and which classes it lacks."""
    labelled = int(pixels[:IGNORED].sum())
    share = 100 * labelled / max(1, int(pixels.sum()))
    findings.facts.append(f"{name}: {len(split.pairs)} images, {share:.1f} % of the pixels labelled")
    if not labelled and not findings.errors:
        findings.error(
            "splits without a label", f"{name} of {source.root} must hold labelled pixels, got none; add some"
        )
    absent = [name for number, name in enumerate(source.class_names) if labelled and not pixels[number]]
    add_absent = findings.warn if name == "train" else findings.note
    for class_name in absent:
        add_absent(f"classes that {name} lacks", class_name)
    if absent and share < 100:
        unlabelled = f"0 and {IGNORED}" if source.layout.unlabelled_zero else str(IGNORED)
        findings.warn(
            f"splits that lack a class and have pixels of {unlabelled}, which means no label: "
            "neither trained on nor counted",
            f"{name}: {100 - share:.1f} % of the pixels",
        )
    if labelled and len(absent) == len(source.class_names) - 1:
        findings.warn("splits that show one class only", name)
