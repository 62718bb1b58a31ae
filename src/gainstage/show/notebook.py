"""What a notebook shows of a run: the answers, as a small table or as plain text."""

# pyright: reportUnknownParameterType=false
# (PyArrow comes without types.)

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING

from gainstage.detect.symptom_json import message_of
from gainstage.facts import findings as facts
from gainstage.facts.run_info import RunInfo
from gainstage.show.answers import (
    answers,
    counted,
    extent,
    next_commands,
    shown_of,
    symptom_sentence,
    verdict_text,
)
from gainstage.show.diagnosis import fix_lines, where_lines, why_lines
from gainstage.show.terminal import safe, summary
from gainstage.store import reader
from gainstage.store.query import query as run_query

if TYPE_CHECKING:
    import pyarrow as pa

_STYLE = {"healthy": "#10693f", "at-risk": "#8a5200", "failed": "#b3260b"}


class NotebookFindings(facts.Findings):
    """What the detectors saw and the diagnosis made of it, that shows itself in a notebook."""

    __slots__ = ()

    @property
    def messages(self) -> tuple[str, ...]:
        """One sentence for each symptom, in their order."""
        return tuple(message_of(symptom) for symptom in self.symptoms)

    def __repr__(self) -> str:
        """Return symptoms, cause, evidence, place and remedies as text."""
        lines = [f"Findings: {self.verdict}, {counted(self.steps, 'step')}"]
        lines += [f" {label:<8}{safe(text)}" for label, text in _labelled_lines(self)]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the same as a table; nothing that the run says is markup in it."""
        rows = [(label, "", _text(text)) for label, text in _labelled_lines(self)]
        head = f"{self.verdict.upper()}, {counted(self.steps, 'step')}"
        return _table(head, rows, _STYLE[self.verdict])


class Run(reader.StoredRun):
    """A run's folder, read, that shows itself in a notebook."""

    @cached_property
    def findings(self) -> NotebookFindings:
        """What the detectors see in the whole record, and the diagnosis made of it."""
        plain = super().findings
        return NotebookFindings(*(getattr(plain, each.name) for each in fields(plain)))

    def query(self, sql: str) -> pa.Table:
        """Return what a SELECT finds in `steps`, `gradients`, `weights`, `profiles`, `symptoms`.

        In SQL, gradients and weights have a row a step and tensor: `step`, `rank`, `tensor`,
        `module`, `norm`. docs/export.md has examples.

        Raises:
            ConfigError: If DuckDB is not installed, or refuses the statement.
        """
        return run_query(self, sql)

    def __repr__(self) -> str:
        """Return the summary that the terminal prints, after the folder."""
        return f"Run({str(self.folder)!r})\n{plain_text(self)}"

    def _repr_html_(self) -> str:
        """Return the answers as Jupyter shows them."""
        return markup(self)


def load(path: str | os.PathLike[str]) -> Run:
    """Return the run in a folder: ended, still training, or killed.

    Damage is no reason to refuse: what can be read is read, and `Run.damage` says what cannot.

    Raises:
        RunFolderError: If there is no such folder, or no run in it.
    """
    run = reader.load(path)
    return Run(*(getattr(run, each.name) for each in fields(run) if each.init))


def plain_text(run: reader.StoredRun) -> str:
    """Return the answers as text."""
    return summary(shown_of(run, run.findings)).plain


def markup(run: reader.StoredRun) -> str:
    """Return the answers as HTML; nothing that a run says is markup in it."""
    shown = shown_of(run, run.findings)
    rows = [("", "", f"{_text(shown.info.script)}, {_text(extent(shown))}")]
    rows += [(a.label, "font-weight:600" * a.is_main, _text(a.text)) for a in answers(shown)]
    if run.findings.verdict != "healthy":
        commands = "<br>".join(f"<code>{_text(each)}</code>" for each in next_commands(shown))
        rows.append(("next", "", commands))
    colour = _STYLE[run.findings.verdict if len(shown.block) else "at-risk"]
    return _table(verdict_text(shown), rows, colour)


def _labelled_lines(findings: facts.Findings) -> list[tuple[str, str]]:
    """Return findings as lines with labels, all of the evidence among them."""
    rows = [
        ("what", f"{s.severity}, step {s.step:,}: {symptom_sentence(s, RunInfo())}")
        for s in findings.symptoms
    ]
    diagnosis = findings.diagnosis
    if diagnosis is None:
        return rows
    rows.append(("why", why_lines(diagnosis)[0]))
    rows += [("", f"{each.bits:+.1f} bits: {each.text}") for each in diagnosis.evidence]
    rows += [("where", line) for line in where_lines(diagnosis, RunInfo())]
    return [*rows, *(("fix", line) for line in fix_lines(diagnosis))]


def _table(head: str, rows: Sequence[tuple[str, str, str]], colour: str) -> str:
    """Return labels, styles and cells, which are markup already, below a heading."""
    cells = "".join(
        '<tr><td style="text-align:left;vertical-align:top;opacity:.75">'
        f'{_text(label)}</td><td style="text-align:left;{style}">{said}</td></tr>'
        for label, style, said in rows
    )
    return (
        f'<div style="border-left:4px solid {colour};padding-left:10px">'
        f"<strong>{_text(head)}</strong><table>{cells}</table></div>"
    )


def _text(text: object) -> str:
    return html.escape(safe(str(text)))
