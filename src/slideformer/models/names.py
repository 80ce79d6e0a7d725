# SPDX-License-Identifier: Apache-2.0
"""Timm's facts about models by the name that a user types."""

from __future__ import annotations

import difflib
from typing import Any

import timm

from slideformer.errors import UserError


def pretrained_cfg(name: str) -> dict[str, Any]:
    """Timm's facts about a registered model: input size, mean, std and so on."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "`slideformer models` lists ours"
        raise UserError(f"the model must be a name that timm knows, got {name!r}; {hint}")
    config = timm.get_pretrained_cfg(name)
    return {} if config is None else config.to_dict()
