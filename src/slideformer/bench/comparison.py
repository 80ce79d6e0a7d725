# SPDX-License-Identifier: Apache-2.0
"""Attention patterns compared: what each costs, how far it sees, and where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slideformer.bench.candidate import Candidate, Setting, module_step
from slideformer.bench.machine import Facts, Machine, headline
from slideformer.bench.measurement import Measurement, measure
from slideformer.bench.patterns import PATTERNS, Pattern
from slideformer.bench.table import Table, mebibytes, milliseconds, span
from slideformer.models.counts import multiply_adds, size
from slideformer.viz.patterns import UNSEEN

# Random numbers a side and channel of a footprint's map; between them it changes evenly.
ANCHORS = 3


@dataclass(frozen=True)
class Maps:
    """The maps that every layer is compared on.

    Attributes:
        batch: B.
        size: side of the square map.
        dim: channels C.
        heads: G.
        query: row and column of the query whose footprint is measured.
    """

    batch: int
    size: int
    dim: int
    heads: int
    query: tuple[int, int]

    @property
    def subject(self) -> str:
        """The maps in words."""
        return (
            f"attention layers, batch {self.batch}, {self.size} x {self.size}, "
            f"{self.heads} heads of {self.dim // self.heads}"
        )


@dataclass(frozen=True)
class Row:
    """One pattern: fields of its `Pattern`, and of the `Measurement` of a forward pass of the batch.

    Attributes:
        parameters: of the layer, as it is deployed.
        multiply_adds: of one map, in convolutions and matrix products.
        sees: positions that change the output of the query.
        reach: the furthest row or column of them, counted from the query in positions.
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
        machine: its rates in the same rounds.
        notes: on patterns that were left out.
    """

    maps: Maps
    rows: list[Row]
    machine: Machine
    notes: list[str]

    @property
    def machines(self) -> list[Machine]:
        """The machine, in a list."""
        return [self.machine]


def pattern_layers(maps: Maps, setting: Setting) -> tuple[dict[Pattern, nn.Module], list[str]]:
    """A fresh layer of every pattern, in evaluation mode, and notes on those left out."""
    layers, notes = {}, []
    # The batch in the maps' own precision, logits and weights; or one map in float64 with its gradients.
    a_number = max(2 * maps.batch * setting.dtype.itemsize, 4 * 8)
    for pattern in PATTERNS:
        if not setting.keeps(pattern.name):
            continue
        laid_out = pattern.laid_out(maps.dim, maps.heads, maps.size) * maps.size**2 * a_number
        if pattern.even_heads and maps.heads % 2:
            notes.append(
                f"{pattern.name} left out: half of its heads look each way, and {maps.heads} cannot be halved"
            )
        elif laid_out > setting.memory:
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


def footprint(layer: nn.Module, dim: int, size: int, query: tuple[int, int]) -> Tensor:
    """How much each position of a map changes the output of one query: ``(H, W)``.

    That is |d (output of the query) / d (position)|, summed over the position's channels, in float64. The
    output's channels are weighted by random numbers, so that they do not cancel out. The map is random and
    smooth, as maps of images are: on noise, the places of a deformable layer's points would matter more
    than the content there.

    Args:
        layer: ``(B, H, W, C) -> (B, H, W, C)``; it is not changed.
        dim: channels C.
        size: side of the map.
        query: its row and column.
    """
    generator = torch.Generator().manual_seed(0)
    layer = deepcopy(layer).to("cpu", torch.float64).eval()
    x = torch.randn(1, dim, ANCHORS, ANCHORS, generator=generator, dtype=torch.float64)
    x = F.interpolate(x, (size, size), mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
    x.requires_grad_()
    weights = torch.randn(dim, generator=generator, dtype=torch.float64)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(layer(x)[0, query[0], query[1]] @ weights, x)
    return gradient[0].abs().sum(-1)


def seen(footprint: Tensor) -> Tensor:
    """Positions that change the output of the query, as True: ``(H, W)``."""
    return footprint > UNSEEN * footprint.max()


def reach(footprint: Tensor, query: tuple[int, int]) -> int:
    """The furthest row or column that the query sees, counted from it in positions."""
    places = seen(footprint).nonzero() - torch.tensor(query)
    return int(places.abs().max())


def compare(
    layers: Mapping[Pattern, nn.Module],
    maps: Maps,
    setting: Setting,
    *,
    notes: Sequence[str] = (),
) -> tuple[Comparison, dict[str, Tensor]]:
    """Measure layers in turn; return each pattern's footprint ``(H, W)`` by its name, too."""
    footprints, costs = {}, {}
    for pattern, layer in layers.items():
        setting.progress(f"footprint and counts of {pattern.name}")
        footprints[pattern.name] = footprint(layer, maps.dim, maps.size, maps.query)
        costs[pattern.name] = (size(layer), count(pattern, maps))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(maps.batch, maps.size, maps.size, maps.dim, generator=generator)
    x = x.to(setting.device, setting.dtype)
    candidates = []
    for pattern, layer in layers.items():
        gflop = 2 * maps.batch * costs[pattern.name][1] / 1e9
        step = module_step(layer, x, setting)
        candidates.append(Candidate(pattern.name, step, gflop, None, maps.batch, None))
    group = measure(candidates, setting, size=maps.size)
    rows = [
        row_of(pattern, costs[pattern.name], measured, footprints[pattern.name], maps.query)
        for pattern, measured in zip(layers, group.rows, strict=True)
    ]
    return Comparison(maps, rows, group.machine, list(notes)), footprints


def row_of(
    pattern: Pattern, cost: tuple[int, int], measured: Measurement, sight: Tensor, query: tuple[int, int]
) -> Row:
    """The row of a pattern; ``cost`` is parameters and multiply-adds, ``sight`` the footprint."""
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


COLUMNS: dict[str, Callable[[Row], str]] = {
    "pattern": lambda row: row.name,
    "as in": lambda row: row.used_by,
    "parameters": lambda row: str(row.parameters),
    "multiply-adds M": lambda row: f"{row.multiply_adds / 1e6:.1f}",
    "median ms": lambda row: milliseconds(row.median_ms),
    "quartiles ms": lambda row: span(row.quartiles_ms),
    "extra MiB": lambda row: mebibytes(row.memory_mib),
    "sees": lambda row: str(row.sees),
    "reach": lambda row: str(row.reach),
    "keys": lambda row: row.keys,
    "runs in": lambda row: ", ".join(row.runtimes),
    "rank": lambda row: str(row.rank),
}


def comparison_table(comparison: Comparison, facts: Facts) -> Table:
    """One line a pattern."""
    rows = [[cell(row) for cell in COLUMNS.values()] for row in comparison.rows]
    row, column = comparison.maps.query
    sight = f"sees and reach: of the query in row {row}, column {column}, counted from 0"
    conditions = f"{headline(facts, comparison.machine)}; {sight}"
    return Table(list(COLUMNS), rows, conditions, comparison.notes, words=("as in", "keys", "runs in"))
