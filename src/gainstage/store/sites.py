"""sites.json, faults.jsonl, observations.jsonl: where operations are, what went wrong and why."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gainstage.facts.codec import DecodeError, from_builtins, json_safe
from gainstage.facts.fault import Fault, Site
from gainstage.facts.observation import Observation, Observed
from gainstage.store.journal import append_line, read_lines, write_json

SITES_SCHEMA = "gainstage.sites/1"


def write_sites(
    folder: Path, rank: int, sites: Sequence[Site], graphs: Sequence[Sequence[int]]
) -> None:
    """Write the sites of a rank, and for each shape of graph the sites of its nodes in order.

    Raises:
        OSError: If it cannot be written.
    """
    write_json(
        folder / _name("sites", rank, ".json"),
        {
            "schema": SITES_SCHEMA,
            "sites": [asdict(site) for site in sites],
            "graphs": [{"nodes": list(numbers)} for numbers in graphs],
        },
    )


def read_sites(folder: Path, rank: int) -> tuple[tuple[Site, ...], list[list[int]]]:
    """Return the sites of a rank, and for each shape of graph the sites of its nodes in order.

    None where there is no such file or it is damaged.
    """
    try:
        parsed: Any = json.loads((folder / _name("sites", rank, ".json")).read_bytes())
        sites = tuple(_site(fields) for fields in parsed["sites"])
        return sites, [[int(number) for number in each["nodes"]] for each in parsed["graphs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return (), []


def append_fault(folder: Path, rank: int, fault: Fault) -> None:
    """Append a fault to the journal of a rank.

    Raises:
        OSError: If it cannot be written.
    """
    append_line(folder / _name("faults", rank, ".jsonl"), fault.as_json())


def read_faults(folder: Path, rank: int) -> tuple[Fault, ...]:
    """Return the faults of a rank in the order in which they were found."""
    lines, _ = read_lines(folder / _name("faults", rank, ".jsonl"))
    faults: list[Fault] = []
    for line in lines:
        with contextlib.suppress(DecodeError):  # a line of another version
            faults.append(from_builtins(line, Fault))
    return tuple(faults)


def append_observation(folder: Path, rank: int, observation: Observation[Observed]) -> None:
    """Append an observation to the journal of a rank.

    Raises:
        OSError: If it cannot be written.
    """
    append_line(folder / _name("observations", rank, ".jsonl"), json_safe(observation))


def read_observations(folder: Path, rank: int) -> tuple[Observation[Observed], ...]:
    """Return what the script of a rank was seen to do, in order."""
    lines, _ = read_lines(folder / _name("observations", rank, ".jsonl"))
    found: list[Observation[Observed]] = []
    for line in lines:
        with contextlib.suppress(DecodeError):  # a line of another version
            found.append(from_builtins(line, Observation))
    return tuple(found)


def _site(fields: Mapping[str, Any]) -> Site:
    return Site(**fields)


def _name(stem: str, rank: int, ending: str) -> str:
    return f"{stem}{ending}" if rank == 0 else f"{stem}.rank={rank}{ending}"
