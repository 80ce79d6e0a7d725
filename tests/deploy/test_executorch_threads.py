# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch's threads belong to the process, and programs that are loaded keep hold of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from slideformer.deploy.job import quiet
from slideformer.deploy.runtimes import executorch

pytest.importorskip("executorch")


def test_the_pool_is_replaced_only_for_another_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with quiet():
        from executorch.extension.pybindings import portable_lib

    pool = [2]
    program = SimpleNamespace(load_method=lambda name: name)
    monkeypatch.setattr(executorch, "load", lambda file: program)
    monkeypatch.setattr(portable_lib, "_threadpool_get_thread_count", lambda: pool[-1])
    monkeypatch.setattr(portable_lib, "_unsafe_reset_threadpool", pool.append)
    for threads in (2, 1, 1, None, 2):
        executorch.open_file(Path("model.pte"), threads)
    assert pool == [2, 1, 2]
