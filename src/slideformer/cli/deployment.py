# SPDX-License-Identifier: Apache-2.0
"""Models measured in engines: exported first, then in turn, by precision and number of threads."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from slideformer.bench import Candidate, Deployed, Deployment, Measurement, Setting, Variant, measure
from slideformer.bench.candidate import check, count_gflop
from slideformer.bench.machine import Machine
from slideformer.cli.engines import Engine, Ready, Subject
from slideformer.errors import UserError
from slideformer.models import reparameterize

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """A model, and what is known of it.

    Attributes:
        model: in evaluation mode, not merged.
        wanted: what it gives for the image.
        gflop: of that, in 10^9.
    """

    model: nn.Module
    wanted: Tensor
    gflop: float


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to be opened in an engine."""

    engine: Engine
    variant: Variant
    built: Built
    ready: Ready

    @property
    def name(self) -> str:
        """Tells it from the others."""
        return f"{self.variant.label} in {self.engine.title}"


def measured(
    variants: Sequence[Variant],
    engines: Mapping[str, Engine],
    folder: Path,
    *,
    view: str,
    precisions: Sequence[str],
    threads: Sequence[int],
    batch: int,
    size: int,
    rounds: int,
    progress: Progress,
) -> Deployment:
    """Measure models in engines.

    Args:
        variants: the models.
        engines: by the words to choose them by.
        folder: where exported files are kept.
        view: what is compared.
        precisions: each measured by itself, in those engines that have it.
        threads: numbers of them, each measured by itself.
        batch: images of an input.
        size: their side, in pixels.
        rounds: how often each is visited.
        progress: is told what is being done.

    Raises:
        UserError: nothing is left to measure.
    """
    image = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    models = build(variants, image, progress)
    rows: list[Deployed] = []
    notes: list[str] = []
    machine = None
    usual = torch.get_num_threads()
    for precision in dict.fromkeys(precisions):
        prepared, left_out = prepare(variants, models, engines, image, precision, folder, progress)
        notes += left_out
        try:
            for number in sorted(set(threads)) if prepared else ():
                found, machine = in_turn(
                    prepared, image, precision, threads=number, rounds=rounds, progress=progress
                )
                rows += found
        finally:
            torch.set_num_threads(usual)
    if machine is None:
        raise UserError(f"nothing is left to measure: {'; '.join(notes)}; choose another --to or --precision")
    return Deployment(view, rows, machine, notes)


Key = tuple[str, tuple[int, ...] | None]


def build(variants: Sequence[Variant], image: Tensor, progress: Progress) -> dict[Key, Built]:
    """Every model once, by name and stages that slide: forms share one."""
    models: dict[Key, Built] = {}
    for variant in variants:
        key = (variant.name, variant.slide_stages)
        if key in models:
            continue
        progress(f"building {variant.label}")
        torch.manual_seed(0)
        model = variant.build(image.shape[-1])
        merged = reparameterize(model)
        with torch.inference_mode():
            wanted = merged(image)
        gflop = len(image) * count_gflop(merged, image[:1], Setting())
        models[key] = Built(model, wanted, gflop)
    return models


def prepare(
    variants: Sequence[Variant],
    models: Mapping[Key, Built],
    engines: Mapping[str, Engine],
    image: Tensor,
    precision: str,
    folder: Path,
    progress: Progress,
) -> tuple[list[Prepared], list[str]]:
    """Every model ready for every engine that has the precision, and notes on those left out."""
    prepared, notes = [], []
    for engine in engines.values():
        if precision not in engine.precisions:
            notes.append(f"{engine.title} left out: it has no {precision}")
            continue
        for variant in variants:
            progress(f"{precision}: {variant.label} for {engine.title}")
            built = models[variant.name, variant.slide_stages]
            subject = Subject(variant, built.model, image, precision, folder)
            try:
                ready = engine.prepare(subject)
            except UserError as error:
                notes.append(f"{variant.label} in {engine.title}, {precision}, left out: {error}")
                continue
            prepared.append(Prepared(engine, variant, built, ready))
    return prepared, notes


def in_turn(
    prepared: Sequence[Prepared],
    image: Tensor,
    precision: str,
    *,
    threads: int,
    rounds: int,
    progress: Progress,
) -> tuple[list[Deployed], Machine]:
    """Measure everything beside each other on so many threads, and the machine meanwhile."""
    # What ran before goes away: a program of ExecuTorch's may hold the pool of threads that is replaced next,
    # and PyTorch counts graphs of the same code, and stops compiling at some number.
    gc.collect()
    torch.compiler.reset()
    # The one number of the process: of PyTorch, of what it compiles, and of the machine's own rates.
    torch.set_num_threads(threads)
    candidates = []
    for entry in prepared:
        progress(f"{precision}, {threads} threads: opening {entry.name}")
        candidates.append(candidate(entry, image, precision, threads))

    def tell(words: str) -> None:
        progress(f"{precision}, {threads} threads, {words}")

    group = measure(candidates, Setting(), size=image.shape[-1], rounds=rounds, progress=tell)
    rows = [
        deployed(entry, precision, threads, timing)
        for entry, timing in zip(prepared, group.rows, strict=True)
    ]
    return rows, group.machine


def candidate(entry: Prepared, image: Tensor, precision: str, threads: int) -> Candidate:
    """A model, opened, which in float32 has to give what it gives in PyTorch.

    Raises:
        UserError: it gives something else.
    """
    opened = entry.ready.open(threads)
    (found,) = opened.run(image)
    error = check(entry.name, found, entry.built.wanted) if precision == "float32" else None
    return Candidate(
        name=entry.name,
        step=lambda: opened.run(image),
        gflop=entry.built.gflop,
        megabytes=None,
        images=len(image),
        error=error,
        load=lambda: opened.afresh(image),
    )


def deployed(entry: Prepared, precision: str, threads: int, timing: Measurement) -> Deployed:
    """A row of the table."""
    return Deployed(
        runtime=entry.engine.title,
        model=entry.variant.label,
        beside=entry.variant.beside,
        form=entry.ready.form,
        precision=precision,
        threads=threads,
        file_mib=entry.ready.file_mib,
        top1=entry.variant.top1,
        timing=timing,
    )
