"""Singular operations from a user's side: a training that fails, and what its record names."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from singular_script import (
    BAD_STEP,
    SAMPLE,
    Place,
    Written,
    first_fault,
    watch_script,
    write_script,
)

from conftest import Runner
from gainstage import load
from gainstage.facts.fault import Fault, FaultKind

ONE = "(0.0 if bad.any() else 1.0)"
"""A factor that is 0 at the bad step."""
KEPT = "(x * ~bad)"
"""`x` with a sample of zeros at the bad step."""
MATRIX = "torch.eye(3) * x.mean()"
SPREAD = f"{MATRIX} + {ONE} * torch.diag(torch.arange(3.0))"
"""A matrix whose eigenvalues are equal at the bad step."""


@dataclass(frozen=True)
class Case:
    """An expression that fails, and what must be said of it."""

    value: float
    """Of one element of `x`, at the bad step."""
    expression: str
    op: str
    kind: FaultKind = "domain"
    place: Place = "module"
    samples: tuple[int, ...] | None = (SAMPLE,)


FORWARD = {
    "log": Case(0.0, "x.log()", "log"),
    "log of a negative number": Case(-1.0, "x.log().mean()", "log", place="loss"),
    "log1p": Case(-1.0, "x.log1p()", "log1p"),
    "log2": Case(0.0, "x.log2().mean()", "log2", place="loss"),
    "sqrt": Case(-1.0, "x.sqrt()", "sqrt"),
    "rsqrt": Case(0.0, "x.rsqrt()", "rsqrt"),
    "reciprocal": Case(0.0, "1 / x", "reciprocal"),
    "div": Case(0.0, "(x + 1).exp() / x", "div"),
    "0/0": Case(0.0, "x / x", "div"),
    "pow": Case(-0.5, "x**0.5", "pow"),
    "pow pole": Case(0.0, "x**-2", "pow"),
    "norm": Case(1e20, "x.norm(dim=1)", "linalg_vector_norm", "overflow"),
    "acos": Case(1.5, "x.acos()", "acos"),
    "asin": Case(-1.5, "x.asin()", "asin"),
    "atanh": Case(1.0, "x.atanh()", "atanh"),
    "acosh": Case(-3.0, "(x + 2).acosh()", "acosh"),
    "exp": Case(200.0, "x.exp()", "exp", "overflow"),
    "expm1": Case(200.0, "x.expm1()", "expm1", "overflow"),
    "sinh": Case(200.0, "x.sinh()", "sinh", "overflow"),
    "square": Case(1e20, "x**2", "pow", "overflow"),
    "prod": Case(1e30, "(x * 1e5).prod(1)", "prod", "overflow"),
    "lgamma": Case(-1.0, "torch.lgamma(x)", "lgamma"),
    "digamma": Case(0.0, "torch.digamma(x)", "digamma"),
    "erfinv": Case(1.0, "x.erfinv()", "erfinv"),
    "logit": Case(1.0, "x.logit()", "logit"),
    "logsumexp": Case(0.5, "x.masked_fill(bad, -INF).logsumexp(1)", "logsumexp"),
    "softmax": Case(0.5, "x.masked_fill(bad, -INF).softmax(1) * OTHER", "softmax"),
    "log_softmax": Case(0.5, "x.masked_fill(bad, -INF).log_softmax(1)", "log_softmax"),
    "cross_entropy of weights 0": Case(
        0.5,
        f"F.cross_entropy(x, CLASSES, torch.ones(3) * {ONE})",
        "nll_loss",
        place="loss",
        samples=None,
    ),
    "cross_entropy of a masked class": Case(
        0.5,
        "F.cross_entropy(x.masked_fill(bad & (CLASSES[:3] == torch.arange(3)), -INF), CLASSES)",
        "nll_loss",
        place="loss",
    ),
    "var of one": Case(
        0.5, "x[: 1 if bad.any() else 5, 0].var()", "var", place="loss", samples=None
    ),
    "std of one": Case(
        0.5, "x[: 1 if bad.any() else 5, 0].std()", "std", place="loss", samples=None
    ),
    "normalize": Case(0.5, f"F.normalize({KEPT}, eps=0.0)", "div"),
    "cosine_similarity": Case(0.5, f"F.cosine_similarity({KEPT}, OTHER, eps=0.0)", "div"),
    "batch norm by hand": Case(
        0.5,
        f"(x * {ONE} - x.mean(0) * {ONE}) / (x * {ONE}).var(0).sqrt()",
        "div",
        samples=(0, 1, 2, 3, 4),
    ),
    "layer_norm": Case(0.5, f"F.layer_norm({KEPT}, (3,), eps=0.0)", "layer_norm"),
    "slogdet": Case(
        0.5, f"torch.linalg.slogdet(x.t() @ x * {ONE})[1]", "linalg_slogdet", samples=None
    ),
    "binary cross entropy by hand": Case(
        1.0, "-(OTHER * x.log() + (1 - OTHER) * (1 - x).log()).mean()", "log", place="loss"
    ),
    "kl_div": Case(0.0, "F.kl_div(x.log(), OTHER, reduction='batchmean')", "log", place="loss"),
    "gumbel": Case(0.0, "-(-(x.log())).log()", "log"),
    "gaussian_nll_loss": Case(
        0.5,
        f"F.gaussian_nll_loss(x, OTHER, x * 0 + {ONE} + 1e-42, eps=0)",
        "div",
        "overflow",
        "loss",
        (0, 1, 2, 3, 4),
    ),
    "mean of none": Case(
        0.5, "x[x > (9 if bad.any() else 0)].mean()", "mean", place="loss", samples=None
    ),
    "index mean over none": Case(
        0.5,
        "x.new_zeros(5, 3).index_add(0, bad[:, 0].long() * 4, x) / (1.0 - bad.float())",
        "div",
    ),
    "matmul in float16": Case(
        500.0, "(x.half() @ (x.half() * 100).t()).float()", "mm", "overflow"
    ),
    "matmul in bfloat16": Case(1e20, "(x.bfloat16() @ x.bfloat16().t()).float()", "mm", "overflow"),
    "cast to float16": Case(1e6, "x.half().float()", "to", "overflow"),
    "mse_loss": Case(1e25, "F.mse_loss(x, OTHER)", "mse_loss", "overflow", "loss"),
    "xlogy": Case(0.0, "torch.xlogy(OTHER, x)", "xlogy"),
}  # fmt: skip

BACKWARD = {
    "sqrt": Case(0.0, "x.sqrt()", "sqrt", "singular-derivative"),
    "pow": Case(0.0, "x**0.5", "pow", "singular-derivative"),
    "acos": Case(1.0, "x.acos()", "acos", "singular-derivative"),
    "asin": Case(-1.0, "x.asin().sum()", "asin", "singular-derivative", "loss"),
    "acosh": Case(-1.0, "(x + 2).acosh()", "acosh", "singular-derivative"),
    "hypot": Case(0.0, "torch.hypot(x, x)", "hypot", "singular-derivative"),
    "entropy": Case(0.0, "torch.special.entr(x).sum()", "entr", "singular-derivative", "loss"),
    "xlogy": Case(0.0, "torch.xlogy(x, x)", "xlogy", "singular-derivative"),
    "distance by hand": Case(0.5, f"({KEPT} ** 2).sum(1).sqrt()", "sqrt", "singular-derivative"),
    "cholesky": Case(
        0.5,
        f"torch.linalg.cholesky_ex({MATRIX} * {ONE})[0]",
        "linalg_cholesky",
        "singular-derivative",
        samples=None,
    ),
    "svd of equal values": Case(
        0.5, f"torch.linalg.svd({SPREAD})[0]", "linalg_svd", "singular-derivative", samples=None
    ),
    "eigh of equal values": Case(
        0.5, f"torch.linalg.eigh({SPREAD})[1]", "linalg_eigh", "singular-derivative", samples=None
    ),
    "log of a small number": Case(1e-39, "x.log()", "log", "overflow"),
    "rsqrt of a small number": Case(1e-30, "x.rsqrt()", "rsqrt", "overflow"),
    "div by a small number": Case(1e-30, "(x + 1).exp() / x", "div", "overflow"),
    "where and log": Case(0.0, "torch.where(x > 0, x.log(), torch.zeros(()))", "log"),
    "where and sqrt": Case(-1.0, "torch.where(x > 0, x.sqrt(), x)", "sqrt"),
    "where and div": Case(0.0, "torch.where(x > 0, OTHER / x, torch.zeros(()))", "div"),
    "where and exp": Case(200.0, "torch.where(x < 9, x.exp(), x)", "exp", "overflow"),
    "product in float16": Case(
        0.5, f"(x.half() * 100).float() * (1e10 - 1e10 * {ONE})", "to", "overflow", samples=None
    ),
    "product with a weight": Case(
        0.5,
        f"(self.scale * 1e30 - 1e30) * (1e10 - 1e10 * {ONE}) + x",
        "mul",
        "overflow",
        samples=None,
    ),
    "product in float32": Case(
        0.5, f"((x * 1e-30) * (1e30 - 1e30 * {ONE})) * 1e30", "mul", "overflow", samples=None
    ),
    "nan_to_num and log": Case(0.0, "x.log().nan_to_num()", "log"),
}

HEALTHY = {
    "atan2 at 0": (0.0, "torch.atan2(x, x)"),
    "norm of zeros": (0.5, f"{KEPT}.norm(dim=1)"),
    "std of equal values": (0.5, f"{KEPT}.std(1)"),
    "binary_cross_entropy at 0": (0.0, "F.binary_cross_entropy(x, OTHER)"),
    "scatter mean over none": (
        0.5,
        "torch.zeros(5, 3).scatter_reduce(0, CLASSES.unsqueeze(1).expand(5, 3), x, 'mean',"
        " include_self=False)",
    ),
    "cdist of equal points": (0.5, f"torch.cdist({KEPT}, x * 0)"),
    "batch_norm of constants": (0.5, f"F.batch_norm(x * {ONE}, None, None, training=True)"),
}
"""Operations of the same kind that torch keeps finite, both ways."""


@pytest.fixture(scope="module", autouse=True)
def _fewer_objects() -> Iterator[None]:
    """Spare `watch` the objects of torch and of other tests, among which it looks around."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first one imports half of torch
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.collect()  # the optimizers of these tests, lest the next ones watch them


def check(fault: Fault, case: Case, script: Written, *, is_backward: bool = False) -> None:
    """Hold what was said of a fault against what is true."""
    in_module = case.place == "module"
    assert fault.step == BAD_STEP
    assert (fault.site.op, fault.kind) == (case.op, case.kind), fault.text
    assert (fault.site.file, fault.site.line) == (str(script.path), script.line)
    assert fault.site.module == ("head" if in_module else None)
    assert fault.phase == ("backward" if is_backward else "forward" if in_module else "loss")
    assert fault.samples == case.samples


@pytest.mark.filterwarnings("ignore:.*degrees of freedom is <= 0:UserWarning")
@pytest.mark.parametrize("name", FORWARD)
def test_an_operation_that_fails_is_named_at_once(name: str, tmp_path: Path) -> None:
    case = FORWARD[name]
    script = write_script(tmp_path, case.expression, case.value, case.place)
    check(first_fault(watch_script(script.path)), case, script)


@pytest.mark.parametrize("name", BACKWARD)
def test_an_operation_whose_derivative_fails_is_named_at_once(name: str, tmp_path: Path) -> None:
    case = BACKWARD[name]
    script = write_script(tmp_path, case.expression, case.value, case.place)
    check(first_fault(watch_script(script.path)), case, script, is_backward=True)


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_blamed_where_torch_stays_finite(name: str, tmp_path: Path) -> None:
    value, expression = HEALTHY[name]
    script = write_script(tmp_path, expression, value, "module")
    assert watch_script(script.path).faults() == ()


@pytest.mark.parametrize(
    ("case", "is_backward"),
    [(FORWARD["log"], False), (BACKWARD["where and log"], True)],
    ids=["forward", "backward"],
)
def test_a_run_from_the_command_line_names_it_as_well(
    case: Case, is_backward: bool, tmp_path: Path, watched: Runner
) -> None:
    script = write_script(tmp_path, case.expression, case.value, case.place)
    ran = watched(str(script.path))
    assert ran.code == 0
    check(first_fault(load(ran.folder)), case, script, is_backward=is_backward)


def test_a_long_chain_is_told_by_its_first_nine_and_its_last_three_links(tmp_path: Path) -> None:
    turns = ".neg().abs()" * 10
    script = write_script(tmp_path, f"x.log(){turns}.sum()", 0.0, "loss")
    chain = [site.op for site in first_fault(watch_script(script.path)).chain]
    assert chain == ["log", *["neg", "abs"] * 4, "neg", "abs", "sum"]
