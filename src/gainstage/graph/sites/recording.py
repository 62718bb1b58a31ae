"""Where each node of a graph was made: operation, module, user's file and line.

While a forward pass is recorded, torch's anomaly mode (without its check for NaN) makes every new
node carry the Python traceback of its making, which our own function cuts to the user's innermost
entry, and global module hooks note which sequence numbers each module call covers. All are off
again before backward runs: some 10 µs a node, once.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
import torch.fx.traceback as fx_traceback
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

import gainstage
from gainstage.facts.fault import Site
from gainstage.graph.operations.table import op_of, operation_of

_TORCH = os.path.dirname(torch.__file__) + os.sep
_GAINSTAGE = os.path.dirname(os.path.abspath(gainstage.__file__)) + os.sep
_NOT_THE_USERS = (_TORCH, _GAINSTAGE, "<frozen ", "<string>", "<eval_with_key>")
_MOST_NODES = 20_000
"""Nodes whose sites are taken. Those made later have none, and match by order."""
_torch_format_stack = fx_traceback.format_stack
_ENTRY = re.compile(r'\s*File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.*)\n')


@dataclass(slots=True)
class Call:
    """One call of a module, and the sequence numbers of the nodes made within it."""

    module: int
    """`id` of the module, which lives at least as long as its graph."""
    first: int
    end: int
    depth: int


class SiteRecording:
    """Makes the nodes of the forward passes to come carry where they were made, until `stop`."""

    def __init__(self, *, with_modules: bool = True) -> None:
        """Begin.

        Args:
            with_modules: Whether to note which module makes a node. Not where code is compiled:
                a global module hook would be one of its guards, and so have it compiled again.
        """
        self.calls: list[Call] = []
        self.modules: dict[int, nn.Module] = {}
        self._open: list[Call] = []
        self._is_on = not torch.is_anomaly_enabled()
        self.needs_restore = False
        """Whether anomaly mode may still be on by our doing."""
        self._left = _MOST_NODES
        self._entries: dict[tuple[CodeType, int], list[str]] = {}
        self._undo: list[Callable[[], None]] = []
        if with_modules:
            self._undo += [
                register_module_forward_pre_hook(self._on_call).remove,
                register_module_forward_hook(self._on_return, always_call=True).remove,
            ]
        if self._is_on:
            fx_traceback.format_stack = self._format_stack
            torch.set_anomaly_enabled(True, False)

    def stop(self) -> None:
        """End. Anomaly mode that the script has switched on by itself stays on: see `restore`."""
        self.let_go_of_modules()
        self._tracebacks_off()

    def restore(self) -> None:
        """Switch anomaly mode off, unless it checks for NaN: then it is the script's own.

        When a script leaves its own, torch goes back to what was in force before, which was ours:
        hence call it again after `stop`, as long as it `needs_restore`.
        """
        if self.needs_restore and not torch.is_anomaly_check_nan_enabled():
            torch.set_anomaly_enabled(False)
            self.needs_restore = False

    def let_go_of_modules(self) -> None:
        """Take the module hooks out."""
        for undo in self._undo:
            undo()
        self._undo = []

    def _tracebacks_off(self) -> None:
        if not self._is_on:
            return
        self._is_on = False
        if fx_traceback.format_stack == self._format_stack:
            fx_traceback.format_stack = _torch_format_stack
        self.needs_restore = True
        self.restore()

    def _format_stack(self) -> list[str]:
        """Return the user's innermost entry only; torch calls it for every node that it makes."""
        if fx_traceback.has_preserved_node_meta() or torch.is_anomaly_check_nan_enabled():
            return _torch_format_stack()
        self._left -= 1
        if self._left <= 0:
            self._tracebacks_off()
        frame = next(user_frames(sys._getframe(1)), None)
        if frame is None:
            return []
        key = (frame.f_code, frame.f_lineno)
        entry = self._entries.get(key)
        if entry is None:
            code = frame.f_code
            text = f'  File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}\n'
            entry = self._entries[key] = [text]
        return entry

    def _on_call(self, module: nn.Module, arguments: Any) -> None:
        number = _next_number()
        call = Call(id(module), number, number, len(self._open))
        self.modules[id(module)] = module
        self._open.append(call)
        self.calls.append(call)

    def _on_return(self, module: nn.Module, arguments: Any, output: Any) -> None:
        while self._open:
            # A call that an error left open ends with the one around it.
            call = self._open.pop()
            call.end = _next_number()
            if call.module == id(module):
                return


def user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield the frames of the script, innermost first."""
    while frame is not None:
        if not frame.f_code.co_filename.startswith(_NOT_THE_USERS):
            yield frame
        frame = frame.f_back


def _next_number() -> int:
    """Return the sequence number that the next node of this thread will have."""
    return torch._C._autograd._get_sequence_nr()  # pyright: ignore[reportAttributeAccessIssue]


def sites_of(
    nodes: Sequence[Any], calls: Iterable[Call], names: Mapping[int, str]
) -> list[Site | None]:
    """Return the site of each node, None for one that was made unseen.

    Args:
        nodes: In forward order, made while a `SiteRecording` was on.
        calls: What it noted.
        names: By the id of a module, its name as in `named_modules()` of its root.
    """
    ordered = sorted(calls, key=lambda call: (call.first, call.depth))
    sites: list[Site | None] = []
    stack: list[Call] = []
    position = 0
    known: dict[str, tuple[str, int, str] | None] = {}
    for node in nodes:
        number = node._sequence_nr()
        while position < len(ordered) and ordered[position].first <= number:
            stack.append(ordered[position])
            position += 1
        while stack and stack[-1].end <= number:
            stack.pop()
        trace: list[str] | None = node.metadata.get("traceback_")
        if trace is None:
            sites.append(None)
            continue
        within = next((call for call in reversed(stack) if call.end > number), None)
        place = users_entry(trace, known)
        file, line, function = place if place is not None else (None, None, None)
        module = None if within is None else names.get(within.module)
        kind = operation_of(node)
        sites.append(
            Site(
                op_of(node),
                module,
                function,
                file,
                line,
                adds=kind.adds == "sum",
                keeps_values=kind.moves == "whole",
            )
        )
    return sites


def users_entry(
    trace: Iterable[str], known: dict[str, tuple[str, int, str] | None] | None = None
) -> tuple[str, int, str] | None:
    """Return file, line and function of the innermost entry of a traceback that is the user's.

    Args:
        trace: Entries as `traceback.format_stack` makes them, the outermost first.
        known: Filled with what entries were parsed to; many nodes share theirs.
    """
    for entry in reversed(list(trace)):
        if known is not None and entry in known:
            place = known[entry]
        else:
            place = _parsed(entry)
            if known is not None:
                known[entry] = place
        if place is not None:
            return place
    return None


def _parsed(entry: str) -> tuple[str, int, str] | None:
    found = _ENTRY.match(entry)
    if found is None or found["file"].startswith(_NOT_THE_USERS):
        return None
    return os.path.abspath(found["file"]), int(found["line"]), found["function"]
