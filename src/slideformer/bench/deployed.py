# SPDX-License-Identifier: Apache-2.0
"""What is measured in other runtimes: models at equal size, at equal accuracy, forms of slide attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
from torch import nn

from slideformer.bench.hosts import HOST, OURS, check_slides
from slideformer.bench.machine import Machine
from slideformer.bench.measurement import Measurement
from slideformer.errors import UserError
from slideformer.models import HOST_TOP1, PUBLISHED
from slideformer.models.names import pretrained_cfg

IM2COL = "Im2Col"
# The form that lays out every window, as Im2Col does; and those that a file can be written in, the first of
# which the others are compared with.
IM2COL_FORM, FORMS = "unfold", ("matmul", "conv", "shift", "unfold")
# timm's own implementations of plain hosts, by the model that improves them.
TIMM_HOSTS = {
    "slide_mvit_v2_tiny": "mvitv2_tiny",
    "slide_mvit_v2_small": "mvitv2_small",
    "slide_pvt_v2_b1": "pvt_v2_b1",
    "slide_pvt_v2_b2": "pvt_v2_b2",
    "slide_pvt_v2_b3": "pvt_v2_b3",
    "slide_pvt_v2_b4": "pvt_v2_b4",
    "slide_swin_tiny": "swin_tiny_patch4_window7_224",
    "slide_swin_small": "swin_small_patch4_window7_224",
    "slide_swin_base": "swin_base_patch4_window7_224",
}


@dataclass(frozen=True)
class Variant:
    """A model as it is measured.

    Attributes:
        label: as the tables show it.
        name: timm's.
        beside: label of what it is compared with in the same runtime.
        slide_stages: those that slide; the model's own where None.
        form: of slide attention, a backend of the operator; the runtime's own where None.
        top1: published, in percent; None where it does not matter.
    """

    label: str
    name: str
    beside: str
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
    """What the plain host of a model is called."""
    return f"{name}, {HOST}"


def equal_size(names: Sequence[str]) -> list[Variant]:
    """Every model that slides between its hosts, timm's and ours, and its form in Im2Col; others as they are.

    Raises:
        UserError: timm knows no such model.
    """
    variants: dict[str, Variant] = {}
    for name in names:
        pretrained_cfg(name)  # tells the nearest names of one that there is not
        if name not in timm.list_models(OURS):
            variants.setdefault(name, Variant(name, name, name))
            continue
        beside = TIMM_HOSTS.get(name, host_label(name))
        if beside != host_label(name):
            variants.setdefault(beside, Variant(beside, beside, beside))
        for variant in (
            Variant(host_label(name), name, beside, slide_stages=()),
            Variant(name, name, beside),
            Variant(f"{name}, {IM2COL}", name, beside, form=IM2COL_FORM),
        ):
            variants[variant.label] = variant
    return list(variants.values())


def equal_accuracy(names: Sequence[str]) -> list[Variant]:
    """Every model after the plain host of its family whose published top-1 is nearest.

    Raises:
        UserError: timm knows no such model, or no top-1 of it has been published.
    """
    variants: dict[str, Variant] = {}
    for name in names:
        check_slides(name)
        host = nearest_host(name)
        label = host_label(host)
        variants[label] = Variant(label, host, label, slide_stages=(), top1=HOST_TOP1[host])
        variants[name] = Variant(name, name, label, top1=PUBLISHED[name].top1)
    return list(variants.values())


def nearest_host(name: str) -> str:
    """The model whose plain host, of the same family, has the published top-1 that is nearest to this one's.

    Of two that are equally near it is the smaller one.

    Raises:
        UserError: no top-1 of the model has been published.
    """
    published = PUBLISHED.get(name)
    if published is None or published.of_host:
        known = ", ".join(name for name, row in PUBLISHED.items() if not row.of_host)
        raise UserError(
            f"the model must be one whose top-1 has been published, got {name}; choose of {known}"
        )
    hosts = [host for host in HOST_TOP1 if family(host) == family(name)]
    # In tenths of a percent, as they are published: binary fractions would tell equal distances apart.
    return min(hosts, key=lambda host: round(10 * abs(HOST_TOP1[host] - published.top1)))


def family(name: str) -> str:
    """A model's name without its size."""
    return name.rpartition("_")[0]


def forms(names: Sequence[str]) -> list[Variant]:
    """Every model in each form of slide attention.

    Raises:
        UserError: there is no such model that slides.
    """
    for name in names:
        check_slides(name)
    return [
        Variant(f"{name}, {form}", name, f"{name}, {FORMS[0]}", form=form) for name in names for form in FORMS
    ]


@dataclass(frozen=True)
class Deployed:
    """A model in a runtime, measured.

    Attributes:
        runtime: what it is called.
        model: the variant's label.
        beside: the label of what it is compared with in the same runtime, precision and threads.
        form: of slide attention, a backend of the operator; empty where there is none.
        precision: of weights and products.
        threads: of the runtime.
        file_mib: size of the file with what lies beside it, in MiB; None where there is none.
        top1: published, in percent; None where it does not matter.
        timing: what it takes; its memory is that of loading and one call.
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


@dataclass(frozen=True)
class Deployment:
    """Models in runtimes.

    Attributes:
        view: what is compared: ``"size"``, ``"accuracy"`` or ``"forms"``.
        rows: one a model, runtime, precision and number of threads.
        machine: what it could do meanwhile, with the most threads.
        notes: on what was left out.
    """

    view: str
    rows: list[Deployed]
    machine: Machine
    notes: list[str]
