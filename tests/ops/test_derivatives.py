# SPDX-License-Identifier: Apache-2.0
"""Every derivative and transform of every backend equals that of the plain formula, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

from slideformer.layers import NeighborhoodAttention, SlideAttention
from slideformer.ops import slide_attention

from .cases import FUSED, ON_CPU, Case

# PyTorch's own, where it differentiates forward.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")

ALL = ("shift_weight", "shift_bias", "key_bias", "logit_bias")
DEFORMED = Case(3, 1, "zeros", (3, 4), 2, 2, ALL, False)
PLAIN = Case(3, 1, "zeros", (3, 4), 2, 2, ("shift_bias", "key_bias"), True)
MASK = Case((1, 3), (1, 2), "mask", (3, 4), 2, 2, ("key_bias", "logit_bias"), False)
CLAMP = Case(3, 1, "clamp", (3, 4), 2, 2, ("relative",), True)
CASES = (DEFORMED, PLAIN, MASK, CLAMP)

# What is asked, and whether it takes other than first derivatives by the backward pass.
Form = Callable[[Callable[..., Tensor], tuple[Tensor, ...]], Any]


def scalar(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Something of the output whose second derivatives do not vanish."""
    return lambda *inputs: function(*inputs).square().sum()


def with_grad(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.detach().requires_grad_() for x in inputs)


def samples(inputs: tuple[Tensor, ...], count: int = 3) -> tuple[Tensor, ...]:
    return tuple(torch.stack([x * (1 + 0.1 * i) for i in range(count)], dim=-1) for x in inputs)


def every(inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    return tuple(range(len(inputs)))


def vmapped_gradients(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Any:
    """Of the parameters, common to all samples, for each sample of the maps."""
    maps, parameters = inputs[:3], inputs[3:]
    per_sample = grad(scalar(function), argnums=tuple(range(len(inputs))))
    return vmap(per_sample, in_dims=(-1,) * 3 + (None,) * len(parameters))(*samples(maps), *parameters)


def dual(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Any:
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, x.cos()) for x in with_grad(inputs)]
        return forward_ad.unpack_dual(function(*duals)).tangent.detach()


def penalty(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Any:
    leaves = with_grad(inputs)
    first = torch.autograd.grad(scalar(function)(*leaves), leaves, create_graph=True)
    return torch.autograd.grad(sum(x.square().sum() for x in first), leaves)


def third(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Any:
    leaves = with_grad(inputs)
    value = scalar(function)(*leaves)
    for _ in range(3):
        value = sum(x.square().sum() for x in torch.autograd.grad(value, leaves, create_graph=True))
    return value.detach()


def batched(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Any:
    leaves = with_grad(inputs)
    output = function(*leaves)
    grads = torch.stack([output.detach() + i for i in range(3)])
    return torch.autograd.grad(output, leaves, grads, is_grads_batched=True)


FIRST: dict[str, Form] = {
    "grad": lambda f, x: grad(scalar(f), argnums=every(x))(*x),
    "vjp": lambda f, x: vjp(f, *x)[1](f(*x)),
    "vmap": lambda f, x: vmap(f, in_dims=-1, out_dims=2)(*samples(x)),
    "vmap over maps": lambda f, x: vmap(lambda *maps: f(*maps, *x[3:]), in_dims=-1)(*samples(x[:3])),
    "vmap over queries": lambda f, x: vmap(lambda q: f(q, *x[1:]), in_dims=-1)(*samples(x[:1])),
    "vmap of vmap": lambda f, x: vmap(vmap(f, in_dims=-1), in_dims=-1)(*samples(samples(x, 2))),
    "gradients of each sample": vmapped_gradients,
    "jacrev": lambda f, x: jacrev(f, argnums=every(x))(*x),
    "vectorised jacobian": lambda f, x: torch.autograd.functional.jacobian(f, x, vectorize=True),
    "batched gradients": batched,
}
BEYOND: dict[str, Form] = {
    "jvp": lambda f, x: jvp(f, x, tuple(t.cos() for t in x)),
    "jvp of one": lambda f, x: jvp(lambda q: f(q, *x[1:]), x[:1], (x[0].cos(),)),
    "jacfwd": lambda f, x: jacfwd(f, argnums=every(x))(*x),
    "linearize": lambda f, x: linearize(f, *x)[1](*(t.cos() for t in x)),
    "forward_ad": dual,
    "functional.jvp": lambda f, x: torch.autograd.functional.jvp(f, x, tuple(t.cos() for t in x))[1],
    "hessian": lambda f, x: hessian(scalar(f), argnums=every(x))(*x),
    "reverse over forward": lambda f, x: jacrev(jacfwd(scalar(f), argnums=(0, 1)), argnums=(1, 2))(*x),
    "reverse over reverse": lambda f, x: jacrev(jacrev(scalar(f), argnums=(0, 1)), argnums=(1, 2))(*x),
    "forward over forward": lambda f, x: jacfwd(jacfwd(scalar(f), argnums=0), argnums=1)(*x),
    "functional.hvp": lambda f, x: torch.autograd.functional.hvp(scalar(f), x, tuple(t.cos() for t in x))[1],
    "functional.hessian": lambda f, x: torch.autograd.functional.hessian(scalar(f), x),
    "gradient penalty": penalty,
    "third derivatives": third,
}
FORMS = {**FIRST, **BEYOND}


def call(case: Case, backend: str) -> Callable[..., Tensor]:
    names = list(case.tensors())
    return lambda *x: slide_attention(**dict(zip(names, x, strict=True)), **case.window, backend=backend)


def inputs_of(case: Case, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(x.detach() for x in case.tensors(dtype).values())


def assert_same(actual: Any, wanted: Any, tolerance: float = 1e-4) -> None:
    pairs = zip(*(torch.utils._pytree.tree_leaves(x) for x in (actual, wanted)), strict=True)
    for x, y in pairs:
        assert x.shape == y.shape
        assert float((x - y).abs().max()) <= tolerance * max(1.0, float(y.abs().max()))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_form_is_right_with_the_automatic_choice(case: Case, form: str) -> None:
    wanted = FORMS[form](call(case, "reference"), inputs_of(case, torch.float64))
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-4)):
        assert_same(FORMS[form](call(case, "auto"), inputs_of(case, dtype)), wanted, tolerance)
