# SPDX-License-Identifier: Apache-2.0
"""The benchmark measures what it says, and only what is right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from slideformer.bench import (
    HOSTS,
    SIZES,
    Candidate,
    Groups,
    Problem,
    Setting,
    conditions,
    host_names,
    layer_candidates,
    measure,
    model_candidates,
    operator_candidates,
    restore,
)
from slideformer.bench.authors import to_convolutions
from slideformer.bench.candidate import module_step
from slideformer.bench.machine import Machine
from slideformer.bench.measurement import RESET, Group, Measurement
from slideformer.bench.model import host_candidates
from slideformer.bench.operator import (
    AUTHORS,
    IM2COL,
    OURS,
    Form,
    forms,
)
from slideformer.cli.main import main
from slideformer.cli.measuring import ENVIRONMENT
from slideformer.errors import UserError
from slideformer.models import count
from tests.tiers import fast

SMALL = Problem(batch=2, size=6, heads=2, head_dim=4)
SETTING = Setting()


def test_the_layer_and_its_form_in_convolutions_are_equal() -> None:
    candidates, notes = layer_candidates(SMALL, SETTING)
    errors = {c.name: c.error for c in candidates}
    assert notes == []
    assert {AUTHORS, "authors' form, merged", "slideformer matmul"} <= errors.keys()
    assert all(error is not None and error < 1e-5 for name, error in errors.items() if name.startswith("sl"))
    outputs = {c.name: c.step()[0] for c in candidates}
    torch.testing.assert_close(outputs[AUTHORS], outputs["slideformer matmul"])


def test_a_model_and_its_form_in_convolutions_are_equal_and_merging_changes_no_input() -> None:
    candidates = model_candidates(["slide_swin_nano"], 32, 2, SETTING)
    ours, authors = (c.step()[0] for c in candidates)
    assert [c.name for c in candidates] == ["slide_swin_nano", "slide_swin_nano, authors' form"]
    torch.testing.assert_close(ours, authors, atol=1e-5, rtol=1e-4)


def test_a_model_comes_after_its_plain_host() -> None:
    host, model = host_candidates("slide_swin_nano", 32, 2, SETTING)
    assert (host.name, model.name) == ("plain host", "slide_swin_nano")
    expected = timm.create_model("slide_swin_nano", slide_stages=())
    assert host.gflop == pytest.approx(2 * 2 * count(expected).multiply_adds / 1e9)
    assert model.gflop == pytest.approx(2 * 2 * count("slide_swin_nano").multiply_adds / 1e9)
    assert not torch.equal(host.step()[0], model.step()[0])


def test_hosts_are_measured_for_every_model_of_224() -> None:
    names = host_names()
    assert len(names) == 26
    assert "slide_swin_nano" not in names


def test_a_model_that_does_not_slide_has_no_host() -> None:
    with pytest.raises(UserError, match="must be one that slides, got 'resnet18'"):
        host_candidates("resnet18", 32, 2, SETTING)


def test_a_host_is_shown_in_the_models_line() -> None:
    def row(name: str, median: float) -> Measurement:
        return Measurement(name, median, (median, median), None, 4.0, None, 8, None)

    group = Group(224, [row("plain host", 300.0), row("slide_x", 200.0)], Machine(1.0, 1.0), [])
    facts = conditions("images", SETTING, "slideformer bench hosts")
    lines = HOSTS.report(Groups([group]), facts).table.markdown().splitlines()
    assert lines[0].startswith("| model | ms | quartiles ms | host ms |")
    assert lines[2].startswith("| slide_x | 200.0 | 200.0-200.0 | 300.0 | 300.0-300.0 | 1.50 |")


def test_the_authors_form_leaves_no_layer_of_ours() -> None:
    model = to_convolutions(timm.create_model("slide_swin_nano"))
    assert sum(type(module).__name__ == "ConvolutionAttention" for module in model.modules()) == 2


def test_a_training_step_changes_the_weights() -> None:
    torch.manual_seed(0)
    module = nn.Linear(4, 4)
    before = module.weight.detach().clone()
    module_step(module, torch.randn(3, 4), Setting(work="step"))()
    assert not torch.equal(module.weight, before)
    assert module.weight.grad is None


def test_a_step_backward_returns_the_gradient_of_the_input_and_of_every_parameter() -> None:
    results = module_step(nn.Linear(4, 4), torch.randn(3, 4), Setting(work="backward"))()
    assert [tuple(x.shape) for x in results] == [(3, 4), (4, 4), (4,)]


STEP = """
import torch
from slideformer.bench.measurement import peak_mib

def step():
    scratch = torch.ones(4_000_000).sum() + torch.ones(8_000_000).sum()
    return [torch.ones(16_000_000) * scratch]

step()
print(peak_mib(step, "cpu"))
"""


@pytest.mark.slow  # a process of its own
@pytest.mark.skipif(not RESET.exists(), reason="the system does not report the peak")
def test_peak_memory_counts_what_lives_at_once_and_not_the_result() -> None:
    # In a process of its own: in this one the allocator may use blocks again that other tests left.
    done = subprocess.run(
        [sys.executable, "-c", STEP], capture_output=True, text=True, check=True, timeout=300
    )
    # 64 MB, once as ones and once as the product, which is the result.
    assert float(done.stdout) == pytest.approx(64e6 / 2**20, abs=4)


@pytest.mark.skipif(not RESET.exists(), reason="the system does not report the peak")
@pytest.mark.parametrize(("backend", "part"), [("cpu", 10), ("matmul", 4)])
def test_our_backends_hold_a_small_part_of_the_authors_form(backend: str, part: int) -> None:
    problem = Problem(batch=2, size=56, heads=3, head_dim=32)
    if OURS + backend not in forms(problem, SETTING):
        pytest.skip(f"the {backend} backend is not here")
    setting = Setting(only=[AUTHORS, OURS + backend], rounds=1)
    candidates, _ = operator_candidates(problem, setting)
    rows = {row.name: row for row in measure(candidates, setting, size=problem.size).rows}
    authors, ours = rows[AUTHORS].memory_mib, rows[OURS + backend].memory_mib
    assert authors is not None
    assert ours is not None
    assert ours < authors / part


def test_the_rates_of_the_machine_are_measured() -> None:
    machine = measure([], Setting(rounds=1), size=1).machine
    assert machine.gemm_gflops > 0
    assert machine.copy_gbs > 0


def test_a_form_that_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = forms(SMALL, SETTING) | {"cheat": Form(lambda tensors, problem: tensors.value * 0, 1)}
    monkeypatch.setattr("slideformer.bench.operator.forms", lambda problem, setting: table)
    with pytest.raises(UserError, match="cheat must agree with the reference"):
        operator_candidates(SMALL, SETTING)


def test_a_form_too_large_for_memory_is_left_out_with_a_note() -> None:
    candidates, notes = operator_candidates(SMALL, Setting(memory=20_000))
    names = {c.name for c in candidates}
    assert "slideformer matmul" in names
    assert AUTHORS not in names
    assert any(note.startswith(f"{AUTHORS} left out") for note in notes)


def test_every_candidate_is_visited_equally_often() -> None:
    calls: list[str] = []

    def candidate(name: str) -> Candidate:
        def step() -> list[torch.Tensor]:
            calls.append(name)
            return []

        return Candidate(name, step, 1.0, None, 1, None)

    group = measure([candidate("a"), candidate("b")], Setting(rounds=3), size=1)
    assert [row.name for row in group.rows] == ["a", "b"]
    visits = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    # There and back again, so that none always follows the same other; then the memory of each.
    assert visits == ["a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize(
    "words",
    fast(
        [
            ["model", "slide_swin_nano", "--size", "32", "--work", "step"],
            ["operator", "--heads", "2", "--head-dim", "4", "--size", "6", "8"],
            ["operator", "--heads", "2", "--head-dim", "4", "--size", "6", "--work", "backward"],
            [
                "operator",
                "--plain",
                "--border",
                "clamp",
                "--kernel-size",
                "5",
                "--size",
                "6",
                "--only",
                "slide",
            ],
            ["layer", "--heads", "2", "--head-dim", "4", "--size", "6", "--work", "step"],
        ]
    ),
    ids=" ".join,
)
def test_the_command_prints_writes_and_draws(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    options = ["--batch", "1", "--rounds", "2", "--json", str(file), "--plot", str(picture)]
    assert main(["bench", *words, *options]) == 0
    out = capsys.readouterr().out
    data = json.loads(file.read_text())
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert len(data["groups"]) == (2 if "8" in words else 1)
    for row in data["groups"][0]["rows"]:
        assert row["name"] in out
    for word in (data["conditions"]["command"], "PyTorch", "alternating"):
        assert word in out


def test_sizes_of_several_axes_are_measured_each_with_its_window(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    words = ["--axes", "1", "--size", "40", "4x5x6", "--kernel-size", "5", "3x1x3", "--plain"]
    rest = ["--border", "mask", "--batch", "1", "--heads", "1", "--rounds", "1", "--only", "matmul"]
    assert main(["bench", "operator", *words, *rest, "--json", str(file)]) == 0
    data = json.loads(file.read_text())
    assert [group["size"] for group in data["groups"]] == ["40", "4x5x6"]
    line, volume = (group["rows"][0]["gflop"] for group in data["groups"])
    assert volume / line == pytest.approx(120 * 9 / (40 * 5))
    out = capsys.readouterr().out
    assert "plain, border mask, K = 5, 3 x 1 x 3, batch 1, 40, 4 x 5 x 6, 1 heads of 32" in out
    assert (
        "--size 40 4x5x6 --axes 1 --heads 1 --head-dim 32 --kernel-size 5 3x1x3 --plain --border mask" in out
    )
    assert restore(data).table.text() in out


def test_prediction_is_compared_with_the_model_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "predict.json"
    words = ["slide_swin_nano", "--photographs", "3", "--size", "40", "--batch", "2", "--rounds", "1"]
    assert main(["bench", "predict", *words, "--json", str(file)]) == 0
    (group,) = json.loads(file.read_text())["groups"]
    assert [(row["name"], row["images"]) for row in group["rows"]] == [("model alone", 3), ("predict", 3)]
    out = capsys.readouterr().out
    assert "x model alone" in out
    assert "slide_swin_nano, 3 photographs of 40 x 40, batch 2" in out
    assert "slideformer bench predict slide_swin_nano --batch 2 --size 40 --photographs 3 --rounds 1" in out


def test_hosts_are_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hosts.json"
    words = ["slide_swin_nano", "--size", "32", "--batch", "1", "--rounds", "1", "--json", str(file)]
    assert main(["bench", "hosts", *words]) == 0
    data = json.loads(file.read_text())
    assert data["kind"] == "hosts"
    assert [row["name"] for row in data["groups"][0]["rows"]] == ["plain host", "slide_swin_nano"]
    assert restore(data).table.text() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "32", "64"], "takes one --size"),
        (["--plot", "x.png"], "leave --plot out"),
        (["--only", "nothing"], "no model is left; widen --only"),
        (["slide_swin_nanu"], "did you mean slide_swin_nano"),
    ],
)
def test_hosts_reject_options_that_they_do_not_take(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "hosts", *words]) == 2
    assert message in capsys.readouterr().err


def test_ratios_are_to_the_first() -> None:
    def row(name: str, milliseconds: float) -> Measurement:
        return Measurement(name, milliseconds, (9.0, 11.0), 8.0, 1.0, 10.0, 2, 0.0)

    group = Group(5, [row(AUTHORS, 100.0), row("quick", 10.0)], Machine(200.0, 4.0), ["c left out"])
    facts = conditions("a subject", SETTING, "slideformer bench operator")
    table = SIZES.report(Groups([group]), facts).table
    head, _, first, second, *_ = table.markdown().splitlines()
    assert head == (
        "| candidate | median ms | quartiles ms | x authors' form | a second | GFLOP/s | of GEMM "
        "| GB/s | of copy | extra MiB |"
    )
    assert first == "| quick | 10.0 | 9.0-11.0 | 10.00 | 200.0 | 100 | 50 % | 1.0 | 25 % | 8.0 |"
    assert second == f"| {AUTHORS} | 100.0 | 9.0-11.0 | 1.00 | 20.0 | 10 | 5 % | 0.1 | 2 % | 8.0 |"
    assert "5: c left out" in table.text()
    several = SIZES.report(Groups([group, group]), facts).table.text()
    assert "ns a position" in several
    assert f"{1e6 * 10 / 2 / 25:.1f}" in several


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["operator", "--size", "56", "0"], "--size must be a whole number from 1 to "),
        (["operator", "--kernel-size", "2"], "--kernel-size must be odd, got 2; use 3"),
        (["operator", "--border", "clamp"], "a learned shift needs --border zeros or wrap, got clamp; add "),
        (["operator", "--size", "3x4x5x6"], "--size must be one whole number, or two or three such as 16x"),
        (["operator", "--size", "3x0"], "--size must be a whole number from 1 to "),
        (["operator", "--size", "9999x9999"], "--size must have at most 16777216 positions, got 9999x9999"),
        (["operator", "--kernel-size", "3x4"], "--kernel-size must be odd, got 3x4; use 5"),
        (["operator", "--kernel-size", "3x3x3"], "--size 56 and --kernel-size 3x3x3 must fit: kernel_size "),
        (["operator", "--border", "wrap", "zeros", "wrap"], "must fit: border must have one entry for all"),
        (["operator", "--size", "2x9", "--border", "wrap", "zeros"], 'border="wrap" needs an axis at least'),
        (["operator", "--kernel-size", "3", "5"], "--kernel-size must be one, or one for each of 1 sizes"),
        (["operator", "--axes", "3", "--size", "4x5"], "--axes is of a --size of one number, got 4x5; leave"),
        (["operator", "--axes", "1", "--plot", "x.png"], "--plot draws square maps by their side"),
        (["layer", "--axes", "1"], "`bench layer` measures square maps and windows; give --size and"),
        (["model", "--kernel-size", "3"], "--kernel-size"),
        (["operator", "--rounds", "0"], "--rounds must be a whole number from 1 to "),
        (["operator", "--json", "nowhere/figures.json"], "--json must be in a folder that exists"),
        (["operator", "--work", "step"], "the operator alone has no training step"),
        (["operator", "slide_swin_tiny"], "names of models go with `bench model`"),
        (["operator", "--device", "nowhere"], "--device must be one that is here, got 'nowhere'"),
        (["operator", "--size", "6", "--only", "nothing"], "no candidate is left at size 6; widen "),
        (["model", "slide_swim_tiny", "--size", "32"], "did you mean slide_swin_tiny"),
        (["predict", "--work", "step"], "`bench predict` measures --work forward of one model"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_command_names_the_instruction_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert main(["bench", "operator", "--size", "6", "--rounds", "1", "--only", "matmul"]) == 0
    assert "`ATEN_CPU_CAPABILITY=avx2 slideformer bench operator" in capsys.readouterr().out


def test_im2col_is_compared_without_the_shift() -> None:
    candidates, _ = operator_candidates(SMALL, Setting(only=[IM2COL]))
    assert [c.name for c in candidates] == [IM2COL]
    assert candidates[0].error is not None
    assert candidates[0].error < 1e-5
