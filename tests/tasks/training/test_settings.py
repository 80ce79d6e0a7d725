# SPDX-License-Identifier: Apache-2.0
"""A configuration is read within bounds, whatever it says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from slideformer.errors import UserError
from slideformer.tasks.training.settings import load, read_settings

LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "must have at most 20000 values, with those that its aliases stand for"),
        ("a: &a [*a]", "must not refer to itself, got the alias a"),
        ("a: &a {b: *a}", "must not refer to itself, got the alias a"),
        ("[" * 10_000, "30 levels, got more"),
        ("a: " + "{b: " * 40 + "c" + "}" * 40, "30 levels, got more"),
        ("- 1\n" * 30_000, "at most 20000 values"),
        ("x" * (1 << 21), "must have at most 1048576 bytes, got more"),
        ("a: *b", "must not refer to itself, got the alias b"),
        ("a: [", "must be a YAML file, but cannot be read (while parsing"),
        (b"task: \xff", "must be text in UTF-8, got other bytes; save it as UTF-8"),
        (b"task: \x00", "must be a YAML file, but cannot be read"),
    ],
    ids=lambda x: "" if str(x).startswith("must") else str(x)[:12],
)
def test_what_is_large_or_no_yaml_is_refused_at_once(text: str | bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        read_settings(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 5


def test_anchors_that_a_person_writes_are_understood() -> None:
    assert load("a: &a {b: 1e-3}\nc: {<<: *a, d: [*a, *a]}") == {
        "a": {"b": 1e-3},
        "c": {"b": 1e-3, "d": [{"b": 1e-3}, {"b": 1e-3}]},
    }
