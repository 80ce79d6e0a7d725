# SPDX-License-Identifier: Apache-2.0
"""Which models are measured in other runtimes, and how the tables show them."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from slideformer.bench import Candidate, Setting, conditions, measure
from slideformer.bench.deployed import (
    TIMM_HOSTS,
    Deployed,
    Deployment,
    deployment_table,
    equal_accuracy,
    equal_size,
    family,
    forms,
    nearest_host,
)
from slideformer.bench.machine import Machine
from slideformer.bench.measurement import RESET, Measurement
from slideformer.errors import UserError
from slideformer.models import HOST_TOP1, PUBLISHED, count
from slideformer.models.counts import size


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("slide_pvt_tiny", "slide_pvt_small"),
        ("slide_pvt_small", "slide_pvt_medium"),
        ("slide_pvt_v2_b1", "slide_pvt_v2_b1"),
        ("slide_pvt_v2_b2", "slide_pvt_v2_b3"),
        ("slide_swin_tiny", "slide_swin_small"),
        ("slide_swin_small", "slide_swin_base"),
        ("slide_cswin_base", "slide_cswin_base"),
        ("slide_nat_tiny", "slide_nat_small"),
    ],
)
def test_the_host_of_nearest_top1_is_found_in_the_family(name: str, host: str) -> None:
    assert nearest_host(name) == host


def test_of_two_hosts_equally_near_the_smaller_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # In binary fractions 82.3 is nearer to 83.3 than to 81.3.
    monkeypatch.setitem(HOST_TOP1, "slide_swin_small", 83.3)
    assert nearest_host("slide_swin_tiny") == "slide_swin_tiny"


@pytest.mark.parametrize("name", ["slide_swin_nano", "slide_dat_tiny", "slide_cswin_tiny"])
def test_a_model_without_published_top1_is_rejected(name: str) -> None:
    with pytest.raises(UserError, match=f"whose top-1 has been published, got {name}; choose of slide_cswin"):
        nearest_host(name)


def test_every_model_with_a_top1_of_its_own_has_a_host_with_one() -> None:
    assert {name for name, row in PUBLISHED.items() if not row.of_host} <= HOST_TOP1.keys()


def test_sliding_improves_on_every_host_as_published() -> None:
    for name, top1 in HOST_TOP1.items():
        assert PUBLISHED[name].of_host or PUBLISHED[name].top1 > top1


def test_a_family_is_a_name_without_its_size() -> None:
    assert family("slide_pvt_v2_b1") == "slide_pvt_v2"
    assert family("slide_pvt_tiny") == "slide_pvt"


def test_a_model_comes_between_its_hosts_and_im2col() -> None:
    variants = equal_size(["slide_swin_tiny"])
    assert [v.label for v in variants] == [
        "swin_tiny_patch4_window7_224",
        "slide_swin_tiny, plain host",
        "slide_swin_tiny",
        "slide_swin_tiny, Im2Col",
    ]
    assert {v.baseline for v in variants} == {"swin_tiny_patch4_window7_224"}
    assert [v.form for v in variants] == [None, None, None, "unfold"]


def test_without_one_of_timm_the_plain_host_is_compared_with() -> None:
    assert {v.baseline for v in equal_size(["slide_swin_nano"])} == {"slide_swin_nano, plain host"}


def test_a_model_that_does_not_slide_is_measured_alone() -> None:
    (variant,) = equal_size(["resnet18"])
    assert (variant.label, variant.baseline) == ("resnet18", "resnet18")


@pytest.mark.parametrize("name", TIMM_HOSTS)
def test_timms_host_is_the_plain_host(name: str) -> None:
    with torch.device("meta"):
        host, ours = timm.create_model(TIMM_HOSTS[name]), timm.create_model(name, slide_stages=())
    assert size(host) == pytest.approx(size(ours), rel=1e-3)


def test_pairs_of_equal_accuracy_share_a_host() -> None:
    variants = equal_accuracy(["slide_swin_tiny", "slide_swin_small", "slide_swin_tiny"])
    assert [(v.label, v.baseline, v.top1) for v in variants] == [
        ("slide_swin_small, plain host", "slide_swin_small, plain host", 83.0),
        ("slide_swin_tiny", "slide_swin_small, plain host", 82.3),
        ("slide_swin_base, plain host", "slide_swin_base, plain host", 83.5),
        ("slide_swin_small", "slide_swin_base, plain host", 83.7),
    ]
    assert count(variants[0].build(224)).parameters < count("slide_swin_small").parameters


def test_every_form_is_compared_with_the_first() -> None:
    variants = forms(["slide_swin_nano"])
    assert [v.form for v in variants] == ["matmul", "conv", "shift", "unfold"]
    assert {v.baseline for v in variants} == {"slide_swin_nano, matmul"}
    with pytest.raises(UserError, match="must be one that slides, got 'resnet18'"):
        forms(["resnet18"])


@pytest.mark.skipif(not RESET.exists(), reason="the system does not report the peak")
def test_memory_is_that_of_loading_where_there_is_something_to_load() -> None:
    def load() -> list[Any]:
        return [torch.ones(16_000_000).sum()]

    steps = [Candidate("a", list, 1.0, None, 1, None), Candidate("b", list, 1.0, None, 1, None, load=load)]
    step, loaded = measure(steps, Setting(rounds=1), size=1).rows
    assert step.memory_mib is not None
    assert loaded.memory_mib is not None
    assert step.memory_mib < 8 < 32 < loaded.memory_mib


def row(runtime: str, model: str, baseline: str, ms: float, **others: Any) -> Deployed:
    """A measurement made up by hand."""
    timing = Measurement(model, ms, (ms - 1, ms + 1), 40.0, 9.0, None, 1, None)
    usual = {"form": "", "precision": "float32", "threads": 2, "file_mib": 12.5, "top1": None}
    return Deployed(runtime, model, baseline, timing=timing, **{**usual, **others})


FACTS = conditions("images", Setting(), "slideformer bench deploy")
FACTS |= {"threads": "1 and 2", "packages": {"onnxruntime": "1.2"}}


def lines(view: str, rows: list[Deployed]) -> list[str]:
    deployment = Deployment(view, rows, Machine(200.0, 4.0), ["c left out"])
    return deployment_table(deployment, FACTS).markdown().splitlines()


def test_at_equal_size_each_runtime_is_compared_with_its_own_host() -> None:
    rows = [
        row("A", "host", "host", 20.0),
        row("B", "host", "host", 90.0, file_mib=None),
        row("A", "ours", "host", 10.0, form="matmul"),
        row("B", "ours", "host", 60.0, form="cpu"),
        row("A", "ours", "host", 12.0, form="matmul", threads=1),
    ]
    head, _, *found = lines("size", rows)
    assert head == (
        "| runtime | threads | model | form | ms | quartiles ms | a second | x host | load + call MiB "
        "| file MiB |"
    )
    assert found[:5] == [
        "| A | 1 | ours | matmul | 12.0 | 11.0-13.0 | 83.3 | - | 40.0 | 12.5 |",
        "| A | 2 | host | - | 20.0 | 19.0-21.0 | 50.0 | 1.00 | 40.0 | 12.5 |",
        "| A | 2 | ours | matmul | 10.0 | 9.0-11.0 | 100.0 | 2.00 | 40.0 | 12.5 |",
        "| B | 2 | host | - | 90.0 | 89.0-91.0 | 11.1 | 1.00 | 40.0 | - |",
        "| B | 2 | ours | cpu | 60.0 | 59.0-61.0 | 16.7 | 1.50 | 40.0 | 12.5 |",
    ]
    assert found[6].startswith("at equal size: forward, images, float32; ")
    assert "1 and 2 threads" in found[6]
    assert "onnxruntime 1.2" in found[6]
    assert found[7:] == ["", "- c left out"]


def test_precisions_have_a_column_where_there_are_several() -> None:
    rows = [row("A", "host", "host", 20.0), row("A", "host", "host", 8.0, precision="int8")]
    head, _, *found = lines("size", rows)
    assert head.startswith("| runtime | precision | threads |")
    assert [line.split(" | ")[1] for line in found[:2]] == ["float32", "int8"]
    assert all(" 1.00 |" in line for line in found[:2])


def test_at_equal_accuracy_a_line_holds_both_and_their_top1() -> None:
    host = "slide_swin_small, plain host"
    rows = [
        row("A", host, host, 30.0, top1=83.0),
        row("A", "slide_swin_tiny", host, 20.0, top1=82.3, form="matmul", file_mib=7.5),
    ]
    head, _, *found = lines("accuracy", rows)
    assert head == (
        "| runtime | threads | model | top-1 | ms | quartiles ms | plain host of | its top-1 | difference "
        "| its ms | its quartiles ms | x host | load + call MiB | file MiB | its load + call MiB "
        "| its file MiB |"
    )
    assert found[0] == (
        "| A | 2 | slide_swin_tiny | 82.3 | 20.0 | 19.0-21.0 | slide_swin_small | 83.0 | -0.7 "
        "| 30.0 | 29.0-31.0 | 1.50 | 40.0 | 7.5 | 40.0 | 12.5 |"
    )
    assert found[1] == ""
    assert found[2].startswith("at equal published accuracy: ")


def test_forms_are_in_order_of_their_time() -> None:
    rows = [
        row("A", "m, matmul", "m, matmul", 20.0),
        row("A", "m, conv", "m, matmul", 10.0),
        row("B", "m, matmul", "m, matmul", 5.0),
    ]
    head, _, *found = lines("forms", rows)
    assert "x matmul" in head
    assert [line.split(" | ")[2] for line in found[:3]] == ["m, conv", "m, matmul", "m, matmul"]
    assert " 2.00 |" in found[0]
