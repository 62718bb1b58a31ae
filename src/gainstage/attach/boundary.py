"""The one way in: every function of ours that torch calls is made here.

An entry is counted and guarded: an error of our own ends watching with one report, and torch's own
function runs all the same. After `retire` each of these functions does what torch's own does, or
nothing, and holds nothing of ours, whoever still has it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import gainstage

_GAINSTAGE = os.path.dirname(os.path.abspath(gainstage.__file__)) + os.sep

Report = Callable[[BaseException], None]


class Boundary:
    """Makes the functions that torch is given, and takes the life out of all of them at once."""

    def __init__(self, on_fault: Report) -> None:
        """Begin open.

        Args:
            on_fault: Called once, with the first error of our own; what it raises reaches the
                script.
        """
        self.entries = 0
        """Calls that have come in so far."""
        self.has_failed = False
        """Whether an error of our own has ended watching."""
        self._on_fault: Report | None = on_fault
        self._closers: list[Callable[[], None]] = []
        self._lasting: list[Callable[[], None]] = []

    def hook(self, ours: Callable[..., Any], *, lasts: bool = False) -> Callable[..., Any]:
        """Return a function for torch to call that does what ours does; later nothing.

        Args:
            ours: Called with positional arguments.
            lasts: Whether it is called after an error of our own, too, until `retire`: it undoes
                what others have done.
        """
        inside: Callable[..., Any] | None = ours

        def enter(*args: Any) -> Any:
            call = inside
            if call is None:
                return None
            self.entries += 1
            try:
                return call(*args)
            except Exception as error:
                self.fault(error)
                return None

        def close() -> None:
            nonlocal inside
            inside = None

        (self._lasting if lasts else self._closers).append(close)
        return enter

    def around(
        self,
        torch_function: Callable[..., Any],
        *,
        before: Callable[..., Any] | None = None,
        after: Callable[[Any, Any], None] | None = None,
        on_error: Callable[[], None] | None = None,
        prepare: Callable[[tuple[Any, ...]], tuple[Any, ...]] | None = None,
    ) -> Any:
        """Return a function that calls one of torch's, and ours before and after it.

        Args:
            torch_function: Called once each time, whatever ours do.
            before: Takes the arguments. Returns a note for `after`; None where that is not to be
                called, nor `on_error`.
            after: Takes the note and what torch's function has returned.
            on_error: Called where torch's function raises an error, which goes on to the caller.
            prepare: Makes arguments that can be read once readable twice.
        """
        inside: tuple[Any, Any, Any, Any] | None = (before, after, on_error, prepare)

        @functools.wraps(torch_function)
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if inside is None:
                return torch_function(*args, **kwargs)
            self.entries += 1
            before, after, on_error, prepare = inside
            if prepare is not None:
                args = prepare(args)
            # Guarded here and not in a function: after a backward pass every frame is a cold one.
            try:
                note = True if before is None else before(*args, **kwargs)
            except Exception as error:
                self.fault(error)
                note = None
            try:
                result = torch_function(*args, **kwargs)
            except BaseException as error:
                if note is not None and on_error is not None:
                    on_error()
                _leave_out_our_frames(error)
                raise
            if note is not None and after is not None:
                try:
                    after(note, result)
                except Exception as error:
                    self.fault(error)
            return result

        def close() -> None:
            nonlocal inside
            inside = None

        self._closers.append(close)
        return stand_in

    def instead(self, torch_function: Callable[..., Any], ours: Callable[..., Any]) -> Any:
        """Return a function that calls ours instead of torch's; later torch's.

        Args:
            torch_function: What it stands in for.
            ours: Does the same, and falls back on torch's by itself where an error of our own
                comes before anything is written.
        """
        inside = ours

        @functools.wraps(torch_function)
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            if inside is torch_function:
                return torch_function(*args, **kwargs)
            self.entries += 1
            try:
                return inside(*args, **kwargs)
            except BaseException as error:
                _leave_out_our_frames(error)
                raise

        def close() -> None:
            nonlocal inside
            inside = torch_function

        self._closers.append(close)
        return stand_in

    def fault(self, error: BaseException) -> None:
        """End watching after an error of our own, and report it; only the first one is told."""
        self._close()
        if not self.has_failed:
            self.has_failed = True
            if self._on_fault is not None:
                self._on_fault(error)

    def run(self, ours: Callable[..., Any], *args: Any) -> Any:
        """Return what a function of ours returns that torch does not call, guarded like an entry.

        None after an error of our own.
        """
        if self.has_failed:
            return None
        try:
            return ours(*args)
        except Exception as error:
            self.fault(error)
            return None

    def retire(self) -> None:
        """Take the life out of all functions made here, and let go of whom they called."""
        self._close()
        for close in self._lasting:
            close()
        self._lasting.clear()

    def _close(self) -> None:
        for close in self._closers:
            close()
        self._closers.clear()


def _leave_out_our_frames(error: BaseException) -> None:
    """Take our entries out of the head of a traceback that is about to be raised again.

    Python notes a frame when an error first passes through it, not when it is raised again.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_GAINSTAGE):
        trace = trace.tb_next
    error.__traceback__ = trace


def caller_of_ours() -> FrameType | None:
    """Return the frame that has called into gainstage: the innermost that is none of our own."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(_GAINSTAGE):
        frame = frame.f_back
    return frame
