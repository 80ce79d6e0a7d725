# SPDX-License-Identifier: Apache-2.0
"""Metadata of a classifier's file that nobody should believe: the same for all who read it."""

from __future__ import annotations

NESTED = "[" * 100_000 + "]" * 100_000
# What is changed, as the texts of the file have it.
CHANGES: dict[str, dict[str, str]] = {
    "a negative batch": {"batch": "-1"},
    "a batch of nothing": {"batch": "0"},
    "a batch that fills the memory": {"batch": "65536", "input_size": "[3, 4096, 4096]"},
    "a batch of a half": {"batch": "0.5"},
    "a batch that is true": {"batch": "true"},
    "a height without end": {"height": "1e999"},
    "a width of words": {"width": '"wide"'},
    "a crop of nothing": {"crop_pct": "0"},
    "a crop that is not a number": {"crop_pct": "NaN"},
    "a tiny crop": {"crop_pct": "1e-9"},
    "a crop in words": {"crop_pct": '"most"'},
    "a crop of more than there is": {"crop_pct": "20", "input_size": "[3, 8, 8]"},
    "std of zeros": {"std": "[0, 0, 0]"},
    "std below zero": {"std": "[-1, 1, 1]"},
    "one std": {"std": "[0.2]"},
    "no std": {"std": "[]"},
    "std of words": {"std": '"abc"'},
    "mean that is not a number": {"mean": "[NaN, 0.5, 0.5]"},
    "one mean": {"mean": "0.5"},
    "mean of bytes": {"mean": "[123.7, 116.3, 103.5]"},
    "four means": {"mean": "[0.5, 0.5, 0.5, 0.5]"},
    "a mean that is null": {"mean": "null"},
    "an infinite mean": {"mean": "[1e999, 0, 0]"},
    "names as one text": {"class_names": '"cat"'},
    "names that are numbers": {"class_names": "[1, 2, 3]"},
    "names as an object": {"class_names": '{"0": "cat"}'},
    "a huge input": {"input_size": "[3, 100000, 100000]"},
    "an input below zero": {"input_size": "[3, -8, 8]"},
    "an input of fractions": {"input_size": "[3, 8.5, 8]"},
    "an input of two sides": {"input_size": "[8, 8]"},
    "an input of one channel": {"input_size": "[1, 8, 8]"},
    "an unknown interpolation": {"interpolation": "random"},
    "an interpolation of JavaScript": {"interpolation": "constructor"},
    "an unknown crop": {"crop_mode": "corner"},
    "nested without end": {"mean": NESTED},
    "names nested without end": {"class_names": NESTED},
    "a number without end": {"batch": "9" * 5000},
    "no JSON": {"mean": "[0.5,"},
}
