# SPDX-License-Identifier: Apache-2.0
"""Calls of NATTEN, the same numbers at each, and NATTEN's own answers to them.

``python -m tests.compat.natten.cases`` writes the answers of the NATTEN that is importable, either release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "golden"
# Answers of NATTEN 0.21.7, and of 0.17.0 to the functions that later releases lack.
COMPLETE, SPLIT = GOLDEN / "natten.safetensors", GOLDEN / "natten_halves.safetensors"
HEADS, CHANNELS = 2, 8


class Case(NamedTuple):
    """Size of the map, kernel size and dilation."""

    size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    dilation: tuple[int, ...]


CASES = {
    "line": Case((20,), (7,), (1,)),
    "line, dilated, no multiple of it": Case((23,), (7,), (3,)),
    "line, dilated, kernel times dilation": Case((21,), (7,), (3,)),
    "line, all of it": Case((7,), (7,), (1,)),
    "map": Case((9, 14), (7, 3), (1, 1)),
    "map, dilated, no multiple of it": Case((9, 11), (3, 5), (2, 2)),
    "map, an odd border each side": Case((10, 7), (3, 3), (3, 2)),
    "map, kernel times dilation": Case((6, 15), (3, 5), (2, 3)),
    "volume": Case((5, 4, 6), (3, 3, 3), (1, 1, 1)),
    "volume, dilated, no multiple of it": Case((5, 7, 5), (3, 3, 5), (1, 2, 1)),
    "volume, kernel times dilation": Case((3, 6, 6), (3, 3, 3), (1, 2, 2)),
}
HALVES = {
    name: CASES[name]
    for name in ("line, dilated, no multiple of it", "map, dilated, no multiple of it", "volume")
}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from -1 to 1, without a generator, which may change: the same on every machine."""
    place = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(0.37 * place**2 + place + seed).to(torch.float32).reshape(shape)


def maps(case: Case) -> list[Tensor]:
    """Query, key and value ``(B, *map, G, D)``; logits spread over several units."""
    shape = (1, *case.size, HEADS, CHANNELS)
    return [2 * numbers(*shape, seed=seed) for seed in range(3)]


def bias(case: Case) -> Tensor:
    """A relative position bias, ``(G, 2 K - 1, ...)``."""
    return numbers(HEADS, *(2 * side - 1 for side in case.kernel_size), seed=3)


def complete(case: Case, functional: Any) -> dict[str, Tensor]:
    """The output of `na1d`, `na2d` or `na3d`."""
    attend = getattr(functional, f"na{len(case.size)}d")
    with torch.no_grad():  # NATTEN from 0.20 on has no gradients on a CPU
        return {"output": attend(*maps(case), kernel_size=case.kernel_size, dilation=case.dilation)}


def in_halves(case: Case, functional: Any) -> dict[str, Tensor]:
    """Logits and output of the two halves, heads first, with a bias, and all gradients."""
    logits_of, values_of = (getattr(functional, f"na{len(case.size)}d_{half}") for half in ("qk", "av"))
    query, key, value = (x.movedim(-2, 1).contiguous().requires_grad_() for x in maps(case))
    rpb, window = bias(case).requires_grad_(), (case.kernel_size, case.dilation)
    logits = logits_of(query, key, *window, rpb=rpb)
    output = values_of(logits.softmax(-1), value, *window)
    inputs = {"query": query, "key": key, "value": value, "rpb": rpb}
    gradients = torch.autograd.grad(output, list(inputs.values()), numbers(*output.shape, seed=4))
    found = {"logits": logits.detach(), "output": output.detach()}
    return found | {f"gradient of {name}": x for name, x in zip(inputs, gradients, strict=True)}


def golden(file: Path) -> dict[str, dict[str, Tensor]]:
    """NATTEN's answers by case."""
    answers: dict[str, dict[str, Tensor]] = {}
    for name, x in load_file(file).items():
        case, _, part = name.partition(": ")
        answers.setdefault(case, {})[part] = x
    return answers


if __name__ == "__main__":
    import natten
    from natten import functional

    file, cases, run = (
        (SPLIT, HALVES, in_halves) if hasattr(functional, "na2d_qk") else (COMPLETE, CASES, complete)
    )
    answers = {
        f"{name}: {part}": x.contiguous()
        for name, case in cases.items()
        for part, x in run(case, functional).items()
    }
    save_file(answers, file, {"natten": natten.__version__, "torch": torch.__version__})
