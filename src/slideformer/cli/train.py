# SPDX-License-Identifier: Apache-2.0
"""`slideformer train`: Lightning's command line, in our words."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from slideformer.errors import UserError

EXAMPLES = """\
usage: slideformer train --model NAME --data SOURCE --output RUN [options]

  slideformer train --config digits --output runs/digits
  slideformer train --model slide_swin_tiny --data DIR --output runs/mine --trainer.max_epochs 50
  slideformer train --config imagenet_slide_swin_tiny --data DIR --output runs/imagenet --trainer.devices 8
  slideformer train --resume runs/mine

SOURCE is a folder with train/ and val/, each with a folder of images a class; `digits`; or a source of
timm such as wds/NAME. --config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-3.
"""


def run_words(words: Sequence[str]) -> int:
    """Train; the words are parsed by Lightning."""
    try:
        from slideformer.tasks.classify.command_line import recipes
        from slideformer.tasks.classify.train import fit
    except ImportError as error:
        raise UserError(
            f"training needs {error.name}, which is not installed; pip install 'slideformer[train]'"
        ) from error
    if {"-h", "--help"} & set(words):
        print(EXAMPLES.format(recipes=", ".join(recipes())))
    # A scheduler's polite kill is told like Ctrl-C: the last whole epoch is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fit(words)
    return 0
