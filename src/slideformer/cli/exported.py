# SPDX-License-Identifier: Apache-2.0
"""What the commands tell of an exported file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slideformer.deploy import Report


def mebibytes(file: Path) -> float:
    """Size of a file with what lies beside it, or of a folder."""
    parts = [file, *([file.with_suffix(".bin")] if file.suffix == ".xml" else [])]
    files = [entry for part in parts for entry in ([part] if part.is_file() else part.rglob("*"))]
    return sum(entry.stat().st_size for entry in files if entry.is_file()) / 2**20


def report_table(report: Report) -> str:
    """One line a checked size."""
    card = report.card
    lines = [f"{card.task}, {card.precision}, slide attention as {card.form}, inputs of {card.sizes}"]
    if not report.ran and not report.faults:
        lines.append("converted, not run: its runtime is not on this system; its structure is sound")
    if report.differences:
        heads = f"{'largest difference':>20}{'mean':>12}{'same top-1':>12}"
        lines.append(f"{'batch x height x width':<24}{heads}")
    for row in report.differences:
        size = f"{row.batch} x {row.height} x {row.width}"
        lines.append(f"{size:<24}{row.largest:>20.2e}{row.mean:>12.2e}{100 * row.agreement:>10.1f} %")
    if report.detections:
        lines.append(f"{'height x width':<16}{'detections':>12}{'unmatched':>11}{'box px':>10}{'score':>10}")
    for found in report.detections:
        size = f"{found.height} x {found.width}"
        numbers = f"{found.detections:>12}{found.unmatched:>11}{found.box:>10.1e}{found.score:>10.1e}"
        lines.append(f"{size:<16}{numbers}")
    return "\n".join(lines)
