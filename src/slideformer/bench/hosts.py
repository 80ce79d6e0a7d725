# SPDX-License-Identifier: Apache-2.0
"""Every model that slides beside its plain host: the same model with ``slide_stages=()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
import torch

from slideformer.bench.candidate import Candidate, Setting, count_gflop, module_step
from slideformer.bench.measurement import Group, Measurement
from slideformer.bench.report import aligned, headline, mebibytes, milliseconds, piped, span, to_dict
from slideformer.errors import UserError
from slideformer.models import reparameterize
from slideformer.models.names import pretrained_cfg

KIND, HOST = "hosts", "plain host"
OURS = "slide_*"


def host_names() -> list[str]:
    """The models that are made for images of 224."""
    return [name for name in timm.list_models(OURS) if pretrained_cfg(name)["input_size"][1] == 224]


def check_slides(name: str) -> None:
    """Refuse what has no plain host.

    Raises:
        UserError: there is no such model that slides.
    """
    pretrained_cfg(name)  # tells the nearest names of one that there is not
    if name not in timm.list_models(OURS):
        raise UserError(f"the model must be one that slides, got {name!r}; `slideformer models` lists them")


def host_candidates(
    name: str,
    image_size: int,
    batch: int,
    setting: Setting,
    *,
    progress: Callable[[str], None] = lambda words: None,
) -> list[Candidate]:
    """The plain host, then the model; merged in forward passes, as it is deployed.

    Raises:
        UserError: there is no such model that slides.
    """
    progress(f"building {name} and its host")
    check_slides(name)
    images = torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    host, model = timm.create_model(name, slide_stages=()).eval(), timm.create_model(name).eval()
    forms = {HOST: host, name: reparameterize(model) if setting.work == "forward" else model}
    return [
        Candidate(
            name=form,
            gflop=batch * count_gflop(module, images[:1], setting),
            step=module_step(module, images.to(setting.device, setting.dtype), setting),
            megabytes=None,
            images=batch,
            error=None,
        )
        for form, module in forms.items()
    ]


Cell = Callable[[Measurement, Measurement], str]
COLUMNS: dict[str, Cell] = {
    "model": lambda host, model: model.name,
    "ms": lambda host, model: milliseconds(model.median_ms),
    "quartiles ms": lambda host, model: span(model.quartiles_ms),
    "host ms": lambda host, model: milliseconds(host.median_ms),
    "host quartiles ms": lambda host, model: span(host.quartiles_ms),
    "x host": lambda host, model: f"{host.median_ms / model.median_ms:.2f}",
    "GFLOP in all": lambda host, model: f"{model.gflop:.1f}",
    "host GFLOP in all": lambda host, model: f"{host.gflop:.1f}",
    "extra MiB": lambda host, model: mebibytes(model.memory_mib),
    "host extra MiB": lambda host, model: mebibytes(host.memory_mib),
}


def hosts_table(groups: Sequence[Group]) -> list[list[str]]:
    """Headings, then one line a model."""
    lines = [list(COLUMNS)]
    for group in groups:
        host, model = group.rows
        lines.append([cell(host, model) for cell in COLUMNS.values()])
    return lines


def hosts_markdown(groups: Sequence[Group], facts: Mapping[str, Any]) -> str:
    """A table for a page, its conditions below."""
    return "\n".join([*piped(hosts_table(groups)), "", headline(facts, groups[-1].machine)])


def hosts_text(groups: Sequence[Group], facts: Mapping[str, Any]) -> str:
    """An aligned table for a terminal, its conditions above."""
    return "\n".join([headline(facts, groups[-1].machine), "", *aligned(hosts_table(groups))])


def hosts_to_dict(groups: Sequence[Group], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Conditions and figures as plain values."""
    return {"kind": KIND, **to_dict(groups, facts)}
