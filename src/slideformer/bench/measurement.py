# SPDX-License-Identifier: Apache-2.0
"""Time and memory of candidates, measured in turn in one process."""

from __future__ import annotations

import functools
import statistics
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from slideformer.bench.cases import COPY, GEMM, GEMM_SIDE, Problem, candidates, expected, probes
from slideformer.errors import UserError

# float32, logits of order one: what sums in another order may differ by, relative to the largest output.
TOLERANCE = 1e-4


class PeakMemory(TorchDispatchMode):
    """Bytes that tensors made inside this context hold at their peak.

    Every storage that an operation returns is counted from its birth until PyTorch frees it; views count
    once, storages that existed before not at all. Scratch memory inside one operation (a convolution's
    workspace) is not seen, which favours whoever has it: here the convolutions.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes, self.peak = 0, 0
        self.known: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, then count what it returned."""
        kwargs = {} if kwargs is None else kwargs
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        result = func(*args, **kwargs)
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                storage = x.untyped_storage()
                if id(storage) not in given and storage not in self.known:
                    self.count(storage)
        return result

    def count(self, storage: torch.UntypedStorage) -> None:
        """Add a storage, and take it away again when it is freed."""
        size = storage.nbytes()
        self.known[storage] = size
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self.free, size)

    def free(self, size: int) -> None:
        """A storage is gone."""
        self.bytes -= size


@dataclass(frozen=True)
class Measurement:
    """One candidate on one problem.

    Attributes:
        name: of the candidate.
        median_ms: median time, in milliseconds.
        quartiles_ms: first and third quartile.
        memory_mib: peak memory beyond arguments and result, in MiB.
        error: largest difference from the reference, relative to its largest number.
    """

    name: str
    median_ms: float
    quartiles_ms: tuple[float, float]
    memory_mib: float
    error: float


@dataclass(frozen=True)
class Machine:
    """What the machine can do, measured in the same rounds as the candidates.

    Attributes:
        gemm_gflops: rate of a product of two float32 matrices of side 2048, in GFLOP/s.
        copy_ms: time to copy query, key, value and output once, in milliseconds.
    """

    gemm_gflops: float
    copy_ms: float


def measure(
    problem: Problem, *, rounds: int, backward: bool, progress: Callable[[str], None]
) -> tuple[list[Measurement], Machine]:
    """Check every candidate against the reference, then time all of them in turn.

    Args:
        problem: sizes.
        rounds: how often each is timed; every other round runs in reverse order.
        backward: whether the gradients of all arguments are computed, too.
        progress: told what is being done.

    Raises:
        UserError: a candidate computes something else.
    """
    tensors = problem.tensors()
    table = candidates()

    def step(name: str) -> Tensor | None:
        if not backward:
            with torch.no_grad():
                return table[name](tensors, problem)
        inputs = tensors.all()
        output = table[name](tensors, problem)
        # Im2Col leaves the shift aside.
        torch.autograd.grad(output.sum(), inputs, allow_unused=True)
        return None

    errors, memory = {}, {}
    for name in table:
        progress(f"checking {name}")
        errors[name] = check(name, tensors, problem, table)
        memory[name] = peak_mib(lambda name=name: step(name), keep=not backward)  # type: ignore[misc]
    steps: dict[str, Callable[[], object]] = {name: functools.partial(step, name) for name in table}
    steps |= probes(tensors)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name in steps if number % 2 == 0 else reversed(steps):
            start = time.perf_counter()
            steps[name]()
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    rows = [
        Measurement(name, medians[name], quartiles(times[name]), memory[name], errors[name]) for name in table
    ]
    return rows, Machine(2 * GEMM_SIDE**3 / medians[GEMM] / 1e6, medians[COPY])


def check(name: str, tensors: Any, problem: Problem, table: Mapping[str, Any]) -> float:
    """Relative error of a candidate.

    Raises:
        UserError: it computes something else.
    """
    with torch.no_grad():
        wanted = expected(name, tensors, problem)
        error = float((table[name](tensors, problem) - wanted).abs().max() / wanted.abs().max())
    if not error <= TOLERANCE:
        raise UserError(f"{name} must agree with the reference to {TOLERANCE:.0e}, got {error:.1e}")
    return error


def peak_mib(step: Callable[[], Tensor | None], *, keep: bool) -> float:
    """Peak memory of a step in MiB, without what it returns."""
    with PeakMemory() as memory:
        result = step()
    kept = result.untyped_storage().nbytes() if keep and result is not None else 0
    return (memory.peak - kept) / 2**20


def quartiles(values: list[float]) -> tuple[float, float]:
    """First and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, third
