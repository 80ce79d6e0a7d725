# SPDX-License-Identifier: Apache-2.0
"""How a model wants its images, and the hold-out of a source in that form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.data import resolve_data_config
from torch.utils.data import DataLoader

from slideformer.errors import check_range
from slideformer.models.names import pretrained_cfg
from slideformer.runs.preprocessing import EvalTransform, read_preprocessing
from slideformer.tasks.classify.datasets import Batch, Images, collate, open_reader
from slideformer.tasks.images import OnBadImage
from slideformer.tasks.training.sampling import EachOnce


def transform_config(model: str, image_size: int | None) -> dict[str, Any]:
    """Timm's data configuration of a model: input size, interpolation, mean, std, crop."""
    overrides = {} if image_size is None else {"input_size": (3, image_size, image_size)}
    config = resolve_data_config(overrides, pretrained_cfg=pretrained_cfg(model))
    return read_preprocessing(config, model).values()


def eval_loader(
    source: str,
    names: Sequence[str],
    config: Mapping[str, Any],
    *,
    batch_size: int,
    num_workers: int,
    on_bad_image: OnBadImage,
    share: tuple[int, int] = (1, 0),
) -> DataLoader[Batch]:
    """Loader of the hold-out of a source, in order, nothing random.

    Args:
        source: ``"digits"``, a folder with ``val/``, or a folder of class folders.
        names: names of the classes, in the order of their numbers.
        config: as `transform_config` gives it.
        batch_size: images a batch.
        num_workers: processes that read; 0 reads in this one.
        on_bad_image: what to do with an unreadable image.
        share: number of devices among which the images are shared out, and which of them this is.
    """
    check_range("--batch-size", batch_size, 1)
    check_range("--num-workers", num_workers, 0)
    transform = EvalTransform(read_preprocessing(config, "the model"))
    images = Images(open_reader(source, "val", names), transform, on_bad_image)
    return DataLoader(
        images,
        batch_size,
        sampler=EachOnce(images, *share),
        num_workers=num_workers,
        collate_fn=collate,
    )
