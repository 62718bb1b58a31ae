"""Channels whose observer is gone too: what they hold goes into the record."""

from __future__ import annotations

from pathlib import Path

from gainstage.channel.control import Control
from gainstage.channel.identity import ProcessIdentity
from gainstage.channel.place import ChannelPlace, Watched, channels_of, watched_of
from gainstage.observe.life import Death
from gainstage.observe.observer import Observer
from gainstage.observe.speech import Speech


def recover(run_folder: Path) -> int:
    """Drain the channels of a run that nobody drains any more; return how many there were.

    A channel whose process or observer still runs is left to them.
    """
    left = [each for place in channels_of(run_folder) for each in _read(place)]
    abandoned = [each for each in left if _is_abandoned(each[1], each[2])]
    # The main process's last: its findings are those of the whole run.
    for place, control, watched in sorted(abandoned, key=lambda each: each[2].is_main):
        observer = Observer(place, watched, control, Speech(quiet=True))
        observer.poll()
        observer.end(None if observer.ended else Death())
    return len(abandoned)


def _read(place: ChannelPlace) -> list[tuple[ChannelPlace, Control, Watched]]:
    try:
        return [(place, Control.open(place.control), watched_of(place))]
    except (OSError, ValueError):
        return []  # damaged, or removed meanwhile


def _is_abandoned(control: Control, watched: Watched) -> bool:
    return not (watched.process.is_alive() or ProcessIdentity(*control.observer).is_alive())
