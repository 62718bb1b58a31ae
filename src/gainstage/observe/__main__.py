"""The observer's process: `python -m gainstage.observe CHANNEL`, started beside a training."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from gainstage.channel.control import Control
from gainstage.channel.identity import ProcessIdentity
from gainstage.channel.place import ChannelPlace, watched_of
from gainstage.observe.host import drain_until_over
from gainstage.observe.life import Life
from gainstage.observe.observer import Observer
from gainstage.observe.speech import Speech

_NICENESS = 10


def main(folder: str) -> None:
    """Drain a channel to the end of the process at its other end."""
    place = ChannelPlace(Path(folder))
    watched, control = watched_of(place), Control.open(place.control)
    me = ProcessIdentity.of(os.getpid())
    control.observer = me.pid, me.start
    _step_aside()
    life, speech = Life(watched.process, place.wake), Speech()
    observer = Observer(place, watched, control, speech)
    try:
        drain_until_over(observer, life)
    except Exception as error:
        speech.trouble(
            f"the observer failed, {type(error).__name__}: {error}; the training goes on, and "
            f"`gainstage report {watched.config.folder}` reads what it wrote"
        )
        control.give_up()
    finally:
        speech.let_go()
        life.close()


def _step_aside() -> None:
    """Take nothing from the training: neither its processors, nor its terminal's signals."""
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


if __name__ == "__main__":
    main(sys.argv[1])
