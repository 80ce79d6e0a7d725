# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels compile for GPUs that need not be there, and fit into a multiprocessor of a Hopper GPU."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import fast

PROGRAM = Path(__file__).parent / "triton_targets.py"
# Bytes that may spill, none where no row says so: a few numbers a thread for windows larger than 3 x 3 and
# for masks, and more where the kernel of the maps' gradients sums that of a shift: it saves reading the maps
# again; which is faster has not been measured.
SPILLED = {
    "deformed 5x5": 128,
    "deformed 3x3x3": 128,
    "deformed float32": 256,
    "deformed half": 64,
    "mask": 64,
    "deformed globe": 64,
    "neighborhood": 64,
    "sequence": 64,
}
# Shared memory that a block of a Hopper GPU may have, in bytes.
SHARED = 227 * 1024
# Variants that take every kernel; products of float32 numbers differ between the makers of GPUs.
EVERY = ("deformed", "deformed float32", "globe")
TARGETS = {
    "hip:gfx942": EVERY[1:2],
    **dict.fromkeys(("cuda:80", "cuda:100", "cuda:120", "hip:gfx1100"), EVERY),
}

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
    pytest.mark.skipif(platform.system() != "Linux", reason="the assembler comes with Triton for Linux"),
]


def compiled(folder: Path, *arguments: str) -> list[tuple[str, ...]]:
    """Variant, kernel, bytes that spill and shared memory of all that was compiled."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(PROGRAM), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr
    line = re.compile(r"(.{18})(\w+) .* spilled=(\d+) shared=(\d+)")
    return [found.groups() for found in map(line.fullmatch, done.stdout.splitlines()) if found]


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper_and_fits(tmp_path: Path) -> None:
    rows = compiled(tmp_path)
    assert len({kernel for _, kernel, _, _ in rows}) == 12
    for variant, kernel, spilled, shared in rows:
        assert int(spilled) <= SPILLED.get(variant.strip(), 0), f"{variant}{kernel}"
        assert int(shared) <= SHARED, f"{variant}{kernel}"


@pytest.mark.parametrize("target", fast(TARGETS))
def test_kernels_compile_for_other_gpus(target: str, tmp_path: Path) -> None:
    kernels = {kernel for _, kernel, _, _ in compiled(tmp_path, "--target", target, *TARGETS[target])}
    assert len(kernels) == (12 if TARGETS[target] == EVERY else 4)


@pytest.mark.slow
def test_every_kernel_compiles_for_an_accelerator_of_amd(tmp_path: Path) -> None:
    rows = compiled(tmp_path, "--target", "hip:gfx942", *EVERY)
    assert len({kernel for _, kernel, _, _ in rows}) == 12
