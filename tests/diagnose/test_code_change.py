"""What a person is told to change: the named edit takes the failure away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gainstage.diagnose.code_change import domain_change, dtype_change
from gainstage.facts.fault import Fault, FaultEvidence, Site
from gainstage.graph.operations.table import OPERATIONS

HAZARDS = {operation.op: operation.hazard for operation in OPERATIONS.values()}

Make = Callable[[Tensor], Tensor]
EDITS: dict[str, tuple[float, Make, str, Make]] = {
    "log": (0.0, torch.log, "x.clamp(min=1e-8)", lambda x: x.clamp(min=1e-8).log()),
    "sqrt": (0.0, torch.sqrt, "(x + 1e-8).sqrt()", lambda x: (x + 1e-8).sqrt()),
    "acos": (
        1.0,
        torch.acos,
        "x.clamp(-1 + 1e-6, 1 - 1e-6)",
        lambda x: x.clamp(-1 + 1e-6, 1 - 1e-6).acos(),
    ),
    "acosh": (
        1.0,
        torch.acosh,
        "x.clamp(min=1 + 1e-6)",
        lambda x: x.clamp(min=1 + 1e-6).acosh(),
    ),
    "pow": (0.0, lambda x: x**0.5, "x.clamp(min=1e-8)", lambda x: x.clamp(min=1e-8) ** 0.5),
    "div": (0.0, lambda x: x / x, "add an eps", lambda x: x / (x + 1e-8)),
    "softmax": (
        float("-inf"),
        lambda x: (x + 0 * x[:1]).softmax(0),
        "torch.finfo(x.dtype).min",
        lambda x: x.clamp(min=torch.finfo(x.dtype).min).softmax(0),
    ),
}


def is_finite(make: Make, value: float) -> bool:
    x = torch.full((3,), value, requires_grad=True)
    y = make(x).sum()
    (gradient,) = torch.autograd.grad(y, x)
    return bool(y.isfinite() and gradient.isfinite().all())


@pytest.mark.parametrize("op", EDITS)
def test_the_change_named_for_an_operation_makes_value_and_gradient_finite(op: str) -> None:
    value, before, words, after = EDITS[op]
    known = FaultEvidence(hazard=HAZARDS[op])
    fault = Fault(3, "domain", "loss", Site(op, file="train.py", line=20), known)
    said = domain_change(fault)
    assert said.startswith(f"{op}, line 20: ")
    assert words in said
    assert not is_finite(before, value)
    assert is_finite(after, value)


def test_an_operation_without_a_recipe_and_a_fault_that_is_not_known_have_the_general_one() -> None:
    general = "keep the operation inside its domain"
    assert domain_change(Fault(0, "domain", "loss", Site("lgamma"))) == f"lgamma: {general}"
    assert domain_change(None) == general


def test_what_overflows_half_precision_is_to_be_computed_in_float32() -> None:
    fault = Fault(3, "overflow", "forward", Site("mul", file="train.py", line=9))
    assert dtype_change(fault).startswith("mul, line 9: compute it in float32")
    x = torch.full((2,), 300.0, dtype=torch.float16)
    assert not (x * x).isfinite().all()
    assert (x.float() * x.float()).isfinite().all()
