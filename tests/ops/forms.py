# SPDX-License-Identifier: Apache-2.0
"""The ways in which PyTorch differentiates and maps a function, by their names in docs/operator.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd import functional as autograd
from torch.func import grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

from slideformer.ops import slide_attention

from .cases import Case

Function = Callable[..., Tensor]
Tensors = tuple[Tensor, ...]
Form = Callable[[Function, Tensors], Any]


def scalar(function: Function) -> Function:
    """A number whose second derivatives do not vanish."""
    return lambda *inputs: function(*inputs).square().sum()


def every(inputs: Tensors) -> tuple[int, ...]:
    return tuple(range(len(inputs)))


def leaves(inputs: Tensors) -> Tensors:
    return tuple(x.detach().requires_grad_() for x in inputs)


def along(inputs: Tensors) -> Tensors:
    """A direction."""
    return tuple(x.cos() for x in inputs)


def samples(inputs: Tensors, count: int = 3) -> Tensors:
    """Several of each, the last dimension counts them."""
    return tuple(torch.stack([x * (1 + 0.1 * i) for i in range(count)], dim=-1) for x in inputs)


def per_sample(function: Function, inputs: Tensors) -> Any:
    """Gradients of every tensor for each sample of the maps; the parameters are common to all."""
    in_dims = (*(-1,) * 3, *(None,) * (len(inputs) - 3))
    return vmap(grad(scalar(function), every(inputs)), in_dims)(*samples(inputs[:3]), *inputs[3:])


def backward(function: Function, inputs: Tensors) -> Any:
    x = leaves(inputs)
    scalar(function)(*x).backward()
    return tuple(leaf.grad for leaf in x)


def batched(function: Function, inputs: Tensors) -> Any:
    x = leaves(inputs)
    output = function(*x)
    grads = torch.stack([output.detach() + i for i in range(3)])
    return torch.autograd.grad(output, x, grads, is_grads_batched=True)


def differentiated(times: int) -> Form:
    """The gradient's square's gradient, and so on."""

    def form(function: Function, inputs: Tensors) -> Any:
        x = leaves(inputs)
        value = scalar(function)(*x)
        for _ in range(times - 1):
            grads = torch.autograd.grad(value, x, create_graph=True)
            value = torch.stack([leaf.square().sum() for leaf in grads]).sum()
        return torch.autograd.grad(value, x)

    return form


def dual(function: Function, inputs: Tensors) -> Any:
    with forward_ad.dual_level():
        duals = map(forward_ad.make_dual, leaves(inputs), along(inputs))
        return forward_ad.unpack_dual(function(*duals)).tangent.detach()


FORMS: dict[str, Form] = {
    "backward": backward,
    "grad": lambda f, x: grad(scalar(f), every(x))(*x),
    "vjp": lambda f, x: vjp(f, *x)[1](f(*x)),
    "jacrev": lambda f, x: jacrev(f, every(x))(*x),
    "vmap": lambda f, x: vmap(f, in_dims=-1, out_dims=2)(*samples(x)),
    "vmap over the maps": lambda f, x: vmap(lambda *maps: f(*maps, *x[3:]), -1)(*samples(x[:3])),
    "vmap over the queries": lambda f, x: vmap(lambda query: f(query, *x[1:]), -1)(*samples(x[:1])),
    "vmap of vmap": lambda f, x: vmap(vmap(f, -1), -1)(*samples(samples(x, 2))),
    "vmap of grad": per_sample,
    "grad, is_grads_batched": batched,
    "jacobian, vectorize": lambda f, x: autograd.jacobian(f, x, vectorize=True),
    "second derivatives": differentiated(2),
    "third derivatives": differentiated(3),
    "autograd.functional.hessian": lambda f, x: autograd.hessian(scalar(f), x),
    "autograd.functional.hvp": lambda f, x: autograd.hvp(scalar(f), x, along(x))[1],
    "autograd.functional.jvp": lambda f, x: autograd.jvp(f, x, along(x))[1],
    "forward_ad": dual,
    "jvp": lambda f, x: jvp(f, x, along(x)),
    "jvp along the queries": lambda f, x: jvp(lambda query: f(query, *x[1:]), x[:1], along(x[:1])),
    "jacfwd": lambda f, x: jacfwd(f, every(x))(*x),
    "linearize": lambda f, x: linearize(f, *x)[1](*along(x)),
    "hessian": lambda f, x: hessian(scalar(f), every(x))(*x),
    "jacrev of jacrev": lambda f, x: jacrev(jacrev(scalar(f), (0, 1)), (1, 2))(*x),
    "jacrev of jacfwd": lambda f, x: jacrev(jacfwd(scalar(f), (0, 1)), (1, 2))(*x),
    "jacfwd of jacfwd": lambda f, x: jacfwd(jacfwd(scalar(f), (0, 1)), (1, 2))(*x),
}


def function_of(case: Case, backend: str) -> Function:
    """The operator as a function of the tensors of a case."""
    names = list(case.tensors())
    return lambda *x: slide_attention(**dict(zip(names, x, strict=True)), **case.window, backend=backend)


def inputs_of(case: Case, dtype: torch.dtype) -> Tensors:
    return tuple(x.detach() for x in case.tensors(dtype).values())


def flat(results: Any) -> list[Tensor]:
    """The tensors of nested tuples."""
    return [results] if isinstance(results, Tensor) else [x for part in results for x in flat(part)]


def assert_same(actual: Any, wanted: Any, tolerance: float) -> None:
    for x, y in zip(flat(actual), flat(wanted), strict=True):
        assert x.shape == y.shape
        x, y = x.detach(), y.detach()
        assert float((x - y).abs().max()) <= tolerance * max(1.0, float(y.abs().max()))
