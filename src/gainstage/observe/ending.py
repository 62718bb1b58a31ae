"""The end of a run: findings written, the summary printed, the exit code of `--fail-on`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from gainstage.channel.config import RunConfig
from gainstage.channel.events import Ended
from gainstage.channel.place import Watched, channels_of, watched_of
from gainstage.facts.findings import Findings
from gainstage.facts.run_info import RunExit
from gainstage.facts.symptom import SEVERITIES
from gainstage.observe.life import Death
from gainstage.observe.speech import Speech
from gainstage.show.terminal import print_summary
from gainstage.store.findings import findings_json
from gainstage.store.folder import update_run_info
from gainstage.store.journal import write_json
from gainstage.store.reader import load

EXIT_FINDINGS = 3
_OTHERS_S = 10.0


def conclude(
    watched: Watched, speech: Speech, ended: Ended | None, death: Death | None
) -> int | None:
    """Write findings.json and print the summary, if this is the main process's observer.

    Args:
        watched: The process that ended.
        speech: Where the summary goes.
        ended: What it said at its end.
        death: How it ended, where it said nothing.

    Returns:
        The exit code to end with, None for the script's own.
    """
    config = watched.config
    if not watched.is_main or not (ended is None or ended.is_final):
        return None
    _wait_for_others(watched)
    try:
        findings = _write(config, ended, death)
        if speech.file is not None and not config.check_steps:
            print_summary(load(config.folder), findings, file=speech.file)
    except Exception as error:
        speech.trouble(f"no summary, {type(error).__name__}: {error}")
        return 1 if config.strict else None
    if config.strict and speech.troubles:
        return 1
    if config.fail_on is None:
        return None
    limit = SEVERITIES.index(config.fail_on)  # pyright: ignore[reportArgumentType]
    worst = max((SEVERITIES.index(each.severity) for each in findings.symptoms), default=-1)
    return EXIT_FINDINGS if worst >= limit else None


def _wait_for_others(watched: Watched) -> None:
    """Wait until the other processes of the run are written, as far as they end in time."""
    until = time.monotonic() + _OTHERS_S
    while time.monotonic() < until:
        others = 0
        for place in channels_of(watched.config.folder):
            try:
                process = watched_of(place).process
            except (OSError, ValueError):
                continue  # removed meanwhile
            others += process != watched.process and not process.is_alive()
        if not others:
            return
        time.sleep(0.02)


def _write(config: RunConfig, ended: Ended | None, death: Death | None) -> Findings:
    """Note how the run ended, and write what its record says."""
    exit_info = RunExit(
        exception=None if ended is None else ended.exception,
        killed=None if death is None else death.as_text(),
    )
    update_run_info(
        config.folder, ended=datetime.now(UTC).isoformat(timespec="seconds"), exit=exit_info
    )
    findings = load(config.folder).findings
    write_json(config.folder / "findings.json", findings_json(findings))
    return findings
