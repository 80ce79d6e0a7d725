# SPDX-License-Identifier: Apache-2.0
"""A model as a file for another runtime: merged, and checked there before it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slideformer.deploy.card import Card, Sizes, fingerprint
from slideformer.deploy.job import Job
from slideformer.deploy.retina import RetinaGraph
from slideformer.deploy.runtimes import RUNTIMES, Runtime
from slideformer.deploy.verify import Report, verify
from slideformer.errors import UserError
from slideformer.files import staged
from slideformer.layers import SlideAttention
from slideformer.models import reparameterize


def export(
    model: nn.Module,
    file: str | Path,
    runtime: str,
    *,
    inputs: Sequence[Tensor],
    facts: Mapping[str, Any],
    precision: str = "float32",
    calibration: Sequence[Tensor] = (),
    form: str | None = None,
    fixed: bool = False,
) -> Report:
    """Write a model for a runtime, and check the file there against the model.

    Learned shifts are merged in a copy; the model stays as it is. The file is written under another name
    and renamed once it has passed, so that a file that exists is a file that was checked.

    Args:
        model: maps ``(B, channels, height, width)`` to logits ``(B, classes)`` or, a segmenter's,
            ``(B, classes, height, width)``; or a RetinaNet of ours. In evaluation mode.
        file: to write, with the runtime's ending.
        runtime: a name in `RUNTIMES`.
        inputs: to check with ``(B, channels, height, width)``, of several sizes where the runtime takes any,
            prepared as the model wants them; the first one has the size that is traced, and that a file
            for a runtime of fixed sizes takes.
        facts: what travels with the file beside what is known here: ``task``, ``"classify"`` unless told,
            architecture, class names and preprocessing, plain values by name.
        precision: of weights and products.
        calibration: inputs of the size that is traced, one picture each, to whose ranges int8 is fitted.
        form: of slide attention, a backend of the operator; the runtime's own where None.
        fixed: whether the file takes one image of the first input's size alone, where the runtime takes any:
            its graph is simpler, and some runtimes run it faster.

    Returns:
        What was checked, and how far file and model are apart.

    Raises:
        UserError: a package is missing, the runtime does not take the model or the precision, or the file
            differs from the model by more than the precision may.
    """
    row = find(runtime)
    file, task = Path(file), str(facts.get("task", "classify"))
    refuse(row, file, task, precision, bool(calibration))
    fixed = fixed or precision in row.one_size
    single = fixed or task == "detect"
    channels, height, width = inputs[0].shape[1:]
    sizes = Sizes(1, height, width) if fixed else Sizes(batch=1 if single else None)
    if fixed and "input_size" in facts:  # what a picture is brought to before it is given to the file
        facts = {**facts, "input_size": [channels, height, width]}
    if not fixed and getattr(model, "pretrained_cfg", {}).get("fixed_input_size", False):
        raise UserError("this model takes images of one size alone; export it with --fixed (fixed=True)")
    chosen = row.form if form is None else form
    card = Card(task, precision, chosen, fingerprint(model), sizes, facts)
    module = in_form(reparameterize(model), chosen)
    if task == "detect":
        module = RetinaGraph(module).eval()
        model = RetinaGraph(model).eval()
    example = inputs[0][:1] if single else inputs[0][:1].repeat(2, 1, 1, 1)
    with staged(file) as unfinished:
        row.write(Job(module, example, card, calibration), unfinished)
        report = verify(row, unfinished, model, inputs)
        if report.fault is not None:
            raise UserError(f"{report.fault}; nothing was kept")
    return report


def find(name: str) -> Runtime:
    """The runtime of this name.

    Raises:
        UserError: there is none.
    """
    if name not in RUNTIMES:
        raise UserError(f"the runtime must be one of {', '.join(RUNTIMES)}, got {name!r}")
    return RUNTIMES[name]


def refuse(row: Runtime, file: Path, task: str, precision: str, calibrated: bool) -> None:
    """Refuse what a runtime cannot take, before anything is written.

    Raises:
        UserError: says what must hold.
    """
    if file.suffix != row.suffix:
        raise UserError(f"a file for {row.title} must end in {row.suffix}, got {file}; change its name")
    if task not in row.tasks:
        tasks = " or ".join(row.tasks)
        raise UserError(f"{row.title} takes models that {tasks}, got one to {task}; choose onnx for it")
    if precision not in row.precisions:
        known = ", ".join(row.precisions)
        raise UserError(f"{row.title} has the precisions {known}, got {precision}; choose one of them")
    if task == "detect" and precision != "float32":
        raise UserError(f"a detector is exported in float32, got {precision}; leave --precision out")
    if precision == "int8" and not calibrated:
        raise UserError("int8 needs pictures to fit its ranges to, got none; name some with --calibrate")
    _ = row.implementation  # tells what is not installed


def in_form(module: nn.Module, form: str) -> nn.Module:
    """The module, its slide attention computed by one backend of the operator."""
    for layer in module.modules():
        if isinstance(layer, SlideAttention):
            layer.backend = form
    return module
