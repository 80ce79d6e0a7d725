# SPDX-License-Identifier: Apache-2.0
"""The authors' weights: their numbers come out, and what does not fit is refused whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from slideformer.errors import UserError
from slideformer.models import (
    SlideSwin,
    config_from_authors,
    load_authors,
    read_authors,
    reparameterize,
)
from slideformer.models.convert import convert
from tests.ops.cases import ON_CPU

GOLDEN = load_file(Path(__file__).parents[1] / "golden" / "slide_swin_micro.safetensors")
TABLE = "layers.{}.blocks.{}.attn.relative_position_bias_table"
SHIFT = "layers.0.blocks.0.attn.dep_conv"


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The authors' state dict, for a test to change."""
    return {name.removeprefix("state."): x for name, x in GOLDEN.items() if name.startswith("state.")}


def loaded(state: dict[str, Tensor], **arguments: object) -> SlideSwin:
    model = SlideSwin(**{**config_from_authors(state), **arguments}).eval()
    load_authors(model, state)
    return model


@pytest.mark.parametrize("backend", ON_CPU)
def test_logits_are_the_authors_in_every_backend(state: dict[str, Tensor], backend: str) -> None:
    with torch.no_grad():
        logits = loaded(state, backend=backend)(GOLDEN["input"])
    assert (logits - GOLDEN["logits"]).abs().max() < 1e-5


def test_logits_are_the_authors_in_float64(state: dict[str, Tensor]) -> None:
    state = {name: x.double() if x.is_floating_point() else x for name, x in state.items()}
    model = SlideSwin(**config_from_authors(state)).double().eval()
    load_authors(model, state)
    with torch.no_grad():
        logits = model(GOLDEN["input"].double())
    torch.testing.assert_close(logits, GOLDEN["logits"], atol=0, rtol=1e-10)


def test_merged_weights_give_the_same_logits(state: dict[str, Tensor]) -> None:
    with torch.no_grad():
        logits = reparameterize(loaded(state))(GOLDEN["input"])
    assert (logits - GOLDEN["logits"]).abs().max() < 1e-5


def test_the_structure_is_read_off_the_shapes(state: dict[str, Tensor]) -> None:
    assert config_from_authors(state) == {
        "in_chans": 3,
        "num_classes": 10,
        "patch_size": 4,
        "embed_dim": 12,
        "depths": (2, 2, 2, 2),
        "num_heads": (1, 2, 3, 4),
        "window_size": (7, 7, 7, 7),
        "kernel_size": 3,
        "slide_stages": (0, 1),
        "mlp_ratio": 4.0,
        "qkv_bias": True,
    }


def test_a_checkpoint_with_global_stages_keeps_their_windows(state: dict[str, Tensor]) -> None:
    # At 224 the authors' window of 56 becomes the whole map: 14 positions in stage 3, 7 in stage 4.
    for block in (0, 1):
        state[TABLE.format(2, block)] = torch.randn(27 * 27, 3)
        state.pop(f"layers.2.blocks.{block}.attn.relative_position_index")
    state.pop("layers.2.blocks.1.attn_mask")
    assert config_from_authors(state)["window_size"] == (7, 7, 14, 7)
    model = loaded(state)
    assert model.stages[2].blocks[1].attention.window_size == 14
    # One window covers the map, so that nothing is shifted.
    regular, shifted = (block.attention for block in model.stages[2].blocks)
    regular.load_state_dict(shifted.state_dict())
    x = torch.randn(1, 14, 14, 48)
    torch.testing.assert_close(regular(x), shifted(x))


def test_a_fixed_kernel_that_moved_counts_as_learned(state: dict[str, Tensor]) -> None:
    before = convert(state)["stages.0.blocks.0.attention.shift.weight"]
    state[f"{SHIFT}.weight"] = state[f"{SHIFT}.weight"] + 0.5
    after = convert(state)["stages.0.blocks.0.attention.shift.weight"]
    torch.testing.assert_close(after, before + 0.5)


def test_weights_that_fit_in_part_are_refused_whole(state: dict[str, Tensor]) -> None:
    model = SlideSwin(**config_from_authors(state))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    state["absolute_pos_embed"] = state.pop("norm.weight")
    state["head.weight"] = torch.zeros(7, 96)
    with pytest.raises(
        UserError,
        match=r"nothing was loaded; missing: norm.weight; unexpected: absolute_pos_embed; "
        r"of another shape: head.fc.weight \(want \(10, 96\), got \(7, 96\)\)",
    ):
        load_authors(model, state)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_a_missing_convolution_is_named(state: dict[str, Tensor]) -> None:
    del state[f"{SHIFT}.bias"]
    with pytest.raises(UserError, match=rf"missing {SHIFT}\.bias"):
        convert(state)


@pytest.mark.parametrize("name", ["dep_conv", "dep_conv1"])
@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("shape", [(), (7,), (108, 1, 3, 2), (9, 1, 3, 3)], ids=str)
def test_convolutions_that_do_not_fit_together_are_refused(
    state: dict[str, Tensor], name: str, part: str, shape: tuple[int, ...]
) -> None:
    state[f"layers.0.blocks.0.attn.{name}.{part}"] = torch.zeros(shape)
    with pytest.raises(UserError, match=rf"{SHIFT} and dep_conv1 must have kernels \(D T, 1, K, K\)"):
        convert(state)


@pytest.mark.parametrize("shape", [(), (7,), (35, 12)], ids=str)
def test_a_projection_without_rows_for_each_head_is_named(
    state: dict[str, Tensor], shape: tuple[int, ...]
) -> None:
    model = loaded(state)
    name = "layers.1.blocks.0.attn.qkv.weight"
    state[name] = torch.zeros(shape)
    told = rf"of another shape: stages.1.blocks.0.attention.qkv.weight .* got {re.escape(str(shape))}"
    with pytest.raises(UserError, match=told):
        load_authors(model, state)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("layers.0.blocks.0.norm1.weight", "stages.0.blocks.0.norm1.weight"),
        ("stages.0.blocks.0.attention.shift.weight", f"{SHIFT}1.weight"),
        (TABLE.format(0, 0), "stages.0.blocks.0.attention.key_bias"),
    ],
    ids=["renamed", "shift", "bias"],
)
def test_two_tensors_that_become_one_are_both_named(state: dict[str, Tensor], one: str, other: str) -> None:
    extra = {name: torch.zeros(1) for name in (one, other) if name not in state}
    with pytest.raises(
        UserError, match=f"{re.escape(one)} and {re.escape(other)} are both stages.0.blocks.0"
    ):
        convert({**state, **extra})


def test_a_merged_model_is_refused(state: dict[str, Tensor]) -> None:
    model = reparameterize(loaded(state))
    with pytest.raises(UserError, match="load first, then merge"):
        load_authors(model, state)


@pytest.mark.parametrize(
    "name", ["layers.2.blocks.0.attn.relative_position_index", "layers.2.blocks.1.attn_mask"]
)
def test_a_damaged_constant_is_refused(state: dict[str, Tensor], name: str) -> None:
    state[name] = state[name] + 1
    with pytest.raises(UserError, match=f"{name} must be Swin's for a window of 7"):
        convert(state)


def test_another_models_weights_have_no_structure_of_ours() -> None:
    with pytest.raises(UserError, match=r"must be the authors' Slide-Swin, but 'patch_embed.proj.weight'"):
        config_from_authors({"conv1.weight": torch.zeros(1)})


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth", "trainer.pth", "averaged.pth"])
def test_weights_are_read_from_files_of_tensors(state: dict[str, Tensor], tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        others = {name: x + 1 for name, x in state.items()}
        files = {
            "trainer.pth": {"model": state, "epoch": 3},
            "averaged.pth": {"state_dict": others, "state_dict_ema": state, "epoch": 3},
        }
        torch.save(files.get(file, state), path)
    read = read_authors(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], state[name]) for name in state)


class Payload:
    """What must never be unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize("file", ["code.pth", "text.pth", "short.safetensors", "list.pth"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, file: str) -> None:
    path = tmp_path / file
    if file in ("code.pth", "list.pth"):
        torch.save({"model": Payload()} if file == "code.pth" else [1, 2], path)
    else:
        path.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match=file):
        read_authors(path)
