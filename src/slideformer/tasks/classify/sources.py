# SPDX-License-Identifier: Apache-2.0
"""The kinds of sources of labelled images: a table, to which a user may add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from slideformer.errors import UserError
from slideformer.runs import Facts
from slideformer.tasks.classify import digits, folders, timm_sources, unlabelled
from slideformer.tasks.training.batches import Reader, Stream

# The hold-out split of a source of timm: of torchvision's, the test split.
DEFAULT_SPLIT = "validation"


@dataclass(frozen=True, kw_only=True)
class Request:
    """The text that names a source, and the options that go with it; see `ClassificationData`.

    Attributes:
        name: the text.
        training: whether it is trained on; if not, its hold-out alone is needed.
        root: folder of the source.
        train_split: name of the training split.
        val_split: name of the hold-out split.
        num_classes: number of classes; None if the source knows.
        batch_size: images a batch.
        num_workers: processes that read; 0 reads in this one.
        download: whether the source may be fetched.
        val_fraction: of each class of a folder, or of all of timm's training split, that is held out; None
            where ``val/`` is, or its own hold-out split.
        teacher: metadata of the model that answers for images without labels; None where there is none.
    """

    name: str
    training: bool = True
    root: str | None = None
    train_split: str = "train"
    val_split: str = DEFAULT_SPLIT
    num_classes: int | None = None
    batch_size: int = 1
    num_workers: int = 0
    download: bool = False
    val_fraction: float | None = None
    teacher: Facts | None = None


def no_check() -> None:
    """Accept a source as it comes."""


@dataclass(frozen=True)
class Source:
    """Images in two splits.

    Attributes:
        class_names: in the order of the class numbers.
        open: gives the images of ``"train"`` or ``"val"``, with their class numbers.
        named: whether the class names are more than numbers, and are saved with a model.
        check: looks at the source before a training; raises `UserError` for one that cannot be used.
        labelled: whether the class numbers are those of the images; if not, a teacher knows the classes.
    """

    class_names: tuple[str, ...]
    open: Callable[[str], Reader | Stream]
    named: bool = True
    check: Callable[[], None] = no_check
    labelled: bool = True


@dataclass(frozen=True)
class Kind:
    """A row of the table of sources.

    Attributes:
        open: gives the source of a request.
        evaluable: whether ``slideformer evaluate`` reads it.
    """

    open: Callable[[Request], Source]
    evaluable: bool = True


def open_digits(request: Request) -> Source:
    """The embedded handwritten digits."""
    check_own_classes(request)
    check_own_parts(request)
    return Source(tuple(digits.CLASS_NAMES), digits.DigitsReader)


def open_folder(request: Request) -> Source:
    """A folder with ``train/`` and ``val/``, or of which a part is held out, with a folder a class.

    With a teacher, also one of images without labels.
    """
    check_own_classes(request)
    root, fraction, teacher = Path(request.name), request.val_fraction, request.teacher
    if teacher is not None and not unlabelled.has_labels(root, teacher.class_names):
        return open_unlabelled(root, unlabelled.HELD_OUT if fraction is None else fraction, teacher)
    if request.training:
        unlabelled.check_labelled(root)
    if fraction is not None:
        names = folders.parted_class_names(root)
        part = partial(folders.open_part, root, names, fraction)
        return Source(tuple(names), part, check=lambda: part("train").check_classes())
    names = folders.shared_class_names(root) if request.training else folders.hold_out_class_names(root)
    reader = partial(folders.open_split, root, names)
    return Source(tuple(names), reader, check=lambda: reader("train").check_classes())


def open_unlabelled(root: Path, fraction: float, teacher: Facts) -> Source:
    """A folder of images without labels, of which a part is held out; the classes are the teacher's."""
    reader = partial(unlabelled.UnlabelledReader, root, fraction)

    def check() -> None:
        for split in ("train", "val"):
            reader(split).check()

    return Source(teacher.names(), reader, bool(teacher.class_names), check, labelled=False)


def open_timm(request: Request) -> Source:
    """A source that timm reads; a part of its training split is its hold-out where that is asked for."""
    if request.name.lower().startswith(timm_sources.STREAMED):
        check_own_parts(request)
    names = timm_sources.class_names_of(request.name)
    count = request.num_classes or len(names)
    names = names if len(names) == count else ()
    if not count:
        raise UserError(
            f"a source of timm must have its number of classes given, got {request.name} alone; "
            "set `num_classes`"
        )
    source = timm_sources.TimmSource(
        name=request.name,
        root=request.root,
        splits={"train": request.train_split, "val": request.val_split},
        num_classes=count,
        batch_size=request.batch_size,
        num_workers=request.num_workers,
        download=request.download,
        training=request.training,
    )
    numbers = tuple(str(number) for number in range(count))
    part = request.val_fraction
    meant = [timm_sources.split_of(request.name, split) for split in source.splits.values()]
    if request.training and part is None and meant[0] == meant[1]:
        raise UserError(
            f"`train_split` and `val_split` must have different images, got {request.train_split} and "
            f"{request.val_split} of {request.name}, which have the same; set `val_fraction` to hold out a "
            "part"
        )
    if part is None:
        return Source(names or numbers, source.read, named=bool(names), check=source.check)
    read = partial(source.read_part, part)
    return Source(names or numbers, read, named=bool(names), check=lambda: check_part(read))


def check_part(read: Callable[[str], object]) -> None:
    """Check that a part can be held out."""
    read("val")


def check_own_classes(request: Request) -> None:
    """Check that the number of classes is not given of a source that knows it."""
    if request.num_classes is not None:
        raise UserError(f"the classes of {request.name} are its own; leave `num_classes` out")


def check_own_parts(request: Request) -> None:
    """Check that no part is to be held out of a source that has its own."""
    if request.val_fraction is not None:
        raise UserError(f"{request.name} has a hold-out of its own; leave `val_fraction` out")


# The text that names a source; one that ends in / or : is its beginning, in any case of letters.
KINDS: dict[str, Kind] = {"digits": Kind(open_digits)}
KINDS |= dict.fromkeys(timm_sources.NUMBERED, Kind(open_timm))
KINDS |= dict.fromkeys(timm_sources.STREAMED, Kind(open_timm, evaluable=False))
# Any other text is the path of a folder.
FOLDER = Kind(open_folder)


def register_source(name: str, open: Callable[[Request], Source], *, evaluable: bool = True) -> None:
    """Add a kind of source, to be trained and evaluated on by its name.

    Args:
        name: the text that names the source; one that ends in ``/`` or ``:``, such as ``"lmdb:"``, stands for
            all texts that begin with it.
        open: gives the source of a request, which has the text and the options of `ClassificationData`.
        evaluable: whether its hold-out can be opened without those options.

    Raises:
        ValueError: the name is empty or taken.

    Example:
        >>> from PIL import Image
        >>> from slideformer.tasks.classify import Source, register_source
        >>> class Squares:
        ...     def __init__(self, split):
        ...         self.colours = ["red", "blue"] * (8 if split == "train" else 2)
        ...
        ...     def __len__(self):
        ...         return len(self.colours)
        ...
        ...     def __getitem__(self, index):
        ...         return Image.new("RGB", (32, 32), self.colours[index]), index % 2
        ...
        ...     def name(self, index):
        ...         return f"square {index}"
        >>> register_source("squares", lambda request: Source(("red", "blue"), Squares))
        >>> from slideformer.tasks.classify.data import ClassificationData
        >>> data = ClassificationData("squares", model="slide_swin_nano", num_workers=0)
        >>> [batch.targets.tolist() for batch in data.val_dataloader()]
        [[0, 1, 0, 1]]
    """
    if not name or folded(name) in KINDS:
        raise ValueError(f"a source must have a name of its own, got {name!r}; choose another one")
    KINDS[folded(name)] = Kind(open, evaluable)


def folded(name: str) -> str:
    """A name of the table: that of a kind of text in lower case."""
    return name.lower() if name.endswith(("/", ":")) else name


def find_kind(name: str) -> Kind:
    """The row of the table for a text that names a source: its own, else that of its longest beginning."""
    if name in KINDS:
        return KINDS[name]
    kinds = [known for known in KINDS if known.endswith(("/", ":")) and name.lower().startswith(known)]
    return KINDS[max(kinds, key=len)] if kinds else FOLDER


def open_source(request: Request) -> Source:
    """The source of a request.

    Raises:
        UserError: the source does not exist or cannot be used.
    """
    return find_kind(request.name).open(request)


def open_hold_out(
    name: str,
    val_fraction: float | None = None,
    *,
    root: str | None = None,
    split: str | None = None,
    num_classes: int | None = None,
) -> Source:
    """A source of which the hold-out alone is needed, such as a folder without ``train/``.

    Args:
        name: the text that names it.
        val_fraction: of each class of a folder, or of timm's training split, that was held out; None where
            ``val/`` was, or its own split.
        root: folder of a source of timm.
        split: name of its hold-out split; None for ``validation``, which is the test split of torchvision's.
        num_classes: of a source of timm.

    Raises:
        UserError: the source does not exist or cannot be used.
    """
    request = Request(
        name=name,
        training=False,
        val_fraction=val_fraction,
        root=root,
        val_split=DEFAULT_SPLIT if split is None else split,
    )
    kind = find_kind(name)
    if kind.open is open_timm:
        request = replace(request, num_classes=num_classes)
        if split is not None and val_fraction is not None:
            raise UserError(
                f"`split` and `val_fraction` are two hold-outs of {name}, a split and a part of its training "
                "split; give one"
            )
    elif root is not None or split is not None:
        raise UserError(f"`root` and `split` go with a source of timm, got {name}; leave them out")
    if kind.evaluable:
        return kind.open(request)
    if not Path(name).is_dir():
        raise UserError(f"{name} is a source to train on alone; give a folder of class folders instead")
    return FOLDER.open(request)
