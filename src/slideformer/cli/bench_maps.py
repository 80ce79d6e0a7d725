# SPDX-License-Identifier: Apache-2.0
"""The maps and windows that `slideformer bench operator` and `bench layer` measure."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from slideformer.cli.measuring import option
from slideformer.cli.ranges import LIFT, SIDE, limit, map_sides, whole
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.bench import Problem
    from slideformer.bench.problem import Sides


def add_options(parser: argparse.ArgumentParser, size: int) -> None:
    """Declare map, heads, window and border; ``size`` is the usual side."""
    parser.add_argument(
        "--size",
        type=map_sides(1, SIDE**2),
        nargs="+",
        default=[size],
        help="side of the square map, or each axis of one, as 16x56x56; several show how the cost grows",
    )
    parser.add_argument(
        "--axes",
        type=whole(1, 3, 3),
        default=2,
        help="axes of a map whose --size is one number; 1 is a sequence",
    )
    parser.add_argument("--heads", type=whole(1, 1024), default=3, help="heads G")
    parser.add_argument("--head-dim", type=whole(1, 4096), default=32, help="channels D of a head")
    parser.add_argument(
        "--kernel-size",
        type=map_sides(1, 63, 255),
        nargs="+",
        default=[3],
        help="odd side K of the window, or one an axis, as 1x5; one for all sizes or one for each --size",
    )
    parser.add_argument("--plain", action="store_true", help="without a learned shift")
    parser.add_argument(
        "--border",
        choices=("zeros", "mask", "clamp", "wrap"),
        nargs="+",
        default=["zeros"],
        help="of our backends and other libraries, one for all axes or one an axis; mask, clamp: --plain",
    )


def problems(arguments: argparse.Namespace) -> list[Problem]:
    """The problem of each size, with its kernel size.

    Raises:
        UserError: they do not fit each other.
    """
    from slideformer import bench

    sizes, kernels = arguments.size, arguments.kernel_size
    if len(kernels) not in (1, len(sizes)):
        raise UserError(
            f"--kernel-size must be one, or one for each of {len(sizes)} sizes, got {len(kernels)}"
        )
    kernels = kernels * len(sizes) if len(kernels) == 1 else kernels
    border = arguments.border[0] if len(arguments.border) == 1 else tuple(arguments.border)
    found = []
    for size, kernel in zip(sizes, kernels, strict=True):
        problem = bench.Problem(
            arguments.batch,
            of_axes(size, arguments.axes),
            arguments.heads,
            arguments.head_dim,
            kernel,
            not arguments.plain,
            border,
        )
        if problem.positions > limit(SIDE**2):
            raise UserError(f"--size must have at most {limit(SIDE**2)} positions, got {size}{LIFT}")
        try:
            _ = problem.window
        except ValueError as error:
            raise UserError(f"--size {size} and --kernel-size {kernel} must fit: {error}") from None
        found.append(problem)
    return found


def of_axes(size: Sides, axes: int) -> Sides:
    """A size in words, where one number is not the side of a square."""
    return size if isinstance(size, str) or axes == 2 else "x".join([str(size)] * axes)


def check(arguments: argparse.Namespace) -> None:
    """Check that sizes, windows, borders and output fit together."""
    for kernel in arguments.kernel_size:
        even = next((side for side in map(int, str(kernel).split("x")) if side % 2 == 0), None)
        if even is not None:
            raise UserError(f"--kernel-size must be odd, got {kernel}; use {even + 1}")
    left_out = next((border for border in arguments.border if border not in ("zeros", "wrap")), None)
    if left_out is not None and not arguments.plain:
        raise UserError(f"a learned shift needs --border zeros or wrap, got {left_out}; add --plain")
    one_number = [isinstance(size, int) for size in arguments.size]
    if arguments.axes != 2 and not any(one_number):
        raise UserError(f"--axes is of a --size of one number, got {arguments.size[0]}; leave --axes out")
    if arguments.plot is not None and not (arguments.axes == 2 and all(one_number)):
        raise UserError("--plot draws square maps by their side, got others; leave it out")
    usual = arguments.axes == 2 and all(one_number) and len(arguments.border) == 1
    if arguments.what == "layer" and not (usual and isinstance(arguments.kernel_size[0], int)):
        raise UserError(
            "`bench layer` measures square maps and windows; give --size and --kernel-size one number"
        )
    problems(arguments)


def in_words(arguments: argparse.Namespace) -> str:
    """Say what is measured, with its sizes."""
    border = " ".join(arguments.border)
    kind = "plain" if arguments.plain else "deformed"
    if arguments.plain or border != "zeros":
        kind += f", border {border},"
    kernels = ", ".join(str(kernel).replace("x", " x ") for kernel in arguments.kernel_size)
    sizes = [of_axes(size, arguments.axes) for size in arguments.size]
    maps = ", ".join(
        (size if isinstance(size, str) else f"{size}x{size}").replace("x", " x ") for size in sizes
    )
    return (
        f"{kind} K = {kernels}, batch {arguments.batch}, {maps}, "
        f"{arguments.heads} heads of {arguments.head_dim}"
    )


def words(arguments: argparse.Namespace) -> list[str]:
    """The options that measure the same again, but for --size."""
    return [
        *option("--axes", arguments.axes, usual=2),
        *option("--heads", arguments.heads),
        *option("--head-dim", arguments.head_dim),
        *option("--kernel-size", arguments.kernel_size),
        *option("--plain", arguments.plain),
        *option("--border", arguments.border, usual=["zeros"]),
    ]
