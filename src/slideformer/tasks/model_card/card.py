# SPDX-License-Identifier: Apache-2.0
"""The text of a card: metadata for the Hub in YAML, then Markdown for a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from huggingface_hub import EvalResult, ModelCardData

from slideformer.errors import printable
from slideformer.runs import Run
from slideformer.tasks.model_card.figures import FIGURES, known_figures
from slideformer.tasks.model_card.markdown import escape, fenced, table
from slideformer.tasks.model_card.record import Record

# Task -> the Hub's name of it, and a name for a reader.
PIPELINES = {
    "classify": "image-classification",
    "detect": "object-detection",
    "segment": "image-segmentation",
}
NOUNS = {"classify": "An image classifier", "detect": "An object detector", "segment": "A semantic segmenter"}
# Data that have no name on the Hub.
UNPUBLISHED = "custom"
# Names of classes that are listed.
MOST_CLASSES = 100

LOAD_BY_TIMM = """\
import slideformer  # adds its models to timm's
import timm

model = timm.create_model("hf-hub:USER/NAME", pretrained=True).eval()"""
LOAD = """\
import slideformer
from huggingface_hub import snapshot_download

run = slideformer.open_run(snapshot_download("USER/NAME"))
for result in slideformer.predict(run, "photo.jpg"):
    print(result)"""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """Figures of `slideformer.evaluate`, for a card.

    Attributes:
        figures: by the names of `FIGURES`.
        images: how many they are of.
        data: name of the data.
        command: that gives them.
        trained_on: whether images that the model was trained on may be among them.
    """

    figures: Mapping[str, float]
    images: int
    data: str
    command: str
    trained_on: bool = False


def metadata(run: Run, record: Record, evaluated: Evaluated | None) -> str:
    """The metadata for the Hub, but for the license: lines of YAML.

    Its figures are those of the evaluation where there is one, of images that the model was not trained on,
    else those of the training.
    """
    classifier = run.task == "classify"
    name, dataset = f"{record.data}, held-out part", record.dataset or UNPUBLISHED
    figures = record.figures
    if evaluated is not None and not evaluated.trained_on:
        name, dataset, figures = evaluated.data, UNPUBLISHED, evaluated.figures
    results = [
        EvalResult(
            task_type=PIPELINES[run.task],
            dataset_type=printable(dataset),
            dataset_name=printable(name),
            metric_type=FIGURES[key].metric,
            metric_name=FIGURES[key].name,
            metric_value=x,
        )
        for key, x in known_figures(figures).items()
    ]
    data = ModelCardData(
        # timm builds no detector and no segmenter.
        library_name="timm" if classifier else "slideformer",
        pipeline_tag=PIPELINES[run.task],
        tags=["slideformer", "timm" if classifier else printable(run.blueprint.head)],
        datasets=[printable(record.dataset)] if record.dataset else None,
        base_model=printable(record.base_model) if record.base_model else None,
        model_name=printable(run.blueprint.architecture) if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def body(run: Run, record: Record, evaluated: Evaluated | None) -> str:
    """The Markdown for a reader.

    Args:
        run: its metadata; the model is not used.
        record: of its training.
        evaluated: figures of the same weights; None for those of the training alone.
    """
    name, data = escape(run.blueprint.architecture), escape(record.data)
    by_timm = [fenced("python", LOAD_BY_TIMM), "With the names of the classes:"]
    sections = [
        f"# {name}, trained on {data}",
        f"{NOUNS[run.task]} of {run.blueprint.num_classes} classes with {record.parameters / 1e6:.2f} M "
        "parameters, trained with slideformer.",
        "## Figures",
        *training_figures(record),
        *([] if evaluated is None else evaluation_figures(evaluated)),
        "## Data",
        data_of(run, record),
        "## Recipe",
        table(("setting", "value"), recipe_of(record).items()),
        "## Use",
        "Replace `USER/NAME` by the name of this model on the Hub.",
        *(by_timm if run.task == "classify" else []),
        fenced("python", LOAD),
        "## Made by",
        fenced("bash", record.command),
        f"{escape(', '.join(f'{name} {version}' for name, version in record.versions.items()))}; "
        f"{escape(record.device)}{speed_of(record)}.",
    ]
    return "\n\n".join(sections) + "\n"


def training_figures(record: Record) -> list[str]:
    """Paragraphs on the figures of the training, and on how the epoch of the weights was chosen."""
    average = "moving average of the weights" if record.average else "weights"
    epoch = f"The {average} of epoch {record.epoch} of {record.epochs}"
    if not record.chosen_by:
        return [f"{epoch}, the last one: no epoch was evaluated on the hold-out."]
    if record.candidates == 1:
        only = f"{epoch}, the only one that was evaluated on the hold-out, {counted(record.val_images)}."
        return [only, figure_table(record.figures)]
    chosen = f"{epoch}, chosen by the {escape(record.chosen_by)}, {counted(record.val_images)}."
    caution = "On images that had no part in that choice the figures may be a little lower."
    return [f"{chosen} {caution}", figure_table(record.figures)]


def evaluation_figures(evaluated: Evaluated) -> list[str]:
    """Paragraphs on the figures of an evaluation, with its command."""
    among = ", some of which it may have been trained on" if evaluated.trained_on else ""
    return [
        f"Evaluated afterwards, on {counted(evaluated.images)} of {escape(evaluated.data)}{among}:",
        figure_table(evaluated.figures),
        fenced("bash", evaluated.command),
    ]


def figure_table(figures: Mapping[str, float]) -> str:
    """A row a figure."""
    rows = ((FIGURES[key].name, FIGURES[key].show(x)) for key, x in known_figures(figures).items())
    return table(("figure", "value"), rows)


def data_of(run: Run, record: Record) -> str:
    """Sentences on the data: how many images, and which classes."""
    part = "" if run.val_fraction is None else f", {run.val_fraction:g} of each class"
    images = f"{counted(record.train_images)} to train on, {counted(record.val_images)} held out{part}"
    names = [escape(name) for name in run.class_names]
    if not names:
        return f"From {escape(record.data)}: {images}. The names of the classes are not known."
    more = f" and {len(names) - MOST_CLASSES} more, in `config.json`" if len(names) > MOST_CLASSES else ""
    return f"From {escape(record.data)}: {images}. Classes: {', '.join(names[:MOST_CLASSES])}{more}."


def recipe_of(record: Record) -> dict[str, str]:
    """The main values of the training, by name."""
    teacher = {"teacher": record.teacher} if record.teacher else {}
    return {"weights at the start": record.weights, **teacher, **record.recipe}


def speed_of(record: Record) -> str:
    """The speed of the training in words; empty if unknown."""
    return (
        ""
        if record.images_per_second is None
        else f", {record.images_per_second:.0f} images a second in training"
    )


def counted(images: int | None) -> str:
    """A number of images in words."""
    return "images of unknown number" if images is None else f"{images} image{'' if images == 1 else 's'}"
