"""gainstage within a watched process: from the interpreter's start to its exit.

Importing this costs next to nothing: it runs in every Python process that a script starts.
"""

from __future__ import annotations

import atexit
import gc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, cast

from gainstage.channel.config import RunConfig, config_of

if TYPE_CHECKING:
    from gainstage.attach.session import Session

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def begin() -> None:
    """Watch this process, if it belongs to a run: as soon as it imports torch."""
    config = config_of()
    if config is None:
        return
    process = _Process(config)
    sys.meta_path.insert(0, _TorchFinder(process))
    sys.excepthook = process.on_uncaught
    # Registered before anything of the script's, so it runs after all of that.
    atexit.register(process.end)


class _Process:
    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.session: Session | None = None
        self.uncaught: str | None = None
        self.interrupted = False
        self.trace: TracebackType | None = None

    def on_torch(self) -> None:
        """Attach, now that torch has been imported."""
        # All that torch's import has left is looked at by a full collection: a fifth of a second,
        # which the many small objects of our own import would set off.
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            from gainstage.attach.session import Session
        finally:
            if was_collecting:
                gc.enable()
        try:
            self.session = Session(self.config, is_run=True)
            self.session.attach()
        except Exception as error:
            if self.config.strict:
                raise
            print(f"gainstage: not watching, {type(error).__name__}: {error}", file=sys.stderr)

    def on_uncaught(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Print the script's own traceback, without a frame of ours, and note the error."""
        self.uncaught = f"{kind.__name__}: {error}" if str(error) else kind.__name__
        self.interrupted = issubclass(kind, KeyboardInterrupt)
        trace = _without_ours(trace)
        error.__traceback__ = self.trace = trace
        sys.__excepthook__(kind, error, trace)

    def end(self) -> None:
        """Close the record; the observer of the script's own process then says what was seen."""
        is_main = os.getpid() == self.config.main_pid
        code: int | None = None
        try:
            if self.session is not None:
                from gainstage.attach.fault.unseen_loss import scopes_of, scopes_of_error

                trace, self.trace = self.trace, None
                scopes = [*scopes_of(None), *scopes_of_error(trace)]
                code = self.session.close(scopes, exception=self.uncaught)
            elif is_main:
                from gainstage.attach.observer_link import ObserverLink
                from gainstage.channel.events import Ended

                link = ObserverLink.open(self.config, is_run=True)
                code = link.end(Ended(self.uncaught))
        except Exception as error:
            if self.config.strict:
                raise
            print(f"gainstage: no record, {type(error).__name__}: {error}", file=sys.stderr)
        if not is_main or (code is None and not self.interrupted):
            return
        sys.stdout.flush()
        sys.stderr.flush()
        if code is not None:
            os._exit(code)
        # An interpreter that was interrupted ends by SIGINT, unless code in an exit handler (the
        # `eval` of a named tuple will do) has made it forget. This is the last handler.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


class _TorchFinder(MetaPathFinder):
    """Finds torch where it is found anyway, and calls us when its import is complete."""

    def __init__(self, process: _Process) -> None:
        self.process = process

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch" or path is not None:
            return None
        sys.meta_path.remove(self)
        # Whoever else finds modules is asked in turn: a tool may have a finder of its own.
        finders = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]
        found = (finder.find_spec(fullname, path, target) for finder in finders)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _CallingLoader(spec, self.process.on_torch)
        return spec


class _CallingLoader(Loader):
    """Stands in for a module's loader until the module is loaded, and then calls a function.

    While the module's own code runs, the loader that it sees is its own.
    """

    def __init__(self, spec: importlib.machinery.ModuleSpec, then: Callable[[], None]) -> None:
        self._spec, self._loader, self._then = spec, cast("Any", spec.loader), then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Do as the module's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Load the module with its own loader."""
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then()


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback with the entries of gainstage's own files left out."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    entry = trace
    while entry is not None and entry.tb_next is not None:
        if entry.tb_next.tb_frame.f_code.co_filename.startswith(_OURS):
            entry.tb_next = entry.tb_next.tb_next
        else:
            entry = entry.tb_next
    return trace
