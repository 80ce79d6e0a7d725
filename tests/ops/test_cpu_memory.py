# SPDX-License-Identifier: Apache-2.0
"""The C kernels read and write nothing out of bounds, do nothing undefined, and take little memory."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from slideformer.ops.call import Call
from slideformer.ops.cpu import library
from slideformer.ops.window import Window
from tests.shared import made_once

from .cases import Case

ROOT = Path(__file__).parents[2]

# Some cases of the table, and a few whose sizes are not those of vectors.
RUN = """
import sys
from pathlib import Path
import torch
from slideformer.ops.cpu import library
from tests.ops.cases import CASES, LONG, OTHERS, Case, assert_agrees
library.path = lambda: Path(sys.argv[1])
torch.set_num_threads(2)
odd = [
    Case(3, 1, "zeros", (40, 33), 2, 17, ("shift_weight", "shift_bias", "key_bias", "logit_bias"), False),
    Case((5, 3), (2, 7), "zeros", (3, 19), 1, 33, ("shift_weight",), False),
    Case(7, 2, "clamp", (35, 9), 1, 35, ("key_bias", "relative"), False),
    Case(3, 40, "mask", (33, 5), 1, 3, ("logit_bias",), True),
]
for case in (*CASES[::29], *OTHERS[::6], *LONG, *odd):
    for dtype in (torch.float32, torch.bfloat16):
        assert_agrees(case, "cpu", dtype)
"""


def tool(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=500).stdout.strip()


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux" or not shutil.which("gcc") or not shutil.which("cmake"):
        pytest.skip("needs gcc and cmake on Linux")
    return made_once(tmp_path_factory, "sanitized", build) / "libslideformer.so"


def build(folder: Path) -> None:
    """Build the library with checks; with few optimisations, which take the compiler minutes beside them."""
    options = ("-DCMAKE_C_COMPILER=gcc", "-DSLIDEFORMER_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=RelWithDebInfo")
    tool("cmake", "-S", str(ROOT), "-B", str(folder), *options, "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1")
    tool("cmake", "--build", str(folder), "--parallel", "2")


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_nothing_is_out_of_bounds_or_undefined(sanitized: Path, isa: str) -> None:
    if isa != library.isa() and isa not in supported():
        pytest.skip(f"this processor has no {isa}")
    environment = {
        **os.environ,
        "LD_PRELOAD": tool("gcc", "-print-file-name=libasan.so"),
        "ASAN_OPTIONS": "detect_leaks=0",
        "SLIDEFORMER_CPU_ISA": isa,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(sanitized)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def supported() -> set[str]:
    """Instruction sets of the processor, by the words of Linux."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    have = {"avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"}}
    return {"baseline"} | {name for name, flags in have.items() if flags <= words}


@pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))
@pytest.mark.parametrize("deformed", [True, False], ids=["deformed", "plain"])
@pytest.mark.parametrize(("size", "heads"), [(56, 3), (28, 6), (256, 1)])
def test_scratch_memory_is_small(size: int, heads: int, deformed: bool) -> None:
    case = Case(3, 1, "zeros", (size, size), heads, 32, ("shift_weight",) if deformed else (), True, batch=8)
    map_bytes = 4 * case.batch * size * size * heads * 32
    sizes = scratch_bytes(case)
    assert sizes[0] <= map_bytes / 10
    # The gradients of query, key and value are three maps; a map and a half more would be the limit.
    assert sizes[1] <= map_bytes / 2


def scratch_bytes(case: Case) -> tuple[int, int]:
    """Of the forward and of the backward pass, of two threads."""
    tensors = {name: x.detach() for name, x in case.tensors(torch.float32).items()}
    window = Window((case.kernel_size,) * 2, (case.dilation,) * 2, (case.border,) * 2)
    made = Call(tensors["query"], tensors["key"], tensors["value"], window, 1.0)
    shift = {"shift_weight": tensors["shift_weight"].data_ptr()} if "shift_weight" in tensors else {}
    call = library.c_call(made, maps={}, numbers=shift)
    call.threads = 2
    loaded = library.load(library.path())
    assert not isinstance(loaded, str)
    forward, backward = (loaded.slideformer_scratch_bytes(ctypes.byref(call), pass_) for pass_ in (0, 1))
    return forward, backward
