# SPDX-License-Identifier: Apache-2.0
"""What bounds every candidate: the machine's products of matrices and its copies; and what machine it is."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from slideformer.bench.candidate import Setting

GEMM, COPY = "product of matrices", "copy"


@dataclass(frozen=True)
class Machine:
    """What the machine can do, measured in the same rounds as the candidates.

    Attributes:
        gemm_gflops: rate of a product of two square matrices, in GFLOP/s.
        copy_gbs: rate of a copy, reads and writes counted, in GB/s.
    """

    gemm_gflops: float
    copy_gbs: float


@dataclass(frozen=True)
class Probe:
    """Something to time whose work is known: in GFLOP for the product, in gigabytes for the copy."""

    run: Callable[[], object]
    work: float


def probes(setting: Setting, megabytes: float) -> dict[str, Probe]:
    """Both; the copy moves as many megabytes as the candidates have to."""
    side = 2048 if torch.device(setting.device).type == "cpu" else 8192
    square = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    half = max(1, int(megabytes * 1e6 / 2 / square.element_size()))
    source = torch.randn(half, device=setting.device).to(setting.dtype)
    target = torch.empty_like(source)
    moved = 2 * half * square.element_size() / 1e9
    return {
        GEMM: Probe(lambda: torch.mm(square, square), 2 * side**3 / 1e9),
        COPY: Probe(lambda: target.copy_(source), moved),
    }


def processor(device: str) -> str:
    """The name of the processor or GPU, with the vector extension as PyTorch uses it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        found = (line for line in lines if line.startswith("model name"))
        name = next(found, f":{name}").split(":", 1)[1].strip()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def commit() -> str | None:
    """The commit of the source this runs from; None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
