"""One process being watched: recorder, record, detectors and treatments put together."""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gainstage.attach.check.script_check import ScriptCheck
from gainstage.attach.fault.unseen_loss import Scope
from gainstage.attach.hooks import attach
from gainstage.attach.live_sinks import LiveSinks
from gainstage.attach.record.protection import Protection
from gainstage.attach.record.recorder import Recorder
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.attach.startup.config import RunConfig
from gainstage.blackbox.write import BlackBox, FaultTensors
from gainstage.detect import scan
from gainstage.detect.symptom_json import message_of, symptom_json
from gainstage.errors import GainstageError, RunFolderError
from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.fault import Fault
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.symptom import Symptom
from gainstage.facts.tensor import TensorInfo
from gainstage.graph.sites.site_map import SiteMap
from gainstage.store.folder import claim_rank, update_run_info
from gainstage.store.journal import append_line
from gainstage.store.sites import append_fault, append_observation, write_sites
from gainstage.store.writer import StepWriter
from gainstage.treat.guard.guard import Guard
from gainstage.treat.guard.spec import parse_guard
from gainstage.treat.make import make
from gainstage.treat.pipeline import TreatmentPipeline
from gainstage.treat.treatment import Treatment, parse

if TYPE_CHECKING:
    from gainstage.show.live import LivePanel

_ALARMS_PRINTED = 3
_GRAPH_SHARE = 0.6
"""Part of the overhead budget that reading graphs may use."""
_GUARD_EVENTS_JOURNALED = 100
"""Of each kind; how many there were in all stands in the line that ends the run."""

active: Session | None = None
"""The session of this process, while it is attached."""


class Session:
    """Watches this process until it is closed. A forked child gets a record of its own."""

    def __init__(self, config: RunConfig, *, is_run: bool) -> None:
        """Prepare to watch; nothing is hooked or written before `attach` and the first step.

        Args:
            config: The run's options.
            is_run: Whether `gainstage run` started the process, which then is watched to its end.
        """
        self.config = config
        self.is_run = is_run
        self.faults: list[str] = []
        self.detach: Callable[[], None] | None = None
        self._reset()
        # What is registered stays for good; it must not keep a session that has ended.
        alive = weakref.WeakMethod(self._after_fork)

        def after_fork() -> None:
            method = alive()
            if method is not None:
                method()

        os.register_at_fork(after_in_child=after_fork)

    def _reset(self) -> None:
        self.pid = os.getpid()
        self.rank: int | None = None
        self.treatments: list[Treatment] = [make(parse(text)) for text in self.config.treat]
        self._specs = list(self.config.treat)
        blackbox = BlackBox(
            place=lambda: (self.config.folder, self.rank or 0),
            limit_bytes=self.config.blackbox_limit_bytes,
            warn=self._on_warning,
        )
        guard = parse_guard(self.config.guard)
        self.guard = None if guard is None else Guard(guard, self._on_guard)
        self.protection = Protection(blackbox, self.guard)
        self._guard_events: Counter[str] = Counter()
        if guard is not None and self.guard is not None:
            self.treatments.append(self.guard)
            self._specs.append(f"guard {guard.as_text()}")
        self._writer: StepWriter | None = None
        self._state: scan.ScanState | None = None
        self._alarms: set[str] = set()
        self._new_sites: SiteMap | None = None
        self._faults: deque[Fault] = deque()
        self._observations: deque[Observation[Observed]] = deque()
        self._panel: LivePanel | None = None
        self._sinks: LiveSinks | None = None
        self._notes_said = 0

    @property
    def is_main(self) -> bool:
        """Tell whether this process runs the script itself."""
        return os.getpid() == self.config.main_pid

    def attach(self, model: nn.Module | None = None) -> None:
        """Hook into torch."""
        global active
        active = self
        self.recorder = Recorder(
            self._open,
            model=model,
            treatments=self.treatments,
            budget=self.config.budget,
            on_fault=self._on_fault,
            graph=GraphWatch(
                self,
                share=self.config.budget * _GRAPH_SHARE,
                model=model,
                deep_compiled=self.config.deep_compiled,
            ),
        )
        self.recorder.judge.protection = self.protection
        self._begin_check()
        self.detach = self._attach_all()
        if self.recorder.graph is not None:
            self.recorder.graph.begin()

    def _begin_check(self) -> None:
        self.check: ScriptCheck | None = None
        if self.config.check_steps:
            self.check = ScriptCheck(self.config.check_steps, self.config.folder, self.close)
            self.recorder.judge.check = self.check
            if self.recorder.graph is not None:
                self.recorder.graph.is_thorough = True

    def _attach_all(self) -> Callable[[], None]:
        with ExitStack() as undo:
            undo.callback(attach(self.recorder))
            undo.callback(self.recorder.treatments.attach(self.recorder.script))
            return undo.pop_all().close
        raise AssertionError("unreachable")

    def close(self, scopes: Iterable[Scope] = ()) -> None:
        """Take the hooks out and write what is still in memory. A second call does nothing.

        Args:
            scopes: The script's variables, among which the loss may be that made it stop.
        """
        global active
        if self.pid != os.getpid():
            return
        if self.detach is not None:
            self.recorder.look_at_last(scopes)
        if active is self:
            active = None
        if self.detach is not None:
            self.detach()
            self.detach = None
            if self.recorder.graph is not None:
                self.recorder.graph.end()
            self.recorder.finish()
            if self.check is not None and self.recorder.step and not self.rank:
                self.check.write(self.recorder.name_of)
            self.recorder.retire()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            graph = self.recorder.graph
            if graph is not None and self.rank == 0:
                self._note(held_bytes=graph.faults.most_bytes_held)
            self._draw(lambda panel: panel.close())
            self._close_sinks()
            self._say_notes()
            self._journal_treatments("ended")

    def _note(self, **facts: Any) -> None:
        try:
            update_run_info(self.config.folder, **facts)
        except RunFolderError as error:
            self.faults.append(str(error))  # told already by who writes the record

    def _close_sinks(self) -> None:
        if self._sinks is not None:
            self._sinks.close()
            if not self._sinks.is_complete:
                self.faults.append("a sink was dropped")

    def flush(self) -> None:
        """Write what the training thread has handed over so far."""
        if self._writer is not None:
            self._writer.flush()

    # The training thread

    def _open(self, tensors: Sequence[TensorInfo]) -> StepWriter:
        folder = self.config.folder
        self.rank = claim_rank(folder, _own_rank())
        self._state = scan.start(tensors)
        if self.is_main or self.rank == 0:
            update_run_info(folder, torch=torch.__version__, threads=torch.get_num_threads())
        self._journal_treatments("started")
        if self.config.live and self.is_main:
            from gainstage.show.live import LivePanel

            try:
                self._panel = LivePanel(sys.stderr, os.path.basename(sys.argv[0]))
            except (OSError, ValueError) as error:
                self._on_warning(f"no live panel: {error}")
        if self.config.sinks and self.rank == 0:
            self._sinks = LiveSinks(self.config.sinks, folder, warn=self._on_warning)
        self._writer = StepWriter(
            folder, self.rank, tensors, warn=self._on_warning, listener=self._on_block
        )
        if not self.is_main:
            _close_with_process(self)
        return self._writer

    def on_sites(self, sites: SiteMap) -> None:
        """Note that a graph of another shape was seen; the writer's thread puts it on disk."""
        self._new_sites = sites

    def on_profile(self, profile: Callable[[], tuple[ProfileBlock, TimeBlock]]) -> None:
        """Queue the levels of a sampled backward call."""
        if self._writer is not None:
            self._writer.append_profile(profile)

    def on_fault(self, fault: Fault, tensors: FaultTensors | None) -> None:
        """Put the first wrong operation of a step on disk, before the optimizer steps."""
        self._faults.append(fault)
        if tensors is not None:
            self.protection.note_fault(fault, tensors)
        try:
            append_fault(self.config.folder, self.rank or 0, fault)
        except OSError as error:
            self._on_warning(f"the fault of step {fault.step} was not written: {error}")

    def on_observation(self, observation: Observation[Observed]) -> None:
        """Note something that the script does; the writer's thread puts it on disk."""
        self._observations.append(observation)

    def _journal_treatments(self, event: str) -> None:
        for spec, treatment in zip(self._specs, self.treatments, strict=True):
            line: dict[str, Any] = {
                "event": event,
                "rank": self.rank,
                "treat": spec,
                "remedy": treatment.remedy,
                "settings": treatment.settings(),
                "step": self.recorder.step,
                "touched": treatment.touched,
            }
            if treatment.notes:
                line["notes"] = treatment.notes
            if treatment.details:
                line["details"] = treatment.details
            self._journal(line)

    def _journal(self, line: dict[str, Any]) -> None:
        try:
            append_line(self.config.folder / "treatments.jsonl", line)
        except OSError as error:
            self._on_warning(f"treatments.jsonl not written: {error}")

    def _on_guard(self, event: str, step: int, message: str, **details: Any) -> None:
        """Say what the guard did: once a kind to people, and to the record until it is told."""
        self._guard_events[event] += 1
        guard = self.guard
        if guard is None or self._guard_events[event] > _GUARD_EVENTS_JOURNALED:
            return
        line = {
            "event": event,
            "rank": self.rank,
            "treat": self._specs[-1],
            "remedy": guard.remedy,
            "step": step,
            "time": time.time(),
            "message": message,
            **details,
        }
        self._journal(line)
        if self._guard_events[event] == 1:
            rank = f" rank {self.rank}" if self.rank else ""
            _print_line(f"gainstage:{rank} step {step}: {event} by {self._specs[-1]}: {message}")
        if event == "stopped":
            self._rescue()

    def _rescue(self) -> None:
        """Make a checkpoint of the black box, as a guard is about to end the process."""
        from gainstage.blackbox.rescue import rescue

        try:
            made = rescue(self.config.folder, rank=self.rank)
        except GainstageError as error:
            self._on_warning(f"no checkpoint was made: {error}")
        else:
            _print_line(f"gainstage: wrote {made.path}, the state before step {made.step}")

    def _say_notes(self) -> None:
        """Print what treatments have to tell that has not been told."""
        notes = [note for treatment in self.treatments for note in tuple(treatment.notes)]
        for note in notes[self._notes_said :]:
            self._notes_said += 1
            _print_line(f"gainstage: {note}")

    def _on_fault(self, error: BaseException) -> None:
        where = type(error).__name__
        self._on_warning(f"a fault of gainstage's own, so watching ended: {where}: {error}")
        if self.check is not None:
            self.check.stop(1)
        if self.config.strict:
            raise GainstageError(f"{where} in gainstage: {error}") from error

    def _on_warning(self, message: str) -> None:
        self.faults.append(message)
        _print_line(f"gainstage: {message}")

    # The writer's thread

    def _on_block(
        self,
        block: StepBlock,
        weights: WeightBlock | None,
        profiles: Sequence[tuple[ProfileBlock, TimeBlock]],
    ) -> None:
        seen = self._write_sites()
        writer = self._writer
        if self._state is None or writer is None:
            return
        scan.see(self._state, profiles, self._take_faults(), seen)
        self._state, changed = scan.update(self._state, block, weights, writer.tensors)
        for symptom in sorted(changed, key=lambda each: each.step):
            line = symptom_json(symptom) | ({"rank": self.rank} if self.rank else {})
            append_line(self.config.folder / "symptoms.jsonl", line)
            self._alarm(symptom)
        graph = self.recorder.graph
        if graph is not None and any(symptom.severity != "info" for symptom in changed):
            graph.on_danger(self.recorder.step)
        self._say_notes()
        self._draw(lambda panel: panel.update(writer.tensors, block, changed))
        if self._sinks is not None:
            self._sinks.take(writer.tensors, block, changed)

    def _write_sites(self) -> list[Observation[Observed]]:
        """Put new sites and observations on disk, and return these."""
        seen: list[Observation[Observed]] = []
        sites, self._new_sites = self._new_sites, None
        if sites is not None:
            write_sites(self.config.folder, self.rank or 0, sites.sites, sites.graphs())
        while self._observations:
            seen.append(self._observations.popleft())
            append_observation(self.config.folder, self.rank or 0, seen[-1])
        return seen

    def _take_faults(self) -> list[Fault]:
        return [self._faults.popleft() for _ in range(len(self._faults))]

    def _draw(self, draw: Callable[[LivePanel], None]) -> None:
        """Do something with the panel, where there is one; a terminal that is gone is let go."""
        if self._panel is None:
            return
        try:
            draw(self._panel)
        except (OSError, ValueError) as error:
            self._panel = None
            self.faults.append(f"the live panel ended: {error}")

    def _alarm(self, symptom: Symptom) -> None:
        known = symptom.symptom in self._alarms or len(self._alarms) >= _ALARMS_PRINTED
        if symptom.severity != "critical" or known or self.config.check_steps:
            return
        self._alarms.add(symptom.symptom)
        rank = f" rank {self.rank}" if self.rank else ""
        _print_line(f"gainstage:{rank} step {symptom.step}: {message_of(symptom)}")

    # Children

    def _after_fork(self) -> None:
        """Begin anew in a forked child: threads and files of the parent are not the child's."""
        if self.detach is None:
            return
        treatments = self.treatments[: len(self.config.treat)]
        self._reset()
        # Their hooks in torch are the child's, too; a guard has none, and begins anew.
        self.treatments[: len(treatments)] = treatments
        for treatment in treatments:
            treatment.touched = 0
        self.recorder.forget()
        self.recorder.treatments = TreatmentPipeline(self.treatments)
        self.recorder.judge.protection = self.protection
        self._begin_check()


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _own_rank() -> int | None:
    """Return the rank that torch.distributed or its launcher has given this process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdigit() else None


def _close_with_process(session: Session) -> None:
    """Close the record when a child of multiprocessing ends, which runs no exit handlers."""
    module: Any = sys.modules.get("multiprocessing.util")
    if module is not None:
        module.Finalize(None, session.close, exitpriority=100)
