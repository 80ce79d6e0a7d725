# SPDX-License-Identifier: Apache-2.0
"""Attention patterns side by side: what each costs, how far it sees, and where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from slideformer.bench.candidate import Candidate, Setting, module_step
from slideformer.bench.footprint import footprint, reach, seen
from slideformer.bench.machine import Machine
from slideformer.bench.measurement import Measurement, measure
from slideformer.bench.patterns import PATTERNS, Pattern
from slideformer.models.counts import multiply_adds, size


@dataclass(frozen=True)
class Maps:
    """What every layer is compared on.

    Attributes:
        batch: B.
        size: side of the square map.
        dim: channels C.
        heads: G.
        query: row and column of the query whose sight is measured.
    """

    batch: int
    size: int
    dim: int
    heads: int
    query: tuple[int, int]

    @property
    def subject(self) -> str:
        """In words."""
        return (
            f"attention layers, batch {self.batch}, {self.size} x {self.size}, "
            f"{self.heads} heads of {self.dim // self.heads}"
        )


@dataclass(frozen=True)
class Row:
    """One pattern.

    Attributes:
        name: of the pattern.
        used_by: a model that attends so.
        parameters: of the layer, as it is deployed.
        multiply_adds: of one map: those of convolutions and matrix products.
        median_ms: median time of a forward pass of the batch, in milliseconds.
        quartiles_ms: first and third quartile.
        memory_mib: peak memory beyond arguments and result, in MiB; None where it cannot be measured.
        sees: positions that change what the query gets.
        reach: the furthest row or column of them, counted from the query in positions.
        keys: which keys a query has, in words.
        runtimes: where the layer runs for maps of every size.
        rank: the largest of a tensor in its ONNX graph.
    """

    name: str
    used_by: str
    parameters: int
    multiply_adds: int
    median_ms: float
    quartiles_ms: tuple[float, float]
    memory_mib: float | None
    sees: int
    reach: int
    keys: str
    runtimes: tuple[str, ...]
    rank: int


@dataclass(frozen=True)
class Comparison:
    """All patterns on the same maps.

    Attributes:
        maps: what they were compared on.
        rows: one a pattern.
        machine: what it could do meanwhile.
        notes: on patterns that were left out.
    """

    maps: Maps
    rows: list[Row]
    machine: Machine
    notes: list[str]


def pattern_layers(
    maps: Maps, *, only: Sequence[str] = (), memory: float = float("inf"), number_bytes: int = 4
) -> tuple[dict[Pattern, nn.Module], list[str]]:
    """A fresh layer of every pattern, in evaluation mode, and notes on those left out.

    Args:
        maps: what the layers are for.
        only: parts of the names to keep; all without any.
        memory: bytes that a layer may lay out.
        number_bytes: of a number of the maps.
    """
    layers, notes = {}, []
    # The batch in the maps' own precision, logits and weights; or one map in float64 with its gradients.
    a_number = max(2 * maps.batch * number_bytes, 4 * 8)
    for pattern in PATTERNS:
        if only and not any(word in pattern.name for word in only):
            continue
        laid_out = pattern.laid_out(maps.dim, maps.heads, maps.size) * maps.size**2 * a_number
        if pattern.even_heads and maps.heads % 2:
            notes.append(
                f"{pattern.name} left out: half of its heads look each way, and {maps.heads} cannot be halved"
            )
        elif laid_out > memory:
            notes.append(f"{pattern.name} left out: it may lay out {laid_out / 2**30:.1f} GiB")
        else:
            torch.manual_seed(0)
            layers[pattern] = pattern.build(maps.dim, maps.heads, maps.size).eval()
    return layers, notes


def count(pattern: Pattern, maps: Maps) -> int:
    """Multiply-adds of a pattern on one map, by the convention of `slideformer.models.count`."""
    with torch.device("meta"):
        counted = pattern.build if pattern.counted is None else pattern.counted
        layer = counted(maps.dim, maps.heads, maps.size).eval()
        return multiply_adds(layer, torch.empty(1, maps.size, maps.size, maps.dim))


def compare(
    layers: Mapping[Pattern, nn.Module],
    maps: Maps,
    setting: Setting,
    *,
    rounds: int,
    notes: Sequence[str] = (),
    progress: Callable[[str], None] = lambda words: None,
) -> tuple[Comparison, dict[str, Tensor]]:
    """Measure layers beside each other; each pattern's footprint ``(H, W)``, too, by its name."""
    prints, costs = {}, {}
    for pattern, layer in layers.items():
        progress(f"footprint and counts of {pattern.name}")
        prints[pattern.name] = footprint(layer, maps.dim, maps.size, maps.query)
        costs[pattern] = (size(layer), count(pattern, maps))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(maps.batch, maps.size, maps.size, maps.dim, generator=generator)
    x = x.to(setting.device, setting.dtype)
    candidates = [
        Candidate(
            name=pattern.name,
            step=module_step(layer, x, setting),
            gflop=2 * maps.batch * costs[pattern][1] / 1e9,
            megabytes=None,
            images=maps.batch,
            error=None,
        )
        for pattern, layer in layers.items()
    ]
    group = measure(candidates, setting, size=maps.size, rounds=rounds, progress=progress)
    rows = [
        row_of(pattern, costs[pattern], measured, prints[pattern.name], maps.query)
        for pattern, measured in zip(layers, group.rows, strict=True)
    ]
    return Comparison(maps, rows, group.machine, list(notes)), prints


def row_of(
    pattern: Pattern, cost: tuple[int, int], measured: Measurement, sight: Tensor, query: tuple[int, int]
) -> Row:
    """All that is known of a pattern; ``cost`` is parameters and multiply-adds, ``sight`` the footprint."""
    return Row(
        name=pattern.name,
        used_by=pattern.used_by,
        parameters=cost[0],
        multiply_adds=cost[1],
        median_ms=measured.median_ms,
        quartiles_ms=measured.quartiles_ms,
        memory_mib=measured.memory_mib,
        sees=int(seen(sight).sum()),
        reach=reach(sight, query),
        keys=pattern.keys,
        runtimes=pattern.runtimes,
        rank=pattern.rank,
    )
