"""What every entry of the table of operations must hold, and that an entry is all it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from gainstage.blackbox.replay import Reexecute
from gainstage.diagnose.code_change import domain_change
from gainstage.facts.fault import Fault, FaultEvidence, Hazard, Site
from gainstage.graph.autopsy.find import find_forward
from gainstage.graph.autopsy.replay import reexecute
from gainstage.graph.autopsy.values import Values, evaluate
from gainstage.graph.nodes.walk import walk
from gainstage.graph.operations.operation import ONE_SOURCE, OperationKind, unary, where
from gainstage.graph.operations.table import OPERATIONS, class_name_of, operation_named
from graph.test_operations import RESULTS

COMPUTED = [name for name in RESULTS if OPERATIONS[name].forward is not None]
LIMITED = [
    name for name in COMPUTED if OPERATIONS[name].makes != "nan inf" and not OPERATIONS[name].domain
]
MOVING = [name for name in COMPUTED if OPERATIONS[name].moves is not None]


def operands_of(name: str) -> dict[str, Any]:
    """Return the arguments of a node of a kind, as an example has saved them."""
    nodes = walk([RESULTS[name][1]()])
    node = [node for node in nodes if class_name_of(node) == name][-1]
    with torch.no_grad():
        return Values(nodes).operands(node)


def tensors_of(operands: dict[str, Any]) -> Iterator[Tensor]:
    for value in operands.values():
        if isinstance(value, Tensor) and value.is_floating_point():
            yield value


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_parts_of_an_entry_fit_together(name: str) -> None:
    kind = OPERATIONS[name]
    assert kind.op
    assert kind.edges or kind.forward is None, "what is computed again has arguments"
    assert set(kind.factors) <= set(kind.edges)
    assert kind.bias is None or (kind.bias in kind.edges and kind.factors)
    assert kind.recover is None or kind.edges == ("self",)
    assert kind.compose is None or kind.results != ("result",)
    assert kind.moves is not None or not (kind.masks or kind.casts or kind.transposes)
    assert kind.normalizes or not kind.batch_statistics
    assert sum(map(bool, (kind.adds, kind.scales, kind.power, kind.negates))) <= 1
    assert not kind.reshapes or kind.moves == "whole"
    assert not kind.convolves or kind.factors
    assert kind.accumulates or kind.reduction is None
    assert set(kind.makes.split()) <= {"nan", "inf"}
    for domain in kind.domain:
        assert domain.operand is None or domain.operand in kind.edges


@pytest.mark.parametrize("name", COMPUTED)
def test_within_its_domain_an_operation_is_finite(name: str) -> None:
    kind, operands = OPERATIONS[name], operands_of(name)
    for domain in kind.domain:
        assert not bool(domain.holds(operands).any()), domain.text
    for result in evaluate(kind, operands):
        assert bool(torch.isfinite(result).all())


@pytest.mark.parametrize("name", LIMITED)
def test_an_operation_makes_no_value_that_it_is_said_not_to_make(name: str) -> None:
    kind, operands = OPERATIONS[name], operands_of(name)
    huge = {
        key: value.sign() * torch.finfo(value.dtype).max / 4
        if isinstance(value, Tensor) and value.is_floating_point() and key in kind.edges
        else value
        for key, value in operands.items()
    }
    for result in evaluate(kind, huge):
        assert "nan" in kind.makes or not bool(torch.isnan(result).any())
        assert "inf" in kind.makes or not bool(torch.isinf(result).any())


@pytest.mark.parametrize("name", MOVING)
def test_what_moves_values_gives_out_values_that_went_in(name: str) -> None:
    kind, operands = OPERATIONS[name], operands_of(name)
    made = evaluate(kind, operands)[0]
    result = made.double().flatten()
    given = torch.cat([value.to(made.dtype).double().flatten() for value in tensors_of(operands)])
    constants = torch.zeros(1, dtype=torch.float64)  # of a triangle, and of masks
    assert bool(torch.isin(result.real, torch.cat([given, constants])).all())
    if kind.moves == "whole":
        assert bool(torch.isin(given, result).all())
    if kind.moves in ONE_SOURCE:
        assert len(list(tensors_of(operands))) == 1


@pytest.mark.parametrize("name", [name for name in COMPUTED if OPERATIONS[name].dispersion])
def test_a_dispersion_of_equal_values_is_zero(name: str) -> None:
    kind, operands = OPERATIONS[name], operands_of(name)
    value = 0.0 if kind.dispersion == "norm" else 0.5
    result = evaluate(kind, operands | {"self": torch.full_like(operands["self"], value)})[0]
    # `pairwise_distance` adds an eps of its own before the norm.
    assert bool((result.abs() < 1e-5).all())


SUMS = {
    "sum": lambda one, other: one + other,
    "difference": lambda one, other: one - other,
    "complement": lambda one, other: other - one,
    "product": lambda one, other: one * other,
    "quotient": lambda one, other: one / other,
}


@pytest.mark.parametrize(
    "name", [n for n in COMPUTED if OPERATIONS[n].adds or OPERATIONS[n].scales]
)
def test_arithmetic_is_what_it_is_said_to_be(name: str) -> None:
    kind = OPERATIONS[name]
    by_name = operands_of(name) | ({"alpha": 1} if kind.adds else {})
    (result,) = evaluate(kind, by_name)
    wanted = SUMS[str(kind.adds or kind.scales)](by_name["self"], by_name["other"])
    assert torch.equal(result, wanted)


@pytest.mark.parametrize(
    "name", [n for n in COMPUTED if OPERATIONS[n].power or OPERATIONS[n].negates]
)
def test_a_power_is_the_one_that_it_is_said_to_be(name: str) -> None:
    kind = OPERATIONS[name]
    exponents = {"root": 0.5, "inverse": -1.0, "inverse-root": -0.5, "any": 2.0}
    (result,) = evaluate(kind, operands_of(name) | {"self": torch.tensor(3.0), "exponent": 2.0})
    wanted = -3.0 if kind.negates else 3.0 ** exponents[str(kind.power)]
    # The power of a number: `self` is the number there, and `exponent` what autograd tracks.
    assert float(result) == pytest.approx(wanted)


@pytest.mark.parametrize("name", [name for name in COMPUTED if OPERATIONS[name].reduction])
def test_a_reduction_is_the_sum_or_the_mean(name: str) -> None:
    kind, operands = OPERATIONS[name], operands_of(name)
    ones = torch.full_like(operands["self"], 2.0)
    (result,) = evaluate(kind, operands | {"self": ones})
    of_each = 1 if kind.reduction == "mean" else ones.numel() // result.numel()
    assert bool((result == 2.0 * of_each).all())


@pytest.mark.parametrize("name", [name for name in COMPUTED if OPERATIONS[name].activation])
def test_an_activation_acts_on_each_element(name: str) -> None:
    operands = operands_of(name)
    (result,) = evaluate(OPERATIONS[name], operands)
    assert result.shape == operands["self"].shape


@pytest.mark.parametrize(
    "name", ["SoftmaxBackward0", "LogsumexpBackward0", "LogcumsumexpBackward0"]
)
def test_what_takes_masks_is_no_nan_where_one_place_is_masked(name: str) -> None:
    kind, operands = OPERATIONS[name], operands_of(name)
    assert kind.takes_masks
    masked = operands["self"].clone()
    masked[0, -1] = -torch.inf
    (result,) = evaluate(kind, operands | {"self": masked})
    assert not bool(torch.isnan(result).any())


def test_every_hazard_has_a_repair_of_its_own() -> None:
    told = {
        domain_change(Fault(0, "domain", "loss", Site("op"), FaultEvidence(hazard=hazard)))
        for hazard in (*get_args(Hazard), None)
    }
    assert len(told) == len(get_args(Hazard)) + 1


TOY = unary(
    "erfcx",
    torch.special.erfcx,
    where("erfcx of a value below -9", lambda x: x < -9),
    makes="inf",
    hazard="exponential",
    clamp="min=-9",
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[OperationKind]:
    """Put an operation into the table that is not in it: one entry, nothing else."""
    name = "SpecialErfcxBackward0"
    assert name not in OPERATIONS
    monkeypatch.setitem(OPERATIONS, name, TOY)
    operation_named.cache_clear()
    yield TOY
    operation_named.cache_clear()


def test_an_operation_is_added_by_one_entry(toy: OperationKind) -> None:
    x = torch.tensor([[0.5, 0.6], [-12.0, 0.1]], requires_grad=True)
    culprit = find_forward([torch.special.erfcx(x).sum()])
    assert culprit is not None
    assert (culprit.op, culprit.kind) == ("erfcx", "domain")
    assert culprit.text == "erfcx of a value below -9 in 1 of 4 elements"
    again: Reexecute = reexecute
    result = again(str(culprit.settings["kind"]), culprit.inputs, culprit.settings)
    assert bool(torch.isinf(result[1, 0]))
    assert operation_named("SpecialErfcxBackward0").hazard == toy.hazard


def test_without_its_entry_the_operation_is_opaque() -> None:
    x = torch.tensor([[0.5, 0.6], [-12.0, 0.1]], requires_grad=True)
    culprit = find_forward([torch.special.erfcx(x).sum()])
    assert culprit is not None
    assert culprit.kind != "domain"
