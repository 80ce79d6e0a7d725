# SPDX-License-Identifier: Apache-2.0
"""Models measured in engines: exported first, then run in turn, by precision and number of threads."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from slideformer.bench.candidate import Candidate, Setting, check, count_gflop
from slideformer.bench.deployed import Deployed, Deployment, Variant
from slideformer.bench.engines import Engine, Ready, Subject
from slideformer.bench.load import worst
from slideformer.bench.machine import Machine
from slideformer.bench.measurement import measure
from slideformer.errors import UserError
from slideformer.models import reparameterize


@dataclass(frozen=True)
class Built:
    """A model in PyTorch, not merged, its output for the image, and the work of that in 10^9 operations."""

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
        """Name of the model and the engine together."""
        return f"{self.variant.label} in {self.engine.title}"


def measure_deployment(
    variants: Sequence[Variant],
    engines: Sequence[Engine],
    folder: Path,
    *,
    view: str,
    precisions: Sequence[str],
    threads: Sequence[int],
    batch: int,
    size: int,
    setting: Setting,
) -> Deployment:
    """Measure models in engines.

    Args:
        variants: the models.
        engines: to run them in.
        folder: where exported files are kept.
        view: a name in `slideformer.bench.deployed.VIEWS`.
        precisions: each measured separately, in those engines that have it.
        threads: numbers of them, each measured separately.
        batch: images of an input.
        size: their side, in pixels.
        setting: with rounds and progress.

    Raises:
        UserError: nothing is left to measure.
    """
    image = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))
    models = build(variants, image, setting)
    rows: list[Deployed] = []
    notes: list[str] = []
    machines: list[Machine] = []
    usual = torch.get_num_threads()
    for precision in dict.fromkeys(precisions):
        prepared, left_out = prepare(variants, models, engines, image, precision, folder, setting)
        notes += left_out
        try:
            for number in sorted(set(threads)) if prepared else ():
                found, machine = in_turn(prepared, image, precision, number, setting)
                rows += found
                machines.append(machine)
        finally:
            torch.set_num_threads(usual)
    if not machines:
        raise UserError(f"nothing is left to measure: {'; '.join(notes)}; choose others")
    machine = replace(machines[-1], load=worst(machine.load for machine in machines))
    return Deployment(view, rows, machine, notes)


Key = tuple[str, tuple[int, ...] | None]


def build(variants: Sequence[Variant], image: Tensor, setting: Setting) -> dict[Key, Built]:
    """Every model once, by name and stages that slide: forms share one."""
    models: dict[Key, Built] = {}
    for variant in variants:
        key = (variant.name, variant.slide_stages)
        if key in models:
            continue
        setting.progress(f"building {variant.label}")
        torch.manual_seed(0)
        model = variant.build(image.shape[-1])
        merged = reparameterize(model)
        with torch.inference_mode():
            wanted = merged(image)
        gflop = len(image) * count_gflop(merged, image[:1], setting)
        models[key] = Built(model, wanted, gflop)
    return models


def prepare(
    variants: Sequence[Variant],
    models: Mapping[Key, Built],
    engines: Sequence[Engine],
    image: Tensor,
    precision: str,
    folder: Path,
    setting: Setting,
) -> tuple[list[Prepared], list[str]]:
    """Every model ready for every engine that has the precision, and notes on those left out."""
    prepared, notes = [], []
    for engine in engines:
        if precision not in engine.precisions:
            notes.append(f"{engine.title} left out: it has no {precision}")
            continue
        for variant in variants:
            setting.progress(f"{precision}: {variant.label} for {engine.title}")
            built = models[variant.name, variant.slide_stages]
            try:
                ready = engine.prepare(Subject(variant, built.model, image, precision, folder))
            except UserError as error:
                notes.append(f"{variant.label} in {engine.title}, {precision}, left out: {error}")
                continue
            prepared.append(Prepared(engine, variant, built, ready))
    return prepared, notes


def in_turn(
    prepared: Sequence[Prepared], image: Tensor, precision: str, threads: int, setting: Setting
) -> tuple[list[Deployed], Machine]:
    """Measure everything in turn on so many threads, and the machine in the same rounds."""
    # Free what ran before: a program of ExecuTorch's may hold the pool of threads that is replaced next, and
    # PyTorch counts graphs of the same code, and stops compiling at some number.
    gc.collect()
    torch.compiler.reset()
    # The one number of the process: of PyTorch, of compiled models, and of the machine's own rates.
    torch.set_num_threads(threads)

    def report(words: str) -> None:
        setting.progress(f"{precision}, {threads} threads, {words}")

    candidates = []
    for entry in prepared:
        report(f"opening {entry.name}")
        candidates.append(candidate(entry, image, precision, threads))
    group = measure(candidates, replace(setting, progress=report), size=image.shape[-1])
    rows = [
        Deployed(
            runtime=entry.engine.title,
            model=entry.variant.label,
            beside=entry.variant.baseline,
            form=entry.ready.form,
            precision=precision,
            threads=threads,
            file_mib=entry.ready.file_mib,
            top1=entry.variant.top1,
            timing=timing,
        )
        for entry, timing in zip(prepared, group.rows, strict=True)
    ]
    return rows, group.machine


def candidate(entry: Prepared, image: Tensor, precision: str, threads: int) -> Candidate:
    """A model, opened, whose output in float32 must be that of PyTorch."""
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
        load=lambda: opened.reload(image),
    )
