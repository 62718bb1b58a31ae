"""One state for each optimizer: the norms of a generator say nothing about a discriminator's."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar


class Stateful(Protocol):
    """What a checkpoint can save."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state in JSON types."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
        ...


State = TypeVar("State", bound=Stateful)


class PerOptimizer(Generic[State]):
    """States by optimizer, numbered in the order of their first step, as checkpoints keep them."""

    def __init__(self, make: Callable[[], State]) -> None:
        self._make = make
        self._states: list[State] = []
        self._seen: list[weakref.ref[Any] | None] = []

    def of(self, optimizer: Any) -> State:
        """Return an optimizer's state, None being the optimizer of a script without one."""
        for number, seen in enumerate(self._seen):
            known = optimizer is None if seen is None else seen() is optimizer
            if known and (seen is None or optimizer is not None):
                return self._states[number]
        self._seen.append(None if optimizer is None else weakref.ref(optimizer))
        if len(self._states) < len(self._seen):
            self._states.append(self._make())
        return self._states[len(self._seen) - 1]

    def state_dict(self) -> dict[str, Any]:
        """Return all states in order."""
        return {"optimizers": [state.state_dict() for state in self._states]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the states for the optimizers in the order in which they will step."""
        self._seen.clear()
        self._states = [self._make() for _ in state["optimizers"]]
        for own, saved in zip(self._states, state["optimizers"], strict=True):
            own.load_state_dict(saved)
