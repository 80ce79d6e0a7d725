# SPDX-License-Identifier: Apache-2.0
"""How much memory a step takes at its peak, scratch memory of every library included."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

RESET, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
RESET_PEAK = "5"
# glibc's mallopt(3). Blocks above the threshold go back to the system when they are freed: small while memory
# is measured, else what glibc itself arrives at in a process that frees large blocks.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MEASURING, USUAL = 2**16, 2**25


def peak_mib(step: Callable[[], Sequence[Tensor]], device: str) -> float | None:
    """Peak memory of a step in MiB, beyond what was there before and what it returns.

    On a GPU as PyTorch's allocator counts it; on a CPU by the pages of the process, where the system tells
    their peak (Linux), else None; blocks that the allocator had left and uses again may count a second time,
    so it is an upper bound. The step has to have run before: what libraries keep is not counted.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = step()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        if not return_pages():
            return None
        before = pages("VmRSS")
        results = step()
        peak = pages("VmHWM") - before
        allocate(USUAL)
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in results}
    return (peak - sum(kept.values())) / 2**20


def process_peak_mib(device: str) -> float | None:
    """The largest memory of the whole process since `peak_mib` started its last step, in MiB.

    On a GPU all that PyTorch's allocator held there; None where the system does not tell.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return pages("VmHWM") / 2**20 if RESET.exists() else None


def return_pages() -> bool:
    """Give what is free back to the system and start the peak anew; False where that cannot be done."""
    try:
        allocate(MEASURING)
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text(RESET_PEAK)
    except (OSError, AttributeError):
        return False
    return True


def allocate(threshold: int) -> None:
    """Tell the allocator from what size on blocks are the system's."""
    library = ctypes.CDLL(None)
    library.mallopt(MMAP_THRESHOLD, threshold)
    library.mallopt(TRIM_THRESHOLD, 2 * threshold)


def pages(field: str) -> int:
    """Bytes that Linux tells of this process."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def available_bytes(device: str) -> float:
    """Memory that a step may still take."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    information = Path("/proc/meminfo")
    if not information.exists():
        return float("inf")
    lines = information.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024.0
