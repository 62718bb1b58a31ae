"""A run as the tables that SQL sees. Each is made batch by batch, when a query asks for it.

Gradients are stored as one list a step, and asked for as one row a step and tensor. An engine that
takes lists apart needs 2 to 5 µs an entry, whether the row is wanted or not (DuckDB 2.0). Here the
column `norm` is the very memory of the file, and what is made beside it is 16 bytes a row, of one
batch at a time.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUnknownLambdaType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from gainstage.detect.symptom_json import evidence_json, message_of
from gainstage.facts.codec import to_json
from gainstage.facts.fault import Site
from gainstage.facts.record import RankRecord
from gainstage.facts.tensor import TensorInfo
from gainstage.store.schema import profiles_schema, times_schema


class RunTables(Protocol):
    """What the views need of a run."""

    @property
    def steps(self) -> pa.Table:
        """One row a step and rank, without the gradients."""
        ...

    @property
    def ranks(self) -> Sequence[int]:
        """The processes that trained."""
        ...

    def batches(self, part: str, rank: int) -> Sequence[pa.RecordBatch]:
        """Return a rank's rows of a part of the folder, such as weights."""
        ...

    def tensors(self, rank: int = 0) -> Sequence[TensorInfo]:
        """Return the watched parameters, in the order of the norms."""
        ...

    def sites(self, rank: int = 0) -> Sequence[Site]:
        """Return the places in the user's code that profiles refer to."""
        ...

    def record(self, rank: int = 0) -> RankRecord:
        """Return the record of a rank with its symptoms."""
        ...


_ROWS = 131072
"""Of a batch, about."""

_WORD = pa.dictionary(pa.int32(), pa.string())
_PLACE = (("op", _WORD), ("module", _WORD), ("file", _WORD), ("line", pa.int32()))
_TENSORS = pa.schema(
    {
        "rank": pa.int32(),
        "tensor": pa.string(),
        "module": pa.string(),
        "shape": pa.list_(pa.int64()),
        "dtype": pa.string(),
        "numel": pa.int64(),
    }
)
_SYMPTOMS = pa.schema(
    {
        "rank": pa.int32(),
        "symptom": pa.string(),
        "severity": pa.string(),
        "step": pa.int64(),
        "last_step": pa.int64(),
        "message": pa.string(),
        "evidence": pa.string(),
    }
)


class View:
    """A table that is made anew whenever somebody reads it (Arrow's C stream protocol)."""

    def __init__(self, schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> None:
        self.schema = schema
        self._batches = batches

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a stream of the batches, none of them made yet."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self._batches())
        return reader.__arrow_c_stream__(requested_schema)


def views_of(run: RunTables) -> Mapping[str, Any]:
    """Return what SQL can ask of a run, by name."""
    return {
        "steps": run.steps,
        "gradients": _long(run, "steps", "grad_norms"),
        "weights": _long(run, "weights", "weight_norms"),
        "profiles": _placed(run, "profiles", profiles_schema()),
        "times": _placed(run, "times", times_schema()),
        "symptoms": View(_SYMPTOMS, lambda: _symptoms(run)),
        "tensors": View(_TENSORS, lambda: _tensors(run)),
    }


def _long(run: RunTables, part: str, column: str) -> View:
    """Return a column of lists, one item a tensor, as one row a step and tensor."""
    schema = pa.schema(
        {
            "step": pa.int64(),
            "rank": pa.int32(),
            "tensor": _WORD,
            "module": _WORD,
            "norm": pa.float32(),
        }
    )

    def rows() -> Iterator[pa.RecordBatch]:
        for rank in run.ranks:
            tensors = run.tensors(rank)
            names = _dictionary([each.name for each in tensors])
            modules = _dictionary([each.module for each in tensors])
            for batch in run.batches(part, rank):
                width = batch.column(column).type.list_size
                for start in range(0, batch.num_rows if width else 0, max(1, _ROWS // width)):
                    piece = batch.slice(start, max(1, _ROWS // width))
                    place = np.tile(np.arange(width, dtype=np.int32), piece.num_rows)
                    columns = [
                        pa.array(np.repeat(piece.column("step").to_numpy(), width)),
                        pa.repeat(pa.scalar(rank, pa.int32()), len(place)),
                        names.take(pa.array(place)),
                        modules.take(pa.array(place)),
                        piece.column(column).flatten(),
                    ]
                    yield pa.record_batch(columns, schema=schema)

    return View(schema, rows)


def _placed(run: RunTables, part: str, own: pa.Schema) -> View:
    """Return sampled levels, with the line of the script and the tensor that they belong to."""
    with_tensor = [pa.field("tensor", _WORD)] if "weight" in own.names else []
    places = [pa.field(name, kind) for name, kind in _PLACE]
    schema = pa.schema([pa.field("rank", pa.int32()), *own, *places, *with_tensor])

    def rows() -> Iterator[pa.RecordBatch]:
        for rank in run.ranks:
            places = _places(run.sites(rank))
            tensors: Sequence[TensorInfo] = run.tensors(rank)
            names = _dictionary([each.name for each in tensors])
            for batch in run.batches(part, rank):
                site = _index(batch.column("site"), len(places[0]))
                columns = [
                    pa.repeat(pa.scalar(rank, pa.int32()), batch.num_rows),
                    *batch.columns,
                    *(place.take(site) for place in places),
                ]
                if with_tensor:
                    columns.append(names.take(_index(batch.column("weight"), len(names))))
                yield pa.record_batch(columns, schema=schema)

    return View(schema, rows)


def _places(sites: Sequence[Site]) -> list[pa.Array]:
    return [
        _dictionary([site.op for site in sites]),
        _dictionary([site.module for site in sites]),
        _dictionary([site.file for site in sites]),
        pa.array([site.line for site in sites], pa.int32()),
    ]


def _dictionary(words: Sequence[str | None]) -> pa.DictionaryArray:
    return pa.array(words, pa.string()).dictionary_encode().cast(_WORD)


def _index(numbers: pa.Array, size: int) -> pa.Array:
    """Return numbers as places of an array, null where they are none, such as -1."""
    values = numbers.to_numpy()
    return pa.array(values, pa.int32(), mask=(values < 0) | (values >= size))


def _tensors(run: RunTables) -> Iterator[pa.RecordBatch]:
    rows = [
        {
            "rank": rank,
            "tensor": tensor.name,
            "module": tensor.module,
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "numel": tensor.numel,
        }
        for rank in run.ranks
        for tensor in run.tensors(rank)
    ]
    yield pa.RecordBatch.from_pylist(rows, schema=_TENSORS)


def _symptoms(run: RunTables) -> Iterator[pa.RecordBatch]:
    rows = [
        {
            "rank": rank,
            "symptom": symptom.symptom,
            "severity": symptom.severity,
            "step": symptom.step,
            "last_step": symptom.last_step,
            "message": message_of(symptom),
            "evidence": to_json(evidence_json(symptom)),
        }
        for rank in run.ranks
        for symptom in run.record(rank).symptoms
    ]
    yield pa.RecordBatch.from_pylist(rows, schema=_SYMPTOMS)
