# SPDX-License-Identifier: Apache-2.0
"""Whole models: ours, the same in the paper's form, and those that people would take instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import timm
import torch
from torch import nn

from slideformer.bench.authors import to_convolutions
from slideformer.bench.candidate import Candidate, Setting, check, count_gflop, module_step
from slideformer.layers import SlideAttention
from slideformer.models import reparameterize
from slideformer.models.names import pretrained_cfg


def model_candidates(
    names: Sequence[str],
    image_size: int,
    batch: int,
    setting: Setting,
    *,
    only: Sequence[str] = (),
    progress: Callable[[str], None] = lambda words: None,
) -> list[Candidate]:
    """Models by timm's names, each of ours in the paper's form, too.

    Forward passes of ours run merged, as they are deployed; the paper's form has no merge, as its authors'
    code has none.

    Raises:
        UserError: timm knows no such model, or the paper's form of one computes something else.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, image_size, image_size, generator=generator)
    candidates = []
    for name in names:
        progress(f"building {name}")
        pretrained_cfg(name)  # tells the nearest names of one that there is not
        torch.manual_seed(0)
        model = timm.create_model(name).eval()
        forms: dict[str, nn.Module] = {name: model}
        error = None
        if any(isinstance(module, SlideAttention) for module in model.modules()):
            forms = {name: model, f"{name}, authors' form": to_convolutions(deepcopy(model))}
            with torch.no_grad():
                outputs = [module(images[:1]) for module in forms.values()]
            error = check(name, outputs[0], outputs[1])
            if setting.work == "forward":
                forms[name] = reparameterize(model)
        for form, module in forms.items():
            if only and not any(word in form for word in only):
                continue
            gflop = batch * count_gflop(module, images[:1], setting)
            inputs = images.to(setting.device, setting.dtype)
            candidates.append(
                Candidate(form, module_step(module, inputs, setting), gflop, None, batch, error)
            )
    return candidates
