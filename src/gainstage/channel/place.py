"""Where a channel lies, and how it is found again when both of its processes are gone.

A channel is a private folder of files: `control`, one `rows.N` for each ring, `config.json`, and
`wake`, a pipe by which the observer is woken. The run's folder names it in `observed/PID.json`
until the observer has written everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gainstage.channel.config import RunConfig, config_from
from gainstage.channel.control import EVENT_BYTES, Control
from gainstage.channel.identity import ProcessIdentity
from gainstage.channel.memory import channel_folder, forget_private, private_folder
from gainstage.channel.rows import RING_BYTES

POINTERS = "observed"


@dataclass(frozen=True, slots=True)
class ChannelPlace:
    """The folder of one channel."""

    folder: Path

    @property
    def control(self) -> Path:
        """The file of words and events."""
        return self.folder / "control"

    @property
    def config(self) -> Path:
        """The run's options and the process that is watched."""
        return self.folder / "config.json"

    @property
    def wake(self) -> Path:
        """A named pipe; a byte in it wakes the observer."""
        return self.folder / "wake"

    def rows(self, number: int) -> Path:
        """Return the file of a ring of rows."""
        return self.folder / f"rows.{number}"


@dataclass(frozen=True, slots=True)
class Watched:
    """What the config of a channel says."""

    config: RunConfig
    process: ProcessIdentity
    """The one that is watched."""
    is_main: bool
    """Whether it runs the script itself: its observer writes the findings and prints."""
    script: str
    """Name of the script, for the live panel."""


def make_channel(config: RunConfig, *, is_main: bool, script: str) -> ChannelPlace:
    """Make a channel for this process, and name it in the run's folder.

    Raises:
        OSError: If there is no room for one.
    """
    place = ChannelPlace(channel_folder(config.folder, EVENT_BYTES + 2 * RING_BYTES))
    try:
        Control.make(place.control)
        os.mkfifo(place.wake, 0o600)
        me = ProcessIdentity.of(os.getpid())
        told = {"pid": me.pid, "start": me.start}
        options = {"config": config.as_text(), "is_main": is_main, "script": script}
        place.config.write_text(json.dumps(told | options))
    except BaseException:
        shutil.rmtree(place.folder, ignore_errors=True)
        raise
    # A folder that cannot be written is reported by whoever writes the record.
    with contextlib.suppress(OSError):
        pointer = _pointer(config.folder, me.pid)
        pointer.parent.mkdir(exist_ok=True)
        pointer.write_text(json.dumps(told | {"channel": str(place.folder)}))
    return place


def make_private_channel() -> ChannelPlace:
    """Make a channel in memory of this process alone, which a thread of it drains."""
    place = ChannelPlace(private_folder())
    Control.make(place.control)
    return place


def watched_of(place: ChannelPlace) -> Watched:
    """Return what the config of a channel says.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged.
    """
    try:
        told = json.loads(place.config.read_text())
        process = ProcessIdentity(int(told["pid"]), int(told["start"]))
        config = config_from(told["config"])
        return Watched(config, process, bool(told["is_main"]), str(told["script"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{place.config.name} lacks {error}") from error


def channels_of(run_folder: Path) -> Iterator[ChannelPlace]:
    """Yield the channels of a run that are not drained yet."""
    for pointer in sorted((run_folder / POINTERS).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            folder = Path(json.loads(pointer.read_text())["channel"])
            if folder.is_dir() and not folder.is_symlink():
                yield ChannelPlace(folder)


def remove_channel(place: ChannelPlace, run_folder: Path, pid: int) -> None:
    """Delete a channel that is drained, and what names it in the run's folder."""
    forget_private(place.folder)
    shutil.rmtree(place.folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        _pointer(run_folder, pid).unlink()
        (run_folder / POINTERS).rmdir()


def _pointer(run_folder: Path, pid: int) -> Path:
    return run_folder / POINTERS / f"{pid}.json"
