# SPDX-License-Identifier: Apache-2.0
"""Commands run in forks of one process that has imported everything: what a command costs is its work alone.

One JSON line in a request, one in an answer. A process group of its own a command, so that what hangs is
ended with its children.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

# The commands never run this module's imports again.
import lightning
import onnxruntime
import slideformer_runtime.command
import timm
import torch
import torchvision

import slideformer.cli.main
from slideformer.tasks.classify import module as classify
from slideformer.tasks.detect import module as detect
from slideformer.tasks.segment import module as segment

IMPORTED = (lightning, onnxruntime, timm, torch, torchvision, classify, detect, segment)
PROGRAMS = {
    "slideformer": slideformer.cli.main.main,
    "slideformer-runtime": slideformer_runtime.command.main,
}


def execute(request: dict[str, object], folder: Path) -> int:
    """Run a command in this process, its output in files of the folder."""
    os.setsid()
    os.chdir(folder)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = os.fdopen(0)  # the other one has been read from
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    try:
        return int(PROGRAMS[str(request["program"])](request["words"]))  # type: ignore[arg-type]
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def serve(request: dict[str, object]) -> dict[str, object]:
    """Run a command in a fork; its exit code, or None where it had to be ended, and its memory in MiB."""
    folder = Path(str(request["folder"]))
    child = os.fork()
    if child == 0:
        code = execute(request, folder)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    end = time.monotonic() + float(str(request["seconds"]))
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.wait4(child, 0)
            return {"code": None, "mebibytes": 0}
        time.sleep(0.01)
    return {"code": os.waitstatus_to_exitcode(status), "mebibytes": usage.ru_maxrss // 1024}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)
