"""
What the doctor found, as a value that prints as a table.
"""

import html
import textwrap
from collections.abc import Iterator
from typing import Literal

import attrs

__all__ = ["Finding", "Report", "State", "fix_and_price"]

State = Literal["ok", "degraded", "missing"]

_WIDTH = 88


@attrs.frozen
class Finding:
    """
    One thing that was examined.

    Attributes:
        name: What.

        state: ``ok``; ``degraded`` if jails work, but something is weaker or left out;
            ``missing`` if jails do not start with their usual protections.

        detail: What is so.

        consequence: What follows for jails, or empty.

        fix: What to do, to be copied, or empty.

        cost: What the fix gives away in security, or empty if there is no fix.
    """

    name: str
    state: State
    detail: str
    consequence: str = ""
    fix: str = ""
    cost: str = ""


@attrs.frozen(repr=False)
class Report:
    """
    What the doctor found. Prints as a table.

    Attributes:
        findings: Everything that was examined, in reading order.
    """

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Jails start here with all their usual protections or listed weaker ones."""
        return not self.missing

    @property
    def missing(self) -> tuple[Finding, ...]:
        """The findings that keep jails from starting."""
        return tuple(f for f in self.findings if f.state == "missing")

    @property
    def degraded(self) -> tuple[Finding, ...]:
        """The findings that make jails weaker or take abilities from them."""
        return tuple(f for f in self.findings if f.state == "degraded")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, name: str) -> Finding:
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise KeyError(name)

    def document(self) -> dict[str, object]:
        """Give the report as plain values, ready for JSON."""
        return {"ok": self.ok, "findings": [attrs.asdict(f) for f in self.findings]}

    def __repr__(self) -> str:
        width = max((len(f.name) for f in self.findings), default=0)
        lines = []
        for finding in self.findings:
            lead = f"{finding.state:<9} {finding.name:<{width}}  "
            lines += _wrapped(lead, finding.detail, " " * len(lead))
            for label, text in _rest(finding):
                indent = " " * 10
                lines += _wrapped(f"{indent}{label}: ", text, f"{indent}  ")
        lines.append(self._verdict())
        return "\n".join(lines)

    def _verdict(self) -> str:
        if not self.ok:
            names = ", ".join(f.name for f in self.missing)
            return f"Jails do not start here as they should: {names}."
        if self.degraded:
            names = ", ".join(f.name for f in self.degraded)
            return f"Jails start here. Weaker or left out: {names}."
        return "Jails start here, and nothing is missing."

    def _repr_html_(self) -> str:
        rows = []
        for finding in self.findings:
            rest = "".join(
                f"<br><small>{label}: {html.escape(text)}</small>"
                for label, text in _rest(finding)
            )
            rows.append(
                f"<tr><td>{finding.state}</td><td>{html.escape(finding.name)}</td>"
                f'<td style="text-align:left">{html.escape(finding.detail)}{rest}'
                "</td></tr>"
            )
        body = "".join(rows)
        return f"<table>{body}</table><p>{html.escape(self._verdict())}</p>"


def _rest(finding: Finding) -> Iterator[tuple[str, str]]:
    """Give what a finding says beyond its detail, with a label."""
    for label, text in (
        ("means", finding.consequence),
        ("fix", finding.fix),
        ("price", finding.cost),
    ):
        if text:
            yield label, text


def _wrapped(lead: str, text: str, indent: str) -> list[str]:
    """Wrap *text* after *lead*. Commands are never broken inside of a word."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=lead,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [lead.rstrip()]


def fix_and_price(advice: str) -> tuple[str, str]:
    """Take a hint apart into what to do and its price."""
    fix, _, cost = advice.partition(" Price: ")
    return fix, cost.rstrip(".")
