"""The end of a run: findings written, the summary printed, the exit code of `--fail-on`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gainstage.attach.startup.config import RunConfig
from gainstage.facts.findings import Findings
from gainstage.facts.symptom import SEVERITIES

if TYPE_CHECKING:
    from gainstage.attach.session import Session

EXIT_FINDINGS = 3


def conclude(config: RunConfig, session: Session | None, uncaught: str | None) -> int | None:
    """Write findings.json and print the summary of a run on standard error.

    Args:
        config: The run's options.
        session: Of this process, closed; None where it never imported torch.
        uncaught: The error that ended the script, if one did.

    Returns:
        The exit code to end with, None for the script's own.
    """
    try:
        findings = _write(config, uncaught)
        _print(config, findings)
    except Exception as error:
        print(f"gainstage: no summary, {type(error).__name__}: {error}", file=sys.stderr)
        return 1 if config.strict else None
    if config.strict and session is not None and session.faults:
        return 1
    if config.fail_on is None:
        return None
    limit = SEVERITIES.index(config.fail_on)  # pyright: ignore[reportArgumentType]
    worst = max((SEVERITIES.index(each.severity) for each in findings.symptoms), default=-1)
    return EXIT_FINDINGS if worst >= limit else None


def _write(config: RunConfig, uncaught: str | None) -> Findings:
    """Note how the run ended, and write what its record says."""
    from gainstage.store.findings import findings_json
    from gainstage.store.folder import update_run_info
    from gainstage.store.journal import write_json
    from gainstage.store.reader import load

    exit_info: dict[str, Any] = {"exception": uncaught}
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    update_run_info(config.folder, ended=ended, exit=exit_info)
    findings = load(config.folder).findings
    write_json(config.folder / "findings.json", findings_json(findings))
    return findings


def _print(config: RunConfig, findings: Findings) -> None:
    from gainstage.show.terminal import print_summary
    from gainstage.store.reader import load

    print_summary(load(config.folder), findings, file=sys.stderr)
