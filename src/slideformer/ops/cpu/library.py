# SPDX-License-Identifier: Apache-2.0
"""libslideformer, the C side of this backend: where it is, whether it can be used, its call structure."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import warnings
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slideformer.ops.call import MAPS, MASK, PARAMETERS, Call
from slideformer.ops.constant import assumed_constant

# As in csrc/slideformer.h, whose structures are mirrored below.
VERSION = 3
DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
BORDERS = {"zeros": 0, "mask": 1, "clamp": 2, "wrap": 3}
AXES = 3

FOLDER = Path(__file__).parent
NAMES = ("libslideformer.so", "libslideformer.dylib", "libslideformer.dll")


class Map(ctypes.Structure):
    """A map ``(B, Z, H, W, G, D)``: its data and its strides in elements, but the channels', which is 1."""

    _fields_ = (("data", c_void_p), ("stride", c_int64 * (AXES + 2)))


class CCall(ctypes.Structure):
    """``struct slideformer_call``."""

    _fields_ = (
        *((name, c_int32) for name in ("version", "dtype", "part", "relative", "threads", "poison")),
        *((name, c_int32 * AXES) for name in ("kernel_size", "dilation", "border")),
        ("size", c_int64 * AXES),
        *((name, c_int64) for name in ("batch", "heads", "channels", "value_channels")),
        ("scale", c_double),
        *((name, Map) for name in (*MAPS, "output", "grad_output")),
        *((f"grad_{name}", Map) for name in MAPS),
        *((name, c_void_p) for name in (MASK, "weights", "grad_weights")),
        *((name, c_void_p) for name in PARAMETERS),
        *((f"grad_{name}", c_void_p) for name in PARAMETERS),
        ("parallel", c_void_p),
    )


ERRORS = {
    1: "it was built for another version of this package; install again",
    2: "there is no memory left for its scratch buffers",
    3: "SLIDEFORMER_CPU_ISA names an instruction set that this machine or library lacks",
}


@functools.cache
def load(path: Path | None) -> ctypes.CDLL | str:
    """The library at a path, or why it cannot be used; says so once where there is none."""
    if path is None:
        reason = (
            "libslideformer is missing: the package was installed without a C compiler; "
            "install GCC or Clang and pip install it again"
        )
        warnings.warn(f"slide attention runs without its fast CPU kernels: {reason}", stacklevel=2)
        return reason
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        return f"libslideformer cannot be loaded ({error}); pip install the package again on this machine"
    library.slideformer_version.restype = c_int32
    if library.slideformer_version() != VERSION:
        return f"libslideformer: {ERRORS[1]}"
    library.slideformer_isa.restype = c_char_p
    library.slideformer_scratch_bytes.argtypes = (POINTER(CCall), c_int32)
    library.slideformer_scratch_bytes.restype = c_int64
    for function in (library.slideformer_forward, library.slideformer_backward):
        function.argtypes = (POINTER(CCall),)
        function.restype = c_int32
    return library


@functools.cache
def path() -> Path | None:
    """The library's file, next to this one, or None."""
    return next((FOLDER / name for name in NAMES if (FOLDER / name).exists()), None)


def isa() -> str | None:
    """The instruction set that the kernels use, or None where they cannot run."""
    library = load(path())
    name = None if isinstance(library, str) else library.slideformer_isa()
    return None if name is None else name.decode()


# A compiler traces this answer and not the inside of ctypes.
@assumed_constant
def missing() -> str | None:
    """The reason why the library cannot be used, as a sentence, or None."""
    library = load(path())
    if isinstance(library, str):
        return library
    if isa() is None:
        return f"{ERRORS[3]}: got {os.environ.get('SLIDEFORMER_CPU_ISA')!r}; unset it"
    return None


@functools.cache
def openmp() -> int | None:
    """Address of ``GOMP_parallel``, which starts PyTorch's own threads, where it is known and safe to call.

    Its threads wait busily for a while after each of PyTorch's loops; sharing them is faster than taking
    turns with them on the processors.
    """
    start = getattr(ctypes.CDLL(None), "GOMP_parallel", None) if sys.platform == "linux" else None
    return None if start is None else ctypes.cast(start, c_void_p).value


if hasattr(os, "register_at_fork"):
    # The child of a fork has no such threads, and would wait for them for ever.
    os.register_at_fork(after_in_child=lambda: setattr(sys.modules[__name__], "openmp", lambda: None))


def every_axis(given: Sequence[int], other: int) -> tuple[int, ...]:
    """An entry for each axis of the library: those of the first, which a map may lack, have another entry."""
    return (other,) * (AXES - len(given)) + tuple(given)


def map_of(x: Tensor) -> Map:
    """A map ``(B, *map, G, D)`` whose channels are contiguous, as the library takes it."""
    batch, *axes, head, _ = x.stride()
    return Map(x.data_ptr(), (c_int64 * (AXES + 2))(batch, *every_axis(axes, 0), head))


def c_call(call: Call, *, maps: dict[str, Tensor], numbers: dict[str, Any]) -> CCall:
    """The structure of a call of these maps; ``numbers`` fills the other fields."""
    window, mask = call.window, call.key_mask
    made = CCall(
        version=VERSION,
        dtype=DTYPES[call.query.dtype],
        threads=torch.get_num_threads(),
        kernel_size=every_axis(window.kernel_size, 1),
        dilation=every_axis(window.dilation, 1),
        border=every_axis([BORDERS[border] for border in window.border], 0),
        size=every_axis(call.map_size, 1),
        batch=call.query.shape[0],
        heads=call.query.shape[-2],
        channels=call.query.shape[-1],
        value_channels=call.value.shape[-1],
        scale=call.scale,
        parallel=openmp(),
        **({} if mask is None else {MASK: mask.data_ptr()}),
        **numbers,
    )
    for name, x in maps.items():
        setattr(made, name, map_of(x))
    return made


def run(name: str, call: CCall) -> None:
    """Run ``slideformer_<name>``.

    Raises:
        RuntimeError: it cannot run.
    """
    library = load(path())
    if isinstance(library, str):
        raise RuntimeError(library)
    status = getattr(library, f"slideformer_{name}")(ctypes.byref(call))
    if status:
        raise RuntimeError(f"libslideformer failed: {ERRORS[status]}")
