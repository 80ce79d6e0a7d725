# SPDX-License-Identifier: Apache-2.0
"""`slideformer train`: Lightning's command line, with our options."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from slideformer.tasks.table import Task, find_task

# Task -> the beginning of its help.
EXAMPLES = {
    "classify": """\
usage: slideformer train --model NAME --data SOURCE --output RUN [options]

  slideformer train --config digits --output runs/digits
  slideformer train --model slide_swin_tiny --data DIR --output runs/mine --trainer.max_epochs 50
  slideformer train --config imagenet_slide_swin_tiny --data DIR --output runs/imagenet --trainer.devices 8
  slideformer train --resume runs/mine
  slideformer train detect --help
  slideformer train segment --help

SOURCE is a folder with train/ and val/, each with a folder of images a class; `digits`; or a source of
timm such as wds/NAME. --config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-3.
""",
    "detect": """\
usage: slideformer train detect --model HEAD --backbone NAME --data DIR --output RUN [options]

  slideformer scenes data/scenes
  slideformer train detect --config scenes --data data/scenes --output runs/scenes
  slideformer train detect --config coco_mask_rcnn_slide_swin_tiny --data COCO --output runs/coco \\
      --model.weights runs/imagenet --trainer.devices 8
  slideformer train --resume runs/coco

HEAD is one of {heads}. DIR holds COCO's annotations/instances_{{train,val}}*.json next to
train*/ and val*/ with the images; `slideformer check-data detect DIR` looks at it first.
--config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-4.
""",
    "segment": """\
usage: slideformer train segment --model HEAD --backbone NAME --data DIR --output RUN [options]

  slideformer scenes data/scenes
  slideformer train segment --config scenes --data data/scenes --output runs/scenes-segment
  slideformer train segment --config ade20k_upernet_slide_swin_tiny --data ADE --output runs/ade \\
      --model.weights runs/imagenet --trainer.devices 8
  slideformer train --resume runs/ade

HEAD is one of {heads}. DIR holds images/{{train,val}} and masks/{{train,val}}, or train, val and
masks/{{train,val}}, with classes.txt; or ADE20K as it is unpacked.
`slideformer check-data segment DIR` looks at it first.
--config takes a YAML file or a recipe: {recipes}.
Every value of a recipe can be overridden by its path, as in --model.optimise.lr 1e-4.
""",
}


def run_words(words: Sequence[str]) -> int:
    """Train; the words are parsed by Lightning."""
    from slideformer.tasks.training.command_line import task_of
    from slideformer.tasks.training.fit import fit

    named = bool(words) and not words[0].startswith("-")
    task = find_task(words[0] if named else task_of(words))
    words = words[1:] if named else words
    if {"-h", "--help"} & set(words):
        print(examples(task))
    # A scheduler's polite kill ends like Ctrl-C: the last complete epoch is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    fit(task, words)
    return 0


def examples(task: Task) -> str:
    """The beginning of the help of a task."""
    from slideformer.dense import detector, segmenter
    from slideformer.tasks.training.recipes import recipe_names

    heads = {"classify": [], "detect": [*detector.HEADS], "segment": [*segmenter.HEADS]}[task.name]
    return EXAMPLES[task.name].format(heads=", ".join(heads), recipes=", ".join(recipe_names(task.name)))
