"""sites.json, faults.jsonl, observations.jsonl: where operations are, what went wrong and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainstage.facts.codec import from_builtins, json_safe
from gainstage.facts.fault import Fault, Site
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.sites_file import GraphShape, SitesFile
from gainstage.store.journal import append_line, read_fact, read_facts, write_json
from gainstage.store.older_faults import with_fields_of_now
from gainstage.store.older_sites import with_traits


def write_sites(
    folder: Path, rank: int, sites: Sequence[Site], graphs: Sequence[Sequence[int]]
) -> None:
    """Write the sites of a rank, and for each shape of graph the sites of its nodes in order.

    Raises:
        OSError: If it cannot be written.
    """
    shapes = tuple(GraphShape(tuple(numbers)) for numbers in graphs)
    write_json(folder / _name("sites", rank, ".json"), SitesFile(sites=tuple(sites), graphs=shapes))


def read_sites(folder: Path, rank: int) -> tuple[SitesFile, tuple[str, ...]]:
    """Return the sites of a rank, none where they cannot be read, and what of them cannot."""
    found, damage = read_fact(folder / _name("sites", rank, ".json"), SitesFile)
    return with_traits(found or SitesFile()), damage


def append_fault(folder: Path, rank: int, fault: Fault) -> None:
    """Append a fault to the journal of a rank.

    Raises:
        OSError: If it cannot be written.
    """
    append_line(folder / _name("faults", rank, ".jsonl"), fault.as_json())


def read_faults(folder: Path, rank: int) -> tuple[tuple[Fault, ...], tuple[str, ...]]:
    """Return the faults of a rank in the order in which they were found, and what cannot be."""
    path = folder / _name("faults", rank, ".jsonl")
    return read_facts(path, _fault)


def append_observation(folder: Path, rank: int, observation: Observation[Observed]) -> None:
    """Append an observation to the journal of a rank.

    Raises:
        OSError: If it cannot be written.
    """
    append_line(folder / _name("observations", rank, ".jsonl"), json_safe(observation))


def read_observations(
    folder: Path, rank: int
) -> tuple[tuple[Observation[Observed], ...], tuple[str, ...]]:
    """Return what the script of a rank was seen to do, in order, and what cannot be read."""
    path = folder / _name("observations", rank, ".jsonl")
    return read_facts(path, _observation)


def _fault(line: dict[str, Any]) -> Fault:
    return from_builtins(with_fields_of_now(line), Fault)


def _observation(line: dict[str, Any]) -> Observation[Observed]:
    return from_builtins(line, Observation)


def _name(stem: str, rank: int, ending: str) -> str:
    return f"{stem}{ending}" if rank == 0 else f"{stem}.rank={rank}{ending}"
