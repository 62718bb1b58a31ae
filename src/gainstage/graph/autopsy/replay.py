"""Running a culprit again from the arguments that a black box kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gainstage.errors import ConfigError
from gainstage.graph.autopsy.derivative import derivative_of
from gainstage.graph.autopsy.values import evaluate
from gainstage.graph.nodes.isolated_thread import run_isolated
from gainstage.graph.operations.operation import OperationKind
from gainstage.graph.operations.table import OPERATIONS


def reexecute(kind: str, inputs: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Tensor:
    """Return the result of an operation, computed again as in the run.

    Args:
        kind: The node's class, such as `LogBackward0`: the `kind` of an offence's settings.
        inputs: Its tensors by name, as in an offence.
        settings: All else, as in an offence, or as read back from JSON.

    Raises:
        ConfigError: If the kind cannot be computed again, or an argument it needs is missing.
    """
    operation = _known(kind)
    results = run_isolated(lambda: evaluate(operation, _operands(inputs, settings)))
    if not results:
        missing = [n for n in (*operation.edges, *operation.data) if n not in {*inputs, *settings}]
        raise ConfigError(f"{operation.op} needs the arguments {missing!r}, which were not saved")
    return results[0]


def rederive(
    kind: str, inputs: Mapping[str, Tensor], settings: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return an operation's gradients for an incoming gradient of ones, by argument.

    Args:
        kind: As for `reexecute`.
        inputs: As for `reexecute`.
        settings: As for `reexecute`.

    Raises:
        ConfigError: If the kind cannot be computed again, or an argument it needs is missing.
    """
    operation = _known(kind)
    operands = _operands(inputs, settings)
    tracked = [name for name in operation.edges if name in inputs]
    found = run_isolated(lambda: derivative_of(operation, operands, tracked, (0, 1, 2)))
    if found is None:
        raise ConfigError(f"the derivative of {operation.op} needs arguments that were not saved")
    return found.gradients


def _known(kind: str) -> OperationKind:
    operation = OPERATIONS.get(kind)
    if operation is None or operation.forward is None:
        raise ConfigError(f"nodes of kind {kind!r} cannot be computed again from their arguments")
    return operation


def _operands(inputs: Mapping[str, Tensor], settings: Mapping[str, Any]) -> dict[str, Any]:
    plain = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
    dtype = plain.get("dtype")
    if isinstance(dtype, str):
        plain["dtype"] = getattr(torch, dtype)
    operands = plain | dict(inputs)
    listed = [operands[name] for name in sorted(inputs) if name.startswith("tensors[")]
    return operands | ({"tensors": listed} if listed else {})
