# SPDX-License-Identifier: Apache-2.0
"""NATTEN's functions give NATTEN's numbers: those that are kept, and its own where it is importable."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slideformer.compat.natten import functional
from tests.compat.natten.cases import CASES, COMPLETE, HALVES, SPLIT, Case, complete, golden, in_halves, maps

MAP = torch.zeros(1, 6, 6, 2, 4)
FIRST = MAP.movedim(-2, 1)


def differences(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, float]:
    assert ours.keys() == theirs.keys()
    return {name: float((ours[name] - x).abs().max()) for name, x in theirs.items()}


@pytest.mark.parametrize("name", CASES)
def test_attention_gives_the_numbers_of_natten(name: str) -> None:
    ours = complete(CASES[name], functional)
    assert max(differences(ours, golden(COMPLETE)[name]).values()) <= 1e-5


@pytest.mark.parametrize("name", HALVES)
def test_the_two_halves_give_the_numbers_and_gradients_of_natten(name: str) -> None:
    ours = in_halves(HALVES[name], functional)
    assert max(differences(ours, golden(SPLIT)[name]).values()) <= 1e-5


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about what NATTEN calls
@pytest.mark.skipif(importlib.util.find_spec("natten") is None, reason="NATTEN is not importable")
def test_attention_gives_the_numbers_of_the_natten_that_is_here() -> None:
    import natten

    for case in CASES.values():
        theirs = complete(case, natten)
        assert max(differences(complete(case, functional), theirs).values()) <= 1e-5


@pytest.mark.parametrize("name", ["line", "map", "volume"])
def test_the_bias_and_the_scale_act_as_in_the_two_halves(name: str) -> None:
    case = CASES[name]
    axes, window = len(case.size), (case.kernel_size,)
    query, key, value = maps(case)
    bias = torch.linspace(-1, 1, 2 * (2 * torch.tensor(case.kernel_size) - 1).prod().item())
    bias = bias.reshape(2, *(2 * side - 1 for side in case.kernel_size))
    first = [x.movedim(-2, 1) for x in (0.3 * query, key, value)]
    logits = getattr(functional, f"na{axes}d_qk")(*first[:2], *window, rpb=bias)
    wanted = getattr(functional, f"na{axes}d_av")(logits.softmax(-1), first[2], *window)
    output = getattr(functional, f"na{axes}d")(query, key, value, *window, rpb=bias, scale=0.3)
    torch.testing.assert_close(output.movedim(-2, 1), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_the_oldest_names_are_the_later_ones(axes: int) -> None:
    case = Case((7, 5, 6)[:axes], (3,) * axes, (2, 1, 1)[-axes:])
    query, key, value = (x.movedim(-2, 1) for x in maps(case))
    bias = torch.arange(2.0 * 5**axes).reshape(2, *(5,) * axes)
    # Of volumes the first axis has an entry of its own.
    window = (3, 3, 2, 1) if axes == 3 else (3, case.dilation[-1])

    def old(part: str) -> Callable[..., Tensor]:
        return getattr(functional, f"natten{axes}d{part}")

    def new(part: str) -> Callable[..., Tensor]:
        return getattr(functional, f"na{axes}d_{part}")

    later = (case.kernel_size, case.dilation)
    logits = new("qk")(query, key, *later)
    assert torch.equal(old("qk")(query, key, *window), logits)
    assert torch.equal(old("qkrpb")(query, key, bias, *window), new("qk")(query, key, *later, rpb=bias))
    weights = logits.softmax(-1)
    assert torch.equal(old("av")(weights, value, *window), new("av")(weights, value, *later))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_two_halves_keep_the_dtype_of_their_maps(dtype: torch.dtype) -> None:
    query, key, value = (x.movedim(-2, 1).to(dtype) for x in maps(CASES["map"]))
    logits = functional.na2d_qk(query, key, 3)
    wanted = functional.na2d_qk(query.double(), key.double(), 3)
    torch.testing.assert_close(logits, wanted.to(dtype))
    assert functional.na2d_av(logits.softmax(-1), value, 3).dtype == dtype


def test_attention_trains_on_this_device() -> None:
    maps = [x.requires_grad_() for x in torch.randn(3, 1, 5, 6, 2, 4, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *maps: functional.na2d(*maps, kernel_size=3), maps, fast_mode=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.na2d(MAP, MAP, MAP, 3, 2), "stride must be 1, got 2: .* give it by name"),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, is_causal=(True, False)), "is_causal must be False, got"),
        (
            lambda: functional.na2d(MAP, MAP, MAP, 3, additional_keys=MAP),
            r"additional_keys must be None, got a tensor of the shape \(1, 6, 6, 2, 4\): .* use NATTEN",
        ),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, backend="cutlass-fna"), "backend must be None.*leave it"),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, return_lse=True), "return_lse must be False, got True"),
        (lambda: functional.na2d_qk(FIRST, FIRST, 3, 1, FIRST), "additional_keys must be None"),
        (lambda: functional.na2d_av(FIRST, FIRST, 3, is_causal=True), "is_causal must be False"),
        (lambda: functional.na1d(MAP, MAP, MAP, 3), r"query must have 4 dimensions, \(B, \*map, heads, D\)"),
        (lambda: functional.na3d_qk(FIRST, FIRST, 3), r"query must have 6 dimensions, \(B, heads, "),
        (lambda: functional.na2d_av(FIRST, FIRST, 3), r"weights must have the shape \(B, \*map, G, T\)"),
        (lambda: functional.na2d(MAP, MAP, MAP, 4), "kernel_size must be odd, got 4; use 5"),
    ],
)
def test_a_call_that_cannot_be_answered_says_why(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_option_is_an_error_of_its_name() -> None:
    with pytest.raises(TypeError, match="window_shape is not an argument here, got 3; leave it out"):
        functional.na2d(MAP, MAP, MAP, 3, window_shape=3)


def test_options_that_change_nothing_are_taken() -> None:
    plain = functional.na2d(MAP, MAP, MAP, 3)
    options = {"stride": (1, 1), "is_causal": (False, False), "backend": None, "run_persistent_kernel": True}
    assert torch.equal(functional.na2d(MAP, MAP, MAP, 3, **options), plain)
