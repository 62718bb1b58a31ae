"""The reading end of a run: its folder as tables, blocks and findings, at any moment."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import pyarrow as pa

from gainstage.detect import scan
from gainstage.diagnose.diagnose import diagnose
from gainstage.errors import RunFolderError
from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.fault import Fault, Site
from gainstage.facts.findings import Findings
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.record import RankRecord
from gainstage.facts.run_info import RunInfo
from gainstage.facts.tensor import TensorInfo
from gainstage.facts.treatment_event import TreatmentEvent
from gainstage.store.blocks import to_block, to_weight_block
from gainstage.store.folder import RUN_INFO, read_run_info
from gainstage.store.levels import LEVELS, levels_schema
from gainstage.store.schema import (
    concat_steps,
    concat_weights,
    profiles_block,
    profiles_schema,
    steps_block,
    steps_schema,
    tensors_of,
    times_block,
    times_schema,
    weights_block,
    weights_schema,
)
from gainstage.store.shards import RankPart, is_sharded, whole_steps, whole_weights
from gainstage.store.sites import read_faults, read_observations, read_sites
from gainstage.store.stream import read_table
from gainstage.store.symptoms import read_symptoms
from gainstage.store.treatments import read_treatments

_READERS = (read_sites, read_faults, read_observations)
_RANK = re.compile(r"rank=(\d+)")
Batches = list[pa.RecordBatch]


def load(path: str | os.PathLike[str]) -> StoredRun:
    """Return the run in a folder: ended, still training, or killed.

    Damage is no reason to refuse: what can be read is read, and `Run.damage` says what cannot.

    Raises:
        RunFolderError: If there is no such folder, or no run in it.
    """
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise RunFolderError(
            f"{str(folder)!r} {what}; name the folder of a run, such as one in gainstage-runs"
        )
    damage: list[str] = []
    info = RunInfo()
    steps = folder / "steps"
    try:
        info = read_run_info(folder)
    except (OSError, ValueError) as error:
        if not steps.is_dir():
            inside = sorted(each.name for each in folder.iterdir() if (each / RUN_INFO).is_file())
            hint = f"; there is a run in {inside[-1]!r} below it" if inside else ""
            raise RunFolderError(
                f"{str(folder)!r} is not the folder of a run: it has no {RUN_INFO}{hint}"
            ) from error
        damage.append(f"{RUN_INFO} cannot be read: {error}")
    tables: dict[int, Batches] = {}
    for each in sorted(steps.glob("rank=*")) if steps.is_dir() else []:
        match = _RANK.fullmatch(each.name)
        if match:
            batches, notes = read_table(each)
            damage += [f"steps/{each.name}: {note}" for note in notes]
            tables[int(match[1])] = batches
    treatments, notes = read_treatments(folder)
    damage += notes
    return StoredRun(folder, info, tuple(sorted(tables)), treatments, tuple(damage), tables)


@dataclass(frozen=True)
class StoredRun:
    """A run's folder, read. Tables are Arrow's; blocks are NumPy arrays over the same memory."""

    folder: Path
    info: RunInfo
    """What run.json says: script, argv, versions, when it began and ended."""
    ranks: tuple[int, ...]
    """The processes that trained."""
    treatments: tuple[TreatmentEvent, ...]
    """What treatments did, from treatments.jsonl."""
    _damage: tuple[str, ...] = field(repr=False)
    """What could not be read as the run was opened."""
    _tables: Mapping[int, Batches] = field(repr=False)
    _blocks: dict[int, StepBlock] = field(
        default_factory=dict[int, StepBlock], init=False, repr=False, compare=False
    )
    """What was joined once: of a long run that is a copy of all its gradients."""
    _whole: dict[int, StepBlock] = field(
        default_factory=dict[int, StepBlock], init=False, repr=False, compare=False
    )
    """The same of sharded ranks, with the norms of whole tensors."""

    @property
    def damage(self) -> tuple[str, ...]:
        """What could not be read, in words."""
        by_rank = (read(self.folder, rank)[1] for rank in self.ranks for read in _READERS)
        return (*self._damage, *read_symptoms(self.folder)[1], *chain.from_iterable(by_rank))

    @property
    def steps(self) -> pa.Table:
        """One row a step and rank: time, loss, lr, norm, clipping; without the gradients."""
        return self._list_table("steps", steps_schema, without="grad_norms")

    @property
    def gradients(self) -> pa.Table:
        """One row a step and rank: `grad_norms`, a list whose items the metadata name."""
        keep = {"step", "grad_norms"}
        table = self._list_table("steps", steps_schema)
        return table.drop_columns([n for n in table.column_names if n not in keep | {"rank"}])

    @property
    def weights(self) -> pa.Table:
        """One row a sampled step and rank: `weight_norms`."""
        return self._list_table("weights", weights_schema)

    @property
    def profiles(self) -> pa.Table:
        """One row a node of each sampled graph and rank: levels in bits, site, weight."""
        return self._flat_table("profiles", profiles_schema())

    @property
    def times(self) -> pa.Table:
        """One row a state of each recurrence of each sampled graph and rank: levels in bits."""
        return self._flat_table("times", times_schema())

    @cached_property
    def findings(self) -> Findings:
        """What the detectors see in the whole record, and the diagnosis made of it."""
        records = [self.bare_record(rank) for rank in self.ranks]
        scanned, symptoms = scan.find_by_rank(records)
        seen = [replace(each, symptoms=symptoms[each.rank]) for each in records]
        return replace(scanned, diagnosis=diagnose(seen, scanned.verdict))

    def record(self, rank: int = 0) -> RankRecord:
        """Return all that is known of a rank, with the symptoms it shows."""
        record = self.bare_record(rank)
        return replace(record, symptoms=scan.symptoms_of(record))

    def bare_record(self, rank: int = 0) -> RankRecord:
        """Return all that is known of a rank, before any detector has looked at it."""
        sites, _ = read_sites(self.folder, rank)
        return RankRecord(
            tensors=self.tensors(rank),
            block=self.block(rank),
            weights=self.weight_block(rank),
            profiles=self.profile_block(rank),
            times=self.time_block(rank),
            sites=sites.sites,
            faults=self.faults(rank),
            observations=self.observations(rank),
            rank=rank,
            loss_site=sites.loss_site,
            stream_adds=sites.stream_adds,
        )

    def tensors(self, rank: int = 0) -> tuple[TensorInfo, ...]:
        """Return the watched parameters of a rank, in the order of `grad_norms`."""
        batches = self.batches("steps", rank)
        return tensors_of(batches[-1].schema) if batches else ()

    def block(self, rank: int = 0) -> StepBlock:
        """Return all steps of a rank, with the true norms where it holds parts of tensors."""
        block = self.own_block(rank)
        if not is_sharded(self.tensors(rank)):
            return block
        if rank not in self._whole:
            parts = {other: self._part(other, self.own_block(other)) for other in self.ranks}
            self._whole[rank] = whole_steps(rank, block, parts)
        return self._whole[rank]

    def own_block(self, rank: int = 0) -> StepBlock:
        """Return all steps of a rank as it has recorded them: the norms of what it holds."""
        if rank not in self._blocks:
            blocks = [steps_block(batch) for batch in self.batches("steps", rank)]
            tensors = len(self.tensors(rank))
            self._blocks[rank] = concat_steps(blocks, tensors) if blocks else to_block([], 0)
        return self._blocks[rank]

    def _part(self, rank: int, block: StepBlock | WeightBlock) -> RankPart:
        norms = block.grad_norms if isinstance(block, StepBlock) else block.weight_norms
        return RankPart(self.tensors(rank), block.step, norms, block.present)

    def last_steps(self, rank: int = 0, count: int = 1) -> StepBlock:
        """Return the last steps of a rank, without reading those before."""
        batches: Batches = []
        rows = 0
        for batch in reversed(self.batches("steps", rank)):
            batches.insert(0, batch)
            rows += batch.num_rows
            if rows >= count:
                batches[0] = batches[0].slice(rows - count)
                break
        tensors = len(self.tensors(rank))
        if not batches:
            return to_block([], 0)
        return concat_steps([steps_block(batch) for batch in batches], tensors)

    def weight_block(self, rank: int = 0) -> WeightBlock:
        """Return all sampled weight norms of a rank: the true ones, as `block` does."""
        block = self._own_weights(rank)
        if not is_sharded(self.tensors(rank)):
            return block
        parts = {other: self._part(other, self._own_weights(other)) for other in self.ranks}
        return whole_weights(rank, block, parts)

    def _own_weights(self, rank: int) -> WeightBlock:
        batches = self.batches("weights", rank)
        tensors = len(self.tensors(rank))
        if not batches:
            return to_weight_block([], tensors)
        return concat_weights([weights_block(batch) for batch in batches], tensors)

    def profile_block(self, rank: int = 0) -> ProfileBlock:
        """Return all sampled levels of a rank."""
        return profiles_block(self.batches("profiles", rank))

    def time_block(self, rank: int = 0) -> TimeBlock:
        """Return all sampled levels along recurrences of a rank."""
        return times_block(self.batches("times", rank))

    def sites(self, rank: int = 0) -> tuple[Site, ...]:
        """Return the places in the user's code that a rank's profiles refer to."""
        return read_sites(self.folder, rank)[0].sites

    def faults(self, rank: int = 0) -> tuple[Fault, ...]:
        """Return the first wrong operations that the autopsy has found."""
        return read_faults(self.folder, rank)[0]

    def observations(self, rank: int = 0) -> tuple[Observation[Observed], ...]:
        """Return what the script was seen to do."""
        return read_observations(self.folder, rank)[0]

    def levels(self, rank: int = 0, level: int = 1) -> pa.Table:
        """Return statistics of 64 (level 1) or 4096 (level 2) steps a row, of complete bins.

        Raises:
            ValueError: If there is no such level.
        """
        if level not in LEVELS:
            raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
        batches, _ = read_table(self.folder / "levels" / f"rank={rank}" / f"level={level}")
        tensors = self.tensors(rank)
        return _table(batches, levels_schema(tensors))

    def __repr__(self) -> str:
        rows = {rank: sum(b.num_rows for b in table) for rank, table in self._tables.items()}
        return f"Run({str(self.folder)!r}, steps by rank: {rows})"

    def batches(self, part: str, rank: int) -> Batches:
        """Return a rank's rows of a part of the folder: steps, weights, profiles or times."""
        if part == "steps":
            return self._tables.get(rank, [])
        return read_table(self.folder / part / f"rank={rank}")[0]

    def _flat_table(self, part: str, schema: pa.Schema) -> pa.Table:
        """Return the batches of all ranks as one table with a column `rank`."""
        parts: list[pa.Table] = []
        for rank in self.ranks or (0,):
            table = pa.Table.from_batches(self.batches(part, rank), schema)
            ranks = pa.repeat(pa.scalar(rank, pa.int32()), table.num_rows)
            parts.append(table.add_column(0, "rank", ranks))
        return pa.concat_tables(parts)

    def _list_table(
        self,
        part: str,
        schema_of: Callable[[tuple[TensorInfo, ...]], pa.Schema],
        *,
        without: str | None = None,
    ) -> pa.Table:
        """Return the same of tables with a list in each row, padded to the longest."""
        parts: list[pa.Table] = []
        widest = max((self.tensors(rank) for rank in self.ranks), key=len, default=())
        schema = schema_of(widest)
        for rank in self.ranks or (0,):
            table = _table(self.batches(part, rank), schema)
            if without is not None:
                table = table.drop_columns([without])
            ranks = pa.repeat(pa.scalar(rank, pa.int32()), table.num_rows)
            parts.append(table.add_column(0, "rank", ranks))
        return pa.concat_tables(parts)


def _table(batches: Batches, schema: pa.Schema) -> pa.Table:
    """Return batches as a table; lists that are shorter, from before tensors came, are padded."""
    return pa.Table.from_batches([_padded(batch, schema) for batch in batches], schema)


def _padded(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns: list[pa.Array] = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        column = batch.column(name)
        if column.type != kind:
            short, width = column.type.list_size, kind.list_size
            flat = column.flatten()
            # Past the end stands a null: index None takes one.
            index = pa.array(
                [
                    row * short + i if i < short else None
                    for row in range(len(column))
                    for i in range(width)
                ],
                pa.int64(),
            )
            column = pa.FixedSizeListArray.from_arrays(flat.take(index), type=kind)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)
