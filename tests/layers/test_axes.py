# SPDX-License-Identifier: Apache-2.0
"""Attention to neighbours on sequences, globes and volumes: brute force, periodic axes, masks, export."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.export import Dim

from slideformer import SlideAttention
from slideformer.layers import NeighborhoodAttention
from slideformer.layers.deformed_shift import DeformedShift
from tests.ops import brute
from tests.ops.cases import of_axes
from tests.tiers import fast

Layer = SlideAttention | NeighborhoodAttention


@dataclass(frozen=True)
class Row:
    """A layer of 8 channels and 2 heads, and the size of a map for it."""

    build: Callable[[], Layer]
    size: tuple[int, ...]


ROWS = {
    "sequence": Row(lambda: SlideAttention(8, 2, (5,), dilation=2), (11,)),
    "ring": Row(lambda: SlideAttention(8, 2, (3,), border="wrap"), (7,)),
    "cylinder": Row(lambda: SlideAttention(8, 2, (3, 5), border=("zeros", "wrap")), (4, 6)),
    "volume": Row(lambda: SlideAttention(8, 2, (3, 3, 3)), (3, 2, 4)),
    "periodic volume": Row(
        lambda: SlideAttention(8, 2, (3, 1, 3), border=("zeros", "wrap", "wrap")), (3, 2, 4)
    ),
    "plain globe": Row(lambda: SlideAttention(8, 2, border=("clamp", "wrap"), deform=False), (4, 5)),
    "plain volume": Row(lambda: SlideAttention(8, 2, (3, 1, 3), border="mask", deform=False), (3, 2, 4)),
    "near in a sequence": Row(lambda: NeighborhoodAttention(8, 2, (5,), dilation=2), (11,)),
    "near on a globe": Row(lambda: NeighborhoodAttention(8, 2, 3, border=("clamp", "wrap")), (4, 5)),
    "near on a torus": Row(lambda: NeighborhoodAttention(8, 2, 3, border="wrap"), (4, 5)),
    "near in a volume": Row(lambda: NeighborhoodAttention(8, 2, (3, 3, 1), dilation=(1, 2, 1)), (4, 5, 2)),
}
DEFORMED = [name for name, row in ROWS.items() if getattr(row.build(), "shift", None) is not None]
PERIODIC = [name for name, row in ROWS.items() if "wrap" in row.build().border]
# A deformed tap mixes all taps, and where the border is not of zeros, masked taps are left out.
MASKED = [name for name in ROWS if name not in DEFORMED or name not in PERIODIC]


def made(name: str) -> tuple[Layer, Tensor]:
    """A layer with biases that matter, and a map."""
    torch.manual_seed(0)
    layer = ROWS[name].build().double().eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer, torch.randn(2, *ROWS[name].size, 8, dtype=torch.float64)


def mask_of(x: Tensor) -> Tensor:
    """Some positions of the first map and none of a part of the second."""
    mask = torch.rand(x.shape[:-1], generator=torch.Generator().manual_seed(0)) > 0.3
    mask[1, : x.shape[1] // 2 + 1] = False
    return mask


def expected(layer: Layer, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """The projections and the operator, query by query."""
    axes = x.ndim - 2
    query, key, value = (
        part.reshape(*x.shape[:-1], 2, 4) for part in (x @ layer.qkv.weight.T + layer.qkv.bias).split(8, -1)
    )
    biases = {}
    if isinstance(layer, NeighborhoodAttention):
        biases["logit_bias"] = layer.relative_position_bias_table
    else:
        biases["key_bias"] = layer.key_bias
        if isinstance(layer.shift, DeformedShift):
            learned = layer.shift.weight
            biases |= {"shift_weight": torch.eye(learned.shape[1]) + learned, "shift_bias": layer.shift.bias}
    out = brute.slide_attention(
        query,
        key,
        value,
        kernel_size=of_axes(layer.kernel_size, axes),
        dilation=of_axes(layer.dilation, axes),
        border=of_axes(layer.border, axes),
        key_mask=mask,
        **biases,
    )
    return out.flatten(-2) @ layer.proj.weight.T + layer.proj.bias


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", ROWS)
def test_a_layer_is_its_projections_around_the_operator(name: str) -> None:
    layer, x = made(name)
    with torch.no_grad():
        assert_close(layer(x), expected(layer, x))


@pytest.mark.parametrize("name", MASKED)
def test_nobody_attends_to_a_position_that_does_not_exist(name: str) -> None:
    layer, x = made(name)
    mask = mask_of(x)
    with torch.no_grad():
        assert_close(layer(x, mask), expected(layer, x, mask))
        elsewhere = torch.where(mask[..., None], x, torch.randn_like(x))
        assert_close(layer(elsewhere, mask)[mask], layer(x, mask)[mask])


@pytest.mark.parametrize("name", ROWS)
def test_every_parameter_has_a_gradient(name: str) -> None:
    layer, x = made(name)
    layer(x).square().sum().backward()
    for which, parameter in layer.named_parameters():
        assert parameter.grad is not None, which
        assert bool(parameter.grad.abs().max() > 1e-6), which


@pytest.mark.parametrize("name", DEFORMED)
def test_merging_changes_no_output(name: str) -> None:
    layer, x = made(name)
    assert isinstance(layer, SlideAttention)
    with torch.no_grad():
        before = layer(x)
        layer.reparameterize()
        assert_close(layer(x), before)


@pytest.mark.parametrize("name", DEFORMED)
def test_without_the_learned_part_the_shift_is_the_fixed_one(name: str) -> None:
    layer, x = made(name)
    assert isinstance(layer, SlideAttention)
    assert isinstance(layer.shift, DeformedShift)
    with torch.no_grad():
        for parameter in layer.shift.parameters():
            parameter.zero_()
        deformed = layer(x)
        layer.shift = None
        assert_close(deformed, layer(x))


@pytest.mark.parametrize("name", PERIODIC)
def test_a_layer_follows_a_roll_along_its_periodic_axes(name: str) -> None:
    layer, x = made(name)
    borders = of_axes(layer.border, x.ndim - 2)
    with torch.no_grad():
        for dim, steps in itertools.product(range(1, x.ndim - 1), (1, 2)):
            rolled = layer(torch.roll(x, steps, dim))
            if borders[dim - 1] == "wrap":
                assert_close(rolled, torch.roll(layer(x), steps, dim))
            else:
                assert not torch.allclose(rolled, torch.roll(layer(x), steps, dim))


@pytest.mark.parametrize("name", ["sequence", "near on a globe", "volume"])
def test_attention_weights_are_those_of_the_masked_output(name: str) -> None:
    layer, x = made(name)
    mask = mask_of(x)
    weights = layer.attention_weights(x, mask)
    assert weights.shape[:-1] == (*x.shape[:-1], 2)
    wanted = layer(x, mask)
    # Dropout of a vanishing rate takes the path over the weights.
    layer.train().attn_drop = 1e-12
    assert_close(layer(x, mask), wanted)


def test_attention_weights_of_what_does_not_exist_are_zero() -> None:
    layer, x = made("near in a sequence")
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[:, 4] = False
    # Of position 0 the taps are 0, 2, 4, 6, 8.
    weights = layer.attention_weights(x, mask)[:, 0]
    assert bool((weights[..., 2] == 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("build", [SlideAttention, NeighborhoodAttention])
def test_one_number_means_two_axes(build: Callable[..., Layer]) -> None:
    number, each = build(8, 2, 3), build(8, 2, (3, 3), dilation=(1, 1))
    each.load_state_dict(number.state_dict())
    x = torch.randn(1, 5, 6, 8)
    assert torch.equal(number(x), each(x))


@pytest.mark.slow  # two axes, as images have, are compiled in the fast tier
@pytest.mark.parametrize("name", ["ring", "periodic volume", "near in a volume"])
def test_a_layer_compiles_without_a_graph_break_and_trains(name: str) -> None:
    torch._dynamo.reset()
    layer, x = made(name)
    layer, x = layer.float(), x.float()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for given in (x, torch.cat([x, x], 1)):
        torch.testing.assert_close(compiled(given), layer(given))
        wanted = torch.autograd.grad(layer(given).square().sum(), list(layer.parameters()))
        found = torch.autograd.grad(compiled(given).square().sum(), list(layer.parameters()))
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", fast(ROWS, "ring", "periodic volume"))
def test_one_onnx_file_runs_every_batch_and_size(name: str, tmp_path: Path) -> None:
    layer, x = made(name)
    layer, file = layer.float(), tmp_path / "model.onnx"
    open_sizes = (dict.fromkeys(range(x.ndim - 1), Dim.AUTO),)
    torch.onnx.export(layer, (x.float(),), file, dynamo=True, dynamic_shapes=open_sizes, verbose=False)
    session = onnxruntime.InferenceSession(file)
    (given,) = session.get_inputs()
    for batch, more in ((1, 0), (3, 4)):
        x = torch.randn(batch, *(size + more for size in ROWS[name].size), 8)
        (found,) = session.run(None, {given.name: x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), layer(x), atol=1e-5, rtol=1e-4)


def test_a_mask_is_an_input_of_an_onnx_file(tmp_path: Path) -> None:
    layer, x = made("near in a sequence")
    layer, x, file = layer.float(), x.float(), tmp_path / "model.onnx"
    open_sizes = ({0: Dim.AUTO, 1: Dim.AUTO},) * 2
    torch.onnx.export(layer, (x, mask_of(x)), file, dynamo=True, dynamic_shapes=open_sizes, verbose=False)
    session = onnxruntime.InferenceSession(file)
    x = torch.randn(3, 17, 8)
    given = zip(session.get_inputs(), (x, mask_of(x)), strict=True)
    (found,) = session.run(None, {entry.name: tensor.numpy() for entry, tensor in given})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), layer(x, mask_of(x)), atol=1e-5, rtol=1e-4)


REFUSED = {
    "four axes": ({"kernel_size": (3,) * 4}, r"one to three entries, .* got 4: \(3, 3, 3, 3\)"),
    "no axes": ({"kernel_size": ()}, r"one to three entries, .* got 0"),
    "another length": (
        {"kernel_size": (3, 3, 3), "dilation": (1, 2)},
        r"dilation must have one entry for all axes or 3, .* got 2: \(1, 2\)",
    ),
    "border": (
        {"border": ("clamp", "wrap")},
        r"""deform=True needs border="zeros" or "wrap" along every axis, got \('clamp', 'wrap'\)""",
    ),
    "taps": ({"kernel_size": (5, 3, 3)}, r"at most 27 taps, got 45 with kernel_size=\(5, 3, 3\)"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_a_window_that_cannot_be_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlideAttention(8, 2, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("build", [SlideAttention, NeighborhoodAttention])
def test_a_map_of_other_axes_is_refused_with_what_to_do(build: Callable[..., Layer]) -> None:
    with pytest.raises(
        ValueError, match=r"map \(B, H, W, C\) .* give the layer a kernel_size of 1 entry, as \(3,\)"
    ):
        build(8, 2, 3)(torch.zeros(1, 9, 8))
    with pytest.raises(
        ValueError, match=r"map \(B, L, C\) .* \(B, Z, H, W, C\) .* of 3 entries, as \(3, 3, 3\)"
    ):
        build(8, 2, (3,))(torch.zeros(1, 4, 4, 4, 8))


def test_a_periodic_axis_shorter_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="needs an axis at least as long as the window, 5 positions, got 4"):
        SlideAttention(8, 2, (5,), border="wrap")(torch.zeros(1, 4, 8))


def test_an_exported_program_refuses_a_periodic_axis_shorter_than_its_window() -> None:
    layer, open_size = NeighborhoodAttention(8, 2, (5,), border="wrap").eval(), torch.export.Dim.DYNAMIC
    shapes = ({0: open_size, 1: open_size}, None)
    program = torch.export.export(layer, (torch.randn(2, 12, 8), None), dynamic_shapes=shapes).module()
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(program(x, None), layer(x))
    with pytest.raises(AssertionError, match=r"Guard failed: x.size\(\)\[1\] >= 5"):
        program(x[:, :4], None)
