# SPDX-License-Identifier: Apache-2.0
"""Models measured in other runtimes: which are compared, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import nn

from slideformer.bench.machine import Facts, Machine, headline
from slideformer.bench.measurement import Measurement
from slideformer.bench.model import HOST, OURS, check_slides
from slideformer.bench.table import Table, mebibytes, milliseconds, span
from slideformer.errors import UserError
from slideformer.models import HOST_TOP1, PUBLISHED
from slideformer.models.hosts import TIMM_HOSTS
from slideformer.models.names import pretrained_cfg

IM2COL = "Im2Col"
# The form that lays out every window, as Im2Col does; and those that a file can be written in, the first of
# which the others are compared with.
IM2COL_FORM, FORMS = "unfold", ("matmul", "conv", "shift", "unfold")


@dataclass(frozen=True)
class Variant:
    """A model as it is measured.

    Attributes:
        label: as the tables show it.
        name: timm's.
        baseline: label of the variant that it is compared with in the same runtime.
        slide_stages: those that slide; the model's own where None.
        form: of slide attention, a backend of the operator; the runtime's own where None.
        top1: published, in percent; None where it is not compared.
    """

    label: str
    name: str
    baseline: str
    slide_stages: tuple[int, ...] | None = None
    form: str | None = None
    top1: float | None = None

    def build(self, image_size: int) -> nn.Module:
        """The model, in evaluation mode, for square images of this side."""
        arguments: dict[str, Any] = {}
        if self.slide_stages is not None:
            arguments["slide_stages"] = self.slide_stages
        if pretrained_cfg(self.name).get("fixed_input_size"):
            arguments["img_size"] = image_size
        return timm.create_model(self.name, **arguments).eval()


def host_label(name: str) -> str:
    """Label of the plain host of a model."""
    return f"{name}, {HOST}"


def equal_size(names: Sequence[str]) -> list[Variant]:
    """Every model that slides, after its hosts, timm's and ours, and before its form in Im2Col.

    Other models are measured alone.
    """
    variants: dict[str, Variant] = {}
    for name in names:
        pretrained_cfg(name)  # raises with the nearest names if there is no such model
        if name not in timm.list_models(OURS):
            variants.setdefault(name, Variant(name, name, name))
            continue
        baseline = TIMM_HOSTS.get(name, host_label(name))
        if baseline != host_label(name):
            variants.setdefault(baseline, Variant(baseline, baseline, baseline))
        for variant in (
            Variant(host_label(name), name, baseline, slide_stages=()),
            Variant(name, name, baseline),
            Variant(f"{name}, {IM2COL}", name, baseline, form=IM2COL_FORM),
        ):
            variants[variant.label] = variant
    return list(variants.values())


def equal_accuracy(names: Sequence[str]) -> list[Variant]:
    """Every model after the plain host of its family whose published top-1 is nearest."""
    variants: dict[str, Variant] = {}
    for name in names:
        check_slides(name)
        host = nearest_host(name)
        label = host_label(host)
        variants[label] = Variant(label, host, label, slide_stages=(), top1=HOST_TOP1[host])
        variants[name] = Variant(name, name, label, top1=PUBLISHED[name].top1)
    return list(variants.values())


def nearest_host(name: str) -> str:
    """The model of the family whose plain host has the nearest published top-1; of equals, the smaller."""
    published = PUBLISHED.get(name)
    if published is None or published.of_host:
        known = ", ".join(name for name, row in PUBLISHED.items() if not row.of_host)
        raise UserError(
            f"the model must be one whose top-1 has been published, got {name}; choose of {known}"
        )
    hosts = [host for host in HOST_TOP1 if family(host) == family(name)]
    # In tenths of a percent, as they are published: in binary fractions equal distances would differ.
    return min(hosts, key=lambda host: round(10 * abs(HOST_TOP1[host] - published.top1)))


def family(name: str) -> str:
    """A model's name without its size."""
    return name.rpartition("_")[0]


def forms(names: Sequence[str]) -> list[Variant]:
    """Every model in each form of slide attention."""
    for name in names:
        check_slides(name)
    return [
        Variant(f"{name}, {form}", name, f"{name}, {FORMS[0]}", form=form) for name in names for form in FORMS
    ]


@dataclass(frozen=True)
class Deployed:
    """A variant measured in a runtime.

    Attributes:
        runtime: its title.
        model: the variant's label.
        beside: label of its baseline, which is measured in the same place.
        form: of slide attention, a backend of the operator; empty where there is none.
        file_mib: size of the file and of its parts, in MiB; None where there is none.
        timing: of a call; its memory is that of loading and one call.
    """

    runtime: str
    model: str
    beside: str
    form: str
    precision: str
    threads: int
    file_mib: float | None
    top1: float | None
    timing: Measurement

    @property
    def place(self) -> tuple[str, str, int]:
        """Where and how it ran; a baseline ran in the same place."""
        return self.runtime, self.precision, self.threads


@dataclass(frozen=True)
class Deployment:
    """Models in runtimes.

    Attributes:
        view: a name in `VIEWS`.
        rows: one a model, runtime, precision and number of threads.
        machine: its rates in the same rounds, with the most threads, and the load that disturbed it most.
        notes: on models and runtimes that were left out.
    """

    view: str
    rows: list[Deployed]
    machine: Machine
    notes: list[str]

    @property
    def machines(self) -> list[Machine]:
        """The machine, in a list."""
        return [self.machine]


# The cell of a row, given its baseline; None where that was left out.
Cell = Callable[[Deployed, Deployed | None], str]


def times_as_fast(row: Deployed, baseline: Deployed | None) -> str:
    """How many times as fast as its baseline a row is, or a dash where there is none."""
    return "-" if baseline is None else f"{baseline.timing.median_ms / row.timing.median_ms:.2f}"


def of_baseline(cell: Callable[[Deployed], str]) -> Cell:
    """A cell that shows a figure of the baseline."""
    return lambda row, baseline: "-" if baseline is None else cell(baseline)


def top1(row: Deployed) -> str:
    """The published top-1 in percent."""
    return "-" if row.top1 is None else f"{row.top1:.1f}"


def difference(row: Deployed, baseline: Deployed | None) -> str:
    """Difference of the published top-1 in percent."""
    if baseline is None or row.top1 is None or baseline.top1 is None:
        return "-"
    return f"{row.top1 - baseline.top1:+.1f}"


PLACE: dict[str, Cell] = {
    "runtime": lambda row, _: row.runtime,
    "precision": lambda row, _: row.precision,
    "threads": lambda row, _: str(row.threads),
    "model": lambda row, _: row.model,
}
FORM: dict[str, Cell] = {"form": lambda row, _: row.form or "-"}
TIMES: dict[str, Cell] = {
    "ms": lambda row, _: milliseconds(row.timing.median_ms),
    "quartiles ms": lambda row, _: span(row.timing.quartiles_ms),
}
RATE: dict[str, Cell] = {"a second": lambda row, _: f"{row.timing.images_a_second:.1f}"}
COSTS: dict[str, Cell] = {
    "load + call MiB": lambda row, _: mebibytes(row.timing.memory_mib),
    "file MiB": lambda row, _: mebibytes(row.file_mib),
}
BASELINE: dict[str, Cell] = {
    "plain host of": of_baseline(lambda row: row.model.removesuffix(f", {HOST}")),
    "its top-1": of_baseline(top1),
    "difference": difference,
    "its ms": of_baseline(lambda row: milliseconds(row.timing.median_ms)),
    "its quartiles ms": of_baseline(lambda row: span(row.timing.quartiles_ms)),
    "x host": times_as_fast,
}
BASELINE_COSTS: dict[str, Cell] = {
    "its load + call MiB": of_baseline(lambda row: mebibytes(row.timing.memory_mib)),
    "its file MiB": of_baseline(lambda row: mebibytes(row.file_mib)),
}


@dataclass(frozen=True)
class View:
    """One comparison of models in runtimes.

    Attributes:
        title: of the comparison.
        models: measured by default.
        variants: makes the variants that are measured from names of models.
        columns: a cell by its heading.
        ratio: the meaning of the column of ratios, in words.
        engines: run by default; empty for every one that can be.
        in_pytorch: whether PyTorch itself is one of those by default.
        pairs: whether a row shows its baseline, too, which then has no row of its own.
        fastest_first: whether the rows of a runtime are in order of their time.
    """

    title: str
    models: tuple[str, ...]
    variants: Callable[[Sequence[str]], list[Variant]]
    columns: Mapping[str, Cell]
    ratio: str
    engines: tuple[str, ...] = ()
    in_pytorch: bool = True
    pairs: bool = False
    fastest_first: bool = False


VIEWS = {
    "size": View(
        title="at equal size",
        models=("slide_swin_tiny",),
        variants=equal_size,
        columns={**PLACE, **FORM, **TIMES, **RATE, "x host": times_as_fast, **COSTS},
        ratio="x host: how many times as fast as the host in the same runtime, timm's where timm has it",
    ),
    "accuracy": View(
        title="at equal published accuracy",
        models=("slide_pvt_small", "slide_pvt_v2_b1", "slide_swin_tiny"),
        variants=equal_accuracy,
        columns={
            **PLACE,
            "top-1": lambda row, _: top1(row),
            **TIMES,
            **BASELINE,
            **COSTS,
            **BASELINE_COSTS,
        },
        ratio="plain host of the family whose published top-1 is nearest; "
        "x host: how many times as fast as that host in the same runtime",
        engines=("onnx",),
        pairs=True,
    ),
    "forms": View(
        title="forms of slide attention",
        models=("slide_swin_tiny",),
        variants=forms,
        columns={**PLACE, **TIMES, **RATE, "x matmul": times_as_fast, **COSTS},
        ratio="x matmul: how many times as fast as that form in the same runtime",
        in_pytorch=False,
        fastest_first=True,
    ),
}


def deployment_table(deployment: Deployment, facts: Facts) -> Table:
    """One line a model and place, place by place."""
    view = VIEWS[deployment.view]
    several = len({row.precision for row in deployment.rows}) > 1
    columns = {name: cell for name, cell in view.columns.items() if several or name != "precision"}
    found = {(*row.place, row.model): row for row in deployment.rows}
    rows = [
        [cell(row, found.get((*row.place, row.beside))) for cell in columns.values()]
        for row in in_order(deployment.rows, view)
        if not (view.pairs and row.model == row.beside)
    ]
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    parts = (
        f"{view.title}: {headline(facts, deployment.machine)}",
        packages,
        view.ratio,
        "load + call: the peak of opening the file, in PyTorch of copying the weights, and of one call, "
        "beyond what the process had before",
    )
    conditions = "; ".join(part for part in parts if part)
    words = ("model", "runtime", "form", "precision", "plain host of")
    return Table(list(columns), rows, conditions, deployment.notes, words)


def in_order(rows: Sequence[Deployed], view: View) -> list[Deployed]:
    """Rows of a runtime together, runtimes and precisions in the order of their first rows."""
    runtimes = list(dict.fromkeys(row.runtime for row in rows))
    precisions = list(dict.fromkeys(row.precision for row in rows))

    def key(row: Deployed) -> tuple[int, int, int, float]:
        time = row.timing.median_ms if view.fastest_first else 0.0
        return runtimes.index(row.runtime), precisions.index(row.precision), row.threads, time

    return sorted(rows, key=key)
