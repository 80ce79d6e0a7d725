# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels compile for a Hopper GPU, which need not be there, and fit into a multiprocessor of it."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "triton_sm90.py"
# Bytes that may spill: none for windows of 3 x 3, a few numbers a thread for larger ones.
SPILLED = {"deformed 5x5": 64, "deformed globe": 64, "neighborhood": 64, "sequence": 64}
# Shared memory that a block of a Hopper GPU may have, in bytes.
SHARED = 227 * 1024


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
@pytest.mark.skipif(platform.system() != "Linux", reason="the assembler comes with Triton for Linux")
def test_every_kernel_compiles_for_hopper_and_fits(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, str(PROGRAM)], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr
    line = re.compile(r"(.{18})(\w+) .* spilled=(\d+) shared=(\d+)")
    rows = [found.groups() for found in map(line.fullmatch, done.stdout.splitlines()) if found]
    assert len({kernel for _, kernel, _, _ in rows}) == 13
    for variant, kernel, spilled, shared in rows:
        assert int(spilled) <= SPILLED.get(variant.strip(), 0), f"{variant}{kernel}"
        assert int(shared) <= SHARED, f"{variant}{kernel}"
