# SPDX-License-Identifier: Apache-2.0
"""Models to measure: ours, the same in the paper's form, their plain hosts, and timm's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

import timm
import torch
from torch import Tensor, nn

from slideformer.bench.authors import to_convolutions
from slideformer.bench.candidate import Candidate, Setting, check, count_gflop, module_step
from slideformer.bench.machine import Facts, headline
from slideformer.bench.measurement import Groups, Measurement, measure
from slideformer.bench.table import Table, mebibytes, milliseconds, span
from slideformer.errors import UserError
from slideformer.layers import SlideAttention
from slideformer.models import reparameterize
from slideformer.models.names import pretrained_cfg

HOST = "plain host"
OURS = "slide_*"
# Largest rate at which images skip branches in training, of every model alike: that of the recipes of Swin-T
# and Slide-Swin-T. The defaults of models in timm differ.
DROP_PATH = 0.2


def model_candidates(names: Sequence[str], image_size: int, batch: int, setting: Setting) -> list[Candidate]:
    """Models by timm's names, each of ours in the paper's form, too.

    Forward passes of ours run merged, as they are deployed; the paper's form has no merge, because the
    authors' code has none.

    Raises:
        UserError: timm knows no such model, or the paper's form of one computes something else.
    """
    images = random_images(batch, image_size)
    candidates = []
    for name in names:
        setting.progress(f"building {name}")
        forms, error = model_forms(name, images[:1], setting)
        candidates += [
            model_candidate(form, module, images, setting, error)
            for form, module in forms.items()
            if setting.keeps(form)
        ]
    return candidates


def random_images(batch: int, side: int) -> Tensor:
    """Noise ``(B, 3, side, side)``, the same at every call."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def model_forms(name: str, image: Tensor, setting: Setting) -> tuple[dict[str, nn.Module], float | None]:
    """A model and, if it is ours, its form in convolutions, by name; and their difference."""
    pretrained_cfg(name)  # raises with the nearest names if there is no such model
    torch.manual_seed(0)
    model = build(name, setting).eval()
    if not any(isinstance(module, SlideAttention) for module in model.modules()):
        return {name: model}, None
    authors = to_convolutions(deepcopy(model))
    with torch.no_grad():
        error = check(name, model(image), authors(image))
    merged = reparameterize(model) if setting.work == "forward" else model
    return {name: merged, f"{name}, authors' form": authors}, error


def build(name: str, setting: Setting) -> nn.Module:
    """Build a model without weights; to be trained, all with the same stochastic depth."""
    if setting.work == "forward":
        return timm.create_model(name)
    try:
        return timm.create_model(name, drop_path_rate=DROP_PATH)
    except TypeError:
        if name in timm.list_models(OURS):
            raise
        return timm.create_model(name)  # has no branches that could be skipped


def model_candidate(
    name: str, module: nn.Module, images: Tensor, setting: Setting, error: float | None = None
) -> Candidate:
    """A model on a batch of images."""
    gflop = len(images) * count_gflop(module, images[:1], setting)
    step = module_step(module, images.to(setting.device, setting.dtype), setting)
    return Candidate(name, step, gflop, None, len(images), error)


def host_names() -> list[str]:
    """The models of ours that are made for images of 224 pixels."""
    return [name for name in timm.list_models(OURS) if pretrained_cfg(name)["input_size"][1] == 224]


def check_slides(name: str) -> None:
    """Reject a model that has no plain host."""
    pretrained_cfg(name)  # raises with the nearest names if there is no such model
    if name not in timm.list_models(OURS):
        raise UserError(f"the model must be one that slides, got {name!r}; `slideformer models` lists them")


def host_candidates(name: str, image_size: int, batch: int, setting: Setting) -> list[Candidate]:
    """The plain host, which is the model with ``slide_stages=()``, then the model.

    In forward passes the model is merged, as it is deployed.
    """
    setting.progress(f"building {name} and its host")
    check_slides(name)
    images = random_images(batch, image_size)
    torch.manual_seed(0)
    host, model = timm.create_model(name, slide_stages=()).eval(), timm.create_model(name).eval()
    model = reparameterize(model) if setting.work == "forward" else model
    return [model_candidate(form, module, images, setting) for form, module in ((HOST, host), (name, model))]


def measure_hosts(names: Sequence[str], image_size: int, batch: int, setting: Setting) -> Groups:
    """Measure each model with its plain host, one group a model.

    Raises:
        UserError: there is no such model that slides.
    """
    groups = []
    for number, name in enumerate(names):

        def report(words: str, place: str = f"{number + 1} of {len(names)}") -> None:
            setting.progress(f"{place}: {words}")

        counted = replace(setting, progress=report)
        candidates = host_candidates(name, image_size, batch, counted)
        groups.append(measure(candidates, counted, size=image_size))
    return Groups(groups)


COLUMNS: dict[str, Callable[[Measurement, Measurement], str]] = {
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


def hosts_table(result: Groups, facts: Facts) -> Table:
    """One line a model, with its plain host."""
    pairs = [group.rows for group in result.groups]
    rows = [[cell(host, model) for cell in COLUMNS.values()] for host, model in pairs]
    return Table(list(COLUMNS), rows, headline(facts, result.groups[-1].machine))
