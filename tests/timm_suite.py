# SPDX-License-Identifier: Apache-2.0
"""Runs timm's own model tests on every model of this package.

The tests are in timm's source distribution of the installed version:

    pip download --no-deps --no-binary timm timm==VERSION && tar xf timm-VERSION.tar.gz
    python tests/timm_suite.py timm-VERSION/tests/test_models.py

Further arguments go to pytest. TorchScript, which PyTorch has deprecated, is left out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import timm

import slideformer.models  # noqa: F401  (registers the models)

OURS = frozenset(timm.list_models("slide_*"))
# Timm's tests tell by these filters which models give a class token before the positions, not a map.
TOKEN_FILTER, TOKENS = "vit_*", ["slide_pvt_tiny", "slide_pvt_small", "slide_pvt_medium"]


def list_ours(
    filter: str | list[str] = "",
    module: object = "",
    pretrained: bool = False,
    exclude_filters: str | list[str] = "",
    **options: Any,
) -> list[str]:
    """What ``timm.list_models`` answers, of our models only, whatever module of timm is asked for."""
    filters, excluded = (
        [*given, *TOKENS] if TOKEN_FILTER in given else given for given in (filter, exclude_filters)
    )
    names = LIST_MODELS(filters, pretrained=pretrained, exclude_filters=excluded, **options)
    return [name for name in names if name in OURS]


LIST_MODELS = timm.list_models


def main(arguments: list[str]) -> int:
    """Run the tests of the file named by the first argument."""
    if not arguments or not Path(arguments[0]).is_file():
        print(__doc__, file=sys.stderr)
        return 2
    timm.list_models = list_ours
    timm.list_pretrained = lambda *_, **__: []
    options = [
        "-c",
        os.devnull,
        "-p",
        "no:cacheprovider",
        "-q",
        "-W",
        "ignore",
        "-k",
        "slide_ and not torchscript",
    ]
    return int(pytest.main([*options, *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
