# SPDX-License-Identifier: Apache-2.0
"""`slideformer backends`: the ways to run the operator, and the cost of one call on each."""

from __future__ import annotations

import argparse
import json

from slideformer.cli.ranges import SIDE, whole

HELP = "list the ways to run the operator, and what a call costs on each"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sizes of the call to explain."""
    parser.add_argument("--batch", type=whole(1, 2**16), default=8, help="batch B")
    parser.add_argument(
        "--size",
        type=whole(1, SIDE),
        nargs="+",
        default=[56],
        metavar="N",
        help="rows and columns of the map",
    )
    parser.add_argument("--heads", type=whole(1, 1024), default=3, help="heads G")
    parser.add_argument("--head-dim", type=whole(1, 4096), default=32, help="channels D of a head")
    parser.add_argument("--kernel-size", type=whole(1, 63, 255), default=3, help="odd side K of the window")
    parser.add_argument("--plain", action="store_true", help="without the deformed shift")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print operations and memory of the call, one line a backend; the chosen one is marked."""
    import torch

    from slideformer.errors import UserError
    from slideformer.ops import backends, explain

    if len(arguments.size) > 2:
        raise UserError(f"--size takes one or two numbers, got {len(arguments.size)}")
    taps = arguments.kernel_size**2
    shape = (arguments.batch, arguments.size[0], arguments.size[-1], arguments.heads, arguments.head_dim)
    try:
        query = torch.empty(shape, device="meta")
        shift = None if arguments.plain else torch.empty(arguments.head_dim, taps, taps, device="meta")
        explanation = explain(query, query, query, kernel_size=arguments.kernel_size, shift_weight=shift)
    except (ValueError, RuntimeError) as error:  # no call has such sizes
        raise UserError(str(error)) from error
    if arguments.json:
        rows = [
            {
                "name": row.name,
                "summary": row.summary,
                "chosen": row.name == explanation.chosen,
                "refused": explanation.refused.get(row.name),
                "flops": explanation.costs[row.name].flops,
                "memory_bytes": explanation.costs[row.name].memory_bytes,
            }
            for row in backends()
        ]
        print(json.dumps(rows, indent=2))
        return 0
    words = "plain" if arguments.plain else "deformed"
    kernel = arguments.kernel_size
    print(f"{words} attention, K = {kernel}, maps {tuple(query.shape)} [B, H, W, G, D], float32, forward")
    print(explanation)
    return 0
