# SPDX-License-Identifier: Apache-2.0
"""The model card of a run: its ``README.md``, in the form of the Hugging Face Hub."""

from slideformer.tasks.model_card.card import Evaluated
from slideformer.tasks.model_card.figures import known_figures
from slideformer.tasks.model_card.record import Record, read_record, write_record
from slideformer.tasks.model_card.shareable import shareable, shareable_value
from slideformer.tasks.model_card.write import CARD, write_card

__all__ = [
    "CARD",
    "Evaluated",
    "Record",
    "known_figures",
    "read_record",
    "shareable",
    "shareable_value",
    "write_card",
    "write_record",
]
