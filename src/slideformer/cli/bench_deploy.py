# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench deploy`: exported models in their own runtimes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slideformer.cli import measuring
from slideformer.cli.ranges import PRECISIONS, RUNTIMES, SIDE, THREADS, check_pixels, whole
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.cli.engines import Engine

HELP = """\
exported models in their own runtimes and in PyTorch, each beside its plain host and its form in Im2Col: time,
memory of loading and one call, size of the file"""
IN_PYTORCH = ("eager", "compiled")


@dataclass(frozen=True)
class View:
    """One comparison.

    Attributes:
        models: that it is made of unless told.
        variants: the name of the function in `slideformer.bench` that makes them of names.
        engines: that they run in unless told; empty for every runtime that is here.
    """

    models: tuple[str, ...]
    variants: str
    engines: tuple[str, ...] = ()


VIEWS = {
    "size": View(("slide_swin_tiny",), "equal_size"),
    "accuracy": View(
        ("slide_pvt_small", "slide_pvt_v2_b1", "slide_swin_tiny"), "equal_accuracy", engines=("onnx",)
    ),
    "forms": View(("slide_swin_tiny",), "forms"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare models, what to compare, runtimes and form of the answer."""
    defaults = "; ".join(f"{view}: {', '.join(row.models)}" for view, row in VIEWS.items())
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"unless told, of {defaults}")
    views = parser.add_mutually_exclusive_group()
    views.add_argument(
        "--equal-accuracy",
        dest="view",
        action="store_const",
        const="accuracy",
        default="size",
        help="each model beside the plain host of its family whose published top-1 is nearest",
    )
    views.add_argument(
        "--forms",
        dest="view",
        action="store_const",
        const="forms",
        default="size",
        help="each model in every form of slide attention",
    )
    parser.add_argument(
        "--to",
        nargs="+",
        choices=(*IN_PYTORCH, *RUNTIMES),
        default=None,
        help="runtimes, or PyTorch itself; all that are here unless told, with --equal-accuracy onnx, "
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
        help="a folder of your own for exported files, of which those that fit are used again; packages "
        "for torch in it are run",
    )
    measuring.add_answer(parser)


def run(arguments: argparse.Namespace) -> int:
    """Export, measure and print."""
    from slideformer import bench
    from slideformer.cli.deployment import measured

    check(arguments)
    view = VIEWS[arguments.view]
    variants = getattr(bench, view.variants)(arguments.models or view.models)
    engines = chosen(arguments, view)
    facts = conditions(arguments, engines)  # first, since they may change meanwhile
    with kept(arguments.keep) as folder:
        deployment = measured(
            variants,
            engines,
            folder,
            view=arguments.view,
            precisions=arguments.precision,
            threads=arguments.threads,
            batch=arguments.batch,
            size=arguments.size,
            rounds=arguments.rounds,
            progress=measuring.progress,
        )
    measuring.progress("")
    form = bench.deployment_markdown if arguments.markdown else bench.deployment_text
    print(form(deployment, facts))
    measuring.write_json(arguments, bench.deployment_to_dict(deployment, facts))
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that cannot be measured.

    Raises:
        UserError: what must hold, what came, what to do.
    """
    from slideformer.deploy import RUNTIMES

    measuring.check_answer(arguments)
    check_pixels(arguments.batch, [arguments.size])
    if arguments.keep is not None and arguments.keep.exists() and not arguments.keep.is_dir():
        raise UserError(f"--keep must be a folder, got the file {arguments.keep}; name a folder")
    for name in arguments.to or ():
        row = RUNTIMES.get(name)
        if row is None:
            continue
        if not row.runs_here:
            raise UserError(f"{row.title} runs on {row.platform} alone; leave {name} out of --to")
        _ = row.implementation  # tells what is not installed
        if arguments.batch > 1 and not set(arguments.precision).isdisjoint(row.one_size):
            raise UserError(f"a file for {row.title} takes one image, got --batch {arguments.batch}; use 1")


def chosen(arguments: argparse.Namespace, view: View) -> dict[str, Engine]:
    """The engines that are asked for, or all that can be."""
    from slideformer.cli.engines import ENGINES
    from slideformer.deploy import RUNTIMES

    if arguments.to is not None:
        return {name: ENGINES[name] for name in dict.fromkeys(arguments.to)}
    here = [
        name
        for name, row in RUNTIMES.items()
        if row.runs_here
        and not row.missing
        and (arguments.batch == 1 or set(arguments.precision).isdisjoint(row.one_size))
    ]
    ours = () if arguments.view == "forms" else IN_PYTORCH
    names = view.engines if view.engines else (*ours, *here)
    return {name: ENGINES[name] for name in names}


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """The folder for exported files: the given one, or one that goes with the measurement."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="slideformer-") as name:
        yield Path(name)


def conditions(arguments: argparse.Namespace, engines: Mapping[str, Engine]) -> dict[str, Any]:
    """Of the measurement, as `slideformer.bench.conditions` has them, with what each runtime is."""
    from slideformer import bench

    size = f"{arguments.size} x {arguments.size}"
    taken = "files for this size alone" if arguments.batch == 1 else "files for any size"
    subject = f"batch {arguments.batch}, images of {size}, {taken}"
    facts = bench.conditions(subject, bench.Setting(), rounds=arguments.rounds, command=command(arguments))
    packages = [engine.package for engine in engines.values() if engine.package]
    return {
        **facts,
        "dtype": " and ".join(dict.fromkeys(arguments.precision)),
        "threads": " and ".join(map(str, sorted(set(arguments.threads)))),
        "packages": {name: version_of(name) for name in packages},
    }


def version_of(package: str) -> str:
    """Of a package that can be imported, whoever distributes it, as of onnxruntime or onnxruntime-gpu."""
    from importlib.metadata import packages_distributions, version

    distributed = packages_distributions().get(package, [])
    name = package if package in distributed else next(iter(distributed), None)
    return "unknown" if name is None else version(name)


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = ["slideformer bench deploy", *arguments.models]
    words += {"size": [], "accuracy": ["--equal-accuracy"], "forms": ["--forms"]}[arguments.view]
    words += [f"--to {' '.join(arguments.to)}"] if arguments.to is not None else []
    words += [f"--precision {' '.join(arguments.precision)}"]
    words += [f"--threads {' '.join(map(str, arguments.threads))}"]
    words += [f"--size {arguments.size}", f"--batch {arguments.batch}"]
    return measuring.again(words, arguments.rounds)
