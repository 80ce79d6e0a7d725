# SPDX-License-Identifier: Apache-2.0
"""The table of tasks. It imports neither Lightning nor torchvision: its functions do when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from slideformer.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

    from slideformer.runs import Run
    from slideformer.tasks.evaluate import Evaluation
    from slideformer.tasks.evaluate import Options as EvaluationOptions
    from slideformer.tasks.predict import Options as PredictionOptions
    from slideformer.tasks.predict import Predictor
    from slideformer.tasks.training.batches import Batch
    from slideformer.tasks.training.data import ImageData
    from slideformer.tasks.training.learner import Learner


class Sheets(Protocol):
    """Drawings of a training: a module of each task."""

    def draw_batch(self, batch: Batch, data: Any) -> Image.Image:
        """Draw a batch of training of a data module, as the model sees it, with its labels."""

    def draw_predictions(self, run: Run, data: Any) -> Image.Image:
        """Draw what a run predicts for the hold-out of a data module, with the truth."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A value that the data or the model of a training give to the other.

    Attributes:
        source: the argument, or attribute, that gives it.
        target: the argument that gets it.
        on_instance: whether only an instance knows it.
    """

    source: str
    target: str
    on_instance: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """A row of the table.

    Attributes:
        name: the word after ``slideformer train``.
        purpose: what its training does, for the help.
        extra: the extra of the package that it needs.
        short: short options of its training, and the options that they stand for.
        links: values that data and model give to each other.
        learner: imports and returns the class of what is trained, whose arguments are under ``--model``.
        data: imports and returns the class of the data module, whose arguments are under ``--data``.
        predictor: makes what predicts with a run.
        evaluate: evaluates a run on a source of data.
        sheets: imports and returns what draws its training.
    """

    name: str
    purpose: str
    extra: str
    short: Mapping[str, str]
    links: tuple[Link, ...]
    learner: Callable[[], type[Learner]]
    data: Callable[[], type[ImageData]]
    predictor: Callable[[Run, PredictionOptions], Predictor]
    evaluate: Callable[[Run, str | Path, EvaluationOptions], Evaluation]
    sheets: Callable[[], Sheets]

    @property
    def command(self) -> str:
        """The command that trains it."""
        return "slideformer train" if self.name == "classify" else f"slideformer train {self.name}"


def classifier() -> type[Learner]:
    """A classifier in training."""
    from slideformer.tasks.classify.module import Classifier

    return Classifier


def classification_data() -> type[ImageData]:
    """Images with classes."""
    from slideformer.tasks.classify.data import ClassificationData

    return ClassificationData


def predict_classify(run: Run, options: PredictionOptions) -> Predictor:
    """Make what predicts with a classifier."""
    from slideformer.tasks.classify.predict import classifier

    return classifier(run, options)


def evaluate_classify(run: Run, data: str | Path, options: EvaluationOptions) -> Evaluation:
    """Evaluate a classifier."""
    from slideformer.tasks.classify.evaluate import evaluate_run

    return evaluate_run(run, data, options)


def classifier_sheets() -> Sheets:
    """Drawings of a classifier's training."""
    from slideformer.tasks.classify import drawn

    return drawn


def detector() -> type[Learner]:
    """A detector in training."""
    from slideformer.tasks.detect.module import DetectorLearner

    return DetectorLearner


def detection_data() -> type[ImageData]:
    """Images with annotated objects."""
    from slideformer.tasks.detect.data import DetectionData

    return DetectionData


def predict_detect(run: Run, options: PredictionOptions) -> Predictor:
    """Make what predicts with a detector."""
    from slideformer.tasks.detect.predict import detector

    return detector(run, options)


def evaluate_detect(run: Run, data: str | Path, options: EvaluationOptions) -> Evaluation:
    """Evaluate a detector."""
    from slideformer.tasks.detect.evaluate import evaluate_run

    return evaluate_run(run, data, options)


def detector_sheets() -> Sheets:
    """Drawings of a detector's training."""
    from slideformer.tasks.detect import drawn

    return drawn


def segmenter() -> type[Learner]:
    """A segmenter in training."""
    from slideformer.tasks.segment.module import SegmenterLearner

    return SegmenterLearner


def segmentation_data() -> type[ImageData]:
    """Images with label maps."""
    from slideformer.tasks.segment.data import SegmentationData

    return SegmentationData


def predict_segment(run: Run, options: PredictionOptions) -> Predictor:
    """Make what predicts with a segmenter."""
    from slideformer.tasks.segment.predict import segmenter

    return segmenter(run, options)


def evaluate_segment(run: Run, data: str | Path, options: EvaluationOptions) -> Evaluation:
    """Evaluate a segmenter."""
    from slideformer.tasks.segment.evaluate import evaluate_run

    return evaluate_run(run, data, options)


def segmenter_sheets() -> Sheets:
    """Drawings of a segmenter's training."""
    from slideformer.tasks.segment import drawn

    return drawn


SHORT = {
    "--model": "--model.name",
    "--data": "--data.source",
    "--weights": "--model.weights",
    "--epochs": "--trainer.max_epochs",
    "--batch-size": "--data.batch_size",
    "--lr": "--model.optimise.lr",
    "--workers": "--data.num_workers",
    "--device": "--trainer.accelerator",
}
NUM_CLASSES = Link(source="data.num_classes", target="model.num_classes", on_instance=True)

CLASSIFY = Task(
    name="classify",
    purpose="Train an image classifier.",
    extra="train",
    short={**SHORT, "--image-size": "--data.image_size", "--val-fraction": "--data.val_fraction"},
    links=(
        Link(source="model.name", target="data.model"),
        Link(source="model.teacher", target="data.teacher"),
        NUM_CLASSES,
        Link(source="data.labelled", target="model.labelled", on_instance=True),
        Link(source="data.preprocessing", target="model.preprocessing", on_instance=True),
    ),
    learner=classifier,
    data=classification_data,
    predictor=predict_classify,
    evaluate=evaluate_classify,
    sheets=classifier_sheets,
)
DETECT = Task(
    name="detect",
    purpose="Train a detector, of boxes alone or with masks.",
    extra="detect",
    short={**SHORT, "--backbone": "--model.backbone"},
    links=(Link(source="model.name", target="data.detector"), NUM_CLASSES),
    learner=detector,
    data=detection_data,
    predictor=predict_detect,
    evaluate=evaluate_detect,
    sheets=detector_sheets,
)
SEGMENT = Task(
    name="segment",
    purpose="Train a model that names the class of every pixel.",
    extra="segment",
    short={**SHORT, "--backbone": "--model.backbone", "--image-size": "--data.crop_size"},
    links=(NUM_CLASSES,),
    learner=segmenter,
    data=segmentation_data,
    predictor=predict_segment,
    evaluate=evaluate_segment,
    sheets=segmenter_sheets,
)
TASKS = {task.name: task for task in (CLASSIFY, DETECT, SEGMENT)}


def find_task(name: str) -> Task:
    """The row of a task.

    Raises:
        UserError: there is no such task.
    """
    if name not in TASKS:
        raise UserError(f"the task must be one of {', '.join(TASKS)}, got {name}; correct it")
    return TASKS[name]
