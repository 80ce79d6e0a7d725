# SPDX-License-Identifier: Apache-2.0
"""Hostile inputs by family: each changes a copy of the healthy ones and names the command to run on it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import onnx
import torch
from onnx import helper
from safetensors.torch import load_file, save_file

from tests.hostile import damage

DATA = {"classify": "photos", "detect": "scenes", "segment": "labelled"}


@dataclass(frozen=True)
class Case:
    """A command over hostile input.

    Attributes:
        program: that is run.
        words: after its name.
        refused: whether it must not end with 0; None where either is right.
    """

    program: str
    words: tuple[str, ...]
    refused: bool | None = None


Family = Callable[[random.Random, Path, Path], Case]


def slideformer(*words: object, refused: bool | None = None) -> Case:
    """A case of the command."""
    return Case("slideformer", tuple(map(str, words)), refused)


def runtime(*words: object) -> Case:
    """A case of the runtime's command."""
    return Case("slideformer-runtime", tuple(map(str, words)))


def borrow(world: Path, folder: Path, name: str) -> Path:
    """A copy of a healthy input, to be changed."""
    source, target = world / name, folder / Path(name).name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    return target


def any_task(draw: random.Random) -> str:
    """One of the three."""
    return draw.choice(sorted(DATA))


def output(task: str, folder: Path) -> tuple[object, ...]:
    """Where a prediction writes what it draws, which is not next to the healthy inputs."""
    return () if task == "classify" else ("--output", folder / "out")


def read_run(draw: random.Random, world: Path, folder: Path, run: Path, task: str) -> tuple[object, ...]:
    """A verb that reads a run."""
    if draw.random() < 0.5:
        return ("predict", run, world / "images" / "a.jpg", *output(task, folder))
    return ("evaluate", run, "--data", world / DATA[task], "--output", folder / "out")


def config(draw: random.Random, world: Path, folder: Path) -> Case:
    """A run whose config.json is hostile."""
    task = any_task(draw)
    run = borrow(world, folder, task)
    damage.json_file(draw, run / "config.json")
    return slideformer(*read_run(draw, world, folder, run, task))


def weights(draw: random.Random, world: Path, folder: Path) -> Case:
    """A run whose weights are damaged, not finite, or not a file."""
    task = any_task(draw)
    run = borrow(world, folder, task)
    file = run / "model.safetensors"
    kind = draw.choice(("irregular", "not finite", "cut"))
    if kind == "irregular":
        damage.irregular(draw, file)
    elif kind == "not finite":
        state, bad = load_file(file), draw.choice((damage.NAN, damage.INFINITE))
        save_file({name: x.fill_(bad) if x.is_floating_point() else x for name, x in state.items()}, file)
    else:
        data = file.read_bytes()
        file.write_bytes(data[: draw.randrange(len(data))])
    # A detector whose numbers are not finite may find nothing.
    refused = None if (kind, task) == ("not finite", "detect") else True
    return slideformer(*read_run(draw, world, folder, run, task), refused=refused)


NAMES = (
    "evil\n.jpg",
    "\x1b[31mred.png",
    "\udce9\udcff.jpg",
    "-n.jpg",
    "*.jpg",
    "ö[1].png",
    "e" * 200 + ".jpg",
)


def images(draw: random.Random, world: Path, folder: Path) -> Case:
    """Damaged images, strange names and things that are not files, among good images."""
    place = borrow(world, folder, "images")
    good = sorted(place.iterdir())
    for _ in range(3):
        kind, file = draw.choice(("damaged", "named", "irregular")), draw.choice(good)
        if kind == "named":
            shutil.copy(world / "images" / "a.jpg", place / draw.choice(NAMES))
        elif file.is_file() and kind == "damaged":
            file.write_bytes(damage.bytes_of(draw, file.read_bytes()))
        elif file.is_file():
            damage.irregular(draw, file)
    task = any_task(draw)
    as_json = draw.choice(([], ["--json"]))
    if draw.random() < 0.4:
        return runtime(world / "files" / f"{task}.onnx", place, *as_json)
    stop = draw.choice(([], ["--on-bad-image", "stop"]))
    return slideformer("predict", world / task, place, *as_json, *stop, *output(task, folder))


def checkpoint(draw: random.Random, world: Path, folder: Path) -> Case:
    """A training to be resumed whose checkpoints are damaged or lack a part."""
    run = borrow(world, folder, "classify")
    file = run / "checkpoints" / draw.choice(("last.ckpt", "best.ckpt"))
    kind = draw.choice(("bytes", "irregular", "value", "key"))
    if kind == "bytes":
        file.write_bytes(damage.bytes_of(draw, file.read_bytes()))
    elif kind == "irregular":
        damage.irregular(draw, file)
    else:
        state = torch.load(file, weights_only=True)
        if kind == "value":
            damage.value(draw, state)
        else:
            del state[draw.choice(sorted(state))]
        torch.save(state, file)
    return slideformer("train", "--resume", run, "--trainer.max_epochs", 4)


# A training of seconds.
QUICK = {
    "--model": "slide_swin_nano",
    "--data.batch_size": 8,
    "--data.num_workers": 0,
    "--trainer.max_epochs": 1,
    "--trainer.accelerator": "cpu",
}
# Ten lists, each of nine times the one before.
LAUGHS = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij")
)
YAML = (
    LAUGHS,
    "a: &a [*a]\n",
    "[" * 5000,
    "{a: " * 5000,
    "!!python/object/apply:os.system ['touch evil']\n",
    "model: null\ndata: null\ntrainer: null\n",
    "- a\n- b\n",
    "text",
    "\xff\xfe",
    "model:\n  optimise: 3\n",
    "trainer:\n  callbacks: evil\n",
    "output: [1, 2]\n",
    "seed_everything: evil\n",
    "a: b: c\n",
    "\t\n",
    "",
)


def configuration(draw: random.Random, world: Path, folder: Path) -> Case:
    """A configuration that nests without end, refers to itself, or is none."""
    run = borrow(world, folder, "classify")
    file = run / "config.yaml"
    whole = draw.choice(YAML).encode("latin-1")
    file.write_bytes(damage.bytes_of(draw, file.read_bytes()) if draw.random() < 0.3 else whole)
    if draw.random() < 0.5:
        return slideformer("train", "--resume", run)
    return train({"--data": world / "photos", "--output": folder / "out", "--config": file})


def train(options: dict[str, object]) -> Case:
    """A training of seconds, but for these options."""
    return slideformer("train", *(f"{name}={x}" for name, x in (QUICK | options).items()))


def annotations(draw: random.Random, world: Path, folder: Path) -> Case:
    """A detector's data with hostile annotations."""
    scenes = borrow(world, folder, "scenes")
    file = draw.choice(sorted((scenes / "annotations").iterdir()))
    if draw.random() < 0.1:
        damage.irregular(draw, file)
    else:
        damage.json_file(draw, file)
    if draw.random() < 0.5:
        return slideformer("check-data", "detect", scenes)
    return slideformer("evaluate", world / "detect", "--data", scenes, "--output", folder / "out")


LISTS_OF_CLASSES = (b"", b"\xff\xfe", b"a\na\nb\n", b"a\x1b[31m\nb\nc\n", b"\n" * 9, b"one\n")


def labels(draw: random.Random, world: Path, folder: Path) -> Case:
    """A segmenter's data with hostile class names, label maps and images."""
    data = borrow(world, folder, "labelled")
    names = data / "classes.txt"
    file = draw.choice((names, *sorted(data.glob("*/*.jpg")), *sorted(data.glob("masks/*/*.png"))))
    if draw.random() < 0.3:
        damage.irregular(draw, file)
    elif file == names:
        file.write_bytes(draw.choice(LISTS_OF_CLASSES))
    else:
        file.write_bytes(damage.bytes_of(draw, file.read_bytes()))
    if draw.random() < 0.5:
        return slideformer("check-data", "segment", data)
    return slideformer("evaluate", world / "segment", "--data", data, "--output", folder / "out")


def exported(draw: random.Random, world: Path, folder: Path) -> Case:
    """An exported file that says hostile things of itself, or is damaged."""
    task = any_task(draw)
    file = borrow(world, folder, f"files/{task}.onnx")
    kind = draw.random()
    if kind < 0.7:
        model = onnx.load(file)
        facts = {entry.key: entry.value for entry in model.metadata_props}
        key, x = draw.choice(sorted(facts)), draw.choice((*damage.VALUES, *DATA))
        facts[key] = x if isinstance(x, str) else json.dumps(x)
        if draw.random() < 0.2:
            del facts[key]
        helper.set_model_props(model, facts)
        onnx.save(model, file)
    elif kind < 0.9:
        file.write_bytes(damage.bytes_of(draw, file.read_bytes()))
    else:
        damage.irregular(draw, file)
    if draw.random() < 0.3:
        return slideformer("verify", file, "--model", world / task)
    return runtime(file, world / "images", *(("--output", folder / "out") if task == "segment" else ()))


SIZES = ("-1", "nan", "inf", "1e20", "99999999999", "evil", "99999x99999", "0x0", "-1x-1", "[1,")
NUMBERS = (*SIZES, "", "0", "-inf", "1e-300", "1e99", "0.5", "[]", "{}", "null")
WORDS = ("rand-mx", "rand-m9-mstd", "const", "[0.1, 0.2]", "[2, 1]", "[nan, 1]", "a\nb", "\x1b[31m")
# Options of a training whose values a person may get wrong.
TRAINING = """
    --data --data.batch_size --data.num_workers --data.image_size --data.on_bad_image --data.num_classes
    --data.root --data.augment.scale --data.augment.ratio --data.augment.hflip --data.augment.color_jitter
    --data.augment.auto_augment --data.augment.erase_mode --data.augment.erase_prob --data.augment.repeats
    --model --model.smoothing --model.drop_path_rate --model.ema_decay --model.optimise.name
    --model.optimise.lr --model.optimise.base_batch --model.optimise.weight_decay --model.optimise.betas
    --model.optimise.schedule --model.optimise.warmup_epochs --model.optimise.warmup_lr
    --model.optimise.min_lr --model.optimise.cooldown_epochs --model.optimise.layer_decay
    --trainer.max_epochs --trainer.devices --trainer.num_nodes --trainer.precision
    --trainer.check_val_every_n_epoch --trainer.val_check_interval --trainer.limit_train_batches
    --trainer.limit_val_batches --trainer.accumulate_grad_batches --trainer.gradient_clip_val
    --trainer.accelerator --trainer.strategy --trainer.log_every_n_steps --trainer.overfit_batches
    --trainer.num_sanity_val_steps --seed_everything --output --config --resume
"""


def training(draw: random.Random, world: Path, folder: Path) -> Case:
    """A training with a hostile value of an option."""
    named = {draw.choice(TRAINING.split()): draw.choice((*NUMBERS, *WORDS))}
    return train({"--data": world / "photos", "--output": folder / "out", **named})


# Options of other verbs, and whether a value of `SIZES` may be right for one of them.
OPTIONS = {
    "evaluate": ("--batch-size --workers --device --precision --window --stride --on-bad-image", True),
    "predict": ("--top --score --batch-size --workers --device --window --stride --on-bad-image", True),
    "scenes": ("--train --val --size --seed", True),
    "export": ("--to --precision --size --num-classes --calibrate --pictures", False),
    "verify": ("--threads --size --pictures --data --model", False),
    "backends": ("--batch --size --heads --head-dim --kernel-size", False),
    "bench": ("--batch --size --heads --head-dim --kernel-size --rounds --threads", False),
    "compare": ("--size --dim --heads --query --rounds", False),
    "models": ("--task --counts", True),
}


def options(draw: random.Random, world: Path, folder: Path) -> Case:
    """A verb with a hostile value of an option."""
    verb, task = draw.choice(sorted(OPTIONS)), any_task(draw)
    out = ("--output", folder / "out")
    before: dict[str, tuple[object, ...]] = {
        "evaluate": (world / task, "--data", world / DATA[task], *out),
        "predict": (world / task, world / "images" / "a.jpg", *output(task, folder)),
        "scenes": (folder / "scenes",),
        "export": (world / "classify", *out),
        "verify": (world / "files" / "classify.onnx", "--model", world / "classify"),
        "bench": ("operator",),
    }
    names, may_be_right = OPTIONS[verb]
    word = f"{draw.choice(names.split())}={draw.choice(SIZES)}"
    return slideformer(verb, *before.get(verb, ()), word, refused=None if may_be_right else True)


# Verbs that take a path; those that measure or generate for minutes get no healthy one.
PLACES = ("evaluate", "predict", "check-data", "export", "verify", "train", "train detect", "train segment")


def words(draw: random.Random, world: Path, folder: Path) -> Case:
    """Words that are missing, too many, or name what is not there."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    healthy = (world / "images", world / "classify" / "config.json", world / "files" / "classify.onnx")
    strange = ("", "a\nb", "\x1b[31m", "\udcff", "--evil", "--", "-", "--data", "--config", "--resume")
    some: tuple[object, ...] = (fifo, "/dev/zero", folder / "nowhere", *healthy, *strange)
    if draw.random() < 0.2:
        return slideformer(draw.choice(("bench", "compare", "demo", "scenes")), "--evil", refused=True)
    verb = draw.choice(PLACES)
    return slideformer(*verb.split(), *draw.choices(some, k=draw.randrange(3)), refused=True)


# A family, and how many of a hundred cases are its.
FAMILIES: dict[Family, int] = {
    config: 16,
    weights: 6,
    images: 14,
    checkpoint: 6,
    configuration: 6,
    annotations: 10,
    labels: 8,
    exported: 12,
    training: 12,
    options: 6,
    words: 4,
}
