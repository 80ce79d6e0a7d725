# SPDX-License-Identifier: Apache-2.0
"""`slideformer compare`: attention patterns side by side."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from slideformer.cli import measuring
from slideformer.cli.ranges import LARGEST, SIDE, whole
from slideformer.errors import UserError, check_range

if TYPE_CHECKING:
    from slideformer.bench import Comparison, Maps

HELP = """\
Attention patterns side by side, one layer each, on maps of one size: global, spatial reduction, pooling,
deformable, shifted window, cross window, neighborhood, Im2Col and slide. Parameters, multiply-adds,
measured time and memory, how far a query sees, whose keys it has, and where the layer runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the maps, the query, setting and form of the answer."""
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
        help="the query whose sight is measured; the middle without it",
    )
    measuring.add_arguments(parser, plot="draw where the query looks, one panel a pattern")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print and draw."""
    from slideformer.bench import (
        DTYPES,
        PATTERNS,
        Maps,
        Setting,
        available_bytes,
        compare,
        comparison_markdown,
        comparison_text,
        comparison_to_dict,
        conditions,
        pattern_layers,
    )

    check(arguments)
    size = arguments.size
    row, column = arguments.query or (size // 2, size // 2)
    maps = Maps(arguments.batch, size, arguments.dim, arguments.heads, (row, column))
    setting = Setting(device=arguments.device, dtype=DTYPES[arguments.dtype])
    # Footprints are taken on the CPU, wherever the layers are timed.
    memory = 0.8 * min(available_bytes(device) for device in {"cpu", arguments.device})
    layers, notes = pattern_layers(
        maps, only=arguments.only, memory=memory, number_bytes=setting.dtype.itemsize
    )
    if not layers:
        names = ", ".join(pattern.name for pattern in PATTERNS)
        raise UserError(f"no pattern is left; {'; '.join(notes) or f'--only takes parts of {names}'}")
    comparison, footprints = compare(
        layers, maps, setting, rounds=arguments.rounds, notes=notes, progress=measuring.progress
    )
    measuring.progress("")
    facts = conditions(maps.subject, setting, rounds=arguments.rounds, command=command(arguments, maps))
    show = comparison_markdown if arguments.markdown else comparison_text
    print(show(comparison, facts))
    measuring.write_json(arguments, comparison_to_dict(comparison, facts))
    if arguments.plot is not None:
        from slideformer.viz import pattern_map

        pattern_map(footprints, maps.query, arguments.plot, captions=captions(comparison))
    return 0


def captions(comparison: Comparison) -> dict[str, str]:
    """What stands below each panel."""
    positions = comparison.maps.size**2
    return {
        row.name: f"{row.used_by}; sees {row.sees} of {positions}, reach {row.reach}"
        for row in comparison.rows
    }


def check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that do not fit together.

    Raises:
        UserError: what must hold, what came, what to do.
    """
    measuring.check(arguments)
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
    words = ["slideformer compare"]
    words += [f"--{name} {getattr(maps, name)}" for name in ("size", "dim", "heads", "batch")]
    words += [f"--query {maps.query[0]} {maps.query[1]}"] if arguments.query else []
    return measuring.command(words, arguments)
