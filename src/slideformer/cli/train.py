# SPDX-License-Identifier: Apache-2.0
"""`slideformer train`: Lightning's command line, with our options."""

from __future__ import annotations

import signal
import textwrap
from collections.abc import Sequence

from slideformer.tasks.table import CLASSIFY, Task, find_task

# Task -> its help, up to the options.
HELP = {
    "classify": """\
usage: slideformer train --model NAME --data SOURCE --output RUN [options]

  slideformer train --config digits --output runs/digits
  slideformer train --model slide_swin_tiny --weights host:timm --data DIR --output runs/mine --epochs 20
  slideformer train --weights host:runs/host --model.teacher runs/host --data IMAGES --output runs/taught
  slideformer train --config imagenet_slide_swin_tiny --data DIR --output runs/imagenet --trainer.devices 8
  slideformer train --resume runs/mine
  slideformer train detect --help
  slideformer train segment --help

SOURCE is a folder with train/ and val/, each with a folder of images a class; `digits`; or a source of
timm such as wds/NAME. With --model.teacher, of a run or a name of timm's, also IMAGES without labels.
""",
    "detect": """\
usage: slideformer train detect --model HEAD --backbone NAME --data DIR --output RUN [options]

  slideformer scenes data/scenes
  slideformer train detect --config scenes --data data/scenes --output runs/scenes
  slideformer train detect --config coco_mask_rcnn_slide_swin_tiny --data COCO --output runs/coco \\
      --weights runs/imagenet --trainer.devices 8
  slideformer train --resume runs/coco

HEAD is one of mask_rcnn, cascade_mask_rcnn, faster_rcnn, retinanet. DIR holds COCO's
annotations/instances_{train,val}*.json next to train*/ and val*/ with the images;
`slideformer check-data detect DIR` looks at it first.
""",
    "segment": """\
usage: slideformer train segment --model HEAD --backbone NAME --data DIR --output RUN [options]

  slideformer scenes data/scenes
  slideformer train segment --config scenes --data data/scenes --output runs/scenes-segment
  slideformer train segment --config ade20k_upernet_slide_swin_tiny --data ADE --output runs/ade \\
      --weights runs/imagenet --trainer.devices 8
  slideformer train --resume runs/ade

HEAD is one of semantic_fpn, upernet. DIR holds images/{train,val} and masks/{train,val}, or train, val and
masks/{train,val}, with classes.txt; or ADE20K as it is unpacked.
`slideformer check-data segment DIR` looks at it first.
""",
}
# Option -> its value and what it does; a task shows those that it has.
OPTIONS = {
    "--model": ("NAME", "what is trained; `slideformer models` lists ours"),
    "--backbone": ("NAME", "what its maps come from; `slideformer models` lists ours"),
    "--data": ("SOURCE", "the images"),
    "--val-fraction": ("X", "of class folders without train/ and val/, the part of each to hold out"),
    "--weights": (
        "SOURCE",
        "start from timm, RUN or FILE; or a plain host: host:timm, host:RUN, host:FILE",
    ),
    "--epochs": ("N", "how often every image is seen"),
    "--batch-size": ("N", "images an update and device"),
    "--image-size": ("N", "side of the model's input in pixels"),
    "--lr": ("X", "learning rate"),
    "--device": ("NAME", "cpu, cuda, mps or auto"),
    "--workers": ("N", "processes that read images"),
}
RUN_OPTIONS = """\
  --output RUN          folder of the run: configuration, figures, weights
{recipes}
  --resume RUN          go on with a run that was interrupted
  --help-all            every option of model, data and trainer, such as --model.optimise.weight_decay
"""


def run_words(words: Sequence[str]) -> int:
    """Train; the words are parsed by Lightning."""
    named = bool(words) and not words[0].startswith("-")
    task = find_task(words[0]) if named else None
    words = words[1:] if named else words
    if {"-h", "--help"} & set(words):
        print(help_of(task or CLASSIFY))
        return 0
    from slideformer.tasks.training.command_line import task_of
    from slideformer.tasks.training.fit import fit

    words = ["--help" if word == "--help-all" else word for word in words]
    # A scheduler's polite kill ends like Ctrl-C: the last complete epoch is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fit(task or find_task(task_of(words)), words)
    return 0


def help_of(task: Task) -> str:
    """The help of a task: examples, and the options that most people need."""
    from slideformer.tasks.training.recipes import recipe_names

    rows = [
        (f"{option} {value}", words) for option, (value, words) in OPTIONS.items() if option in task.short
    ]
    options = "\n".join(f"  {option:<20}  {words}" for option, words in rows)
    recipes = textwrap.fill(
        f"{'--config RECIPE':<20}  a YAML file or one of {', '.join(recipe_names(task.name))}",
        width=104,
        initial_indent="  ",
        subsequent_indent=" " * 24,
    )
    return f"{HELP[task.name]}\n{options}\n{RUN_OPTIONS.format(recipes=recipes)}"
