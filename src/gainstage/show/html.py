"""The report: one file that opens without a network, with the front end and the run's data in it.

Nothing that a run says is ever markup: the data are JSON in a script that no browser executes, and
the front end puts them on the page as text. The page's policy allows the one script it came with.
"""

from __future__ import annotations

import html
import shlex
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gainstage import __version__
from gainstage.detect.symptom_json import symptom_json
from gainstage.facts.codec import to_json
from gainstage.facts.run_info import name_of_process
from gainstage.show.answers import (
    answers,
    extent,
    fix_command,
    growing,
    shown_of,
    treat_commands,
    verdict_text,
)
from gainstage.show.audit import clip_audit
from gainstage.show.autopsy import diagnosis_json, faults_json, treatments_json, trials_json
from gainstage.show.figures import figures
from gainstage.show.html_page import page_with_script, write_page
from gainstage.show.profiles import depth_order, ledger, ledger_json, ratios_json, times_json
from gainstage.show.terminal import summary

if TYPE_CHECKING:
    from gainstage.facts.findings import Findings
    from gainstage.store.reader import StoredRun

SCHEMA = "gainstage.report/1"
MOST_RANKS = 8
"""Pictures of more ranks would make the file too large; those with symptoms come first."""

_BODY = """<noscript><pre>{plain}</pre></noscript>
<main id="report"></main>
"""


def write_report(run: StoredRun, path: Path) -> None:
    """Write the report of a run to a file; one that is there stays whole until it is replaced.

    Raises:
        ConfigError: If the file cannot be written.
    """
    write_page(render_report(run), path, "report")


def render_report(run: StoredRun) -> str:
    """Return the report of a run as a page."""
    data = report_data(run)
    script = files("gainstage.show").joinpath("bundle", "report.js").read_text(encoding="utf-8")
    plain = summary(shown_of(run, run.findings), width=100).plain
    return page_with_script(
        _BODY.format(plain=html.escape(plain)),
        f"{data['script']}: {data['verdict_text']}",
        data=to_json(data),
        script=script,
    )


def report_data(
    run: StoredRun, findings: Findings | None = None, *, with_steps: bool = True
) -> dict[str, Any]:
    """Return all that the report shows, as JSON: `gainstage.report/1`.

    Args:
        run: The run's record.
        findings: Where they are known; otherwise the record is looked through for them.
        with_steps: Whether to put in the pictures over steps.
    """
    findings = run.findings if findings is None else findings
    shown = shown_of(run, findings)
    info = run.info
    return {
        "schema": SCHEMA,
        "version": __version__,
        "script": info.script,
        "folder": str(run.folder.resolve()),
        "verdict": findings.verdict if len(shown.block) else "at-risk",
        "verdict_text": verdict_text(shown),
        "extent": extent(shown),
        "answers": [
            {"label": answer.label, "text": answer.text, "main": answer.is_main}
            for answer in answers(shown)
        ],
        "growing": [
            {
                "name": each.name,
                "dtype": each.dtype,
                "slope_bits_per_step": each.slope_bits_per_step,
                "headroom_bits": each.headroom_bits,
            }
            for each in growing(shown)
        ],
        "treat": fix_command(shown),
        "next": treat_commands(shown),
        "symptoms": [symptom_json(each) for each in findings.symptoms],
        "facts": _facts(run),
        "damage": list(run.damage),
        "diagnosis": diagnosis_json(run, findings),
        "treatments": treatments_json(run.treatments),
        "trials": trials_json(run),
        "ranks": [
            _rank(run, rank, findings.alarm_step, with_steps=with_steps)
            for rank in _ranks(run, findings)
        ],
        "ranks_in_all": len(run.ranks),
    }


def _rank(run: StoredRun, rank: int, alarm: int | None, *, with_steps: bool) -> dict[str, Any]:
    """Return the pictures of one rank."""
    tensors, block = run.tensors(rank), run.block(rank)
    profiles, sites = run.profile_block(rank), run.sites(rank)
    return {
        **(figures(rank, tensors, block) if with_steps else {"rank": rank}),
        "name": name_of_process(rank, run.info.world_size),
        "depth_order": depth_order(tensors, profiles, sites),
        "ledger": ledger_json(ledger(profiles), tensors),
        "times": times_json(run.time_block(rank), sites),
        "ratios": ratios_json(run.weight_block(rank), block),
        "clips": clip_audit(block, run.observations(rank), alarm, run.info),
        "faults": faults_json(run.faults(rank), run.info),
    }


def _ranks(run: StoredRun, findings: Findings) -> list[int]:
    """Return the ranks to draw: those with symptoms first, worst first."""
    sick = [s.rank or 0 for s in findings.symptoms]
    return [r for r in dict.fromkeys([*sick, *run.ranks]) if r in run.ranks][:MOST_RANKS]


def _facts(run: StoredRun) -> list[list[str]]:
    """Return what is needed to run it again, as pairs of a name and a text."""
    info = run.info
    command = f"gainstage run {shlex.join(info.argv or ())}"
    facts = {
        "command": command if info.argv else None,
        "folder": info.cwd,
        "began": info.started,
        "ended": info.ended or "not yet, or it was killed",
        "python": info.python,
        "torch": info.torch,
        "threads": info.threads,
        "held until a step is judged": _bytes(info.held_bytes),
        "gainstage": info.gainstage,
        "treatments": ", ".join(info.treat or ()) or None,
    }
    return [[name, str(value)] for name, value in facts.items() if value is not None]


def _bytes(count: object) -> str | None:
    return f"{count / 1e6:.1f} MB at most" if isinstance(count, int) and count else None
