# SPDX-License-Identifier: Apache-2.0
"""The table of patterns is right: which positions a query sees, the costs of a layer, where it runs."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.export import Dim

from slideformer.bench import Setting
from slideformer.bench.comparison import Maps, count, footprint, pattern_layers, reach, seen
from slideformer.bench.patterns import PATTERNS, Pattern, stage
from slideformer.models.counts import size as parameters

BY_NAME = {pattern.name: pattern for pattern in PATTERNS}
EVERY = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
DIM, HEADS = 8, 2


def sight(name: str, size: int, query: tuple[int, int]) -> Tensor:
    torch.manual_seed(0)
    return footprint(BY_NAME[name].build(DIM, HEADS, size), DIM, size, query)


def block(rows: slice, columns: slice, size: int) -> Tensor:
    """A rectangle of a map as True."""
    places = torch.zeros(size, size, dtype=torch.bool)
    places[rows, columns] = True
    return places


ALL = slice(None)
# Pattern, side of the map, query -> what it sees, by the papers' own words.
SEEN = {
    ("global", 14, (3, 4)): block(ALL, ALL, 14),
    # A reduction of 2: the last row and column of 15 fill no square.
    ("spatial reduction", 14, (3, 4)): block(ALL, ALL, 14),
    ("spatial reduction", 15, (3, 4)): block(slice(14), slice(14), 15),
    # Kernels of 3 every 2 positions overlap; the window is 7, and starts at 3 where it is shifted.
    ("pooling", 28, (3, 4)): block(ALL, ALL, 28),
    ("shifted window", 21, (7, 10)): block(slice(3, 10), slice(10, 17), 21),
    # What only the cyclic shift brought into the window is masked.
    ("shifted window", 21, (0, 10)): block(slice(3), slice(10, 17), 21),
    ("shifted window", 7, (0, 0)): block(ALL, ALL, 7),
    # Stripes of 2, and the column's.
    ("cross window", 28, (5, 8)): block(slice(4, 6), ALL, 28) | block(ALL, slice(8, 10), 28),
    ("neighborhood", 16, (8, 8)): block(slice(5, 12), slice(5, 12), 16),
    ("neighborhood", 16, (0, 15)): block(slice(7), slice(9, 16), 16),
    ("Im2Col local", 9, (4, 4)): block(slice(3, 6), slice(3, 6), 9),
    ("Im2Col local", 9, (0, 0)): block(slice(2), slice(2), 9),
    ("slide", 9, (4, 4)): block(slice(3, 6), slice(3, 6), 9),
    ("slide", 9, (8, 0)): block(slice(7, 9), slice(2), 9),
}


@pytest.mark.parametrize(("case", "expected"), SEEN.items(), ids=map(str, SEEN))
def test_a_query_sees_what_the_pattern_says(case: tuple[str, int, tuple[int, int]], expected: Tensor) -> None:
    assert torch.equal(seen(sight(*case)), expected)


def test_pooling_every_fourth_position_leaves_gaps() -> None:
    # 14 kernels of 3 a side, of which the first lacks a row outside the map.
    assert int(seen(sight("pooling", 56, (28, 28))).sum()) == (14 * 3 - 1) ** 2


def test_deformable_attention_sees_through_its_offsets_and_its_points() -> None:
    places = seen(sight("deformable", 14, (0, 0)))
    assert places.sum() > 14 * 14 / 2
    assert places[7:].any()


# The map decides where deformable attention looks, and this is another than the footprint's.
@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "deformable"])
def test_who_is_seen_is_who_changes_the_output(name: str) -> None:
    size, query = 8, (2, 3)
    torch.manual_seed(0)
    layer = BY_NAME[name].build(DIM, HEADS, size).double().eval()
    maps = torch.randn(1, size, size, DIM, dtype=torch.float64).repeat(size * size + 1, 1, 1, 1)
    for place in range(size * size):
        maps[place, place // size, place % size] += 0.1
    with torch.no_grad():
        outputs = layer(maps)[:, query[0], query[1]]
    changed = (outputs[:-1] - outputs[-1]).abs().amax(-1).reshape(size, size) > 1e-12
    assert torch.equal(seen(footprint(layer, DIM, size, query)), changed)


def test_reach_is_the_furthest_row_or_column() -> None:
    assert reach(sight("shifted window", 21, (7, 10)), (7, 10)) == 6
    assert reach(sight("neighborhood", 16, (8, 8)), (8, 8)) == 3
    assert reach(sight("slide", 9, (0, 0)), (0, 0)) == 1


@EVERY
def test_keys_are_whose_the_table_says(pattern: Pattern) -> None:
    # Neighbours in one window of Swin, and in one horizontal and one vertical stripe of CSwin.
    size, query, other = 28, (14, 12), (14, 13)
    here, there = (seen(sight(pattern.name, size, place)) for place in (query, other))
    if pattern.keys == "its own":
        assert torch.equal(there[:, 1:], here[:, :-1])
        return
    assert pattern.keys.startswith("those of its") or pattern.keys.endswith("the same for every query")
    # MViTv2 pools queries, too, without making them fewer.
    here[13:16, 11:15] = there[13:16, 11:15] = True
    assert torch.equal(there, here)
    far = seen(sight(pattern.name, size, (3, 22)))
    far[13:16, 11:15] = here[2:5, 21:24] = far[2:5, 21:24] = True
    assert torch.equal(far, here) == pattern.keys.endswith("the same for every query")


PROJECTIONS = 4 * DIM**2
# Pattern -> parameters and multiply-adds a position, on maps of 14 x 14, by hand.
COUNTS = {
    "global": (PROJECTIONS + 4 * DIM, PROJECTIONS + 2 * 14**2 * DIM),
    # A convolution of 2 x 2 and its norm; keys and values of a quarter of the positions.
    "spatial reduction": (
        PROJECTIONS + 4 * DIM + 4 * DIM**2 + DIM + 2 * DIM,
        2 * DIM**2 + DIM**2 + 2 * DIM**2 // 4 + 2 * 7**2 * DIM,
    ),
    "shifted window": (PROJECTIONS + 4 * DIM + HEADS * 13**2, PROJECTIONS + 2 * 49 * DIM),
    "neighborhood": (PROJECTIONS + 4 * DIM + HEADS * 13**2, PROJECTIONS + 2 * 49 * DIM),
    "Im2Col local": (PROJECTIONS + 4 * DIM, PROJECTIONS + 2 * 9 * DIM),
    # Two stripes of 7 x 14 for half of the channels each, and two depthwise convolutions of 3 x 3.
    "cross window": (PROJECTIONS + 4 * DIM + 10 * DIM, PROJECTIONS + 2 * 98 * DIM + 9 * DIM),
    # The merged kernel of T x T a channel of a head, its bias, and one number a head and tap on the key.
    "slide": (
        PROJECTIONS + 4 * DIM + (DIM // HEADS) * (81 + 9) + HEADS * 9,
        PROJECTIONS + 2 * DIM * (81 + 9),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_by_hand(name: str) -> None:
    maps = Maps(batch=1, size=14, dim=DIM, heads=HEADS, query=(0, 0))
    layers, _ = pattern_layers(maps, Setting())
    counted = {
        pattern.name: (parameters(layer), count(pattern, maps) / 14**2) for pattern, layer in layers.items()
    }
    assert counted[name] == COUNTS[name]


@pytest.mark.parametrize("size", [1, 2, 6, 7, 13, 15, 29, 57])
def test_every_pattern_takes_a_map_of_any_size(size: int) -> None:
    maps = Maps(batch=1, size=size, dim=DIM, heads=HEADS, query=(0, 0))
    layers, notes = pattern_layers(maps, Setting())
    assert [pattern.name for pattern in layers] == list(BY_NAME)
    assert notes == []
    x = torch.randn(1, size, size, DIM)
    with torch.no_grad():
        assert all(layer(x).shape == x.shape for layer in layers.values())


def test_the_stages_are_those_of_an_image_of_224_pixels() -> None:
    assert [stage(size).reduction for size in (224, 56, 55, 28, 14, 7, 1)] == [8, 8, 4, 4, 2, 1, 1]


def test_heads_that_cannot_be_halved_leave_the_cross_out() -> None:
    layers, notes = pattern_layers(Maps(batch=1, size=6, dim=9, heads=3, query=(0, 0)), Setting())
    assert "cross window" not in {pattern.name for pattern in layers}
    assert len(layers) == len(PATTERNS) - 1
    assert notes == ["cross window left out: half of its heads look each way, and 3 cannot be halved"]


def test_a_pattern_too_large_for_memory_is_left_out_with_a_note() -> None:
    # Logits and weights of 56^4 pairs, 2 heads and 8 maps are 1.2 GiB; those of any other are far less.
    maps = Maps(batch=8, size=56, dim=DIM, heads=HEADS, query=(0, 0))
    layers, notes = pattern_layers(maps, Setting(memory=2**30))
    assert "global" not in {pattern.name for pattern in layers}
    assert len(layers) == len(PATTERNS) - 1
    assert notes == ["global left out: it may lay out 1.2 GiB"]


def test_a_layer_is_the_same_alone_and_among_others() -> None:
    maps = Maps(batch=1, size=6, dim=DIM, heads=HEADS, query=(0, 0))
    among, alone = (pattern_layers(maps, Setting(only=only))[0] for only in ((), ("neigh", "slide")))
    assert [pattern.name for pattern in alone] == ["neighborhood", "slide"]
    for pattern, layer in alone.items():
        torch.testing.assert_close(layer.state_dict(), among[pattern].state_dict(), rtol=0, atol=0)


@pytest.mark.slow  # that a block which slides runs so is in deploy/test_onnx
@EVERY
def test_a_layer_runs_where_the_table_says(pattern: Pattern, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = pattern.build(DIM, HEADS, 56).eval()
    # From two strides on: PyTorch takes no dynamic axis whose size may be 1.
    shapes = ({0: Dim("batch"), 1: Dim("height", min=16), 2: Dim("width", min=16)},)
    program = torch.export.export(layer, (torch.randn(2, 24, 40, DIM),), dynamic_shapes=shapes)
    exported = torch.onnx.export(program, dynamo=True, verbose=False)
    assert exported is not None
    exported.save(tmp_path / "layer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "layer.onnx", providers=["CPUExecutionProvider"])
    for shape in [(3, 45, 37), (1, 16, 16)]:
        x = torch.randn(*shape, DIM)
        with torch.no_grad():
            wanted = layer(x)
            torch.testing.assert_close(program.module()(x), wanted, atol=1e-5, rtol=1e-5)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=0)
    assert pattern.runtimes == ("PyTorch", "torch.export", "ONNX Runtime")
    values = onnx.load(tmp_path / "layer.onnx").graph.value_info
    assert max(len(value.type.tensor_type.shape.dim) for value in values) == pattern.rank
