# SPDX-License-Identifier: Apache-2.0
"""Export a small model of every family for every runtime and tell how far file and model are apart.

    python -m tests.deploy.every_family [--to RUNTIME ...] [--json FILE]

The suite does the same for all runtimes but AOTInductor, whose compiler takes a minute or more a model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import torch

from slideformer.bench.machine import commit, processor
from slideformer.deploy import RUNTIMES, Report, export_model
from slideformer.deploy.inputs import bundled, stretched
from slideformer.files import write_text
from slideformer.runs import Facts, Preprocessing
from tests.models.families import FAMILIES, of_one_size

SIZE = (1, 40, 72)


def exported(family: str, runtime: str, folder: Path) -> Report:
    """A sharp model of a family as a file of one size, checked on a photograph."""
    torch.manual_seed(0)
    model = of_one_size(family)
    torch.nn.init.normal_(model.head.fc.weight)
    photo = stretched(bundled(), model_preprocessing(), SIZE)
    file = folder / f"{family}{RUNTIMES[runtime].suffix}"
    return export_model(
        model, file, runtime, inputs=[photo], facts=Facts(task="classify", architecture=family), fixed=True
    )


def model_preprocessing() -> Preprocessing:
    """ImageNet's normalisation."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Preprocessing(input_size=(3, *SIZE[1:]), mean=mean, std=std, interpolation="bicubic", crop_pct=1.0)


def told(report: Report) -> str:
    """The largest difference, or that nothing ran."""
    return f"{report.differences[0].largest:.1e}" if report.ran else "converted, not run"


def main() -> None:
    """Export, print a line a family, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", nargs="+", choices=tuple(RUNTIMES), default=tuple(RUNTIMES))
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    given = "" if tuple(arguments.to) == tuple(RUNTIMES) else f" --to {' '.join(arguments.to)}"
    rows: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            rows[family] = {name: told(exported(family, name, Path(folder))) for name in arguments.to}
            print(family, rows[family], flush=True)
    figures: dict[str, Any] = {
        "kind": "families",
        "conditions": {
            "processor": processor("cpu"),
            "torch": torch.__version__,
            "commit": commit(),
            "date": date.today().isoformat(),
            "command": f"python -m tests.deploy.every_family{given}",
        },
        "rows": rows,
    }
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
