# SPDX-License-Identifier: Apache-2.0
"""Writing the card of a run, and leaving one that a person has edited as it is."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from slideformer.errors import UserError
from slideformer.files import read_text, write_text
from slideformer.runs import read_run
from slideformer.tasks.model_card.card import Evaluated, body, metadata
from slideformer.tasks.model_card.record import Record, read_record

CARD = "README.md"
# The license of weights is for their owner to state: these lines of a card are taken over, and not compared.
LICENSE = re.compile(r"^license.*\n", re.MULTILINE)
UNSTATED = "license: unknown  # state yours by an identifier of https://huggingface.co/docs/hub/repositories-licenses\n"
# The last line, by which the text above it is known to be as it was written.
MARK = (
    "<!-- slideformer {}: a training or an evaluation writes this file again, unless more than its license "
    "was edited -->"
)


def write_card(
    folder: str | Path, evaluated: Evaluated | None = None, record: Record | None = None
) -> Path | None:
    """Write the card of a run from its ``config.json``, the record of its training and an evaluation.

    The lines on the license are those of the card before, where there is one.

    Args:
        folder: of a finished run.
        evaluated: figures of its weights; None for those of the training alone.
        record: of its training; None for that in ``training.json``.

    Returns:
        The file; None where there is no record, and the card is not written.

    Raises:
        UserError: a file is damaged, the card was edited, or it cannot be written.
    """
    folder = Path(folder)
    file = folder / CARD
    record = read_record(folder) if record is None else record
    if record is None:
        return None
    license_lines = UNSTATED
    if file.exists():
        before = read_text(file)
        if not is_unedited(before):
            raise UserError(
                f"{file} must be as it was written, to be written again, but was edited; remove it for a new "
                "one, or edit the figures in it, too"
            )
        license_lines = "".join(LICENSE.findall(split(before)[0]))
    run = read_run(folder)
    text = f"---\n{license_lines}{metadata(run, record, evaluated)}\n---\n\n{body(run, record, evaluated)}\n"
    write_text(file, f"{text}{mark(text)}\n")
    return file


def split(text: str) -> tuple[str, str]:
    """The metadata of a card, and all else."""
    head, end, rest = text.partition("\n---\n")
    return f"{head}\n", end + rest


def mark(text: str) -> str:
    """The last line of a card with this text above it."""
    head, rest = split(text)
    return MARK.format(sha256(f"{LICENSE.sub('', head)}{rest}".encode()).hexdigest()[:16])


def is_unedited(text: str) -> bool:
    """Whether a card is as it was written, but for its license."""
    above, end, last = text.rstrip("\n").rpartition("\n")
    return last == mark(above + end)
