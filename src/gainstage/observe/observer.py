"""The drain of one channel: what comes through it goes onto the disk and into the detectors.

One object with two hosts: a process of its own (`observe/__main__.py`), or a thread of the
script's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from gainstage.channel.control import Control
from gainstage.channel.events import (
    Announced,
    Ended,
    Event,
    Lost,
    Opened,
    Sampled,
    SitesSeen,
    TreatmentLine,
    decode,
)
from gainstage.channel.place import ChannelPlace, Watched, remove_channel
from gainstage.channel.row_reader import RowReader, Slots
from gainstage.detect import scan
from gainstage.detect.symptom_json import message_of, symptom_json
from gainstage.errors import RunFolderError
from gainstage.facts.blocks import ProfileBlock, StepBlock, TimeBlock
from gainstage.facts.fault import Fault
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.run_info import name_of_process
from gainstage.facts.symptom import Symptom
from gainstage.observe.blocks import blocks_of
from gainstage.observe.ending import conclude
from gainstage.observe.life import Death
from gainstage.observe.live_panel import LivePanel
from gainstage.observe.sinks import LiveSinks
from gainstage.observe.speech import Speech
from gainstage.observe.writer import StepWriter
from gainstage.store.folder import update_run_info
from gainstage.store.journal import append_line
from gainstage.store.sites import append_fault, append_observation, write_sites

_ALARMS_PRINTED = 3

Graphs = list[tuple[ProfileBlock, TimeBlock]]


class Observer:
    """Reads one channel to its end."""

    def __init__(
        self, place: ChannelPlace, watched: Watched, control: Control, speech: Speech
    ) -> None:
        """Take a channel.

        Args:
            place: Its folder.
            watched: The run's options, and the process at the other end.
            control: Its words and events.
            speech: Where lines for people go.
        """
        self._place = place
        self._watched = watched
        self._config = watched.config
        self._control = control
        self._speech = speech
        self._ring: RowReader | None = None
        self._rings_read = 0
        self._lost_rows = 0
        self._rank = 0
        self._world_size: int | None = None
        self._writer: StepWriter | None = None
        self._state: scan.ScanState | None = None
        self._graphs: Graphs = []
        self._faults: list[Fault] = []
        self._observations: list[Observation[Observed]] = []
        self._alarms: set[str] = set()
        self._panel: LivePanel | None = None
        self._sinks: LiveSinks | None = None
        self.ended: Ended | None = None
        """What the process said last; None while it runs, or where it could say nothing."""

    @property
    def has_work(self) -> bool:
        """Whether something waits that is worth writing at once."""
        control = self._control
        return control.has_events or control.flush_asked != control.flushed

    def poll(self) -> None:
        """Take what has come since the last call, write it, and look at it."""
        control = self._control
        request = control.flush_asked
        rings = control.rings
        self._open_ring()
        limit = self._ring.head() if self._ring is not None else None
        # What an event tells of a step was sent before the row of that step: events go first.
        for data in control.events():
            try:
                self._handle(decode(data))
            except ValueError as error:
                self._speech.trouble(f"an event was left out: {error}")
        self._open_ring()
        while self._ring is not None:
            is_last = self._rings_read == rings
            self._take(self._ring.take(limit if is_last else None))
            if not self._ring.is_done or not self._go_on():
                break
            limit = None
        control.flushed = request

    def end(self, death: Death | None = None) -> None:
        """Write what is left, then the findings if this is the main process's observer.

        Args:
            death: How the process ended, where it did not say so itself.
        """
        self.poll()
        self._lost_rows += self._ring.lost if self._ring is not None else 0
        if self._writer is not None:
            self._writer.close(lost=self._lost_rows)
        if self._control.dropped:
            self._speech.trouble(
                f"{self._control.dropped} rare events found no room on their way to the record"
            )
        if self._panel is not None:
            self._draw(LivePanel.close)
        if self._sinks is not None:
            self._sinks.close()
            if not self._sinks.is_complete:
                self._speech.troubles.append("a sink was dropped")
        code = conclude(self._watched, self._speech, self.ended, death)
        remove_channel(self._place, self._config.folder, self._watched.process.pid)
        self._control.end(code)

    # Rows

    def _open_ring(self) -> None:
        if self._ring is None and self._control.rings > self._rings_read:
            self._go_on()

    def _go_on(self) -> bool:
        """Go on to the next ring, if there is one."""
        if self._control.rings <= self._rings_read:
            return False
        if self._ring is not None:
            self._lost_rows += self._ring.lost
        self._ring = RowReader(self._place.rows(self._rings_read))
        self._rings_read += 1
        if self._writer is not None:
            self._writer.tensors = self._ring.tensors
        return True

    def _take(self, slots: Slots) -> None:
        writer = self._writer_of()
        if writer is None:
            return
        block, weights = blocks_of(slots)
        graphs, self._graphs = self._graphs, []
        faults, self._faults = self._faults, []
        observations, self._observations = self._observations, []
        if not (len(block) or len(weights) or graphs or faults or observations):
            return
        writer.write(block, weights, graphs)
        if self._state is None:
            return
        try:
            scan.see(self._state, graphs, faults, observations)
            state, changed = scan.update(self._state, block, weights, writer.tensors)
            self._state = state
            self._report(block, changed)
        except Exception as error:
            self._state = None
            self._speech.trouble(f"live findings stopped, {type(error).__name__}: {error}")

    def _writer_of(self) -> StepWriter | None:
        """Return the writer, made once the first ring is there."""
        if self._writer is None and self._ring is not None:
            tensors = self._ring.tensors
            self._writer = StepWriter(
                self._config.folder, self._rank, tensors, warn=self._speech.trouble
            )
            self._state = scan.start(tensors)
        return self._writer

    def _report(self, block: StepBlock, changed: Sequence[Symptom]) -> None:
        for symptom in sorted(changed, key=lambda each: each.step):
            line = symptom_json(symptom) | ({"rank": self._rank} if self._rank else {})
            self._write(
                "symptoms.jsonl",
                lambda folder, line=line: append_line(folder / "symptoms.jsonl", line),
            )
            self._alarm(symptom)
        if any(symptom.severity != "info" for symptom in changed):
            self._control.raise_danger()
        assert self._writer is not None
        tensors = self._writer.tensors
        self._draw(lambda panel: panel.update(tensors, block, changed))
        if self._sinks is not None:
            self._sinks.take(tensors, block, changed)

    # Events

    def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            self._open(event)
        elif isinstance(event, Sampled):
            self._graphs.append((event.profile, event.times))
        elif isinstance(event, Fault):
            self._faults.append(event)
            self._write("faults", lambda folder: append_fault(folder, self._rank, event))
        elif isinstance(event, Observation):
            self._observations.append(event)
            write = append_observation
            self._write("observations", lambda folder: write(folder, self._rank, event))
        elif isinstance(event, SitesSeen):
            self._write(
                "sites", lambda folder: write_sites(folder, self._rank, event.sites, event.graphs)
            )
        elif isinstance(event, TreatmentLine):
            path = self._config.folder / "treatments.jsonl"
            self._write("treatments.jsonl", lambda _: append_line(path, event.line))
        elif isinstance(event, Announced):
            self._speech.line(event.text)
        elif isinstance(event, Lost):
            self._speech.trouble(event.text)
        else:
            self.ended = event
            self._note_held(event)

    def _open(self, event: Opened) -> None:
        self._rank, self._world_size = event.rank, event.world_size
        if self._watched.is_main or self._rank == 0:
            size = {} if event.world_size is None else {"world_size": event.world_size}
            self._note(torch=event.torch, threads=event.threads, **size)
        if self._config.live and self._watched.is_main and self._speech.file is not None:
            try:
                self._panel = LivePanel(self._speech.file, self._watched.script)
            except (OSError, ValueError) as error:
                self._speech.trouble(f"no live panel: {error}")
        if self._config.sinks and self._rank == 0:
            folder, warn = self._config.folder, self._speech.trouble
            self._sinks = LiveSinks(self._config.sinks, folder, warn=warn)

    def _note_held(self, event: Ended) -> None:
        if event.held_bytes is not None and self._rank == 0:
            self._note(held_bytes=event.held_bytes)

    def _note(self, **facts: object) -> None:
        try:
            update_run_info(self._config.folder, **facts)
        except RunFolderError as error:
            self._speech.troubles.append(str(error))  # said already by whoever writes the record

    def _write(self, what: str, write: Callable[[Path], object]) -> None:
        try:
            write(self._config.folder)
        except OSError as error:
            self._speech.trouble(f"{what} not written: {error}")

    # People

    def _alarm(self, symptom: Symptom) -> None:
        known = symptom.symptom in self._alarms or len(self._alarms) >= _ALARMS_PRINTED
        if symptom.severity != "critical" or known or self._config.check_steps:
            return
        self._alarms.add(symptom.symptom)
        name = f" {name_of_process(self._rank, self._world_size)}" if self._rank else ""
        self._speech.line(f"gainstage:{name} step {symptom.step}: {message_of(symptom)}")

    def _draw(self, draw: Callable[[LivePanel], None]) -> None:
        """Do something with the panel, where there is one; a terminal that is gone is let go."""
        if self._panel is None:
            return
        try:
            draw(self._panel)
        except (OSError, ValueError) as error:
            self._panel = None
            self._speech.troubles.append(f"the live panel ended: {error}")
