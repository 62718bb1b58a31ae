"""This process's end of its observer: the channel, made or opened, and the wait at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from gainstage.channel.config import RunConfig
from gainstage.channel.control import Control
from gainstage.channel.events import Ended
from gainstage.channel.identity import ProcessIdentity
from gainstage.channel.place import ChannelPlace, Watched, make_channel, make_private_channel
from gainstage.channel.sender import Sender, wait_until
from gainstage.channel.start import start_observer

if TYPE_CHECKING:
    from gainstage.observe.host import ObserverThread

_START_S = 30.0
"""The longest wait for an observer to begin: its imports, on a machine that is busy."""
_END_S = 300.0
"""The longest wait for an observer that lives: sinks are given a minute, a slow disk the rest."""
_FLUSH_S = 30.0


class ObserverLink:
    """One channel, and whoever drains it."""

    def __init__(self, place: ChannelPlace, control: Control, watched: Watched) -> None:
        self.place = place
        self._watched = watched
        self.sender = Sender(place, control)
        self._thread: ObserverThread | None = None

    @classmethod
    def open(cls, config: RunConfig, *, is_run: bool) -> ObserverLink:
        """Return the link of this process.

        The main process of `gainstage run` has a channel already, whose observer was started while
        Python was. Any other makes its own.

        Args:
            config: The run's options.
            is_run: Whether `gainstage run` started the process.

        """
        is_main = is_run and os.getpid() == config.main_pid
        script = os.path.basename(sys.argv[0])
        watched = Watched(config, ProcessIdentity.of(os.getpid()), is_main, script)
        in_process = config.observer == "thread"
        if is_main and config.channel is not None:
            place = ChannelPlace(config.channel)
        else:
            try:
                place = make_channel(config, is_main=is_main, script=script)
                if not in_process:
                    start_observer(place)
            except OSError:
                # No room for its files, or no other process: a thread does the same.
                place, in_process = make_private_channel(), True
        link = cls(place, Control.open(place.control), watched)
        if in_process:
            link._host_thread()
        return link

    def flush(self) -> None:
        """Have what was sent so far written."""
        if self._thread is None:
            self.sender.flush(_FLUSH_S if self._is_drained() else _START_S)
            return
        request = self.sender.control.ask_to_flush()
        self._thread.wake()
        wait_until(lambda: self.sender.control.flushed >= request, _FLUSH_S)

    def end(self, ended: Ended) -> int | None:
        """Say that nothing more comes, and wait until everything is written.

        Returns:
            The exit code that the process is to end with, None for its own.
        """
        control = self.sender.control
        self.sender.send(ended)
        for stream in (sys.stdout, sys.stderr):
            # What the script printed comes before what is said of it.
            with contextlib.suppress(Exception):
                stream.flush()
        if self._thread is not None:
            self._thread.wake()
            wait_until(lambda: control.has_ended or control.is_dead, _END_S)
            return control.exit_code
        self.sender.wake()
        wait_until(lambda: control.has_ended or self._has_begun() or control.is_dead, _START_S)
        wait_until(lambda: control.has_ended or not self._is_drained(), _END_S)
        if not (control.has_ended or self._is_drained()):
            self._drain_here()
        return control.exit_code

    def _has_begun(self) -> bool:
        return self.sender.control.observer[0] != 0

    def _is_drained(self) -> bool:
        control = self.sender.control
        return not control.is_dead and ProcessIdentity(*control.observer).is_alive()

    def _host_thread(self) -> None:
        from gainstage.observe.host import ObserverThread

        self._thread = ObserverThread(self.place, self._watched, self.sender.control)

    def _drain_here(self) -> None:
        """Write what the observer has not: it was killed, or never began."""
        from gainstage.observe.observer import Observer
        from gainstage.observe.speech import Speech

        control, speech = self.sender.control, Speech()
        try:
            observer = Observer(self.place, self._watched, control, speech)
            observer.poll()
            observer.end()
        except Exception as error:
            speech.trouble(f"the record was not written, {type(error).__name__}: {error}")
