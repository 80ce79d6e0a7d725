# SPDX-License-Identifier: Apache-2.0
"""A model as a file for another runtime: merged, and checked there before it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from slideformer.deploy.attention import AttentionGraph, check_attention
from slideformer.deploy.card import Card, Sizes, fingerprint
from slideformer.deploy.detector import DetectorGraph
from slideformer.deploy.inputs import CALIBRATION, CHECKED, prepared, read_images, stretched
from slideformer.deploy.job import Job
from slideformer.deploy.runtimes import RUNTIMES, Runtime
from slideformer.deploy.verify import Report, check_sizes, verify
from slideformer.errors import UserError
from slideformer.files import staged
from slideformer.layers import SlideAttention
from slideformer.models import reparameterize
from slideformer.runs import Facts, Run, check_has_weights
from slideformer.runs.run import TaskName
from slideformer.tasks.given import Source


def export(
    run: Run,
    runtime: str,
    file: str | Path | None = None,
    *,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    fixed: bool = False,
    calibrate: Sequence[Source] = (),
    images: Sequence[Source] = (),
    attention: bool = False,
) -> Report:
    """Export a run for another runtime, and check the file there against the model.

    Learned shifts are merged in a copy. The file is written under another name and renamed once it has
    passed, so that a file that exists is a file that was checked.

    Args:
        run: from `slideformer.open_run`.
        runtime: ``"onnx"``, ``"openvino"``, ``"executorch"``, ``"coreml"``, ``"coreai"`` or
            ``"torch"``.
        file: to write, with the runtime's ending; default: ``model`` in the folder of the run.
        precision: of weights and products: ``"float32"``, ``"float16"`` or ``"int8"``.
        size: height and width of the image to trace with, or that a file of fixed size takes; default: the
            model's own.
        fixed: whether the file takes only one image of that size, where the runtime takes any: its graph is
            simpler, and some runtimes run it faster.
        calibrate: images like those that the model will get, for int8: paths, folders, globs, images of
            Pillow or arrays.
        images: to check with; default: photographs.
        attention: whether the file also gives the attention weights of each layer, for the page that looks
            inside; for onnx, in float32, of a classifier or a segmenter.

    Returns:
        The differences found, and the path as ``file``; printed, a table.

    Raises:
        UserError: a package is missing, the runtime does not take the model or the precision, or the file
            differs from the model by more than the precision may.

    Example:
        ::

            report = slideformer.export(run, "onnx")
            print(report.file, report.differences)
    """
    check_has_weights(run)
    row = find_runtime(runtime)
    file = default_file(run, runtime, precision) if file is None else Path(file)
    check_target(row, file, run.task, precision, bool(calibrate), attention)
    size = run.input_size[1:] if size is None else size
    return export_model(
        run.model,
        file,
        runtime,
        inputs=[
            stretched(read_images(images, CHECKED), run.preprocessing, shape)
            for shape in checked_shapes(row, run, size, precision, fixed)
        ],
        facts=run.facts,
        precision=precision,
        calibration=(
            prepared(read_images(calibrate, CALIBRATION), run.preprocessing, size)
            if precision == "int8"
            else ()
        ),
        fixed=fixed,
        attention=attention,
    )


def export_model(
    model: nn.Module,
    file: str | Path,
    runtime: str,
    *,
    inputs: Sequence[Tensor],
    facts: Facts,
    precision: str = "float32",
    calibration: Sequence[Tensor] = (),
    form: str | None = None,
    fixed: bool = False,
    attention: bool = False,
) -> Report:
    """Export any model, and check the file against it; `export` does so for a run.

    Args:
        model: maps ``(B, channels, height, width)`` to logits ``(B, classes)`` or, a segmenter's,
            ``(B, classes, height, width)``; or a detector of ours. In evaluation mode.
        file: to write, with the runtime's ending.
        runtime: a name in `RUNTIMES`.
        inputs: to check with ``(B, channels, height, width)``, of several sizes where the runtime takes any,
            prepared as the model wants them; the first one has the size that is traced.
        facts: everything known about the model, which goes with the file.
        precision: of weights and products.
        calibration: inputs of the size that is traced, one image each, for int8.
        form: of slide attention, a backend of the operator; the runtime's own where None.
        fixed: whether the file takes only one image of the first input's size, where the runtime takes any.
        attention: whether the file also gives the attention weights of each layer.

    Raises:
        UserError: as of `export`.
    """
    row, file = find_runtime(runtime), Path(file)
    check_target(row, file, facts.task, precision, bool(calibration), attention)
    fixed = fixed or precision in row.one_size
    single = fixed or facts.task == "detect"
    height, width = inputs[0].shape[2:]
    sizes = Sizes(1, height, width) if fixed else Sizes(batch=1 if single else None)
    if fixed and facts.preprocessing is not None:
        facts = replace(facts, preprocessing=facts.preprocessing.for_size((height, width)))
    one_size = getattr(model, "pretrained_cfg", {}).get("fixed_input_size", False)
    if one_size and not fixed:
        raise UserError("this model takes images of one size only; export it with `fixed`")
    chosen = row.form if form is None else form
    module = in_form(reparameterize(model), chosen)
    card = Card(precision, chosen, fingerprint(model), facts, sizes)
    example = inputs[0][:1] if single else inputs[0][:1].repeat(2, 1, 1, 1)
    job = Job(module, example, card, calibration)
    if facts.task == "detect":
        graph = DetectorGraph(module).eval()
        card = replace(card, masks=graph.masks)
        job = replace(job, module=graph, example=graph.resized(example), card=card, sides=graph.sides)
    if attention:
        inside = AttentionGraph(module).eval()
        job = replace(
            job, module=inside, card=replace(card, attention=inside.layers(example, one_size=one_size))
        )
    with staged(file) as unfinished:
        row.write(job, unfinished)
        report = verify(row, unfinished, model, inputs)
        if report.fault is not None:
            raise UserError(f"{report.fault}; nothing was kept")
    return replace(report, file=file)


def default_file(
    run: Run, runtime: str, precision: str = "float32", size: tuple[int, int] | None = None
) -> Path:
    """The file of a run for a runtime: in its folder, or of the model's name; size None for a file of any.

    Raises:
        UserError: there is no such runtime.
    """
    words = [run.blueprint.backbone if run.folder is None else "model"]
    words += [] if precision == "float32" else [precision]
    words += [] if size is None else [f"{size[0]}x{size[1]}"]
    name = "-".join(words) + find_runtime(runtime).suffix
    return Path(name) if run.folder is None else run.folder / name


def checked_shapes(
    row: Runtime, run: Run, size: tuple[int, int], precision: str, fixed: bool
) -> list[tuple[int, int, int]]:
    """Batch, height and width of the inputs that a file is checked with."""
    shapes = check_sizes(*size)
    if fixed or precision in row.one_size:
        return [shapes[0]]
    return [(1, *shape[1:]) for shape in shapes] if run.task == "detect" else list(shapes)


def find_runtime(name: str) -> Runtime:
    """The runtime of this name."""
    if name not in RUNTIMES:
        raise UserError(f"the runtime must be one of {', '.join(RUNTIMES)}, got {name!r}")
    return RUNTIMES[name]


def check_target(
    row: Runtime, file: Path, task: TaskName, precision: str, calibrated: bool, attention: bool = False
) -> None:
    """Check that a runtime takes a model of a task in this precision, before anything is written."""
    if file.suffix != row.suffix:
        raise UserError(f"a file for {row.title} must end in {row.suffix}, got {file}; change its name")
    if task not in row.tasks:
        tasks = " or ".join(row.tasks)
        raise UserError(f"{row.title} takes models that {tasks}, got one to {task}; choose onnx or openvino")
    if precision not in row.precisions:
        known = ", ".join(row.precisions)
        raise UserError(f"{row.title} has the precisions {known}, got {precision}; choose one of them")
    if task == "detect" and precision != "float32":
        raise UserError(f"a detector is exported in float32, got {precision}; leave `precision` out")
    if precision == "int8" and not calibrated:
        raise UserError("int8 needs images to be calibrated with, got none; name some with `calibrate`")
    if attention:
        check_attention(row.name, task, precision)
    row.check_installed()


def in_form(module: nn.Module, form: str) -> nn.Module:
    """The module, its slide attention computed by one backend of the operator."""
    for layer in module.modules():
        if isinstance(layer, SlideAttention):
            layer.backend = form
    return module
