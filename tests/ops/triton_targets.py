# SPDX-License-Identifier: Apache-2.0
"""Compile every Triton kernel for a GPU, which need not be there, and print what each takes.

A program of its own, as Triton compiles and interprets in different processes:
``python tests/ops/triton_targets.py [--target cuda:90] [--all] [VARIANT ...]``; ``--all`` takes every
configuration that tuning would compare.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.autotuner import Autotuner
from triton.runtime.jit import JITFunction

from slideformer.ops.call import MASK, TENSORS, Call
from slideformer.ops.flat import flat
from slideformer.ops.triton import gradients, halves, operators, tuning
from slideformer.ops.window import Window

ALL = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
# Name, dtype, kernel size, channels, border, optional tensors.
VARIANTS: tuple[tuple[str, torch.dtype, tuple[int, ...], int, Any, tuple[str, ...]], ...] = (
    ("deformed", torch.bfloat16, (3, 3), 32, "zeros", ALL[:3]),
    ("deformed half", torch.float16, (3, 3), 20, "zeros", ALL),
    ("deformed float32", torch.float32, (3, 3), 32, "zeros", ALL[:3]),
    ("deformed 5x5", torch.bfloat16, (5, 5), 64, "zeros", ALL[:1]),
    ("deformed 3x3x3", torch.bfloat16, (3, 3, 3), 32, "zeros", ALL[:1]),
    ("deformed globe", torch.bfloat16, (3, 3), 32, ("zeros", "wrap"), ALL[:1]),
    ("deformed sequence", torch.bfloat16, (13,), 32, "zeros", ALL[:1]),
    ("plain", torch.bfloat16, (3, 3), 32, "zeros", ALL[1:]),
    ("mask", torch.float32, (3, 3), 32, "mask", ALL[2:]),
    ("neighborhood", torch.bfloat16, (7, 7), 32, "clamp", ("relative",)),
    ("volume", torch.bfloat16, (3, 3, 3), 32, "clamp", ("relative",)),
    ("globe", torch.bfloat16, (3, 3), 32, ("clamp", "wrap"), ("key_mask", "relative")),
    ("sequence", torch.bfloat16, (13,), 32, "zeros", ()),
)
# Variants of which the halves are compiled, too; the backward pass of one takes the kernels of the other.
HALVES = ("deformed", "globe")
BINARIES = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


# Kind of GPU and the threads of its warp, by the name of the target.
TARGETS = {
    "cuda:80": GPUTarget("cuda", 80, 32),
    "cuda:90": GPUTarget("cuda", 90, 32),
    "cuda:100": GPUTarget("cuda", 100, 32),
    "cuda:120": GPUTarget("cuda", 120, 32),
    "hip:gfx942": GPUTarget("hip", "gfx942", 64),
    "hip:gfx1100": GPUTarget("hip", "gfx1100", 32),
}


class Absent:
    """As much of a driver as compiling asks for."""

    def __init__(self, target: GPUTarget) -> None:
        self.target = target

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def usage(kernel: Any) -> str:
    """Instructions, registers a thread and bytes that spill, as the assembler counts them; shared memory."""
    memory = f"shared={kernel.metadata.shared}"
    if "amdgcn" in kernel.asm:
        code, text = r"^\t[a-z]\w+.*$", kernel.asm["amdgcn"]
        registers, spilled = re.search(r"NumVgprs: (\d+)", text), re.search(r"ScratchSize: (\d+)", text)
    else:
        code, text = r"^ +/\*[0-9a-f]{4,}\*/ +(?! |NOP).*;", disassembled(kernel.asm["cubin"])
        registers, spilled = re.search(r"REG:(\d+)", text), re.search(r"STACK:(\d+)", text)
    assert registers is not None, text
    assert spilled is not None, text
    count = len(re.findall(code, text, re.MULTILINE))
    return f"instructions={count:<6}registers={registers[1]:4} spilled={spilled[1]} {memory}"


def disassembled(cubin: bytes) -> str:
    """Resources and instructions of a program for NVIDIA's GPUs."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(BINARIES / "cuobjdump"), "-res-usage", "-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compile_variant(
    name: str, dtype: torch.dtype, sides: tuple[int, ...], channels: int, border: Any, optional: Any
) -> None:
    """Go through the launches of one call, forward and backward."""
    heads, taps, axes = 3, math.prod(sides), len(sides)
    shapes = {
        "shift_weight": (channels, taps, taps),
        "shift_bias": (channels, taps),
        "key_bias": (heads, taps),
        "logit_bias": (heads, taps),
        "relative": (heads, *(2 * side - 1 for side in sides)),
        "key_mask": (1, *(8,) * axes),
    }
    parameters = {"logit_bias" if key == "relative" else key: torch.zeros(shapes[key]) for key in optional}
    if MASK in parameters:
        parameters[MASK] = parameters[MASK].bool()
    query, key, value = torch.zeros(1, *(8,) * axes, 3 * heads, channels, dtype=dtype).chunk(3, -2)
    borders = (border,) * axes if isinstance(border, str) else border
    call = Call(query, key, value, Window(sides, (1,) * axes, borders), 1.0, **parameters)
    output, log_sum = torch.zeros(value.shape, dtype=dtype), torch.zeros(value.shape[:-1])
    operators.forward_into(output, log_sum, flat(call))
    given = zip(TENSORS, call.tensors(), strict=True)
    grads = {name: torch.empty(x.shape, dtype=x.dtype) for name, x in given if x is not None and name != MASK}
    gradients.backward_into(grads, output, output, log_sum, call)
    if name in HALVES:
        weights = torch.zeros(*value.shape[:-1], taps)
        halves.logits_into(weights, call)
        halves.logits_gradients_into(grads, weights, call)


class Each:
    """In place of a tuner: compiles the configurations it would compare, or the first of them."""

    def __init__(self, tuner: Autotuner, *, every: bool) -> None:
        self.tuner, self.every, self.arg_names = tuner, every, tuner.arg_names

    def __getitem__(self, grid: Any) -> Any:
        def launched(**options: Any) -> None:
            configs = tuning.affordable(self.tuner.configs, {}, **options)
            for config in configs if self.every else configs[:1]:
                self.tuner.fn.run(grid=grid, warmup=True, **options, **config.all_kwargs())

        return launched


def main() -> None:
    """Compile, and print a line a kernel and configuration."""
    parser = argparse.ArgumentParser(description="Compile the Triton kernels for a GPU, without one.")
    parser.add_argument("variants", nargs="*", help="default: all")
    parser.add_argument("--target", choices=TARGETS, default="cuda:90")
    parser.add_argument("--all", action="store_true", help="every configuration that tuning would compare")
    arguments = parser.parse_args()
    triton.runtime.driver.set_active(Absent(TARGETS[arguments.target]))
    run, variant = JITFunction.run, ""

    def compiled(self: JITFunction[Any], *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        tile = f"tile={options.get('BLOCK_H', '-')}x{options.get('BLOCK_W', '-')}"
        warps = f"warps={kernel.metadata.num_warps}"
        print(f"{variant:18}{self.__name__:25}{tile:11}{warps:8} {usage(kernel)}", flush=True)

    JITFunction.run = compiled  # type: ignore[method-assign]
    for name, tuner in list(vars(tuning).items()):
        if isinstance(tuner, Autotuner):
            setattr(tuning, name, Each(tuner, every=arguments.all))
    for row in VARIANTS:
        if not arguments.variants or row[0] in arguments.variants:
            variant = row[0]
            compile_variant(*row)


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    main()
