"""What the two processes tell each other by single numbers, and the events in between.

One mapped file: words of 8 bytes, then a ring of bytes. The training's process appends events, each
with its length before it, and raises `head`; the observer reads them and raises `tail`. An event
for which there is no room is dropped and counted: nobody waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from gainstage.channel.memory import WORD, create, open_mapped, words_of

MAGIC = int.from_bytes(b"GAINCTRL", "little")
VERSION = 1
(
    _MAGIC,
    _VERSION,
    _CAPACITY,
    _HEAD,
    _TAIL,
    _DROPPED,
    _RINGS,
    _OBSERVER_PID,
    _OBSERVER_START,
    _DANGER,
    _DEAD,
    _FLUSH_ASKED,
    _FLUSHED,
    _ENDED,
    _EXIT_CODE,
) = range(15)
_WORDS = 32
_START = _WORDS * WORD
_LENGTH = 4

EVENT_BYTES = 8 * 2**20
NO_EXIT_CODE = -1


class Control:
    """The words of a channel and its ring of events. Either side opens it."""

    def __init__(self, memory: memoryview) -> None:
        """Take a mapped file that `make` has made.

        Raises:
            ValueError: If it is none.
        """
        self._memory = memory
        if len(memory) < _START:
            raise ValueError("too short for a channel")
        self._words = words_of(memory, _WORDS)
        if self._words[_MAGIC] != MAGIC or self._words[_VERSION] != VERSION:
            raise ValueError(f"no channel of version {VERSION}")
        self._capacity = self._words[_CAPACITY]
        if _START + self._capacity > len(memory):
            raise ValueError("shorter than its header says")
        self._lock = threading.Lock()

    @classmethod
    def make(cls, path: Path, capacity: int = EVENT_BYTES) -> Control:
        """Make the file of a channel.

        Raises:
            OSError: If there is no room for it.
        """
        memory = create(path, _START + capacity)
        words = words_of(memory, _WORDS)
        words[_VERSION], words[_CAPACITY], words[_EXIT_CODE] = VERSION, capacity, NO_EXIT_CODE
        words[_MAGIC] = MAGIC
        return cls(memory)

    @classmethod
    def open(cls, path: Path) -> Control:
        """Open the file of a channel.

        Raises:
            OSError: If it is not there.
            ValueError: If it is none.
        """
        return cls(open_mapped(path))

    # Events

    def send(self, event: bytes) -> bool:
        """Append an event; False where there is no room, so that it is dropped and counted."""
        with self._lock:
            head = self._words[_HEAD]
            free = self._capacity - (head - self._words[_TAIL])
            if len(event) + _LENGTH > free:
                self._words[_DROPPED] += 1
                return False
            self._put(head, len(event).to_bytes(_LENGTH, "little"))
            self._put(head + _LENGTH, event)
            self._words[_HEAD] = head + _LENGTH + len(event)
        return True

    def events(self) -> Iterator[bytes]:
        """Yield the events that have come, oldest first, and make room for others.

        Raises:
            ValueError: If the ring holds something else.
        """
        while (tail := self._words[_TAIL]) < (head := self._words[_HEAD]):
            length = int.from_bytes(self._get(tail, _LENGTH), "little")
            if tail + _LENGTH + length > head:
                self._words[_TAIL] = head
                raise ValueError("an event is longer than what was written")
            event = self._get(tail + _LENGTH, length)
            self._words[_TAIL] = tail + _LENGTH + length
            yield event

    @property
    def has_events(self) -> bool:
        """Whether an event waits."""
        return self._words[_TAIL] < self._words[_HEAD]

    @property
    def dropped(self) -> int:
        """How many events found no room."""
        return self._words[_DROPPED]

    def _put(self, at: int, data: bytes) -> None:
        place = at % self._capacity
        fits = min(len(data), self._capacity - place)
        self._memory[_START + place : _START + place + fits] = data[:fits]
        if fits < len(data):
            self._memory[_START : _START + len(data) - fits] = data[fits:]

    def _get(self, at: int, length: int) -> bytes:
        place = at % self._capacity
        fits = min(length, self._capacity - place)
        data = bytes(self._memory[_START + place : _START + place + fits])
        return (
            data + bytes(self._memory[_START : _START + length - fits]) if fits < length else data
        )

    # Words of the training's process

    @property
    def rings(self) -> int:
        """How many rings of rows there are; the last one is being written."""
        return self._words[_RINGS]

    @rings.setter
    def rings(self, count: int) -> None:
        self._words[_RINGS] = count

    def ask_to_flush(self) -> int:
        """Ask the observer to write what is there; `flushed` reaches the number returned."""
        self._words[_FLUSH_ASKED] += 1
        return self._words[_FLUSH_ASKED]

    @property
    def flush_asked(self) -> int:
        """How often the observer was asked to write."""
        return self._words[_FLUSH_ASKED]

    # Words of the observer

    @property
    def flushed(self) -> int:
        """The last request that was met."""
        return self._words[_FLUSHED]

    @flushed.setter
    def flushed(self, request: int) -> None:
        self._words[_FLUSHED] = request

    @property
    def observer(self) -> tuple[int, int]:
        """Process id and start time of the observer; zeros before there is one."""
        return self._words[_OBSERVER_PID], self._words[_OBSERVER_START]

    @observer.setter
    def observer(self, identity: tuple[int, int]) -> None:
        self._words[_OBSERVER_START] = identity[1]
        self._words[_OBSERVER_PID] = identity[0]

    @property
    def danger(self) -> int:
        """How often the observer has seen something that makes every step worth sampling."""
        return self._words[_DANGER]

    @property
    def danger_word(self) -> memoryview:
        """The same number, to be read on every step without a call."""
        return self._words[_DANGER : _DANGER + 1]

    def raise_danger(self) -> None:
        """Tell the training's process that something is growing."""
        self._words[_DANGER] += 1

    @property
    def is_dead(self) -> bool:
        """Whether the observer has given up, so that nobody reads what is written."""
        return bool(self._words[_DEAD])

    def give_up(self) -> None:
        """Tell the training's process that nothing is read any more; it looks at danger."""
        self._words[_DEAD] = 1
        self._words[_DANGER] += 1

    @property
    def has_ended(self) -> bool:
        """Whether the observer has written everything and is about to go."""
        return bool(self._words[_ENDED])

    @property
    def exit_code(self) -> int | None:
        """The code that the process is to end with; None for its own."""
        code = self._words[_EXIT_CODE]
        return None if code == NO_EXIT_CODE else code

    def end(self, exit_code: int | None) -> None:
        """Tell the training's process that everything is written."""
        self._words[_EXIT_CODE] = NO_EXIT_CODE if exit_code is None else exit_code
        self._words[_ENDED] = 1
