# SPDX-License-Identifier: Apache-2.0
"""`slideformer bench accuracy`: trainings on Fashion-MNIST compared."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from slideformer.cli import measuring
from slideformer.cli.measuring import option
from slideformer.cli.ranges import whole
from slideformer.console import progress
from slideformer.errors import UserError

if TYPE_CHECKING:
    from slideformer.bench.accuracy import Outcome

HELP = """\
accuracy of trainings on Fashion-MNIST, over several seeds: learning rates, patterns of attention, warm start,
the recipe. It trains for hours; the same command goes on where it was stopped, and what the --json file has
from an earlier call is not trained again"""
# The studies of `slideformer.bench.studies.STUDIES`, which imports PyTorch, and what they compare.
STUDIES = {
    "rates": "learning rates, on the hold-out",
    "ablation": "patterns of local attention in the same model, and how the deformed shift begins",
    "warm-start": "a model from nothing, from the weights of its plain host, and taught by it",
    "recipe": "the recipe fashion_mnist, and a shorter one",
}
# More would have the hold-out of the recipe looked at before the end.
MOST_EPOCHS = 999


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare study, data, lengths and output."""
    helps = "; ".join(f"{name}: {words}" for name, words in STUDIES.items())
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help=helps)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help="folder of Fashion-MNIST")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the runs")
    parser.add_argument(
        "--images",
        dest="train_images",
        metavar="N",
        type=whole(1, 60_000),
        default=None,
        help="images to train on; default: the study's",
    )
    parser.add_argument(
        "--epochs",
        type=whole(1, MOST_EPOCHS),
        nargs="+",
        help="lengths of the trainings; default: the study's",
    )
    parser.add_argument(
        "--seeds", type=whole(1, 1000), default=None, help="how many seeds; default: the study's"
    )
    parser.add_argument(
        "--processes", type=whole(1, 1024), default=None, help="trainings at a time; default: one a core"
    )
    parser.add_argument(
        "--plot", type=Path, default=None, metavar="PNG", help="draw accuracy by time or length"
    )
    measuring.add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Train what is not trained, evaluate, print and draw."""
    from slideformer import bench
    from slideformer.bench.studies import STUDIES
    from slideformer.bench.training_study import measure_study

    measuring.check_file("--json", arguments.json)
    measuring.check_file("--plot", arguments.plot)
    if arguments.output.exists() and not arguments.output.is_dir():
        raise UserError(f"--output must be a folder, got the file {arguments.output}; name a folder")
    study = STUDIES[arguments.study]
    epochs = arguments.epochs or study.epochs
    if arguments.plot is not None and not study.timed and len(set(epochs)) < 2:
        raise UserError("--plot needs a study that is timed, or several --epochs; leave it out")
    # A scheduler's polite kill ends like Ctrl-C: the trainings stop, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    setting = bench.Setting("step", rounds=arguments.rounds, progress=progress)
    result = measure_study(
        arguments.study,
        arguments.root,
        arguments.output,
        images=arguments.train_images or study.images,
        epochs=epochs,
        seeds=arguments.seeds or study.seeds,
        processes=arguments.processes,
        setting=setting,
        earlier=earlier_outcomes(arguments.json),
    )
    facts = bench.conditions(f"Fashion-MNIST, {result.images:,} images an epoch", setting, command(arguments))
    report = bench.ACCURACY.report(result, facts)
    measuring.show(report, arguments)
    if arguments.plot is not None:
        from slideformer.viz import accuracy_figure

        accuracy_figure(report.figures, arguments.plot)
    return 0


def earlier_outcomes(file: Path | None) -> list[Outcome]:
    """The results that the file of ``--json`` has from an earlier call, on this machine or another."""
    from slideformer.bench.accuracy import Outcome
    from slideformer.bench.report import rebuild
    from slideformer.runs.fields import read_object

    if file is None or not file.exists():
        return []
    try:
        found: list[Outcome] = rebuild(list[Outcome], read_object(file)["outcomes"])
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"--json must be a new file or one of `bench accuracy`, got {file}; name another file"
        ) from None
    return found


def command(arguments: argparse.Namespace) -> str:
    """The command that measures the same again."""
    words = [
        *("bench", "accuracy", arguments.study, "--root", "DIR", "--output", "RUNS"),
        *option("--images", arguments.train_images),
        *option("--epochs", arguments.epochs),
        *option("--seeds", arguments.seeds),
    ]
    return measuring.command(words, arguments)
