"""What treatments report: lines of treatments.jsonl, and notes for people."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gainstage.channel.events import Announced, Event, TreatmentLine
from gainstage.facts.run_info import name_of_process
from gainstage.treat.treatment import Treatment

_GUARD_EVENTS_JOURNALED = 100
"""Of each kind; how many there were in all stands in the line that ends the run."""

Send = Callable[[Event], None]


class TreatmentLog:
    """The treatments of one process, and what of them was told already."""

    def __init__(self, specs: Sequence[str], treatments: Sequence[Treatment], send: Send) -> None:
        """Take the treatments, in the order in which they act.

        Args:
            specs: As they were asked for, one for each treatment.
            treatments: The treatments; the list is shared with whoever replaces one.
            send: Takes what a guard does, at once.
        """
        self._specs = specs
        self._treatments = treatments
        self._send = send
        self._guard_events: Counter[str] = Counter()
        self._notes_told = 0

    def journal(self, event: str, rank: int, step: int, send: Send) -> None:
        """Send a line for each treatment, as the run begins or ends."""
        for spec, treatment in zip(self._specs, self._treatments, strict=True):
            line: dict[str, Any] = {
                "event": event,
                "rank": rank,
                "treat": spec,
                "remedy": treatment.remedy,
                "settings": treatment.settings(),
                "step": step,
                "touched": treatment.touched,
            }
            if treatment.notes:
                line["notes"] = list(treatment.notes)
            if treatment.details:
                line["details"] = treatment.details
            send(TreatmentLine(line))

    def on_guard(
        self,
        event: str,
        rank: int | None,
        world_size: int | None,
        step: int,
        message: str,
        remedy: str,
        details: Mapping[str, Any],
    ) -> None:
        """Report what the guard did: the first of a kind to people, a hundred to the record."""
        self._guard_events[event] += 1
        if self._guard_events[event] > _GUARD_EVENTS_JOURNALED:
            return
        line = {
            "event": event,
            "rank": rank,
            "treat": self._specs[-1],
            "remedy": remedy,
            "step": step,
            "time": time.time(),
            "message": message,
            **details,
        }
        self._send(TreatmentLine(line))
        if self._guard_events[event] == 1:
            name = f" {name_of_process(rank, world_size)}" if rank else ""
            said = f"gainstage:{name} step {step}: {event} by {self._specs[-1]}: {message}"
            self._send(Announced(said))

    def announce_notes(self, send: Send) -> None:
        """Send what treatments have to say and have not said yet."""
        notes = [note for treatment in self._treatments for note in tuple(treatment.notes)]
        for note in notes[self._notes_told :]:
            self._notes_told += 1
            send(Announced(f"gainstage: {note}"))
