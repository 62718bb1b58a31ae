"""Views, copies, selections: elements are moved or masked, never computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import Operands, Operation


def mover(op: str, function: Callable[[Operands], Any], *settings: str) -> Operation:
    """Return an operation that moves the elements of one tensor."""
    return Operation(op=op, forward=function, settings=settings, makes="", carries=True)


def joiner(op: str, function: Callable[[list[Tensor], int], Tensor]) -> Operation:
    """Return an operation that puts many tensors together along a dimension."""
    return Operation(
        op=op,
        forward=lambda a: function(a["tensors"], a["dim"]),
        settings=("dim",),
        makes="",
        carries=True,
        variadic=True,
    )


def mask(op: str, *edges: str, **known: Any) -> Operation:
    """Return an operation that overwrites elements with what autograd does not save."""
    return Operation(op=op, edges=edges, makes="", carries=True, masks=True, **known)


def _view(a: Operands) -> Tensor:
    return a["self"].reshape(a["shape"])


def _slice(a: Operands) -> Tensor:
    return torch.ops.aten.slice(a["self"], a["dim"], a["start"], a["end"], a["step"])


def _embedding(a: Operands) -> Tensor:
    return a["weight"][a["indices"]]


def _where(a: Operands) -> Tensor:
    return torch.where(a["condition"], a["self"], a["other"])


def _index(a: Operands) -> Tensor:
    return torch.ops.aten.index(a["self"], list(a["indices"]))


SAME = {
    f"{kind}Backward{number}": mover(op, _view)
    for kind, number, op in [
        ("View", 0, "view"),
        ("UnsafeView", 0, "view"),
        ("ReshapeAlias", 0, "reshape"),
        ("Unsqueeze", 0, "unsqueeze"),
        ("Unsqueeze", 1, "unsqueeze"),
        *(("Squeeze", number, "squeeze") for number in range(6)),
        ("Clone", 0, "clone"),
        ("Alias", 0, "alias"),
        ("LazyClone", 0, "clone"),
    ]
}

MOVES = {
    "TBackward0": mover("t", lambda a: a["self"].t()),
    "TransposeBackward0": mover(
        "transpose", lambda a: a["self"].transpose(a["dim0"], a["dim1"]), "dim0", "dim1"
    ),
    "PermuteBackward0": mover("permute", lambda a: a["self"].permute(a["dims"]), "dims"),
    "ExpandBackward0": mover("expand", lambda a: a["self"].expand(a["shape"])),
    "RepeatBackward0": mover("repeat", lambda a: a["self"].repeat(a["repeats"]), "repeats"),
    "FlipBackward0": mover("flip", lambda a: a["self"].flip(a["dims"]), "dims"),
    "RollBackward0": mover(
        "roll", lambda a: a["self"].roll(a["shifts"], a["dims"]), "shifts", "dims"
    ),
    "SelectBackward0": mover(
        "select", lambda a: a["self"].select(a["dim"], a["index"]), "dim", "index"
    ),
    "SliceBackward0": mover("slice", _slice, "dim", "start", "end", "step"),
    "DiagonalBackward0": mover(
        "diagonal",
        lambda a: a["self"].diagonal(a["offset"], a["dim1"], a["dim2"]),
        "offset",
        "dim1",
        "dim2",
    ),
    "TrilBackward0": mover("tril", lambda a: a["self"].tril(a["diagonal"]), "diagonal"),
    "TriuBackward0": mover("triu", lambda a: a["self"].triu(a["diagonal"]), "diagonal"),
    "UnbindBackward0": mover("unbind", lambda a: a["self"].unbind(a["dim"]), "dim"),
    "SplitBackward0": mover(
        "split", lambda a: a["self"].split(a["split_size"], a["dim"]), "split_size", "dim"
    ),
    "UnsafeSplitBackward0": mover(
        "split", lambda a: a["self"].split(a["split_size"], a["dim"]), "split_size", "dim"
    ),
    "SplitWithSizesBackward0": mover(
        "split", lambda a: a["self"].split(a["split_sizes"], a["dim"]), "split_sizes", "dim"
    ),
    "CatBackward0": joiner("cat", torch.cat),
    "StackBackward0": joiner("stack", torch.stack),
    "IndexBackward0": Operation(
        op="index", forward=_index, settings=("indices",), makes="", carries=True
    ),
    "IndexSelectBackward0": Operation(
        op="index_select",
        forward=lambda a: torch.index_select(a["self"], a["dim"], a["index"]),
        data=("index",),
        settings=("dim",),
        makes="",
        carries=True,
    ),
    "GatherBackward0": Operation(
        op="gather",
        forward=lambda a: torch.gather(a["self"], a["dim"], a["index"]),
        data=("index",),
        settings=("dim",),
        makes="",
        carries=True,
    ),
    "MaskedSelectBackward0": Operation(
        op="masked_select",
        forward=lambda a: torch.masked_select(a["self"], a["mask"]),
        data=("mask",),
        makes="",
        carries=True,
    ),
    "EmbeddingBackward0": Operation(
        op="embedding",
        edges=("weight",),
        forward=_embedding,
        data=("indices",),
        makes="",
        carries=True,
    ),
    "ToCopyBackward0": Operation(
        op="to", forward=lambda a: a["self"].to(a["dtype"]), makes="inf", carries=True
    ),
    "ViewAsComplexBackward0": mover("view_as_complex", lambda a: torch.view_as_complex(a["self"])),
    "ViewAsRealBackward0": mover("view_as_real", lambda a: torch.view_as_real(a["self"])),
    "ConjBackward0": mover("conj", lambda a: a["self"].conj()),
}

MASKS = {
    "WhereBackward0": mask(
        "where",
        "self",
        "other",
        forward=_where,
        data=("condition",),
    ),
    "MaskedFillBackward0": mask("masked_fill", "self", data=("mask",)),
    "MaskedFillBackward1": mask("masked_fill", "self", "value", data=("mask",)),
    "ConstantPadNdBackward0": mask("constant_pad_nd", "self"),
    "IndexFillBackward0": mask("index_fill", "self"),
    "FillBackward0": mask("fill", "self"),
    "ZeroBackward0": mask("zero", "self"),
    "ScatterBackward1": mask("scatter", "self"),
    "CopySlices": Operation(op="copy_slices", edges=("base",), makes="", carries=True),
    "CopyBackwards": Operation(op="copy", edges=("self", "src"), makes="inf", carries=True),
    "IndexPutBackward0": Operation(
        op="index_put", edges=("self", "values"), makes="inf", carries=True
    ),
    "ScatterBackward0": Operation(op="scatter", edges=("self", "src"), makes="", carries=True),
    "ScatterAddBackward0": Operation(op="scatter_add", edges=("self", "src"), makes="inf"),
    "IndexAddBackward0": Operation(op="index_add", edges=("self", "source"), makes="inf"),
}

SHAPES = SAME | MOVES | MASKS
