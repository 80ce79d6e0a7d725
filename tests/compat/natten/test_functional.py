# SPDX-License-Identifier: Apache-2.0
"""NATTEN's functions give NATTEN's numbers: those that are kept, and its own where it is importable."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
import pydoc
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from slideformer.compat import natten
from slideformer.compat.natten import functional
from tests.compat.natten.cases import CASES, COMPLETE, HALVES, SPLIT, Case, complete, golden, in_halves, maps

MAP = torch.zeros(1, 6, 6, 2, 4)
FIRST = MAP.movedim(-2, 1)
ATTN = torch.zeros(1, 2, 6, 6, 9)


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


@pytest.mark.parametrize(
    "name",
    [
        f"{name}{axes}d{part}"
        for axes in (1, 2, 3)
        for name, parts in (("na", ("", "_qk", "_av")), ("natten", ("qk", "qkrpb", "av")))
        for part in parts
    ],
)
def test_a_function_has_a_name_a_signature_and_a_docstring(name: str) -> None:
    function = getattr(functional, name)
    assert (function.__name__, function.__qualname__) == (name, name)
    assert pickle.loads(pickle.dumps(function)) is function
    assert next(iter(inspect.signature(function).parameters)) == ("attn" if "av" in name else "query")
    shown = pydoc.plain(pydoc.render_doc(function))
    assert f"{name}(" in shown
    assert inspect.getdoc(function).splitlines()[0] in shown


def test_attention_trains_on_this_device() -> None:
    maps = [x.requires_grad_() for x in torch.randn(3, 1, 5, 6, 2, 4, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *maps: functional.na2d(*maps, kernel_size=3), maps, fast_mode=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: functional.na2d(MAP, MAP, MAP, 3, 2), "stride must be 1, got 2: .* give it by name"),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, is_causal=(True, False)), "is_causal must be False, got"),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, (1, 1, 1)), r"stride .* or 2, one .*, got 3: \(1, 1, 1\)"),
        (lambda: functional.na2d_qk(FIRST, FIRST, 3, is_causal=()), r"is_causal must have .*, got 0: \(\)"),
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
        (
            lambda: functional.na2d_av(FIRST, FIRST, 3),
            r"attn must have the shape \(B, heads, \*map, taps\) = \(1, 2, 6, 6, 9\), got \(1, 2, 6, 6, 4\); "
            "compute it from the map of value with the same kernel_size",
        ),
        (lambda: functional.natten2dav(ATTN[:, :, 1:], FIRST, 3, 1), r"attn must .* got \(1, 2, 5, 6, 9\); "),
        (
            lambda: functional.natten2dqk(FIRST, FIRST[:, 1:], 3),
            r"key must have query's shape \(B, heads, \*map, D\) = \(1, 2, 6, 6, 4\), got \(1, 1, 6, 6, 4\); "
            "give both one map, and repeat the heads",
        ),
        (
            lambda: functional.natten2dqkrpb(FIRST, FIRST, torch.zeros(2, 3, 3), 3, 1),
            r"rpb must have the shape \(heads, 2 K - 1, 2 K - 1\) = \(2, 5, 5\), got \(2, 3, 3\); give it",
        ),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, rpb=torch.zeros(2, 9)), r"rpb .*, got \(2, 9\); give it"),
        (lambda: functional.na2d(MAP, MAP, MAP, 4), "kernel_size must be odd, got 4; use 5"),
    ],
)
def test_a_call_that_cannot_be_answered_says_why(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: functional.na2d_av(ATTN.double(), FIRST.half(), 3),
            "attn must have value's dtype torch.float16 or float32, got torch.float64; use attn.to",
        ),
        (
            lambda: functional.na2d_qk(FIRST, FIRST.half(), 3),
            "key must have query's dtype torch.float32, got torch.float16; use key.to",
        ),
        (
            lambda: functional.na2d(MAP, MAP, MAP, 3, rpb=torch.zeros(2, 5, 5).half()),
            "rpb must have query's dtype torch.float32 or float32, got torch.float16; use rpb.to",
        ),
        (lambda: functional.na2d([1], MAP, MAP, 3), "query must be a Tensor, got list"),
        (lambda: functional.na2d_qk(FIRST, None, 3), "key must be a Tensor, got NoneType"),
        (lambda: functional.na2d_av(ATTN.tolist(), FIRST, 3), "attn must be a Tensor, got list"),
        (lambda: functional.na2d(MAP, MAP, MAP, 3, rpb=True), "rpb must be a Tensor, got bool"),
    ],
)
def test_what_cannot_be_computed_with_is_an_error_of_types(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def test_autocast_takes_maps_and_weights_of_several_dtypes() -> None:
    bias = torch.zeros(2, 5, 5).half()
    with torch.autocast("cpu", torch.bfloat16):
        assert functional.na2d_qk(FIRST, FIRST.bfloat16(), 3, rpb=bias).dtype == FIRST.dtype
        assert functional.na2d_av(ATTN.half(), FIRST, 3).dtype == FIRST.dtype


def test_an_unknown_option_is_an_error_of_its_name() -> None:
    with pytest.raises(TypeError, match="window_shape is not an argument here, got 3; leave it out"):
        functional.na2d(MAP, MAP, MAP, 3, window_shape=3)


def test_options_that_change_nothing_are_taken() -> None:
    plain = functional.na2d(MAP, MAP, MAP, 3)
    options = {"stride": (1, 1), "is_causal": (False, False), "backend": None, "run_persistent_kernel": True}
    assert torch.equal(functional.na2d(MAP, MAP, MAP, 3, **options), plain)


def test_code_that_asks_whether_the_complete_functions_are_there_finds_them() -> None:
    assert natten.has_fused_na()
    assert natten.na2d is natten.functional.na2d is functional.na2d
