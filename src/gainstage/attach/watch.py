"""`gainstage.watch`: the same as `gainstage run`, inside a script or notebook."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from gainstage.attach import session as sessions
from gainstage.attach.fault.unseen_loss import scopes_of
from gainstage.attach.session import Session
from gainstage.attach.startup.launch import run_info
from gainstage.channel.config import RunConfig, observer_of, size_bytes
from gainstage.errors import ConfigError
from gainstage.store.folder import create_run_folder, update_run_info
from gainstage.treat.guard.spec import parse_guard
from gainstage.treat.spec import parse

if TYPE_CHECKING:
    from gainstage.facts.findings import Findings
    from gainstage.show.notebook import Run


class Watch:
    """A training being watched, until `stop` or the end of the `with` block."""

    def __init__(self, session: Session, *, owner: bool = True) -> None:
        self._session = session
        self._owner = owner
        self.folder: Path = session.config.folder
        """The run's folder."""

    def stop(self) -> None:
        """Detach from torch without a trace and close the record. A second call does nothing."""
        if not self._owner:
            return
        self._session.close(scopes_of(sys._getframe()), is_final=False)
        if self.folder.is_dir():
            update_run_info(self.folder, ended=datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def run(self) -> Run:
        """The record so far, up to the last second."""
        from gainstage.show.notebook import load

        self._session.flush()
        return load(self.folder)

    @property
    def findings(self) -> Findings:
        """What the record says so far."""
        return self.run.findings

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        line = f"Watch(folder={str(self.folder)!r}, step={self._session.recorder.step})"
        if not self.folder.is_dir():
            return line
        from gainstage.show.notebook import plain_text

        return f"{line}\n{plain_text(self.run)}"

    def _repr_html_(self) -> str:
        """Return what the record says so far, as Jupyter shows it."""
        from gainstage.show.notebook import markup

        return markup(self.run)


def watch(
    model: nn.Module | None = None,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    treat: str | Iterable[str] = (),
    guard: str = "off",
    blackbox_limit: str = "1GB",
    budget: float = 0.01,
    deep_compiled: bool = False,
    strict: bool = False,
    observer: str | None = None,
) -> Watch:
    """Watch the training that this process does from here on: what `gainstage run` does.

    Every backward call and optimizer step of the process is seen, also of other models. Call it
    before the training loop; use it as a context manager, or call `stop()` at the end.

    Args:
        model: Helps to name parameters whose module no variable of the caller holds.
        optimizer: The optimizers that will step. Those alive are found by themselves.
        out: The run's folder; `gainstage-runs/<time>-<script>` where not given.
        treat: Treatments as `--treat` takes them, such as `"clip-global-norm:max_norm=1"`.
        guard: What to do about gradients that are not finite, as `--guard` takes it; `stop` raises
            `SystemExit(3)`.
        blackbox_limit: Size of the black box at most, as `--blackbox-limit` takes it.
        budget: Share of the training time that sampled reads may take.
        deep_compiled: Run compiled code eagerly on sampled steps, as `--deep-compiled` does.
        strict: Raise on a fault of gainstage's own, instead of one warning.
        observer: Where the record is written: in a `process` of its own, or in a `thread` of this
            one. None for what GAINSTAGE_OBSERVER says, else a process.

    Returns:
        The watch; `.run` and `.findings` tell what was seen so far.

    Raises:
        ConfigError: If a treatment cannot be, or this process is being watched already.
        RunFolderError: If `out` cannot be made or holds something else.

    Example:
        >>> with gainstage.watch(model, optimizer) as watch:  # doctest: +SKIP
        ...     train(model, optimizer)
        >>> watch.findings.verdict  # doctest: +SKIP
        'healthy'
    """
    if sessions.active is not None:
        return _of_the_run(sessions.active)
    specs = _checked(treat, guard)
    config = RunConfig(
        main_pid=os.getpid(),
        treat=specs,
        guard=guard,
        blackbox_limit_bytes=size_bytes(blackbox_limit),
        budget=budget,
        deep_compiled=deep_compiled,
        strict=strict,
        observer=observer_of(observer),
        folder=_new_folder(out, specs, guard),  # last: a wrong option makes none
    )
    return watch_into(config, model, optimizer)


def _of_the_run(session: Session) -> Watch:
    """Return the watch of a process that `gainstage run` watches already.

    Raises:
        ConfigError: If it is another `watch` that does.
    """
    if not session.is_run:
        raise ConfigError(
            f"this process is watched already, into {session.config.folder}; stop that first"
        )
    return Watch(session, owner=False)


def _checked(treat: str | Iterable[str], guard: str) -> tuple[str, ...]:
    """Return the treatments as specs.

    Raises:
        ConfigError: If one of them, or the guard, cannot be.
    """
    specs = (treat,) if isinstance(treat, str) else tuple(treat)
    for spec in specs:
        if parse(spec).remedy == "code-change":
            raise ConfigError(
                f"treat={spec!r}: only `gainstage run` can start a script with another text"
            )
    parse_guard(guard)
    return specs


def _new_folder(out: str | os.PathLike[str] | None, specs: tuple[str, ...], guard: str) -> Path:
    script = sys.argv[0] or "python"
    name = os.path.basename(script) if os.path.isfile(script) else "notebook"
    info = run_info(name, sys.argv, treat=specs, guard=guard)
    return create_run_folder(None if out is None else Path(out), info).resolve()


def watch_into(
    config: RunConfig,
    model: nn.Module | None = None,
    optimizer: Optimizer | Iterable[Optimizer] | None = None,
    *,
    only_given: bool = False,
) -> Watch:
    """Watch this process into a folder that is made already: as one rank of the run there.

    Args:
        config: The run's options.
        model: As `watch` takes it, like the next.
        optimizer: Optimizers that will step.
        only_given: Do not look for others that are alive, such as those of a training before.
    """
    session = Session(config, is_run=False)
    session.attach(model)
    given = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer or ())
    if not only_given:
        given += _optimizers_alive(given)
    for each in {id(each): each for each in given}.values():
        session.recorder.on_optimizer(each)
        session.recorder.on_parameters(each)
    return Watch(session)


def _optimizers_alive(given: Iterable[Optimizer]) -> list[Optimizer]:
    """Return the optimizers of the process; one that waits for the garbage collector is none.

    A notebook's cell that is run anew leaves its old model and optimizer behind like that.
    """
    known = {id(each) for each in given}

    def found() -> list[Optimizer]:
        return [each for each in gc.get_objects() if issubclass(type(each), Optimizer)]

    if any(id(each) not in known for each in found()):
        gc.collect()
    return found()
