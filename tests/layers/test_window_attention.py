# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn
from torch.export import Dim

from slideformer.layers.patch import PatchMerging
from slideformer.layers.window_attention import WindowAttention

SHIFTS = pytest.mark.parametrize("shift", [False, True], ids=["regular", "shifted"])
SIZES = pytest.mark.parametrize(
    "size", [(14, 14), (15, 20), (9, 23), (7, 14), (14, 7), (8, 8), (7, 7)], ids=str
)


def swin_block(size: tuple[int, int], shift: bool, window_size: int = 7) -> SwinTransformerBlock:
    return SwinTransformerBlock(
        16, size, 4, window_size=window_size, shift_size=window_size // 2 if shift else 0
    )


@SHIFTS
@SIZES
def test_it_agrees_with_swin(size: tuple[int, int], shift: bool) -> None:
    theirs = swin_block(size, shift)
    ours = WindowAttention(16, 4, 7, shift=shift)
    ours.load_state_dict(theirs.attn.state_dict())
    x = torch.randn(2, *size, 16)
    torch.testing.assert_close(ours(x), theirs._attn(x), atol=1e-5, rtol=1e-5)


def test_positions_of_different_regions_have_weights_of_zero() -> None:
    layer = WindowAttention(8, 2, 7, shift=True)
    bias = layer.bias(torch.zeros(1, 14, 14, 8), 3, 3)
    excluded = bias < -50
    assert excluded.any()
    # Nor are they denormal, with which a processor computes many times slower.
    assert bool((bias.softmax(-1)[excluded] == 0).all())


def test_an_even_window_agrees_with_swin() -> None:
    theirs = swin_block((9, 10), True, window_size=4)
    ours = WindowAttention(16, 4, 4, shift=True)
    ours.load_state_dict(theirs.attn.state_dict())
    x = torch.randn(2, 9, 10, 16)
    torch.testing.assert_close(ours(x), theirs._attn(x), atol=1e-5, rtol=1e-5)


@SHIFTS
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (8, 1)], ids=str)
def test_a_map_smaller_than_the_window_is_padded(size: tuple[int, int], shift: bool) -> None:
    layer, x = WindowAttention(8, 2, 7, shift=shift), torch.randn(2, *size, 8)
    padded = torch.zeros(2, 7, 14 if size[1] > 7 else 7, 8)
    assert layer(x).shape == x.shape
    if not shift and max(size) <= 7:
        padded[:, : size[0], : size[1]] = x
        torch.testing.assert_close(layer(x), layer(padded)[:, : size[0], : size[1]])


def test_an_axis_no_longer_than_the_window_is_not_shifted() -> None:
    x, shifted, regular = (
        torch.randn(1, 7, 5, 8),
        WindowAttention(8, 2, 7, shift=True),
        WindowAttention(8, 2, 7),
    )
    regular.load_state_dict(shifted.state_dict())
    torch.testing.assert_close(shifted(x), regular(x))


def test_positions_brought_together_by_the_shift_do_not_see_each_other() -> None:
    layer, x = WindowAttention(8, 2, 4, shift=True), torch.randn(1, 8, 8, 8)
    changed = x.clone()
    changed[:, 0, 0] += 1
    moved = (layer(changed) - layer(x)).abs().amax(-1)[0] > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(moved, expected)


@SHIFTS
def test_gradients_reach_the_input_and_every_parameter(shift: bool) -> None:
    layer = WindowAttention(4, 2, 3, shift=shift).double()
    x = torch.randn(1, 4, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)
    layer(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.proj.parameters())
    assert layer.qkv.weight.grad is not None
    assert layer.relative_position_bias_table.grad is not None


def test_dropout_acts_in_training_only() -> None:
    layer, x = WindowAttention(8, 2, 4, attn_drop=0.5), torch.randn(1, 8, 8, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_qkv_may_have_no_bias() -> None:
    layer = WindowAttention(8, 2, 4, qkv_bias=False)
    assert layer.qkv.bias is None
    assert layer(torch.randn(1, 5, 6, 8)).shape == (1, 5, 6, 8)


@pytest.mark.parametrize(
    ("example", "strict"),
    [
        pytest.param((7, 9), False, marks=pytest.mark.slow),
        ((16, 30), False),
        pytest.param((15, 3), True, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_one_exported_program_holds_for_every_size(example: tuple[int, int], strict: bool) -> None:
    # The merged map of one program fits into one window at some sizes and not at others.
    model = nn.Sequential(
        WindowAttention(8, 2, 7, shift=True), PatchMerging(8, 8), WindowAttention(8, 2, 7, shift=True)
    ).eval()
    # From 3 on, so that no map has a side of one: torch.export treats size one as a case of its own.
    shapes = ({0: Dim("batch"), 1: Dim("height", min=3), 2: Dim("width", min=3)},)
    program = torch.export.export(model, (torch.randn(2, *example, 8),), dynamic_shapes=shapes, strict=strict)
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(value.ndim for value in values if isinstance(value, torch.Tensor)) <= 5
    for size in [(3, 3), (7, 7), (8, 7), (14, 15), (29, 4)]:
        x = torch.randn(3, *size, 8)
        torch.testing.assert_close(program.module()(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10, "num_heads": 4}, "dim must be a multiple of num_heads, got dim=10 and num_heads=4"),
        ({"dim": 8, "num_heads": 0}, "dim must be a multiple of num_heads, got dim=8 and num_heads=0"),
        ({"dim": 8, "num_heads": 2, "window_size": 0}, "window_size must be at least 1, got 0"),
    ],
    ids=["heads", "no_heads", "window"],
)
def test_bad_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowAttention(**arguments)


def test_a_map_of_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must be a map \(B, H, W, C\) with C = 8, got \(1, 64, 8\)"):
        WindowAttention(8, 2)(torch.zeros(1, 64, 8))
