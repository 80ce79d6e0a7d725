# SPDX-License-Identifier: Apache-2.0
"""Findings of a check of a data set, counted, with examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from slideformer.errors import UserError

# Called after each item of a check with the number done and the number of all.
Progress: TypeAlias = Callable[[int, int], None]
EXAMPLES = 3
ERROR, WARNING, LEFT_OUT, NOTE = "error", "warning", "left out", "note"


@dataclass
class Finding:
    """A kind of finding.

    Attributes:
        severity: ``"error"`` stops a training, ``"warning"`` is probably a mistake, ``"left out"`` is not
            trained on, ``"note"`` is worth knowing.
        kind: what it is, in the plural.
        count: how often.
        examples: the first ones; of an error each is a message.
    """

    severity: str
    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """Everything that was found in a data set.

    Attributes:
        facts: lines on what it holds.
        found: by severity and kind.
    """

    facts: list[str] = field(default_factory=list)
    found: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def error(self, kind: str, message: str) -> None:
        """Count something that a training cannot start with.

        Args:
            kind: what it is, in the plural.
            message: what must hold, what came, what to do.
        """
        self.add(ERROR, kind, message)

    def warn(self, kind: str, example: str) -> None:
        """Count something that a training accepts, but is probably a mistake.

        Args:
            kind: what it is, in the plural.
            example: where this one is.
        """
        self.add(WARNING, kind, example)

    def left_out(self, kind: str, example: str) -> None:
        """Count something that is not trained on.

        Args:
            kind: what it is, in the plural.
            example: where this one is.
        """
        self.add(LEFT_OUT, kind, example)

    def note(self, kind: str, example: str) -> None:
        """Count something that is used, but changed.

        Args:
            kind: what it is, in the plural.
            example: where this one is.
        """
        self.add(NOTE, kind, example)

    def add(self, severity: str, kind: str, example: str) -> None:
        """Count one more, and keep the first examples."""
        finding = self.found.setdefault((severity, kind), Finding(severity, kind))
        finding.count += 1
        if len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def of(self, severity: str) -> list[Finding]:
        """Findings of one severity, in the order in which they were found."""
        return [finding for finding in self.found.values() if finding.severity == severity]

    def count(self, severity: str) -> int:
        """Number of findings of one severity."""
        return sum(finding.count for finding in self.of(severity))

    @property
    def errors(self) -> int:
        """Number of errors."""
        return self.count(ERROR)

    def lines(self) -> list[str]:
        """The complete report: facts, then findings, the most severe first."""
        lines = list(self.facts)
        for finding in self.of(ERROR):
            lines.append(f"error: {finding.kind}: {finding.count}")
            lines += [f"  {example}" for example in finding.examples]
            if finding.count > len(finding.examples):
                lines.append(f"  and {finding.count - len(finding.examples)} more")
        return lines + [line for severity in (WARNING, LEFT_OUT, NOTE) for line in self.counted(severity)]

    def counted(self, severity: str) -> list[str]:
        """A line for each kind of one severity, with its first examples."""
        lines = []
        for finding in self.of(severity):
            more = ", ..." if finding.count > len(finding.examples) else ""
            lines.append(f"{severity}: {finding.kind}: {finding.count} ({', '.join(finding.examples)}{more})")
        return lines

    def before_training(self, hint: str = "") -> list[str]:
        """The lines to print before a training: warnings, and what is left out.

        Args:
            hint: added to the line of what is left out.
        """
        summary = self.summary()
        return [*self.counted(WARNING), *([f"{summary}{hint}"] if summary else [])]

    def summary(self) -> str:
        """One line on what is not trained on; empty where everything is."""
        parts = [f"{finding.count} {finding.kind}" for finding in self.of(LEFT_OUT)]
        return f"left out of the training: {', '.join(parts)}" if parts else ""

    def check(self) -> None:
        """Check that there are no errors.

        Raises:
            UserError: the first error, and how many more there are.
        """
        if self.errors:
            first = self.of(ERROR)[0].examples[0]
            more = self.errors - 1
            raise UserError(f"{first} ({more} more; `slideformer check-data` lists them)" if more else first)
