"""What is rare and passes from the training's process to the observer: one dataclass a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.codec import from_builtins, json_safe
from gainstage.facts.fault import Fault, Site
from gainstage.facts.observation import Observation, Observed


@dataclass(frozen=True, slots=True)
class Opened:
    """The process has taken its first step."""

    rank: int
    torch: str
    threads: int
    world_size: int | None = None
    """Ranks of torch.distributed, where the process is one or was forked from one."""


@dataclass(frozen=True, slots=True)
class SitesSeen:
    """The sites of all shapes of graphs, anew, and by shape the sites of its nodes in order."""

    sites: tuple[Site, ...]
    graphs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Sampled:
    """The levels of one sampled backward call."""

    profile: ProfileBlock
    times: TimeBlock


@dataclass(frozen=True, slots=True)
class TreatmentLine:
    """A line of treatments.jsonl, in the types of JSON."""

    line: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Announced:
    """A line for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """Something of gainstage's own failed: a line for people, and an error where strict."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing more comes."""

    exception: str | None = None
    """The error that ended the script."""
    held_bytes: int | None = None
    """The most that was held at once for the autopsy; None where nothing was watched."""
    is_final: bool = True
    """Whether the process ends too, and not only its watch."""


Event: TypeAlias = (
    Opened
    | SitesSeen
    | Sampled
    | TreatmentLine
    | Announced
    | Lost
    | Ended
    | Fault
    | Observation[Observed]
)

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Opened, SitesSeen, TreatmentLine, Announced, Lost, Ended, Fault, Observation)
}


def encode(event: Event) -> bytes:
    """Return an event as bytes."""
    name = type(event).__name__
    if isinstance(event, Sampled):
        arrays = _arrays(event.profile), _arrays(event.times)
        return msgspec.msgpack.encode((name, arrays))
    return msgspec.msgpack.encode((name, json_safe(event)))


def decode(data: bytes) -> Event:
    """Return the event that `encode` made bytes of.

    Raises:
        ValueError: If it is none.
    """
    try:
        name, payload = msgspec.msgpack.decode(data)
        if name == Sampled.__name__:
            profile, times = payload
            return Sampled(_block(ProfileBlock, profile), _block(TimeBlock, times))
        return from_builtins(payload, _KINDS[name])
    except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no event: {error}") from error


def _arrays(block: ProfileBlock | TimeBlock) -> dict[str, tuple[str, bytes]]:
    arrays = ((field.name, getattr(block, field.name)) for field in fields(block))
    return {name: (array.dtype.str, array.tobytes()) for name, array in arrays}


def _block(kind: type[Any], arrays: Mapping[str, tuple[str, bytes]]) -> Any:
    read: dict[str, NDArray[Any]] = {
        name: np.frombuffer(data, dtype) for name, (dtype, data) in arrays.items()
    }
    return kind(**read)
