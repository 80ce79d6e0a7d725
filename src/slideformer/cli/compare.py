# SPDX-License-Identifier: Apache-2.0
"""`slideformer compare`: attention patterns compared."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from slideformer.cli import measuring
from slideformer.cli.measuring import option
from slideformer.cli.ranges import LARGEST, SIDE, whole
from slideformer.errors import UserError, check_range

if TYPE_CHECKING:
    from slideformer.bench.comparison import Comparison, Maps

HELP = """\
Attention patterns compared, one layer each, on maps of one size: global, spatial reduction, pooling,
deformable, shifted window, cross window, neighborhood, Im2Col and slide. Parameters, multiply-adds,
measured time and memory, how far a query sees, which keys it has, and where the layer runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the maps, the query, setting and output."""
    parser.add_argument(
        "--size", type=whole(1, SIDE), default=56, help="side of the square map, in positions"
    )
    parser.add_argument("--dim", type=whole(1, 16384), default=64, help="channels C")
    parser.add_argument("--heads", type=whole(1, 1024), default=2, help="heads G; even for all patterns")
    parser.add_argument(
        "--query",
        type=whole(0, LARGEST),
        nargs=2,
        default=None,
        metavar=("ROW", "COLUMN"),
        help="the query whose footprint is measured; default: the middle",
    )
    measuring.add_setting(parser, plot="draw where the query looks, one panel a pattern")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and draw."""
    from slideformer import bench
    from slideformer.bench.comparison import Maps, compare, pattern_layers
    from slideformer.bench.patterns import PATTERNS
    from slideformer.models.memory import available_bytes

    check(arguments)
    size = arguments.size
    row, column = arguments.query or (size // 2, size // 2)
    maps = Maps(arguments.batch, size, arguments.dim, arguments.heads, (row, column))
    setting = measuring.setting_of(arguments)
    # Footprints are computed on the CPU, wherever the layers are timed.
    setting = replace(setting, memory=min(setting.memory, 0.8 * available_bytes("cpu")))
    layers, notes = pattern_layers(maps, setting)
    if not layers:
        names = ", ".join(pattern.name for pattern in PATTERNS)
        raise UserError(f"no pattern is left; {'; '.join(notes) or f'--only takes parts of {names}'}")
    comparison, footprints = compare(layers, maps, setting, notes=notes)
    facts = bench.conditions(maps.subject, setting, command(arguments, maps))
    measuring.show(bench.COMPARISON.report(comparison, facts), arguments)
    if arguments.plot is not None:
        from slideformer.viz import pattern_map

        pattern_map(footprints, maps.query, arguments.plot, captions=captions(comparison))
    return 0


def captions(comparison: Comparison) -> dict[str, str]:
    """The line below each panel, by the pattern's name."""
    positions = comparison.maps.size**2
    return {
        row.name: f"{row.used_by}; sees {row.sees} of {positions}, reach {row.reach}"
        for row in comparison.rows
    }


def check(arguments: argparse.Namespace) -> None:
    """Check that arguments fit together."""
    measuring.check_setting(arguments)
    if arguments.dim % arguments.heads:
        fitting = -(-arguments.dim // arguments.heads) * arguments.heads
        raise UserError(
            f"--dim must be a multiple of --heads, got {arguments.dim} and {arguments.heads}; "
            f"use --dim {fitting}"
        )
    for axis, place in zip(("row", "column"), arguments.query or (), strict=False):
        check_range(f"--query's {axis}", place, 0, arguments.size - 1)


def command(arguments: argparse.Namespace, maps: Maps) -> str:
    """The command that measures the same again."""
    words = [
        "compare",
        *option("--size", maps.size),
        *option("--dim", maps.dim),
        *option("--heads", maps.heads),
        *option("--batch", maps.batch),
        *option("--query", arguments.query),
        *measuring.setting_words(arguments),
    ]
    return measuring.command(words, arguments)
