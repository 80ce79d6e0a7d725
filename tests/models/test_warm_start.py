# SPDX-License-Identifier: Apache-2.0
"""A model that starts from weights has those weights, and the report says so tensor by tensor."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F

from slideformer.errors import UserError
from slideformer.layers import NeighborhoodAttention, SlideAttention
from slideformer.models import warm_start
from slideformer.models.warm_start import resized_table
from tests.models.families import FAMILIES, small

# Blocks that slide in each family's small model, and the tensors of each that its host lacks.
SLIDING_BLOCKS = {
    "slide_swin_tiny": 2,
    "slide_cswin_tiny": 2,
    "slide_nat_mini": 1,
    "slide_dinat_mini": 2,
    "slide_dat_tiny": 3,
    "slide_mvit_v2_tiny": 2,
    "slide_pvt_tiny": 2,
    "slide_pvt_v2_b1": 2,
}
HEAD = {"head.fc.weight", "head.fc.bias"}


def sliding(model: torch.nn.Module) -> dict[str, SlideAttention]:
    """The sliding layers of a model by name."""
    return {name: x for name, x in model.named_modules() if isinstance(x, SlideAttention)}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_hosts_weights_enter_a_sliding_model(name: str) -> None:
    model, host = small(name), small(name, slide_stages=(), num_classes=7)
    before, given = {key: x.clone() for key, x in model.state_dict().items()}, host.state_dict()
    report = warm_start(model, given)
    own, layers = model.state_dict(), sliding(model)
    assert len(layers) == SLIDING_BLOCKS[name]

    # Every tensor is in one class, and has the value that its class says.
    assert {*report.taken} | {*report.derived} | {*report.new} == set(own)
    assert len(report.taken) + len(report.derived) + len(report.new) == len(own)
    for key in report.taken:
        assert torch.equal(own[key], given[key])
    for key in report.derived:
        prefix, kind = key.rsplit("qkv.", 1)
        parts = [given[f"{prefix}{part}.{kind}"] for part in ("query", "key_value")]
        assert torch.equal(own[key], torch.cat(parts))
    added = {f"{layer}.{part}" for layer in layers for part in ("shift.weight", "shift.bias", "key_bias")}
    assert set(report.new) == added | HEAD
    for key in added:
        assert not own[key].any()
    for key in HEAD:
        assert torch.equal(own[key], before[key])
    assert set(report.unused) == set(given) - set(report.taken) - {
        f"{key.rsplit('qkv.', 1)[0]}{part}.{kind}"
        for key in report.derived
        for part in ("query", "key_value")
        for kind in ("weight", "bias")
    }


def test_a_sliding_block_begins_as_plain_local_attention() -> None:
    model = small("slide_swin_tiny")
    warm_start(model, small("slide_swin_tiny", slide_stages=()).state_dict())
    layer = next(iter(sliding(model).values()))
    x = torch.randn(1, 6, 9, layer.dim)
    query, key, value = layer.heads(x)
    # Every position attends to the 3 x 3 positions around it; those outside the map are zero.
    around = [F.unfold(y.flatten(3).permute(0, 3, 1, 2), 3, padding=1) for y in (key, value)]
    key, value = (y.unflatten(1, (layer.num_heads, -1, 9)).permute(0, 4, 1, 3, 2) for y in around)
    query = query.flatten(1, 2)
    weights = (torch.einsum("bpgd,bpgtd->bpgt", query, key) * query.shape[-1] ** -0.5).softmax(-1)
    out = torch.einsum("bpgt,bpgtd->bpgd", weights, value).flatten(2).unflatten(1, (6, 9))
    torch.testing.assert_close(layer(x), layer.proj(out), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "host", "counts"),
    [
        ("slide_swin_tiny", "swin_tiny_patch4_window7_224", (167, 0, 14)),
        ("slide_pvt_v2_b2", "pvt_v2_b2", (276, 14, 23)),
        ("slide_mvit_v2_tiny", "mvitv2_tiny", (218, 0, 8)),
    ],
)
def test_timms_hosts(name: str, host: str, counts: tuple[int, int, int]) -> None:
    model, given = timm.create_model(name, num_classes=5), timm.create_model(host).state_dict()
    report = warm_start(model, given)
    assert (len(report.taken), len(report.derived), len(report.new)) == counts
    total = sum(counts)
    assert str(report).startswith(f"{counts[0]} of {total} tensors taken")
    assert "new: key bias, shift, head" in str(report)
    assert len(report.lines()) == total + len(report.unused)


def test_a_models_own_weights_are_taken_completely() -> None:
    model, other = small("slide_pvt_tiny"), small("slide_pvt_tiny")
    report = warm_start(model, other.state_dict())
    assert (len(report.derived), dict(report.new), report.unused) == (0, {}, ())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(model(image), other(image))
    assert str(report) == f"{len(report.taken)} of {len(report.taken)} tensors taken"


@pytest.mark.parametrize(
    ("name", "arguments", "table"),
    [
        ("slide_swin_tiny", {"window_size": 5}, "stages.2.blocks.0.attention.relative_position_bias_table"),
        (
            "slide_dinat_mini",
            {"neighborhood_size": 11},
            "stages.1.blocks.1.attention.relative_position_bias_table",
        ),
        ("slide_pvt_tiny", {"img_size": 96}, "stages.0.downsample.1.weight"),
        ("slide_mvit_v2_tiny", {"img_size": 96}, "stages.2.blocks.0.attention.relative_position_rows"),
    ],
)
def test_positions_are_interpolated_to_another_size(name: str, arguments: dict[str, int], table: str) -> None:
    model, other = small(name, **arguments), small(name)
    # What is the same everywhere stays so, whatever the interpolation.
    state = {key: torch.full_like(x, 0.5) for key, x in other.state_dict().items()}
    report = warm_start(model, state)
    assert "interpolated" in report.derived[table]
    derived = model.state_dict()[table]
    assert derived.shape != state[table].shape
    torch.testing.assert_close(derived, torch.full_like(derived, 0.5))


def test_positions_of_a_volume_are_interpolated_to_another_window() -> None:
    model, other = (torch.nn.Sequential(NeighborhoodAttention(8, 2, (3, 3, side))) for side in (5, 3))
    table = "0.relative_position_bias_table"
    # What rises along one axis and is the same along the others stays so.
    rising = torch.linspace(-1, 1, 5).expand(2, 5, 5, 5)
    report = warm_start(model, {**other.state_dict(), table: rising})
    assert list(report.derived) == [table]
    found = model.state_dict()[table]
    torch.testing.assert_close(found, found[:1, :1, :1].expand(2, 5, 5, 9))
    assert bool((found.diff(dim=-1) >= 0).all())


@pytest.mark.parametrize(
    ("name", "source", "arguments"),
    [
        ("slide_swin_tiny", "slide_swin_tiny", {"depths": (1, 1, 6, 1)}),  # a model with fewer blocks
        ("slide_swin_tiny", "slide_pvt_tiny", {}),
        ("slide_pvt_v2_b1", "slide_pvt_tiny", {}),
        ("slide_swin_tiny", "slide_swin_tiny", {"embed_dim": 32}),
    ],
)
def test_weights_of_another_family_or_size_are_refused(name: str, source: str, arguments: dict) -> None:
    model = small(name)
    before = {key: x.clone() for key, x in model.state_dict().items()}
    for one, other in [(model, small(source, **arguments)), (small(source, **arguments), model)]:
        with pytest.raises(UserError, match=r"at least 90% of the .* another family or size\?"):
            warm_start(one, other.state_dict())
    assert all(torch.equal(x, before[key]) for key, x in model.state_dict().items())


def test_what_is_no_state_dict_is_refused() -> None:
    with pytest.raises(UserError, match="must be tensors by name"):
        warm_start(small("slide_swin_tiny"), {"state_dict": {}})


def test_a_table_of_no_square_is_new_and_not_an_accident() -> None:
    model, name = small("slide_swin_tiny"), "stages.2.blocks.0.attention.relative_position_bias_table"
    for odd in (torch.zeros(170, 4), torch.zeros(3), torch.zeros(1, 1, dtype=torch.int64)):
        report = warm_start(model, {**small("slide_swin_tiny").state_dict(), name: odd})
        assert f"{name} (want (169, 4), got {tuple(odd.shape)})" in str(report)


@pytest.mark.parametrize(
    ("window", "given"),
    [
        ({"num_heads": 1, "kernel_size": (3,)}, (4, 5)),  # one axis; its heads are a square number
        ({"num_heads": 2, "kernel_size": (5,)}, (2, 5)),
        ({"num_heads": 4, "kernel_size": (5,)}, (4, 5)),
        ({"num_heads": 4, "kernel_size": (5, 5), "border": "wrap"}, (4, 9)),  # a bias a tap
        ({"num_heads": 1, "kernel_size": (3, 3), "border": "wrap"}, (4, 9)),
    ],
    ids=str,
)
def test_a_table_of_one_axis_or_by_tap_is_never_resized(window: dict, given: tuple[int, int]) -> None:
    model = torch.nn.Sequential(*(NeighborhoodAttention(8, **window) for _ in range(3)))
    name = "1.relative_position_bias_table"
    report = warm_start(model, {**model.state_dict(), name: torch.ones(given)})
    want = tuple(model.state_dict()[name].shape)
    assert (dict(report.derived), list(report.new)) == ({}, [name])
    assert f"{name} (want {want}, got {given})" in str(report)
    assert resized_table({name: torch.ones(given)}, name, model.state_dict()[name]) is None


def test_a_model_without_numbers_is_refused() -> None:
    with torch.device("meta"):
        model = small("slide_swin_tiny")
    with pytest.raises(UserError, match="must hold numbers, but it is on the meta device"):
        warm_start(model, small("slide_swin_tiny").state_dict())
