# SPDX-License-Identifier: Apache-2.0
"""Options of NATTEN that slideformer lacks: the value that changes nothing, and what to do about another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from slideformer.ops import checks

ALONE = "slideformer attends to the neighbourhood alone; use NATTEN itself for this call"
KERNELS = "it chooses between NATTEN's kernels, and slideformer has its own; leave it out"

# The neutral value of each, and a sentence about any other.
LACKING: dict[str, tuple[bool | int | None, str]] = {
    "stride": (
        1,
        "in slideformer each position has a window of its own; use NATTEN itself for this call. If it is the "
        "dilation, which was in this place before 0.20, give it by name",
    ),
    "is_causal": (False, "windows of slideformer look both ways; use NATTEN itself for this call"),
    "additional_keys": (None, ALONE),
    "additional_values": (None, ALONE),
    "attention_kwargs": (None, ALONE),
    "xformers_kwargs": (None, ALONE),
    "try_fuse_additional_kv": (False, ALONE),
    "return_lse": (False, "slideformer returns the output alone; use NATTEN itself for this call"),
    "backend": (None, KERNELS),
    "q_tile_shape": (None, KERNELS),
    "kv_tile_shape": (None, KERNELS),
    "backward_q_tile_shape": (None, KERNELS),
    "backward_kv_tile_shape": (None, KERNELS),
    "backward_kv_splits": (None, KERNELS),
    "backward_use_pt_reduction": (False, KERNELS),
    "run_persistent_kernel": (True, KERNELS),
    "kernel_schedule": (None, KERNELS),
    "torch_compile": (False, KERNELS),
    "use_experimental_ops": (False, KERNELS),
}


def check_neutral(options: Mapping[str, object], axes: int) -> None:
    """Check that options which slideformer lacks ask for nothing, over a map of so many axes.

    Raises:
        ValueError: one has another value than the neutral one, or not one for each axis.
        TypeError: the option is unknown.
    """
    for name, value in options.items():
        if name not in LACKING:
            raise TypeError(f"{name} is not an argument here, got {shown(value)}; leave it out")
        neutral, reason = LACKING[name]
        # One for all axes, or one an axis.
        values = value if isinstance(value, (tuple, list)) else (value,)
        if not all(one is None or (isinstance(one, int) and one == neutral) for one in values):
            raise ValueError(f"{name} must be {neutral}, got {shown(value)}: {reason}")
        if isinstance(value, (tuple, list)):
            checks.counted(name, value, axes)


def shown(value: object) -> str:
    """A value in a message; of a tensor its shape."""
    return f"a tensor of the shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
