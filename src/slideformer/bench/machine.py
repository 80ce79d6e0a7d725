# SPDX-License-Identifier: Apache-2.0
"""The machine that figures come from: its rates, its name, and the conditions of a measurement on it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from slideformer.bench.candidate import Setting
from slideformer.bench.load import Load
from slideformer.version import __version__

GEMM, COPY = "product of matrices", "copy"
WORK = {"forward": "forward", "backward": "forward + backward", "step": "training step"}
# Conditions of a measurement, plain values by name.
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Machine:
    """Rates of the machine and other work on it, measured in the same rounds as the candidates.

    Attributes:
        gemm_gflops: of a product of two square matrices, in GFLOP/s.
        copy_gbs: of a copy, reads and writes counted, in GB/s.
        load: other work and how far times scatter; None in measurements from before these were taken.
    """

    gemm_gflops: float
    copy_gbs: float
    load: Load | None = None


def probes(setting: Setting, megabytes: float) -> dict[str, tuple[Callable[[], object], float]]:
    """A product of matrices with its GFLOP, and a copy of as many megabytes, with its gigabytes."""
    side = 2048 if torch.device(setting.device).type == "cpu" else 8192
    square = torch.randn(side, side, device=setting.device, dtype=setting.dtype)
    half = max(1, int(megabytes * 1e6 / 2 / square.element_size()))
    source = torch.randn(half, device=setting.device).to(setting.dtype)
    target = torch.empty_like(source)
    moved = 2 * half * square.element_size() / 1e9
    return {
        GEMM: (lambda: torch.mm(square, square), 2 * side**3 / 1e9),
        COPY: (lambda: target.copy_(source), moved),
    }


def processor(device: str) -> str:
    """Name of the processor or GPU, with the vector extension that PyTorch uses."""
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
    """Commit of the source that is running; None outside a checkout."""
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


def conditions(subject: str, setting: Setting, command: str) -> dict[str, Any]:
    """Machine, versions and command of a measurement; ``subject`` says in words what is measured."""
    return {
        "subject": subject,
        "work": WORK[setting.work],
        "dtype": str(setting.dtype).removeprefix("torch."),
        "compiled": setting.compiled,
        "processor": processor(setting.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "slideformer": __version__,
        "commit": commit(),
        "date": date.today().isoformat(),
        "rounds": setting.rounds,
        "command": command,
    }


def headline(facts: Facts, machine: Machine) -> str:
    """The conditions in a sentence."""
    return (
        f"{facts['work']}, {facts['subject']}, {facts['dtype']}{', compiled' if facts['compiled'] else ''}; "
        f"{facts['processor']}, {facts['threads']} threads, PyTorch {facts['torch']}, "
        f"commit {facts['commit'] or 'unknown'}, {facts['date']}; "
        f"medians of {facts['rounds']} alternating rounds, in which a product of matrices (GEMM) ran at "
        f"{machine.gemm_gflops:.0f} GFLOP/s and a copy at {machine.copy_gbs:.1f} GB/s; `{facts['command']}`"
    )
