"""Which process is meant: a number alone is given again to another process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of this machine, for good."""

    pid: int
    start: int
    """When it began, in clock ticks since the machine did; 0 where the system does not tell."""

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process that runs now."""
        return cls(pid, start_of(pid))

    def is_alive(self) -> bool:
        """Tell whether it still runs. A zombie does not: its parent has not asked for its end."""
        if self.pid <= 0:
            return False
        fields = _stat_of(self.pid)
        if fields is None:
            return _answers(self.pid) if not os.path.isdir("/proc/self") else False
        return fields[0] not in ("Z", "X") and self.start in (0, _start_in(fields))


def start_of(pid: int) -> int:
    """Return when a process began, 0 where that cannot be told."""
    fields = _stat_of(pid)
    return 0 if fields is None else _start_in(fields)


def _start_in(fields: Sequence[str]) -> int:
    return int(fields[19])


def _stat_of(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat behind the name, from the state on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("ascii", "replace")
    except OSError:
        return None
    # The name stands in parentheses and may hold any character.
    return text[text.rindex(")") + 2 :].split()


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
