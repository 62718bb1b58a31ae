"""What all integrations do: watch one fit of a framework's trainer, and tell of it at its end."""

from __future__ import annotations

import atexit
import os
import socket
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from gainstage.attach import session as sessions
from gainstage.attach.startup.launch import run_info
from gainstage.attach.watch import Watch, watch_into
from gainstage.channel.config import RunConfig, observer_of
from gainstage.errors import ConfigError, RunFolderError
from gainstage.show.terminal import print_summary
from gainstage.store.folder import RUN_INFO, create_run_folder
from gainstage.store.reader import load
from gainstage.treat.guard.spec import parse_guard
from gainstage.treat.spec import parse

if TYPE_CHECKING:
    from gainstage.facts.findings import Findings


class FitWatch:
    """The watch of one fit at a time. Where the process is watched already it does nothing.

    Steps, norms and clips are read where `gainstage run` reads them, in torch itself: nothing of a
    framework's own is asked, so nothing is clipped or counted twice.
    """

    def __init__(
        self,
        who: str,
        *,
        out: str | os.PathLike[str] | None = None,
        treat: str | Sequence[str] = (),
        guard: str = "off",
        budget: float = 0.01,
    ) -> None:
        """Take the options; nothing is made or hooked before `begin`.

        Args:
            who: What the user has added to the trainer, to be named in messages.
            out: As `gainstage.watch` takes it, like the others.
            treat: Treatments.
            guard: What to do about gradients that are not finite.
            budget: Share of the training time that sampled reads may take.

        Raises:
            ConfigError: If a treatment or guard cannot be.
        """
        self._who = who
        self._out = None if out is None else Path(out)
        self._treat = (treat,) if isinstance(treat, str) else tuple(treat)
        for spec in self._treat:
            parse(spec)
        parse_guard(guard)
        self._guard = guard
        self._budget = budget
        self.watch: Watch | None = None
        """Of the fit in progress; after its end, of the last one."""
        self._pid: int | None = None
        """The process that is being watched; a forked child's end is not the fit's."""

    def begin(
        self,
        model: nn.Module | None = None,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
        *,
        all_ranks: bool = True,
    ) -> None:
        """Watch from here on, unless somebody does already.

        Args:
            model: Helps to name parameters.
            optimizer: Those that will step, where they exist.
            all_ranks: Whether each process of `torch.distributed` makes this call, so that they
                can agree on one folder.
        """
        self.end()  # a fit that ended by an error may not have told
        together = all_ranks and _many()
        folder = self._agreed_folder() if together else self._new_folder()
        active = sessions.active
        if active is None and folder is not None:
            self.join(folder, model, optimizer)
        elif active is not None and not (together and dist.get_rank()):
            asked = "; what it was to treat is not treated" if self._is_asked() else ""
            _say(
                f"{self._who} adds nothing, for this process is watched already, into "
                f"{active.config.folder}{asked}"
            )

    def join(
        self,
        folder: Path,
        model: nn.Module | None = None,
        optimizer: Optimizer | Iterable[Optimizer] | None = None,
    ) -> None:
        """Watch as one rank of the run in a folder that is made already, if it is there."""
        if not (folder / RUN_INFO).is_file():
            _say(
                f"not watching on {socket.gethostname()}, where the run's folder {folder} is not "
                "to be seen; name one with out= that all machines share"
            )
            return
        config = RunConfig(
            folder=folder,
            main_pid=os.getpid(),
            treat=self._treat,
            guard=self._guard,
            budget=self._budget,
            observer=observer_of(None),
        )
        # Optimizers of a training before may be alive; those that a framework names are all.
        self.watch = watch_into(config, model, optimizer, only_given=optimizer is not None)
        self._pid = os.getpid()
        # For a fit that ends by an error, of which not every framework tells its callbacks.
        atexit.register(self.end)

    def end(self) -> None:
        """Detach, close the record and print what it says. A second call does nothing."""
        if self.watch is None or self._pid != os.getpid():
            return
        self._pid = None
        atexit.unregister(self.end)
        try:
            self.watch.stop()
            if not (_many() and dist.get_rank()):
                run = load(self.watch.folder)
                print_summary(run, run.findings, file=sys.stderr)
        except Exception as error:  # the training has not failed because its record has
            _say(f"no summary, {type(error).__name__}: {error}")

    @property
    def findings(self) -> Findings:
        """What the record of the last fit says.

        Raises:
            ConfigError: If this has watched nothing.
        """
        if self.watch is None:
            raise ConfigError(f"{self._who} has watched nothing yet")
        return self.watch.findings

    def made_folder(self) -> Path:
        """Make a folder for a run of this script.

        Raises:
            RunFolderError: If it cannot be made.
        """
        script = sys.argv[0] or "python"
        name = os.path.basename(script) if os.path.isfile(script) else "notebook"
        info = run_info(name, sys.argv, treat=self._treat, guard=self._guard)
        return create_run_folder(self._out, info).resolve()

    def _new_folder(self) -> Path | None:
        return self.made_folder() if sessions.active is None else None

    def _agreed_folder(self) -> Path | None:
        """Return the folder that rank 0 has made, None where it is watched already.

        All processes take part, whatever their own state, or the others would wait for ever.
        """
        told: list[str | None] = [None, None]
        if dist.get_rank() == 0:
            try:
                folder = self._new_folder()
                told[0] = None if folder is None else str(folder)
            except RunFolderError as error:
                told[1] = str(error)
        dist.broadcast_object_list(told)
        where, failed = told
        if failed is not None:
            raise RunFolderError(failed)
        return None if where is None else Path(where)

    def _is_asked(self) -> bool:
        return bool(self._treat) or self._guard != "off"


class FitCallback:
    """What the callbacks of the frameworks share: their options, and the watch."""

    def __init__(
        self,
        *,
        out: str | os.PathLike[str] | None = None,
        treat: str | Sequence[str] = (),
        guard: str = "off",
        budget: float = 0.01,
    ) -> None:
        """Take the options of `gainstage.watch`.

        Raises:
            ConfigError: If a treatment or guard cannot be.
        """
        super().__init__()
        name = type(self).__name__
        self._fit = FitWatch(name, out=out, treat=treat, guard=guard, budget=budget)

    @property
    def watch(self) -> Watch | None:
        """The watch of the fit that goes on, or of the last one; None before the first."""
        return self._fit.watch


def _many() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _say(line: str) -> None:
    print(f"gainstage: {line}", file=sys.stderr, flush=True)
