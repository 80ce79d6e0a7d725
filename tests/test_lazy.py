# SPDX-License-Identifier: Apache-2.0
"""Importing the package waits for nothing that is not used, and timm still knows the models."""

from __future__ import annotations

import subprocess
import sys

import pytest

import slideformer
from tests.tiers import fast


def output_of(program: str) -> str:
    """What a program prints in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


EVERY_VERB = """
import contextlib, io, sys
from slideformer.cli.main import VERBS, main
for words in ([], ["--version"], *([verb] for verb in VERBS if verb != "train"), ["bench", "deploy"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    print(*words, *{"torch", "timm", "numpy", "PIL", "lightning"} & set(sys.modules))
"""


def test_no_help_imports_what_only_a_run_needs() -> None:
    lines = output_of(EVERY_VERB).splitlines()
    assert len(lines) > 12
    assert [
        line for line in lines if {"torch", "timm", "numpy", "PIL", "lightning"} & set(line.split())
    ] == []


REGISTERED = "print(timm.is_model('slide_swin_tiny'), timm.__spec__.loader is timm.__loader__)"


@pytest.mark.parametrize(
    "program",
    fast(
        [
            f"import slideformer, timm; {REGISTERED}",
            f"import timm, slideformer; {REGISTERED}",
            f"import slideformer; from timm.models import list_models; import timm; {REGISTERED}",
            # Looking whether timm is installed, as transformers does, is not importing it.
            f"import slideformer, importlib.util as u; u.find_spec('timm'); import timm; {REGISTERED}",
            f"import slideformer, importlib as i; i.reload(slideformer); import timm; {REGISTERED}",
        ]
    ),
    ids=["before timm", "after timm", "before a part of timm", "after a look", "imported again"],
)
def test_importing_the_package_registers_the_models_with_timm(program: str) -> None:
    assert output_of(program) == "True True"


def test_operator_and_layers_need_neither_timm_nor_the_compiler() -> None:
    program = "import sys, slideformer.layers; print({'torch._dynamo', 'timm'} & set(sys.modules))"
    assert output_of(program) == "set()"


def test_a_classifier_is_evaluated_without_what_only_training_needs() -> None:
    program = (
        "import sys; sys.modules |= dict.fromkeys(('lightning', 'torchmetrics', 'jsonargparse')); "
        "import slideformer.tasks.classify.compare, slideformer.tasks.classify.evaluate"
    )
    assert output_of(program) == ""


def test_every_name_that_is_offered_is_there() -> None:
    program = (
        "import slideformer; assert set(slideformer.__all__) <= set(dir(slideformer));"
        "print(all(getattr(slideformer, name) is not None for name in slideformer.__all__))"
    )
    assert output_of(program) == "True"


def test_a_name_is_that_of_its_module() -> None:
    from slideformer import layers, ops

    assert slideformer.SlideAttention is layers.SlideAttention
    assert slideformer.slide_attention is ops.slide_attention
    assert slideformer.layers is layers


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'slideformer' has no attribute 'slide_atention'"):
        _ = slideformer.slide_atention  # type: ignore[attr-defined]
