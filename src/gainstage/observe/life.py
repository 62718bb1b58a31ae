"""Whether the watched process still runs, and how it ended when it could not say so itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from gainstage.channel.identity import ProcessIdentity

_PIDFD_INFO = struct.Struct("<QQ11Ii")
"""`struct pidfd_info` of Linux 6.15 up to the exit code: mask, cgroup, eleven ids, exit code."""
_PIDFD_GET_INFO = 3 << 30 | 64 << 16 | 0xFF << 8 | 11
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_CODE_FIELD = 49
"""In /proc/PID/stat, counted from the state."""
_STATUS_S = 0.5
_VMSTAT = Path("/proc/vmstat")


@dataclass(frozen=True, slots=True)
class Death:
    """How a process ended without telling the observer."""

    code: int | None = None
    """Its exit code; None where a signal ended it, or nobody knows."""
    signal: int | None = None
    out_of_memory: bool = False
    """Whether the kernel killed a process for want of memory since the observer began."""

    def as_text(self) -> str | None:
        """Return it in words; None for an exit code of 0."""
        if self.signal is not None:
            name = _signal_name(self.signal)
            why = " by the kernel, which ran out of memory" if self.out_of_memory else ""
            return f"killed{why} ({name})"
        if self.code is not None:
            return (
                f"left with exit code {self.code}, without its exit handlers" if self.code else None
            )
        return "ended without a word: killed, or crashed"


class Life:
    """The watched process, seen from the observer."""

    def __init__(self, process: ProcessIdentity, wake: Path | None) -> None:
        """Begin to look.

        Args:
            process: The one that is watched.
            wake: A named pipe by which it wakes the observer.
        """
        self._process = process
        self._oom_kills = _oom_kills()
        self._pidfd = _pidfd_of(process)
        self._wake: int | None = None
        if wake is not None:
            with contextlib.suppress(OSError):
                self._wake = os.open(wake, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the process ends or asks for something."""
        descriptors = [each for each in (self._pidfd, self._wake) if each is not None]
        ready, _, _ = select.select(descriptors, [], [], seconds)
        wake = self._wake
        if wake is not None and wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)

    def is_over(self) -> bool:
        """Tell whether the process has ended; a zombie has."""
        return not self._process.is_alive()

    def death(self) -> Death:
        """Return how it ended, as far as the system tells. Call it once it has."""
        status = self._status()
        if status is None:
            return Death()
        ended_by = status & 0x7F
        if not ended_by:
            return Death(code=status >> 8 & 0xFF)
        killed = ended_by == signal.SIGKILL and _oom_kills() > self._oom_kills
        return Death(signal=ended_by, out_of_memory=killed)

    def close(self) -> None:
        """Give back the descriptors."""
        for descriptor in (self._pidfd, self._wake):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self._wake = None

    def _status(self) -> int | None:
        """Return the wait status: a zombie's from /proc, later from the pidfd (Linux 6.15)."""
        until = time.monotonic() + _STATUS_S
        while True:
            status = _zombie_status(self._process.pid)
            if status is None and self._pidfd is not None:
                status = _pidfd_status(self._pidfd)
            if status is not None or time.monotonic() > until:
                return status
            time.sleep(0.01)


def _pidfd_of(process: ProcessIdentity) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    if process.is_alive():
        return descriptor
    os.close(descriptor)  # the number may belong to another one by now
    return None


def _zombie_status(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[_EXIT_CODE_FIELD]) if fields[0] == "Z" else None


def _pidfd_status(descriptor: int) -> int | None:
    asked = bytearray(_PIDFD_INFO.size)
    struct.pack_into("<Q", asked, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, _PIDFD_GET_INFO, asked)
    except OSError:
        return None
    mask, *_, status = _PIDFD_INFO.unpack(asked)
    return status if mask & _PIDFD_INFO_EXIT else None


def _oom_kills() -> int:
    try:
        lines = _VMSTAT.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
