"""What a notebook shows of a run: the answers, as a small table or as plain text."""

from __future__ import annotations

import html
import os
from dataclasses import fields

from gainstage.show.answers import answers, extent, next_commands, shown_of, verdict_text
from gainstage.show.terminal import safe, summary
from gainstage.store import reader

_STYLE = {"healthy": "#10693f", "at-risk": "#8a5200", "failed": "#b3260b"}


class Run(reader.Run):
    """A run's folder, read, that shows itself in a notebook."""

    def __repr__(self) -> str:
        """Return the summary that the terminal prints, after the folder."""
        return f"Run({str(self.folder)!r})\n{plain_text(self)}"

    def _repr_html_(self) -> str:
        """Return the answers as Jupyter shows them."""
        return markup(self)


def load(path: str | os.PathLike[str]) -> Run:
    """Return the run in a folder: one that has ended, goes on, or was killed.

    Damage is no reason to refuse: what can be read is read, and `Run.damage` says what cannot.

    Raises:
        RunFolderError: If there is no such folder, or no run in it.
    """
    run = reader.load(path)
    return Run(*(getattr(run, each.name) for each in fields(run) if each.init))


def plain_text(run: reader.Run) -> str:
    """Return the answers as text."""
    return summary(shown_of(run, run.findings)).plain


def markup(run: reader.Run) -> str:
    """Return the answers as HTML; nothing that a run says is markup in it."""
    shown = shown_of(run, run.findings)
    rows = [("", "", f"{_text(shown.info.get('script', '?'))}, {_text(extent(shown))}")]
    rows += [(a.label, "font-weight:600" * a.is_main, _text(a.text)) for a in answers(shown)]
    if run.findings.verdict != "healthy":
        commands = "<br>".join(f"<code>{_text(each)}</code>" for each in next_commands(shown))
        rows.append(("next", "", commands))
    cells = "".join(
        '<tr><td style="text-align:left;vertical-align:top;opacity:.75">'
        f'{_text(label)}</td><td style="text-align:left;{style}">{said}</td></tr>'
        for label, style, said in rows
    )
    colour = _STYLE[run.findings.verdict if len(shown.block) else "at-risk"]
    return (
        f'<div style="border-left:4px solid {colour};padding-left:10px">'
        f"<strong>{_text(verdict_text(shown))}</strong><table>{cells}</table></div>"
    )


def _text(text: object) -> str:
    return html.escape(safe(str(text)))
