# SPDX-License-Identifier: Apache-2.0
"""Derivatives of the fused kernels, of the operator or of a half of it, and how they run under `torch.func`.

The kernels compute the output and the first derivatives; `vmap` folds maps into the batch, or calls the
kernels one sample at a time. Everything else (second and higher derivatives, forward mode) is computed by the
same equations in ordinary operators, which PyTorch differentiates any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from slideformer.ops import shift
from slideformer.ops.call import MASK, TENSORS, Call
from slideformer.ops.constant import assumed_constant
from slideformer.ops.precision import own_precision
from slideformer.ops.window import Window

Tensors = tuple[Tensor, ...]
# The first of the tensors, the maps and the mask, have a batch; the parameters after them have none.
BATCHED, COUNT = TENSORS.index(MASK) + 1, len(TENSORS)


@dataclass(frozen=True)
class Kernels:
    """The fused passes of a backend, of the operator or a half of it.

    They are called with tensors that no transform wraps.

    Attributes:
        name: the backend's.
        forward: computes the output and, after it, whatever else the backward pass takes.
        backward: computes the gradients that are wanted, in the order of `TENSORS`, from the call, the
            gradient of the output, the results of ``forward`` (nothing where that is the output alone) and
            whether each gradient is wanted.
        compiled: computes the call under `torch.compile`, with first derivatives.
        portable: whether the backend is made of ordinary operators itself: then these may compute the other
            derivatives even where it was chosen by name.
        formula: computes the same by ordinary operators.
    """

    name: str
    forward: Callable[[Call], Tensors]
    backward: Callable[[Call, Tensor, Tensors, Sequence[bool]], Sequence[Tensor]]
    compiled: Callable[[Call], Tensor]
    portable: bool = False
    formula: Callable[[Call], Tensor] = shift.attend


@dataclass(frozen=True)
class Options:
    """A call without its tensors, and which of their gradients are wanted."""

    kernels: Kernels
    window: Window
    scale: float
    named: bool
    wanted: tuple[bool, ...] = ()

    def call(self, tensors: Sequence[Any]) -> Call:
        """The call of tensors in the order of `TENSORS`."""
        return Call.of(tensors, self.window, self.scale)

    def require(self, derivatives: str) -> None:
        """Reject derivatives that the kernels cannot compute, where their backend was chosen by name."""
        if self.named and not self.kernels.portable:
            raise NotImplementedError(
                f'backend {self.kernels.name!r} has no {derivatives}; pass backend="matmul" or backend="auto"'
            )


# A call in ordinary operators.
Portable = Callable[[Sequence[Any], Options], Tensors]


def true_indices(needed: Sequence[bool]) -> list[int]:
    """Indices of the entries that are true."""
    return [place for place, here in enumerate(needed) if here]


def scatter_to(found: Sequence[Tensor], needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Put the found tensors, in order, where one is needed, and None elsewhere."""
    rest = iter(found)
    return tuple(next(rest) if here else None for here in needed)


def vector_jacobian(function: Callable[..., Tensors], inputs: Tensors, grads: Tensors) -> Tensors:
    """Gradients of the inputs (a vector-Jacobian product), each input taken by itself.

    Where gradients are enabled, the result is differentiable with respect to the inputs, whatever graph
    connects them.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # A path from one input to another is not a path from one view to another.
        views = [x.view_as(x) for x in inputs]
        if all(x.requires_grad for x in views):
            outputs = function(*views)
            return torch.autograd.grad(outputs, views, grads, create_graph=again, materialize_grads=True)
    # Inside a transform, an input may not be one that the transform differentiates by.
    gradients: Tensors = torch.func.vjp(function, *inputs)[1](grads)
    return gradients


def portable_output(tensors: Sequence[Any], options: Options) -> Tensors:
    """Compute the output by ordinary operators."""
    return (options.kernels.formula(options.call(tensors).existing()),)


def portable_gradients(tensors: Sequence[Any], options: Options) -> Tensors:
    """Compute the wanted gradients by ordinary operators; the first tensor is the gradient of the output."""
    grad, *others = tensors
    function, inputs = function_of(portable_output, others, options, true_indices(options.wanted))
    return vector_jacobian(function, inputs, (grad,))


def function_of(
    portable: Portable, tensors: Sequence[Any], options: Options, chosen: Sequence[int]
) -> tuple[Callable[..., Tensors], Tensors]:
    """A function of ordinary operators restricted to some of its tensors, and these tensors."""

    def function(*inputs: Tensor) -> Tensors:
        every = list(tensors)
        for place, x in zip(chosen, inputs, strict=True):
            every[place] = x
        return portable(every, options)

    return function, tuple(tensors[place] for place in chosen)


def jacobian_vector(
    portable: Portable, tensors: Sequence[Any], options: Options, tangents: Sequence[Any], like: Tensors
) -> Tensors:
    """Tangents of the outputs (a Jacobian-vector product), which have the shapes of ``like``.

    The transpose of the transpose: `torch.func.jvp` cannot run inside `torch.autograd.forward_ad`.
    """
    options.require("forward mode")
    chosen = true_indices([x is not None for x in tangents])
    # PyTorch switches forward mode off for a function's own tangents, and so for those of outer levels, which
    # would be zeros; this switches it on. Primals leave out the tangents of this level.
    with own_precision(like[0]), torch.inference_mode(False):
        primals = [None if x is None else forward_ad.unpack_dual(x).primal for x in tensors]
        function, inputs = function_of(portable, primals, options, chosen)

        def transposed(*grads: Tensor) -> Tensors:
            gradients: Tensors = torch.func.vjp(function, *inputs)[1](grads)
            return gradients

        push = torch.func.vjp(transposed, *map(torch.zeros_like, like))[1]
        outputs: Tensors = push(tuple(tangents[place] for place in chosen))
    return outputs


def fold_into_batch(x: Tensor | None, dim: int | None, size: int) -> Tensor | None:
    """Make the dimension that is mapped over part of the batch, the first dimension."""
    return (
        None if x is None else (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
    )


def vmap_calls(
    function: Any, size: int, in_dims: Sequence[int | None], arguments: Sequence[Any], batched: int
) -> tuple[Tensors, tuple[int, ...]]:
    """Outputs of a function mapped over a dimension of its arguments.

    One call where only the first arguments are mapped over, as many as have a batch; otherwise one a sample.
    """
    if all(dim is None for dim in in_dims[batched:]):
        maps = (fold_into_batch(x, dim, size) for x, dim in zip(arguments[:batched], in_dims, strict=False))
        outputs = tuple(x.unflatten(0, (size, -1)) for x in function.apply(*maps, *arguments[batched:]))
    else:
        samples = (
            [x if dim is None else x.select(dim, sample) for x, dim in zip(arguments, in_dims, strict=True)]
            for sample in range(size)
        )
        outputs = tuple(map(torch.stack, zip(*(function.apply(*x) for x in samples), strict=True)))
    return outputs, (0,) * len(outputs)


class Output(torch.autograd.Function):
    """The output by a fused forward pass, then what its backward pass takes."""

    @staticmethod
    def forward(*arguments: Any) -> Tensors:
        """Run the kernels on the tensors of a call."""
        *tensors, options = arguments
        return options.kernels.forward(options.call(tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        """Keep the arguments and, where the backward pass takes them, all results of the kernels."""
        *tensors, ctx.options = inputs
        ctx.undefined = (None,) * (len(output) - 1)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *(output if ctx.undefined else ()))
        ctx.save_for_forward(*tensors, output[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the tensors."""
        wanted, saved = ctx.needs_input_grad[:-1], ctx.saved_tensors
        tensors, kept = saved[: len(wanted)], saved[len(wanted) :]
        options = replace(ctx.options, wanted=wanted)
        # Compiled autograd takes no function with a derivative in forward mode.
        once = torch.compiler.is_compiling() or (not in_transform() and is_final((grads[0], *tensors)))
        function = Gradients.forward if once else Gradients.apply
        found = function(grads[0], *kept, *tensors, options)
        return (*scatter_to(found, wanted), None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> tuple[Tensor | None, ...]:
        """Tangent of the output."""
        *tensors, output = ctx.saved_tensors
        tangent = jacobian_vector(portable_output, tensors, ctx.options, tangents, (output,))
        return (*tangent, *ctx.undefined)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Tensors, tuple[int, ...]]:
        """Outputs of several calls."""
        return vmap_calls(Output, info.batch_size, in_dims, arguments, BATCHED)


class Gradients(torch.autograd.Function):
    """The gradients that are wanted, by a fused backward pass."""

    @staticmethod
    def forward(grad: Tensor, *arguments: Any) -> Tensors:
        """Run the kernels on the gradient of the output, the results of the forward pass, and the call."""
        *tensors, options = arguments
        kept, tensors = tensors[:-COUNT], tensors[-COUNT:]
        with own_precision(grad):
            # The older kind of vmap, of `torch.autograd.grad(is_grads_batched=True)`, knows no functions.
            if torch._C._functorch.is_legacy_batchedtensor(grad):
                options.require("batched gradients")
                return portable_gradients((grad, *tensors), options)
            return tuple(options.kernels.backward(options.call(tensors), grad, kept, options.wanted))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        """Keep the gradient of the output and the call's tensors."""
        grad, *tensors, ctx.options = inputs
        ctx.kept = len(tensors) - COUNT
        ctx.save_for_backward(grad, *tensors[ctx.kept :])
        ctx.save_for_forward(grad, *tensors[ctx.kept :])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the gradient of the output and of the call's tensors."""
        ctx.options.require("second derivatives")
        first, *needed = ctx.needs_input_grad[:1] + ctx.needs_input_grad[1 + ctx.kept : -1]
        chosen = true_indices((first, *needed))
        function, inputs = function_of(portable_gradients, ctx.saved_tensors, ctx.options, chosen)
        with own_precision(grads[0]):
            grad, *others = scatter_to(vector_jacobian(function, inputs, grads), (first, *needed))
        return (grad, *(None,) * ctx.kept, *others, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensors:
        """Tangents of the gradients."""
        tensors = ctx.saved_tensors
        like = tuple(tensors[1 + place] for place in true_indices(ctx.options.wanted))
        tangents = (tangents[0], *tangents[1 + ctx.kept :])
        return jacobian_vector(portable_gradients, tensors, ctx.options, tangents, like)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> tuple[Tensors, tuple[int, ...]]:
        """Gradients of several calls."""
        # A sum over the batch cannot be split into the sums of its samples.
        summed = any(arguments[-1].wanted[BATCHED:])
        batched = 0 if summed else len(arguments) - (COUNT - BATCHED) - 1
        return vmap_calls(Gradients, info.batch_size, in_dims, arguments, batched)


class PlainOutput(Output):
    """The same outside of transforms, where PyTorch calls functions without `setup_context` much faster."""

    setup_context = torch.autograd.Function.setup_context

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensors:
        """Run the kernels and keep what the backward pass takes."""
        output = Output.forward(*arguments)
        Output.setup_context(ctx, arguments, output)
        return output


# Called while a compiler traces, which cannot put it into a graph.
@assumed_constant
def in_transform() -> bool:
    """Whether a transform of `torch.func` is active."""
    return torch._C._functorch.maybe_current_level() is not None


def has_tangent(x: Tensor | None) -> bool:
    """Whether a tensor has a tangent."""
    return x is not None and forward_ad.unpack_dual(x).tangent is not None


def is_final(tensors: Sequence[Tensor | None]) -> bool:
    """Whether nothing computed from these tensors is differentiated, outside of transforms."""
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return False
    # Outside of forward mode nothing has a tangent, and asking for each takes time.
    return forward_ad._current_level < 0 or not any(map(has_tangent, tensors))


def recomputing(name: str, form: Callable[[Call], Tensor]) -> Kernels:
    """Passes of a backend made of ordinary operators; the backward pass computes the forward pass again.

    Args:
        name: the backend's.
        form: computes a call.
    """

    def backward(call: Call, grad: Tensor, kept: Tensors, wanted: Sequence[bool]) -> Tensors:
        function, inputs = function_of(
            lambda tensors, options: (form(options.call(tensors)),),
            call.tensors(),
            Options(kernels, call.window, call.scale, call.named),
            true_indices(wanted),
        )
        return vector_jacobian(function, inputs, (grad,))

    kernels = Kernels(name, lambda call: (form(call),), backward, form, portable=True, formula=form)
    return kernels


def attend(call: Call, kernels: Kernels) -> Tensor:
    """Slide attention or a half of it by kernels, with every derivative and in every mode of PyTorch."""
    tensors, plain = call.tensors(), not in_transform()
    compiling = torch.compiler.is_compiling()
    if plain and not compiling and is_final(tensors):
        return kernels.forward(call)[0]
    options = Options(kernels, call.window, call.scale, call.named)
    if compiling:
        # Compilers take no function with a derivative in forward mode, and operators have none.
        if plain and not any(map(has_tangent, tensors)):
            return kernels.compiled(call)
        options.require("compiled transforms")
        return kernels.formula(call.existing())
    output: Tensor = (PlainOutput if plain else Output).apply(*tensors, options)[0]
    return output
