# SPDX-License-Identifier: Apache-2.0
"""A file that cannot be what was exported is refused in one line, in every runtime."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from slideformer.cli.main import main
from slideformer.deploy import RUNTIMES, verify
from slideformer.errors import UserError
from tests.deploy.small import FACTS, SIZE, Tiny, image, written
from tests.shared import made_once
from tests.tiers import fast

# Compiling for AOTInductor takes minutes, and its packages are read as archives: a made one will do.
WRITTEN = ("onnx", "openvino", "executorch", "coreml", "coreai")


@pytest.fixture(scope="module", params=fast(WRITTEN))
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a runtime, in a folder of its own; not to be changed."""
    return made(tmp_path_factory, request.param)


def made(factory: pytest.TempPathFactory, runtime: str) -> Path:
    """The file, which all tests read."""
    folder = made_once(factory, f"tiny for {runtime}", lambda folder: written(folder, runtime))
    return folder / f"model{RUNTIMES[runtime].suffix}"


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Path:
    """The file with what lies beside it, to be changed at will."""
    return Path(shutil.copytree(original.parent, tmp_path / "copy")) / original.name


def halve(file: Path) -> None:
    """Cut a file, or the graph of a package, in half."""
    graphs = [*file.rglob("*.mlmodel"), *file.rglob("*.mlirb")]
    part = graphs[0] if file.is_dir() else file
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])


def empty(file: Path) -> None:
    """Nothing is left of a file, or in a folder."""
    if file.is_dir():
        shutil.rmtree(file)
        file.mkdir()
    else:
        file.write_bytes(b"")


def assert_one_line(words: list[str], capsys: pytest.CaptureFixture[str], message: str) -> None:
    """The command refuses with code 2 and one line, without a traceback."""
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: "), error
    assert error.count("\n") == 1, error
    assert message in error


@pytest.mark.parametrize("breaking", [halve, empty], ids=["halved", "empty"])
def test_a_broken_file_is_one_line(
    breaking: Callable[[Path], None], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking(file)
    assert_one_line(["verify", str(file)], capsys, f"{file} must be ")


def test_broken_weights_of_openvino_are_one_line(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(tmp_path_factory, "openvino")
    file = Path(shutil.copytree(source.parent, tmp_path / "copy")) / source.name
    halve(file.with_suffix(".bin"))
    assert_one_line(["verify", str(file)], capsys, "must be a complete model of OpenVINO's")
    file.with_suffix(".bin").unlink()
    assert_one_line(["verify", str(file)], capsys, "must have its weights next to it")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more", b"no archive"], ids=["empty", "cut", "text"])
def test_a_package_that_is_no_archive_is_one_line(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.pt2").write_bytes(content)
    message = "must be a complete package of AOTInductor"
    assert_one_line(["verify", str(tmp_path / "model.pt2")], capsys, message)


def test_a_package_of_someone_else_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.export.save(torch.export.export(Tiny(), (image(*SIZE),)), tmp_path / "model.pt2")
    message = "must be a file that `slideformer export` wrote, but has none of its metadata"
    assert_one_line(["verify", str(tmp_path / "model.pt2")], capsys, message)


def resign(file: Path, **changed: str) -> None:
    """Change what an ONNX file says of itself; None of it where nothing is given."""
    program = onnx.load(file)
    texts = {entry.key: entry.value for entry in program.metadata_props}
    del program.metadata_props[:]
    onnx.helper.set_model_props(program, {**texts, **changed} if changed else {})
    onnx.save(program, file)


SIGNED = {
    "another format": (
        {"slideformer_format": "99"},
        "must have the format 1 to 3, got 99, of slideformer 0.",
    ),
    "nothing": (
        {},
        "must be a file that `slideformer export` wrote, but has none of its metadata",
    ),
}


@pytest.mark.parametrize(("changed", "message"), SIGNED.values(), ids=SIGNED)
def test_a_file_that_says_something_else_is_one_line(
    changed: dict[str, str],
    message: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = Path(shutil.copy(made(tmp_path_factory, "onnx"), tmp_path))
    resign(file, **changed)
    assert_one_line(["verify", str(file)], capsys, message)


def test_another_input_than_the_file_takes_is_refused(original: Path) -> None:
    (row,) = (row for row in RUNTIMES.values() if row.suffix == original.suffix)
    if not row.runs_here:  # nothing runs, so nothing is refused
        assert not verify(row, original, Tiny(), [image(1, 24, 16)]).ran
        return
    for other in [(1, 24, 16), (2, 16, 24)]:
        sizes = " x ".join(map(str, other))
        message = rf"takes inputs of 1 x 16 x 24 \(batch x height x width\), got {sizes}; export it"
        with pytest.raises(UserError, match=message):
            verify(row, original, Tiny(), [image(*other)])


def test_a_written_file_is_read_again(original: Path) -> None:
    (row,) = (row for row in RUNTIMES.values() if row.suffix == original.suffix)
    report = verify(row, original, Tiny(), [image(*SIZE)])
    assert report.fault is None
    assert report.card.facts == FACTS
    assert sorted(entry.suffix for entry in original.parent.iterdir()) == sorted(
        [row.suffix, *([".bin"] if row.name == "openvino" else [])]
    )


def test_another_model_does_not_pass(original: Path) -> None:
    (row,) = (row for row in RUNTIMES.values() if row.suffix == original.suffix)
    report = verify(row, original, Tiny(1), [image(*SIZE)])
    assert (report.fault is not None) == row.runs_here
