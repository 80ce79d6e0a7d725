# SPDX-License-Identifier: Apache-2.0
"""The slide attention layer: the paper's numbers, merging, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from slideformer import SlideAttention
from slideformer.layers.deformed_shift import MergedShift
from tests.ops.cases import FUSED, ON_CPU

GOLDEN = Path(__file__).parents[1] / "golden"
PORTABLE = [name for name in ON_CPU if name not in FUSED]


def golden(name: str) -> tuple[dict[str, int], dict[str, Tensor]]:
    with safe_open(GOLDEN / f"{name}.safetensors", "pt") as file:
        return {k: int(v) for k, v in file.metadata().items()}, {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118


def layer_with(sizes: dict[str, int], tensors: dict[str, Tensor]) -> SlideAttention:
    """Our layer with the authors' parameters, laid out as `names` says."""
    layer = SlideAttention(sizes["dim"], sizes["num_heads"], sizes["kernel_size"]).double()
    ours = names(sizes, {k.removeprefix("param."): x for k, x in tensors.items() if k.startswith("param.")})
    ours["shift.bias"] = ours["shift.bias"] + tensors["param.dep_conv1.bias"].view_as(ours["shift.bias"])
    layer.load_state_dict(ours)
    return layer


def names(sizes: dict[str, int], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors (parameters, or their gradients) by our names and in our layout.

    The bias is the fixed convolution's: in theirs, two biases do the work of one.
    """
    heads, channels, taps = sizes["num_heads"], sizes["dim"] // sizes["num_heads"], sizes["kernel_size"] ** 2

    def qkv(x: Tensor) -> Tensor:  # per head [q | k | v] -> [q heads | k heads | v heads]
        return x.unflatten(0, (heads, 3, channels)).transpose(0, 1).flatten(0, 2)

    return {
        "qkv.weight": qkv(theirs["qkv.weight"]),
        "qkv.bias": qkv(theirs["qkv.bias"]),
        "shift.weight": theirs["dep_conv1.weight"].reshape(channels, taps, taps),
        "shift.bias": theirs["dep_conv.bias"].reshape(channels, taps),
        "key_bias": theirs["relative_position_bias_table"].reshape(heads, taps),
        "proj.weight": theirs["proj.weight"],
        "proj.bias": theirs["proj.bias"],
    }


def assert_equal(actual: Tensor, wanted: Tensor, name: str) -> None:
    error = float(((actual - wanted).abs().max() / wanted.abs().max()).detach())
    assert error < {torch.float64: 1e-10, torch.float32: 1e-5}[actual.dtype], f"{name}: error {error:.1e}"


@pytest.mark.parametrize("backend", ON_CPU)
@pytest.mark.parametrize("file", ["slide_attention_k3", "slide_attention_k5", "slide_attention_k3_tiny_map"])
def test_output_and_every_gradient_equal_the_authors_code(file: str, backend: str) -> None:
    sizes, tensors = golden(file)
    dtype = torch.float64 if backend in PORTABLE else torch.float32
    layer = layer_with(sizes, tensors).to(dtype)
    tensors = {name: x.to(dtype) for name, x in tensors.items()}
    layer.backend = backend
    size = (sizes["batch"], sizes["height"], sizes["width"], sizes["dim"])
    x = tensors["input"].view(size).requires_grad_()
    output = layer(x)
    assert_equal(output.flatten(1, 2), tensors["output"], "output")
    output.backward(tensors["grad_output"].view(size))
    assert x.grad is not None
    assert_equal(x.grad.flatten(1, 2), tensors["grad_input"], "input")
    theirs = names(sizes, {k.removeprefix("grad."): g for k, g in tensors.items() if k.startswith("grad.")})
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None
        assert_equal(parameter.grad, theirs[name], name)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_merging_changes_no_output(scale: float) -> None:
    layer = SlideAttention(32, 2, 5).eval()
    x = torch.randn(2, 9, 6, 32) * scale
    with torch.no_grad():
        before = layer(x)
        layer.reparameterize()
        after = layer(x)
    assert float((before - after).abs().max()) <= 1e-5


def test_merging_drops_the_learned_kernel_and_twice_is_once() -> None:
    layer = SlideAttention(32, 2).eval()
    assert layer.shift is not None
    weight, bias = layer.shift()
    layer.reparameterize()
    merged = layer.shift
    layer.reparameterize()
    assert layer.shift is merged
    assert isinstance(merged, MergedShift)
    assert torch.equal(merged.merged_weight, weight)
    assert torch.equal(merged.merged_bias, bias)
    assert not list(merged.buffers())


def test_merged_weights_load_into_merged_layers_alone() -> None:
    layer, merged = SlideAttention(32, 2).eval(), SlideAttention(32, 2).eval()
    merged.reparameterize()
    with pytest.raises(RuntimeError, match=r"Missing key.*shift\.weight"):
        layer.load_state_dict(merged.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*shift\.merged_weight"):
        merged.load_state_dict(layer.state_dict())


def test_merging_is_refused_in_training_mode() -> None:
    layer = SlideAttention(32, 2)
    with pytest.raises(RuntimeError, match=r"evaluation mode, got training mode; call \.eval\(\) first"):
        layer.reparameterize()


def test_a_plain_layer_merges_to_itself() -> None:
    layer = SlideAttention(32, 2, deform=False).eval()
    layer.reparameterize()
    assert layer.shift is None


@pytest.mark.parametrize("border", ["zeros", "mask", "clamp"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (6, 5)])
def test_plain_layer_takes_any_map_and_border(border: str, size: tuple[int, int]) -> None:
    layer = SlideAttention(16, 4, 3, dilation=2, border=border, deform=False)
    output = layer(torch.randn(2, *size, 16))
    assert output.shape == (2, *size, 16)
    output.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_without_position_and_shift_every_position_of_a_constant_map_agrees() -> None:
    layer = SlideAttention(16, 4, 3, border="mask", deform=False)
    torch.nn.init.zeros_(layer.key_bias)
    output = layer(torch.ones(1, 5, 5, 16))
    torch.testing.assert_close(output, output[:, :1, :1].expand_as(output))


def test_attention_weights_are_those_of_the_forward_pass() -> None:
    layer = SlideAttention(16, 4, 3)
    x = torch.randn(1, 5, 6, 16)
    weights = layer.attention_weights(x)
    assert weights.shape == (1, 5, 6, 4, 9)
    # Dropout of a vanishing rate takes the path over the weights.
    wanted = layer.eval()(x)
    layer.train().attn_drop = 1e-12
    torch.testing.assert_close(layer(x), wanted)


def test_attention_dropout_acts_in_training_only() -> None:
    layer = SlideAttention(16, 4, 3, attn_drop=0.5)
    x = torch.randn(1, 5, 6, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_a_named_backend_is_taken_or_refused_with_dropout_of_the_weights_too() -> None:
    layer = SlideAttention(16, 4, 3, attn_drop=0.5, backend="conv")
    x = torch.randn(1, 6, 6, 16)
    with pytest.raises(ValueError, match="backend 'conv' cannot take this call"):
        layer.train()(x)
    assert layer.eval()(x).shape == x.shape


def test_projection_dropout_acts_in_training_only() -> None:
    layer = SlideAttention(16, 4, 3, proj_drop=0.5)
    assert bool((layer(torch.randn(1, 5, 6, 16)) == 0).any())
    assert not bool((layer.eval()(torch.randn(1, 5, 6, 16)) == 0).any())


def test_under_autocast_the_layer_runs_in_half_precision_and_trains() -> None:
    layer = SlideAttention(16, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(torch.randn(1, 5, 6, 16))
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


def test_query_key_and_value_reach_the_operator_without_a_copy() -> None:
    layer = SlideAttention(16, 4, 3)
    query, key, value = layer.heads(torch.randn(1, 5, 6, 16))
    storages = {x.untyped_storage().data_ptr() for x in (query, key, value)}
    assert len(storages) == 1


def test_the_layer_compiles_without_a_graph_break_and_trains() -> None:
    torch._dynamo.reset()
    layer = SlideAttention(16, 2)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in ((5, 6), (7, 4)):
        x = torch.randn(2, *size, 16)
        torch.testing.assert_close(compiled(x), layer(x))
        wanted = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
        grads = torch.autograd.grad(compiled(x).square().sum(), list(layer.parameters()))
        torch.testing.assert_close(grads, wanted)


@pytest.mark.parametrize("backend", ["auto", *PORTABLE])
def test_the_layer_exports_with_a_dynamic_map(backend: str) -> None:
    layer = SlideAttention(16, 2, backend=backend).eval()
    batch, height, width = (torch.export.Dim(name, min=2) for name in ("batch", "height", "width"))
    exported = torch.export.export(
        layer, (torch.randn(2, 5, 6, 16),), dynamic_shapes=({0: batch, 1: height, 2: width},)
    )
    x = torch.randn(3, 9, 4, 16)
    torch.testing.assert_close(exported.module()(x), layer(x))
    if backend == "auto":
        values = (node.meta.get("val") for node in exported.graph.nodes)
        assert max(x.ndim for x in values if isinstance(x, Tensor)) <= 5


REFUSED = {
    "heads": ({"dim": 10, "num_heads": 3}, "dim must be a multiple of num_heads, got dim=10 and num_heads=3"),
    "no heads": ({"dim": 10, "num_heads": 0}, "dim must be a multiple of num_heads"),
    "even": ({"dim": 8, "num_heads": 2, "kernel_size": 2}, "kernel_size must be odd, got 2; use 3"),
    "border": (
        {"dim": 8, "num_heads": 2, "border": "clamp"},
        "deform=True needs border=.*, got 'clamp'",
    ),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_a_layer_that_cannot_be_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlideAttention(**options)


@pytest.mark.parametrize("shape", [(1, 4, 16), (1, 4, 4, 8)])
def test_a_map_of_other_channels_or_rank_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 16"):
        SlideAttention(16, 2)(torch.zeros(shape))


def test_a_shift_that_begins_at_zero_is_plain_local_attention() -> None:
    torch.manual_seed(0)
    deformed, plain = SlideAttention(16, 2, shift_init="zeros"), SlideAttention(16, 2, deform=False)
    missing, unused = plain.load_state_dict(deformed.state_dict(), strict=False)
    assert not missing
    assert set(unused) == {"shift.weight", "shift.bias"}
    x = torch.randn(2, 5, 7, 16)
    torch.testing.assert_close(deformed(x), plain(x))
    deformed(x).sum().backward()
    shift = deformed.shift
    assert shift is not None
    assert all(p.grad is not None and bool(p.grad.any()) for p in shift.parameters())


def test_an_unknown_beginning_of_the_shift_is_refused() -> None:
    with pytest.raises(ValueError, match="shift_init must be one of uniform, zeros, got 'zero'; correct it"):
        SlideAttention(16, 2, shift_init="zero")
