# SPDX-License-Identifier: Apache-2.0
"""What a look at the data has found before a training: counted, with examples, nothing in silence."""

from __future__ import annotations

from dataclasses import dataclass, field

from slideformer.errors import UserError

EXAMPLES = 3
ERROR, WARNING, LEFT_OUT, NOTE = "error", "warning", "left out", "note"


@dataclass
class Finding:
    """Something that was found more than once, perhaps.

    Attributes:
        severity: ``"error"`` stops a training, ``"warning"`` is probably a mistake, ``"left out"`` is not
            trained on, ``"note"`` is to be known.
        kind: what it is, in the plural.
        count: how often.
        examples: the first ones; of an error each a whole sentence.
    """

    severity: str
    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """All that was found in a data set.

    Attributes:
        facts: lines on what it holds.
        found: by severity and kind.
    """

    facts: list[str] = field(default_factory=list)
    found: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def error(self, kind: str, message: str) -> None:
        """Count what a training cannot start with.

        Args:
            kind: what it is, in the plural.
            message: what must hold, what came, what to do.
        """
        self.add(ERROR, kind, message)

    def warn(self, kind: str, example: str) -> None:
        """Count what a training takes as it is, but is probably a mistake.

        Args:
            kind: what it is, in the plural.
            example: where this one is.
        """
        self.add(WARNING, kind, example)

    def left_out(self, kind: str, example: str) -> None:
        """Count what is not trained on.

        Args:
            kind: what it is, in the plural.
            example: where this one is.
        """
        self.add(LEFT_OUT, kind, example)

    def note(self, kind: str, example: str) -> None:
        """Count what is used, but not as it stands in the data.

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
        """What was found of one severity, the first found first."""
        return [finding for finding in self.found.values() if finding.severity == severity]

    def count(self, severity: str) -> int:
        """How much was found of one severity."""
        return sum(finding.count for finding in self.of(severity))

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return self.count(ERROR)

    def lines(self) -> list[str]:
        """The whole report: the facts, then what was found, the gravest first."""
        lines = list(self.facts)
        for finding in self.of(ERROR):
            lines.append(f"error: {finding.kind}: {finding.count}")
            lines += [f"  {example}" for example in finding.examples]
            if finding.count > len(finding.examples):
                lines.append(f"  and {finding.count - len(finding.examples)} more")
        return lines + [line for severity in (WARNING, LEFT_OUT, NOTE) for line in self.counted(severity)]

    def counted(self, severity: str) -> list[str]:
        """A line a kind of one severity, with its first examples."""
        lines = []
        for finding in self.of(severity):
            more = ", ..." if finding.count > len(finding.examples) else ""
            lines.append(f"{severity}: {finding.kind}: {finding.count} ({', '.join(finding.examples)}{more})")
        return lines

    def before_training(self, hint: str = "") -> list[str]:
        """The lines that a training begins with: warnings, and what is left out.

        Args:
            hint: that ends the line of what is left out.
        """
        summary = self.summary()
        return [*self.counted(WARNING), *([f"{summary}{hint}"] if summary else [])]

    def summary(self) -> str:
        """One line of what is not trained on, or nothing where that is nothing."""
        parts = [f"{finding.count} {finding.kind}" for finding in self.of(LEFT_OUT)]
        return f"left out of the training: {', '.join(parts)}" if parts else ""

    def refuse(self) -> None:
        """Let nothing begin on data with errors."""
        if self.errors:
            first = self.of(ERROR)[0].examples[0]
            more = self.errors - 1
            raise UserError(f"{first} ({more} more; `slideformer check-data` lists them)" if more else first)
