"""The two hosts of an observer: the loop of its own process, and a thread of the script's."""

from __future__ import annotations

import threading

from gainstage.channel.control import Control
from gainstage.channel.place import ChannelPlace, Watched
from gainstage.observe.life import Life
from gainstage.observe.observer import Observer
from gainstage.observe.speech import Speech

_POLL_S = 0.5
"""The longest time that a row waits: what is lost when both processes and the machine die."""


def drain_until_over(observer: Observer, life: Life) -> None:
    """Drain until the process has said that it ends, or is gone."""
    while True:
        life.wait(_POLL_S)
        is_over = life.is_over()
        observer.poll()
        if observer.ended is not None:
            observer.end()
            return
        if is_over:
            observer.end(life.death())
            return


class ObserverThread:
    """The same drain in the script's own process, where there can be no other."""

    def __init__(
        self,
        place: ChannelPlace,
        watched: Watched,
        control: Control,
        speech: Speech | None = None,
    ) -> None:
        """Start the thread.

        Args:
            place: The channel's folder.
            watched: The run's options, and this process.
            control: Its words and events.
            speech: Where lines for people go; None for standard error.
        """
        self._control = control
        self._speech = Speech() if speech is None else speech
        self._observer = Observer(place, watched, control, self._speech)
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gainstage-observer", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have it look at once."""
        self._wake.set()

    def _work(self) -> None:
        try:
            while self._observer.ended is None:
                self._wake.wait(_POLL_S)
                self._wake.clear()
                self._observer.poll()
            self._observer.end()
        except Exception as error:
            self._speech.trouble(f"the observer failed, {type(error).__name__}: {error}")
            self._control.give_up()
