# SPDX-License-Identifier: Apache-2.0
"""Triton's kernels on a GPU: the whole table of cases, and the models that run on them."""

from __future__ import annotations

import pytest
import timm
import torch

import slideformer.models  # noqa: F401  # registers the models
from slideformer.ops import explain, slide_attention
from tests.ops.cases import CASES, OTHERS, SMALL, Case, assert_agrees, run

if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

# What the shared table is too small to reach: several tiles, channels in several pieces, wide windows.
LARGE = (
    *(
        Case(kernel, 1, "zeros", (30, 41), 3, channels, ("shift_weight", "shift_bias", "key_bias"), False)
        for kernel, channels in ((3, 32), (3, 64), (3, 96), (5, 32), (7, 16))
    ),
    Case(7, 2, "clamp", (30, 41), 2, 32, ("relative",), False),
    Case(7, 1, "mask", (30, 41), 2, 128, ("key_bias", "logit_bias"), False),
    Case(7, 2, ("clamp", "wrap"), (30, 41), 2, 32, ("relative",), False, masked=0.2),
    Case(13, 1, "clamp", (1000,), 2, 32, ("relative",), False),
    Case(13, 3, "wrap", (1000,), 2, 32, ("shift_weight", "shift_bias"), False),
    Case(3, 1, ("zeros", "wrap", "wrap"), (5, 14, 15), 2, 32, ("shift_weight", "key_bias"), False),
    Case(5, 1, ("mask", "clamp", "wrap"), (6, 14, 15), 2, 64, ("relative",), False, masked=0.2),
)


@pytest.mark.parametrize("case", CASES + OTHERS + LARGE, ids=str)
def test_values_and_gradients_agree_in_float32(case: Case) -> None:
    assert_agrees(case, "triton", torch.float32, "cuda")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES + OTHERS + LARGE, ids=str)
def test_values_and_gradients_agree_in_half_precision(case: Case, dtype: torch.dtype) -> None:
    assert_agrees(case, "triton", dtype, "cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", SMALL + LARGE, ids=str)
def test_the_same_call_twice_is_equal_to_the_bit(case: Case, dtype: torch.dtype) -> None:
    first, second = (run(case, "triton", dtype, "cuda") for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("case", SMALL + LARGE, ids=str)
def test_nothing_depends_on_memory_that_was_not_written(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    # Deterministic mode fills fresh memory with NaN; products of matrices ask for a workspace then.
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        assert_agrees(case, "triton", torch.float32, "cuda")
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_map_of_more_than_two_to_the_31_elements_agrees() -> None:
    # The last row lies beyond what 32 bits can address; neighbours reach one row up.
    shape = (1, 2056, 2048, 16, 32)
    if torch.cuda.get_device_properties(0).total_memory < 40 * 2**30:
        pytest.skip("needs 40 GiB of memory")
    generator = torch.Generator("cuda").manual_seed(0)
    query = torch.randn(shape, generator=generator, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(32, 9, 9, generator=generator, device="cuda") / 3
    for shift in ({}, {"shift_weight": weight}):
        output = slide_attention(query, query, query, backend="triton", **shift)[:, -2:]
        strip = query[:, -4:].float()
        wanted = slide_attention(strip, strip, strip, backend="reference", **shift)[:, -2:]
        torch.testing.assert_close(output.float(), wanted, rtol=3e-2, atol=3e-2 * float(wanted.abs().max()))


def test_it_is_chosen_on_a_gpu() -> None:
    query = torch.zeros(1, 4, 4, 1, 32, device="cuda")
    assert explain(query, query, query).chosen == "triton"
    assert explain(*[query.double()] * 3).chosen == "matmul"


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_the_model_compiles_without_a_graph_break(training: bool) -> None:
    model = timm.create_model("slide_swin_nano", num_classes=5, drop_path_rate=0.0).cuda().train(training)
    image = torch.randn(2, 3, 64, 64, device="cuda")
    compiled = torch.compile(model, fullgraph=True)
    with torch.autocast("cuda", torch.bfloat16), torch.set_grad_enabled(training):
        wanted, output = model(image), compiled(image)
    torch.testing.assert_close(output, wanted, rtol=5e-2, atol=5e-2)
    if training:
        output.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
