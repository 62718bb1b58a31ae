"""Views, copies, selections: elements are moved or masked, never computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.operations.operation import Moves, Operands, OperationKind


def mover(
    op: str,
    function: Callable[[Operands], Any],
    *settings: str,
    moves: Moves = "pick",
    transposes: bool = False,
) -> OperationKind:
    """Return an operation that moves the elements of one tensor."""
    return OperationKind(
        op=op, forward=function, settings=settings, makes="", moves=moves, transposes=transposes
    )


def joiner(op: str, function: Callable[[list[Tensor], int], Tensor]) -> OperationKind:
    """Return an operation that puts many tensors together along a dimension."""
    return OperationKind(
        op=op,
        forward=lambda a: function(a["tensors"], a["dim"]),
        settings=("dim",),
        makes="",
        moves="join",
        variadic=True,
        before_activation=True,
    )


def mask(op: str, *edges: str, data: tuple[str, ...] = ()) -> OperationKind:
    """Return an operation that overwrites elements with what autograd does not save."""
    return OperationKind(
        op=op,
        edges=edges,
        data=data,
        makes="",
        moves="overwrite",
        masks=True,
        drops_values=True,
    )


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


RESHAPES = {
    f"{kind}Backward0": replace(mover(op, _view, moves="whole"), reshapes=True)
    for kind, op in [("View", "view"), ("UnsafeView", "view"), ("ReshapeAlias", "reshape")]
}

SAME = {
    f"{kind}Backward{number}": mover(op, _view, moves="whole")
    for kind, number, op in [
        ("Unsqueeze", 0, "unsqueeze"),
        ("Unsqueeze", 1, "unsqueeze"),
        *(("Squeeze", number, "squeeze") for number in range(6)),
        ("Clone", 0, "clone"),
        ("Alias", 0, "alias"),
        ("LazyClone", 0, "clone"),
    ]
}

MOVES = {
    "TBackward0": mover("t", lambda a: a["self"].t(), moves="whole", transposes=True),
    "TransposeBackward0": mover(
        "transpose",
        lambda a: a["self"].transpose(a["dim0"], a["dim1"]),
        "dim0",
        "dim1",
        moves="whole",
        transposes=True,
    ),
    "PermuteBackward0": mover(
        "permute", lambda a: a["self"].permute(a["dims"]), "dims", moves="whole", transposes=True
    ),
    "ExpandBackward0": mover("expand", lambda a: a["self"].expand(a["shape"]), moves="whole"),
    "RepeatBackward0": mover("repeat", lambda a: a["self"].repeat(a["repeats"]), "repeats"),
    "FlipBackward0": mover("flip", lambda a: a["self"].flip(a["dims"]), "dims"),
    "RollBackward0": mover(
        "roll", lambda a: a["self"].roll(a["shifts"], a["dims"]), "shifts", "dims"
    ),
    "SelectBackward0": mover(
        "select", lambda a: a["self"].select(a["dim"], a["index"]), "dim", "index", moves="part"
    ),
    "SliceBackward0": mover("slice", _slice, "dim", "start", "end", "step", moves="part"),
    "DiagonalBackward0": mover(
        "diagonal",
        lambda a: a["self"].diagonal(a["offset"], a["dim1"], a["dim2"]),
        "offset",
        "dim1",
        "dim2",
        moves="part",
    ),
    "TrilBackward0": mover("tril", lambda a: a["self"].tril(a["diagonal"]), "diagonal"),
    "TriuBackward0": mover("triu", lambda a: a["self"].triu(a["diagonal"]), "diagonal"),
    "UnbindBackward0": mover("unbind", lambda a: a["self"].unbind(a["dim"]), "dim", moves="parts"),
    "SplitBackward0": mover(
        "split",
        lambda a: a["self"].split(a["split_size"], a["dim"]),
        "split_size",
        "dim",
        moves="parts",
    ),
    "UnsafeSplitBackward0": mover(
        "split",
        lambda a: a["self"].split(a["split_size"], a["dim"]),
        "split_size",
        "dim",
        moves="parts",
    ),
    "SplitWithSizesBackward0": mover(
        "split",
        lambda a: a["self"].split(a["split_sizes"], a["dim"]),
        "split_sizes",
        "dim",
        moves="parts",
    ),
    "CatBackward0": joiner("cat", torch.cat),
    "StackBackward0": joiner("stack", torch.stack),
    "IndexBackward0": OperationKind(
        op="index",
        forward=_index,
        settings=("indices",),
        makes="",
        moves="part",
        drops_values=True,
    ),
    "IndexSelectBackward0": OperationKind(
        op="index_select",
        forward=lambda a: torch.index_select(a["self"], a["dim"], a["index"]),
        data=("index",),
        settings=("dim",),
        makes="",
        moves="pick",
    ),
    "GatherBackward0": OperationKind(
        op="gather",
        forward=lambda a: torch.gather(a["self"], a["dim"], a["index"]),
        data=("index",),
        settings=("dim",),
        makes="",
        moves="pick",
    ),
    "MaskedSelectBackward0": OperationKind(
        op="masked_select",
        forward=lambda a: torch.masked_select(a["self"], a["mask"]),
        data=("mask",),
        makes="",
        moves="pick",
        drops_values=True,
    ),
    "EmbeddingBackward0": OperationKind(
        op="embedding",
        edges=("weight",),
        forward=_embedding,
        data=("indices",),
        makes="",
        moves="pick",
        takes_data=True,
    ),
    "ToCopyBackward0": OperationKind(
        op="to", forward=lambda a: a["self"].to(a["dtype"]), makes="inf", moves="whole", casts=True
    ),
    "ViewAsComplexBackward0": mover("view_as_complex", lambda a: torch.view_as_complex(a["self"])),
    "ViewAsRealBackward0": mover("view_as_real", lambda a: torch.view_as_real(a["self"])),
    "ConjBackward0": mover("conj", lambda a: a["self"].conj()),
}

MASKS = {
    "WhereBackward0": OperationKind(
        op="where",
        edges=("self", "other"),
        forward=_where,
        data=("condition",),
        makes="",
        moves="either",
        masks=True,
        drops_values=True,
    ),
    "MaskedFillBackward0": mask("masked_fill", "self", data=("mask",)),
    "MaskedFillBackward1": mask("masked_fill", "self", "value", data=("mask",)),
    "ConstantPadNdBackward0": mask("constant_pad_nd", "self"),
    "IndexFillBackward0": mask("index_fill", "self"),
    "FillBackward0": mask("fill", "self"),
    "ZeroBackward0": mask("zero", "self"),
    "ScatterBackward1": mask("scatter", "self"),
    "CopySlices": OperationKind(op="copy_slices", edges=("base",), makes="", moves="overwrite"),
    "CopyBackwards": OperationKind(
        op="copy", edges=("self", "src"), makes="inf", moves="overwrite"
    ),
    "IndexPutBackward0": OperationKind(
        op="index_put", edges=("self", "values"), makes="inf", moves="overwrite"
    ),
    "ScatterBackward0": OperationKind(
        op="scatter", edges=("self", "src"), makes="", moves="overwrite"
    ),
    "ScatterAddBackward0": OperationKind(op="scatter_add", edges=("self", "src"), makes="inf"),
    "IndexAddBackward0": OperationKind(op="index_add", edges=("self", "source"), makes="inf"),
}

SHAPES = RESHAPES | SAME | MOVES | MASKS
