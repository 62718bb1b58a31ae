"""One process being watched: recorder, graphs and treatments, and the link to their observer."""

from __future__ import annotations

import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gainstage.attach.fault.unseen_loss import Scope
from gainstage.attach.group_place import GroupPlace, place_in_group
from gainstage.attach.hooks import attach
from gainstage.attach.observer_link import ObserverLink
from gainstage.attach.record.protection import Protection
from gainstage.attach.record.recorder import Recorder
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.attach.treatment_log import TreatmentLog
from gainstage.blackbox.write import BlackBox, FaultTensors
from gainstage.channel.config import RunConfig
from gainstage.channel.events import Announced, Ended, Event, Lost, Opened, Sampled, SitesSeen
from gainstage.channel.sender import Sender
from gainstage.errors import GainstageError
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Fault
from gainstage.facts.observation import Observation, Observed, TensorsLeftOut
from gainstage.facts.rows import Row
from gainstage.facts.tensor import TensorInfo
from gainstage.graph.sites.site_map import SiteMap
from gainstage.readable import LEFT_OUT
from gainstage.store.folder import claim_rank
from gainstage.treat.guard.guard import Guard
from gainstage.treat.guard.spec import parse_guard
from gainstage.treat.make import make
from gainstage.treat.pipeline import TreatmentPipeline
from gainstage.treat.spec import parse
from gainstage.treat.treatment import Treatment

if TYPE_CHECKING:
    from gainstage.attach.check.script_check import ScriptCheck

_GRAPH_SHARE = 0.6
"""Part of the overhead budget that reading graphs may use."""
_EVENTS_HELD = 256
"""Of a process that has taken no step yet, and so has no channel."""

active: Session | None = None
"""The session of this process, while it is attached."""


class Session:
    """Watches one process. Everything else of the run is its observer's."""

    def __init__(self, config: RunConfig, *, is_run: bool) -> None:
        """Prepare to watch; nothing is hooked or written before `attach` and the first step.

        Args:
            config: The run's options.
            is_run: Whether `gainstage run` started the process, which then is watched to its end.
        """
        self.config = config
        self.is_run = is_run
        self.detach: Callable[[], None] | None = None
        self.faults: list[str] = []
        """What failed within gainstage in this process, in words."""
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
        self.world_size: int | None = None
        self._parents_place: GroupPlace | None = None
        self.treatments: list[Treatment] = [make(parse(text)) for text in self.config.treat]
        specs = list(self.config.treat)
        blackbox = BlackBox(
            place=lambda: (self.config.folder, self.rank or 0),
            limit_bytes=self.config.blackbox_limit_bytes,
            warn=self._on_warning,
        )
        guard = parse_guard(self.config.guard)
        self.guard = None if guard is None else Guard(guard, self._on_guard)
        self.protection = Protection(blackbox, self.guard)
        if guard is not None and self.guard is not None:
            self.treatments.append(self.guard)
            specs.append(f"guard {guard.as_text()}")
        self._log = TreatmentLog(specs, self.treatments, self._send)
        self._link: ObserverLink | None = None
        self._waiting: deque[Event] = deque(maxlen=_EVENTS_HELD)
        self._danger = 0
        LEFT_OUT.clear()

    @property
    def is_main(self) -> bool:
        """Tell whether this process runs the script itself."""
        return os.getpid() == self.config.main_pid

    def attach(self, model: nn.Module | None = None) -> None:
        """Hook into torch."""
        global active
        active = self
        if self.is_main:
            self._open_link()  # its observer begins while the script builds its model
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
            from gainstage.attach.check.script_check import ScriptCheck

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

    def close(
        self,
        scopes: Iterable[Scope] = (),
        *,
        exception: str | None = None,
        is_final: bool = True,
    ) -> int | None:
        """Take the hooks out and wait until all is written. A second call does nothing.

        Args:
            scopes: The script's variables, among which the loss may be that made it stop.
            exception: The error that ended the script.
            is_final: Whether the process ends too, and not only its watch.

        Returns:
            The exit code that the process is to end with, None for its own.
        """
        global active
        if self.pid != os.getpid():
            return None
        if self.detach is not None:
            self.recorder.look_at_last(scopes)
        if active is self:
            active = None
        held_bytes = None
        if self.detach is not None:
            self.detach()
            self.detach = None
            graph = self.recorder.graph
            if graph is not None:
                graph.end()
                held_bytes = graph.faults.most_bytes_held
            self.recorder.finish()
            if self.check is not None and self.recorder.step and not self.rank:
                self.check.write(self.recorder.name_of)
            self.recorder.retire()
        link, self._link = self._link, None
        if link is None:
            return None
        for reason, count in LEFT_OUT.items():
            left_out = TensorsLeftOut(reason=reason, count=count)
            link.sender.send(Observation(left_out, max(self.recorder.step - 1, 0)))
        if self.rank is not None:
            self._log.announce_notes(link.sender.send)
            self._log.journal("ended", self.rank, self.recorder.step, link.sender.send)
        return link.end(Ended(exception, held_bytes, is_final))

    def flush(self) -> None:
        """Have what was seen so far written."""
        if self._link is not None:
            self._link.flush()

    # What the training thread hands over

    def _open(self, tensors: Sequence[TensorInfo]) -> _Sink:
        folder = self.config.folder
        place = place_in_group()
        self.world_size = None if place is None else place.world_size
        # What a forked child has from its parent is the parent's: a number above all ranks is free.
        is_own = place is None or place != self._parents_place
        self.rank = claim_rank(folder, place.rank if place and is_own else self.world_size)
        sender = self._open_link().sender
        threads = torch.get_num_threads()
        sender.send(Opened(self.rank, torch.__version__, threads, self.world_size))
        self._log.journal("started", self.rank, self.recorder.step, sender.send)
        sender.set_tensors(tensors)
        if not self.is_main:
            _close_with_process(self)
        return _Sink(self, sender)

    def _open_link(self) -> ObserverLink:
        if self._link is None:
            self._link = ObserverLink.open(self.config, is_run=self.is_run)
            while self._waiting:
                self._link.sender.send(self._waiting.popleft())
        return self._link

    def _send(self, event: Event) -> None:
        if self._link is None:
            self._waiting.append(event)
        else:
            self._link.sender.send(event)

    def look_after_row(self, danger: int) -> None:
        """Do what the observer asks for: a look at every step for a while, or none any more."""
        if danger != self._danger:
            self._danger = danger
            if self._link is not None and self._link.sender.control.is_dead:
                raise GainstageError("its observer has ended")
            if self.recorder.graph is not None:
                self.recorder.graph.on_danger(self.recorder.step)
        if self.treatments:
            self._log.announce_notes(self._send)

    def on_sites(self, sites: SiteMap) -> None:
        """Hand over the sites anew: a graph of another shape was seen."""
        graphs = tuple(tuple(numbers) for numbers in sites.graphs())
        self._send(SitesSeen(tuple(sites.sites), graphs))

    def on_profile(self, profile: Callable[[], tuple[ProfileBlock, TimeBlock]]) -> None:
        """Hand over the levels of a sampled backward call."""
        self._send(Sampled(*profile()))

    def on_fault(self, fault: Fault, tensors: FaultTensors | None) -> None:
        """Hand over the first wrong operation of a step, before the optimizer steps."""
        if tensors is not None:
            self.protection.note_fault(fault, tensors)
        self._send(fault)

    def on_observation(self, observation: Observation[Observed]) -> None:
        """Hand over something that the script does."""
        self._send(observation)

    def _on_guard(self, event: str, step: int, message: str, **details: Any) -> None:
        if self.guard is None:
            return
        remedy, size = self.guard.remedy, self.world_size
        self._log.on_guard(event, self.rank, size, step, message, remedy, details)
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
            line = f"gainstage: wrote {made.path}, the state before step {made.step}"
            self._send(Announced(line))

    def _on_fault(self, error: BaseException) -> None:
        where = type(error).__name__
        self._on_warning(f"a fault of gainstage's own, so watching ended: {where}: {error}")
        if self.check is not None:
            self.check.stop(1)
        if self.config.strict:
            raise GainstageError(f"{where} in gainstage: {error}") from error

    def _on_warning(self, message: str) -> None:
        self.faults.append(message)
        if self._link is None and not self.is_main:
            _print_line(f"gainstage: {message}")
        self._send(Lost(message))

    # Children

    def _after_fork(self) -> None:
        """Begin anew in a forked child: the channel of the parent is not the child's."""
        if self.detach is None:
            return
        treatments = self.treatments[: len(self.config.treat)]
        self._reset()
        self._parents_place = place_in_group()
        # Their hooks in torch are the child's, too; a guard has none, and begins anew.
        self.treatments[: len(treatments)] = treatments
        for treatment in treatments:
            treatment.touched = 0
        self.recorder.forget()
        self.recorder.treatments = TreatmentPipeline(self.treatments)
        self.recorder.judge.protection = self.protection
        self._begin_check()


class _Sink:
    """Where the rows of a session go: into its ring, with a look at what the observer asks for."""

    def __init__(self, session: Session, sender: Sender) -> None:
        self.append_weights = sender.append_weights
        self.set_tensors = sender.set_tensors
        self._session = session
        self._sender = sender
        self._danger_word = sender.control.danger_word
        self._danger = 0

    def append(self, row: Row) -> None:
        """Write the row of one step. Runs on every step."""
        self._sender.append(row)
        danger = self._danger_word[0]
        if danger != self._danger or self._session.treatments:
            self._danger = danger
            self._session.look_after_row(danger)


def _print_line(line: str) -> None:
    """Print a line where no observer will, if the stream can be written."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        return


def _close_with_process(session: Session) -> None:
    """Close the record when a child of multiprocessing ends, which runs no exit handlers."""
    module: Any = sys.modules.get("multiprocessing.util")
    if module is not None:
        module.Finalize(None, session.close, exitpriority=100)
