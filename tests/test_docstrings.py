# SPDX-License-Identifier: Apache-2.0
"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib.util
import pkgutil

import pytest
import torch

import slideformer

# A C library is no module, and Triton is not on every machine.
UnreadableImageError = ("__main__", "libslideformer")
ABSENT = () if importlib.util.find_spec("triton") else ("slideformer.ops.triton.",)
MODULES = sorted(
    m.name
    for m in pkgutil.walk_packages(slideformer.__path__, "slideformer.")
    if not m.name.endswith(UnreadableImageError) and not m.name.startswith(ABSENT)
)


def examples() -> list[doctest.DocTest]:
    finder, found = doctest.DocTestFinder(), {}
    for name in MODULES:
        module = importlib.import_module(name)
        names = {**vars(slideformer), **vars(module), "torch": torch}
        found.update({test.name: test for test in finder.find(module, name, globs=names) if test.examples})
    return list(found.values())


@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_example_runs(example: doctest.DocTest) -> None:
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_examples_of_the_operator_and_its_layer() -> None:
    assert {"SlideAttention", "slide_attention"} <= {test.name.rsplit(".", 1)[-1] for test in examples()}
