"""The columns of a run's Arrow files, and blocks to record batches and back, exactly.

A null is what was not there: a step without a loss, a tensor without a gradient. NaN and inf are
values. Under a null lies a NaN, so that the gradients of a file are one dense array which can be
used where it lies in the memory map.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# (PyArrow comes without types; what leaves this file has them.)

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gainstage.facts.blocks import (
    ProfileBlock,
    StepBlock,
    TimeBlock,
    WeightBlock,
)
from gainstage.facts.codec import from_builtins
from gainstage.facts.layout import Layout
from gainstage.facts.tensor import TensorInfo

STEPS = "gainstage.steps/1"
WEIGHTS = "gainstage.weights/1"
PROFILES = "gainstage.profiles/1"
TIMES = "gainstage.times/1"
SCHEMA_KEY = b"gainstage.schema"
TENSORS_KEY = b"gainstage.tensors"

_PROFILE_PLACES = ("backward", "node", "site", "weight")
_TIME_PLACES = ("series", "site", "layer", "reverse", "depth", "time_step")
_PROFILE_BITS = (
    "forward_bits",
    "forward_max_bits",
    "delta_bits",
    "delta_max_bits",
    "headroom_bits",
)

Mask = NDArray[np.bool_]


def steps_schema(tensors: Sequence[TensorInfo]) -> pa.Schema:
    """Return the columns of steps/rank=K; the schema's metadata name the tensors."""
    fields = [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("time", pa.float64(), nullable=False),
        pa.field("loss", pa.float64()),
        pa.field("lr", pa.float64()),
        pa.field("grad_norm", pa.float64()),
        pa.field("max_norm", pa.float64()),
        pa.field("clip_coefficient", pa.float64()),
        pa.field("skipped", pa.int64(), nullable=False),
        list_field("grad_norms", pa.float32(), len(tensors)),
    ]
    return pa.schema(fields, metadata=schema_metadata(STEPS, tensors))


def weights_schema(tensors: Sequence[TensorInfo]) -> pa.Schema:
    """Return the columns of weights/rank=K."""
    fields = [
        pa.field("step", pa.int64(), nullable=False),
        list_field("weight_norms", pa.float32(), len(tensors)),
    ]
    return pa.schema(fields, metadata=schema_metadata(WEIGHTS, tensors))


def profiles_schema() -> pa.Schema:
    """Return the columns of profiles/rank=K."""
    kinds = {"step": pa.int64()} | dict.fromkeys(_PROFILE_PLACES, pa.int32())
    kinds |= dict.fromkeys(_PROFILE_BITS, pa.float32())
    fields = [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]
    return pa.schema(fields, metadata={SCHEMA_KEY: PROFILES.encode()})


def times_schema() -> pa.Schema:
    """Return the columns of times/rank=K."""
    kinds = {"step": pa.int64()} | dict.fromkeys(_TIME_PLACES, pa.int32())
    kinds |= dict.fromkeys(("hidden_bits", "delta_bits"), pa.float32())
    fields = [pa.field(name, kind, nullable=False) for name, kind in kinds.items()]
    return pa.schema(fields, metadata={SCHEMA_KEY: TIMES.encode()})


def list_field(name: str, item: pa.DataType, tensors: int) -> pa.Field:
    """Return a column with one item for each tensor."""
    return pa.field(name, pa.list_(pa.field("item", item), tensors), nullable=False)


def schema_metadata(kind: str, tensors: Sequence[TensorInfo]) -> dict[bytes, bytes]:
    """Return what makes a file explain itself: its kind and its tensors, as JSON."""
    # By hand: `dataclasses.asdict` copies deeply, 40 µs a tensor.
    named = json.dumps(
        [
            {
                "name": tensor.name,
                "module": tensor.module,
                "shape": tensor.shape,
                "dtype": tensor.dtype,
            }
            | ({} if tensor.layout is None else {"layout": asdict(tensor.layout)})
            for tensor in tensors
        ]
    )
    return {SCHEMA_KEY: kind.encode(), TENSORS_KEY: named.encode()}


def tensors_of(schema: pa.Schema) -> tuple[TensorInfo, ...]:
    """Return the tensors named in a schema's metadata.

    Raises:
        ValueError: If they are missing or malformed.
    """
    try:
        named = json.loads((schema.metadata or {})[TENSORS_KEY])
        return tuple(_tensor(fields) for fields in named)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the schema does not name its tensors: {error!r}") from error


def steps_batch(block: StepBlock, schema: pa.Schema) -> pa.RecordBatch:
    """Return `block` as a batch of `steps_schema`; the arrays are shared, not copied."""
    any_gradient = block.present.any(axis=1) if len(block) else block.has_loss
    clipped = ~np.isnan(block.max_norm)
    columns = [
        number_column(block.step),
        number_column(block.time),
        number_column(block.loss, block.has_loss),
        number_column(block.lr, ~np.isnan(block.lr)),
        number_column(block.grad_norm, any_gradient | ~np.isnan(block.grad_norm)),
        number_column(block.max_norm, clipped),
        number_column(block.clip_coefficient, clipped | ~np.isnan(block.clip_coefficient)),
        number_column(block.skipped),
        list_column(block.grad_norms, block.present),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def weights_batch(block: WeightBlock, schema: pa.Schema) -> pa.RecordBatch:
    """Return `block` as a batch of `weights_schema`; the arrays are shared, not copied."""
    columns = [number_column(block.step), list_column(block.weight_norms, block.present)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def profiles_batch(block: ProfileBlock) -> pa.RecordBatch:
    """Return `block` as a batch of `profiles_schema`; the arrays are shared, not copied."""
    return _plain_batch(block, profiles_schema())


def times_batch(block: TimeBlock) -> pa.RecordBatch:
    """Return `block` as a batch of `times_schema`; the arrays are shared, not copied."""
    return _plain_batch(block, times_schema())


def _plain_batch(block: ProfileBlock | TimeBlock, schema: pa.Schema) -> pa.RecordBatch:
    columns = [number_column(getattr(block, name)) for name in schema.names]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def steps_block(batch: pa.RecordBatch) -> StepBlock:
    """Return a batch as a block whose arrays lie in the batch, read-only, without a copy."""
    loss, has_loss = read_numbers(batch, "loss")
    grad_norms, present = read_lists(batch, "grad_norms")
    plain: dict[str, Any] = {
        name: read_numbers(batch, name)[0]
        for name in ("step", "time", "lr", "grad_norm", "max_norm", "clip_coefficient", "skipped")
    }
    return StepBlock(**plain, loss=loss, has_loss=has_loss, grad_norms=grad_norms, present=present)


def weights_block(batch: pa.RecordBatch) -> WeightBlock:
    """Return a batch as a block whose arrays lie in the batch, read-only, without a copy."""
    weight_norms, present = read_lists(batch, "weight_norms")
    return WeightBlock(read_numbers(batch, "step")[0], weight_norms, present)


def profiles_block(batches: Sequence[pa.RecordBatch]) -> ProfileBlock:
    """Return batches as one block."""
    return ProfileBlock(**_columns(batches, profiles_schema()))


def times_block(batches: Sequence[pa.RecordBatch]) -> TimeBlock:
    """Return batches as one block."""
    return TimeBlock(**_columns(batches, times_schema()))


def _columns(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        parts = [read_numbers(batch, name)[0] for batch in batches]
        columns[name] = np.concatenate(parts) if parts else np.empty(0, kind.to_pandas_dtype())
    return columns


def concat_steps(blocks: Sequence[StepBlock], tensors: int) -> StepBlock:
    """Return `blocks` as one of `tensors` columns; no gradient where a block had no such column."""
    if len(blocks) == 1 and blocks[0].grad_norms.shape[1] == tensors:
        return blocks[0]
    names = [name for name in StepBlock.__slots__ if name not in ("grad_norms", "present")]
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(block, name) for block in blocks]) for name in names
    }
    return StepBlock(
        **joined,
        grad_norms=stack_padded([block.grad_norms for block in blocks], tensors, np.nan),
        present=stack_padded([block.present for block in blocks], tensors, False),
    )


def concat_weights(blocks: Sequence[WeightBlock], tensors: int) -> WeightBlock:
    """Return `blocks` as one of `tensors` columns."""
    if len(blocks) == 1 and blocks[0].weight_norms.shape[1] == tensors:
        return blocks[0]
    return WeightBlock(
        np.concatenate([block.step for block in blocks]),
        stack_padded([block.weight_norms for block in blocks], tensors, np.nan),
        stack_padded([block.present for block in blocks], tensors, False),
    )


def stack_padded(parts: Sequence[NDArray[Any]], columns: int, fill: float) -> NDArray[Any]:
    """Return matrices below each other, widened to `columns` with `fill`.

    Of a run that goes on, a part read later may know more columns: these are left out.
    """
    rows = sum(len(part) for part in parts)
    stacked = np.full((rows, columns), fill, dtype=parts[0].dtype)
    start = 0
    for part in parts:
        stacked[start : start + len(part), : part.shape[1]] = part[:, :columns]
        start += len(part)
    return stacked


def number_column(values: NDArray[Any], valid: Mask | None = None) -> pa.Array:
    """Return `values` as a column, null where not `given`; the values stay, also under a null."""
    kind = pa.from_numpy_dtype(values.dtype)
    if valid is None or valid.all():
        validity = None
    else:
        validity = pa.py_buffer(np.packbits(valid, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(kind, values.size, [validity, data])


def list_column(values: NDArray[Any], valid: Mask | None = None) -> pa.Array:
    """Return a matrix as a column of fixed-size lists, with nulls inside where not `given`."""
    flat = number_column(values.reshape(-1), None if valid is None else valid.reshape(-1))
    kind = pa.list_(pa.field("item", flat.type), values.shape[1])
    return pa.Array.from_buffers(kind, len(values), [None], children=[flat])


def read_numbers(batch: pa.RecordBatch, name: str) -> tuple[NDArray[Any], Mask]:
    """Return a column's values where they lie, with NaN for null, and a mask of what is given."""
    return _values_and_mask(batch.column(name), _is_own(batch.schema))


def read_lists(batch: pa.RecordBatch, name: str) -> tuple[NDArray[Any], Mask]:
    """Return a column of fixed-size lists as a matrix, and a mask of what is given."""
    column = batch.column(name)
    shape = (len(column), column.type.list_size)
    values, valid = _values_and_mask(column.flatten(), _is_own(batch.schema))
    return values.reshape(shape), valid.reshape(shape) if valid.strides != (0,) else _all(shape)


def _values_and_mask(column: pa.Array, own: bool) -> tuple[NDArray[Any], Mask]:
    validity, data = column.buffers()
    dtype = np.dtype(column.type.to_pandas_dtype())
    if not len(column) or data is None:
        return np.empty(0, dtype), _all((0,))
    start, stop = column.offset, column.offset + len(column)
    values = np.frombuffer(data, dtype, count=stop)[start:]
    if not column.null_count or validity is None:
        return values, _all(values.shape)
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), count=stop, bitorder="little")
    valid = bits[start:].view(np.bool_)
    if not own and dtype.kind == "f":
        # Written by some other tool: anything may lie under its nulls.
        values = np.where(valid, values, np.array(np.nan, dtype))
    return values, valid


def _all(shape: tuple[int, ...]) -> Mask:
    return np.broadcast_to(np.True_, shape)


def _is_own(schema: pa.Schema) -> bool:
    metadata: Mapping[bytes, bytes] = schema.metadata or {}
    return metadata.get(SCHEMA_KEY, b"").startswith(b"gainstage.")


def _tensor(fields: Mapping[str, Any]) -> TensorInfo:
    shape: Iterable[Any] = fields["shape"]
    module = fields["module"]
    return TensorInfo(
        name=str(fields["name"]),
        module=None if module is None else str(module),
        shape=tuple(int(size) for size in shape),
        dtype=str(fields["dtype"]),
        layout=from_builtins(fields["layout"], Layout) if "layout" in fields else None,
    )
