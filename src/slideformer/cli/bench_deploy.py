# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench deploy`: exported models in their own runtimes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slideformer.cli import measuring
from slideformer.cli.measuring import option
from slideformer.cli.ranges import PRECISIONS, RUNTIMES, SIDE, THREADS, check_pixels, whole
from slideformer.console import progress
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.bench.deployed import View
    from slideformer.bench.engines import Engine

HELP = """\
exported models in their own runtimes and in PyTorch, each with its plain host and its form in Im2Col: time,
memory of loading and one call, size of the file"""
# The models of `slideformer.bench.deployed.VIEWS`, which imports PyTorch.
MODELS_HELP = (
    "default: slide_swin_tiny; with --equal-accuracy slide_pvt_small, slide_pvt_v2_b1 and slide_swin_tiny"
)

IN_PYTORCH = ("eager", "compiled")
# The option that chooses a view.
OPTIONS: dict[str, list[str]] = {"size": [], "accuracy": ["--equal-accuracy"], "forms": ["--forms"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare models, what to compare, runtimes and output."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help=MODELS_HELP)
    add_views(parser)
    parser.add_argument(
        "--to",
        nargs="+",
        choices=(*IN_PYTORCH, *RUNTIMES),
        default=None,
        help="runtimes, or PyTorch itself; default: all that are here, with --equal-accuracy onnx, "
        "with --forms none of PyTorch itself",
    )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, default=["float32"], help="of weights and products"
    )
    parser.add_argument("--threads", type=THREADS, nargs="+", default=[1, 2], help="of each runtime")
    parser.add_argument("--size", type=whole(1, SIDE), default=224, help="side of the square image")
    parser.add_argument(
        "--batch", type=whole(1, 4096), default=1, help="images; files take any size with more than one"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        default=None,
        metavar="DIR",
        help="a folder of your own for exported files; files in it that match are used again; packages "
        "for torch in it are run",
    )
    measuring.add_output(parser)


def add_views(parser: argparse.ArgumentParser) -> None:
    """Declare what to compare with."""
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--equal-accuracy",
        dest="view",
        action="store_const",
        const="accuracy",
        default="size",
        help="each model with the plain host of its family whose published top-1 is nearest",
    )
    views.add_argument(
        "--forms",
        dest="view",
        action="store_const",
        const="forms",
        default="size",
        help="each model in every form of slide attention",
    )


def run(arguments: argparse.Namespace) -> int:
    """Export, measure and print."""
    from slideformer import bench
    from slideformer.bench.deployment import measure_deployment

    check(arguments)
    view = bench.VIEWS[arguments.view]
    variants = view.variants(arguments.models or view.models)
    engines = chosen(arguments, view)
    facts = conditions(arguments, engines)  # first, since they may change meanwhile
    with kept(arguments.keep) as folder:
        deployment = measure_deployment(
            variants,
            engines,
            folder,
            view=arguments.view,
            precisions=arguments.precision,
            threads=arguments.threads,
            batch=arguments.batch,
            size=arguments.size,
            setting=bench.Setting(rounds=arguments.rounds, progress=progress),
        )
    measuring.show(bench.DEPLOYMENT.report(deployment, facts), arguments)
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Check that everything asked for can be measured here."""
    from slideformer.deploy import RUNTIMES

    measuring.check_file("--json", arguments.json)
    check_pixels(arguments.batch, [arguments.size])
    if arguments.keep is not None and arguments.keep.exists() and not arguments.keep.is_dir():
        raise UserError(f"--keep must be a folder, got the file {arguments.keep}; name a folder")
    for name in arguments.to or ():
        row = RUNTIMES.get(name)
        if row is None:
            continue
        if not row.runs_here:
            raise UserError(f"{row.title} runs on {row.platform} alone; leave {name} out of --to")
        _ = row.implementation  # raises if a package is missing
        if arguments.batch > 1 and not set(arguments.precision).isdisjoint(row.one_size):
            raise UserError(f"a file for {row.title} takes one image, got --batch {arguments.batch}; use 1")


def chosen(arguments: argparse.Namespace, view: View) -> list[Engine]:
    """The engines that are asked for, or the default ones of a view."""
    from slideformer.bench.engines import ENGINES, usable

    here = usable(batch=arguments.batch, precisions=arguments.precision)
    usual = view.engines or (*(IN_PYTORCH if view.in_pytorch else ()), *here)
    return [ENGINES[name] for name in dict.fromkeys(arguments.to or usual)]


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """The given folder for exported files, or one that is removed after the measurement."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="slideformer-") as name:
        yield Path(name)


def conditions(arguments: argparse.Namespace, engines: Sequence[Engine]) -> dict[str, Any]:
    """Conditions of the measurement, with precisions, threads and the versions of all runtimes."""
    from slideformer import bench
    from slideformer.bench.engines import version_of

    size = f"{arguments.size} x {arguments.size}"
    files = "files for this size alone" if arguments.batch == 1 else "files for any size"
    subject = f"batch {arguments.batch}, images of {size}, {files}"
    facts = bench.conditions(subject, bench.Setting(rounds=arguments.rounds), command(arguments))
    return {
        **facts,
        "dtype": " and ".join(dict.fromkeys(arguments.precision)),
        "threads": " and ".join(map(str, sorted(set(arguments.threads)))),
        "packages": {row.package: version_of(row.package) for row in engines if row.package},
    }


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = [
        *("bench", "deploy", *arguments.models, *OPTIONS[arguments.view]),
        *option("--to", arguments.to),
        *option("--precision", arguments.precision),
        *option("--threads", arguments.threads),
        *option("--size", arguments.size),
        *option("--batch", arguments.batch),
    ]
    return measuring.command(words, arguments)
