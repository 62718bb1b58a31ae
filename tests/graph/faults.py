"""Singular operations: a model, one of whose five samples makes one operation fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

INF, NAN = float("inf"), float("nan")
SAMPLE = 3
ROWS = torch.arange(5).unsqueeze(1)
HERE = ROWS == SAMPLE
OTHER = torch.full((5, 3), 0.7)


def given(value: float) -> Tensor:
    """Return positive data of 5 samples, with one value in one place of sample 3."""
    data = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    data[SAMPLE, 1] = value
    return data


@dataclass(frozen=True)
class Case:
    """How to make a loss of what the network gives, and what the autopsy must say of it."""

    value: float
    loss: Callable[[Tensor], Tensor]
    op: str
    kind: str
    text: str
    samples: tuple[int, ...] | None = (SAMPLE,)


def per_row(x: Tensor) -> Tensor:
    """Return a row of zeros for sample 3 and the others as they are."""
    return x * (~HERE).float()


def lowest(x: Tensor) -> Tensor:
    """Return the values with a whole row masked by -inf."""
    return x.masked_fill(HERE, -INF)


def eye(x: Tensor) -> Tensor:
    """Return a 3 × 3 matrix of equal eigenvalues."""
    return torch.eye(3) * x.mean()


FORWARD = {
    "log": Case(0.0, lambda x: x.log().mean(), "log", "domain", "log of 0 in 1 of 15 elements; sm"),
    "log of negative": Case(-1.0, lambda x: x.log().mean(), "log", "domain", "negative"),
    "log1p": Case(-1.0, lambda x: x.log1p().sum(), "log1p", "domain", "log1p of -1 in 1"),
    "log2": Case(0.0, lambda x: x.log2().sum(), "log2", "domain", "log2 of 0 in 1"),
    "log10": Case(0.0, lambda x: x.log10().sum(), "log10", "domain", "log10 of 0 in 1"),
    "sqrt": Case(-1.0, lambda x: x.sqrt().sum(), "sqrt", "domain", "sqrt of a negative number"),
    "sqrt after +": Case(0.0, lambda x: (x - 0.1).sqrt().sum(), "sqrt", "domain", "negative"),
    "rsqrt": Case(0.0, lambda x: x.rsqrt().sum(), "rsqrt", "domain", "rsqrt of 0 in 1"),
    "rsqrt negative": Case(-1.0, lambda x: x.rsqrt().sum(), "rsqrt", "domain", "of a negative"),
    "reciprocal": Case(0.0, lambda x: (1 / x).sum(), "reciprocal", "domain", "division by 0 in 1"),
    "div": Case(0.0, lambda x: ((x + 1).exp() / x).sum(), "div", "domain", "division by 0 in 1"),
    "0/0": Case(0.0, lambda x: (x / x).sum(), "div", "domain", "0/0 in 1 of 15"),
    "pow": Case(
        -0.5, lambda x: (x**0.5).sum(), "pow", "domain", "a fractional power of a negative"
    ),
    "pow pole": Case(0.0, lambda x: (x**-2).sum(), "pow", "domain", "a negative power of 0 in 1"),
    "pow tensors": Case(-0.5, lambda x: (x**OTHER).sum(), "pow", "domain", "a fractional power"),
    "acos": Case(1.5, lambda x: x.acos().sum(), "acos", "domain", "acos of a value outside"),
    "asin": Case(-1.5, lambda x: x.asin().sum(), "asin", "domain", "asin of a value outside"),
    "acosh": Case(-3.0, lambda x: (x * 4).acosh().sum(), "acosh", "domain", "acosh of a value bel"),
    "atanh": Case(1.0, lambda x: x.atanh().sum(), "atanh", "domain", "atanh of -1 or 1 in 1"),
    "erfinv": Case(1.0, lambda x: x.erfinv().sum(), "erfinv", "domain", "erfinv of -1 or 1 in 1"),
    "logit": Case(1.0, lambda x: x.logit().sum(), "logit", "domain", "logit of 0 or 1 in 1"),
    "lgamma": Case(
        -1.0, lambda x: x.lgamma().sum(), "lgamma", "domain", "lgamma of 0 or a negative"
    ),
    "digamma": Case(0.0, lambda x: x.digamma().sum(), "digamma", "domain", "digamma of 0 or"),
    "xlogy": Case(
        0.0, lambda x: torch.xlogy(OTHER, x).sum(), "xlogy", "domain", "xlogy of x and 0"
    ),
    "exp": Case(200.0, lambda x: x.exp().sum(), "exp", "overflow", "in float64 the result reaches"),
    "exp far": Case(1e5, lambda x: x.exp().sum(), "exp", "overflow", "float64 overflows too"),
    "expm1": Case(200.0, lambda x: x.expm1().sum(), "expm1", "overflow", "expm1 overflows float32"),
    "exp2": Case(200.0, lambda x: x.exp2().sum(), "exp2", "overflow", "exp2 overflows float32"),
    "sinh": Case(200.0, lambda x: x.sinh().sum(), "sinh", "overflow", "sinh overflows float32"),
    "cosh": Case(200.0, lambda x: x.cosh().sum(), "cosh", "overflow", "cosh overflows float32"),
    "square": Case(1e20, lambda x: (x**2).sum(), "pow", "overflow", "pow overflows float32"),
    "mul": Case(1e20, lambda x: (x * x).sum(), "mul", "overflow", "mul overflows float32"),
    "norm": Case(1e20, lambda x: x.norm(dim=1).sum(), "linalg_vector_norm", "overflow", "1e+20"),
    "logsumexp": Case(
        0.5, lambda x: lowest(x).logsumexp(1).sum(), "logsumexp", "domain", "logsumexp of all -inf"
    ),
    "softmax": Case(
        0.5, lambda x: (lowest(x).softmax(1) * OTHER).sum(), "softmax", "domain", "of all -inf"
    ),
    "softmax, added mask": Case(
        0.5,
        lambda x: (x + torch.where(HERE, -INF, 0.0)).softmax(1).sum(),
        "softmax",
        "domain",
        "inferred from the result",
    ),
    "log_softmax": Case(
        0.5, lambda x: lowest(x).log_softmax(1).sum(), "log_softmax", "domain", "of all -inf"
    ),
    "cross_entropy, weights 0": Case(
        0.5,
        lambda x: F.cross_entropy(x, torch.zeros(5, dtype=torch.long), torch.zeros(3)),
        "nll_loss",
        "domain",
        "no target counts",
        None,
    ),
    "cross_entropy, masked class": Case(
        0.5,
        lambda x: F.cross_entropy(
            x.masked_fill(HERE & (torch.arange(3) == 0), -INF), torch.zeros(5, dtype=torch.long)
        ),
        "nll_loss",
        "domain",
        "the target's class has log-probability -inf in 1 of 5",
    ),
    "inf - inf": Case(
        200.0, lambda x: (x.exp() - x.exp()).sum(), "exp", "overflow", "exp overflows"
    ),
    "inf / inf": Case(
        200.0, lambda x: (x.exp() / x.exp()).sum(), "exp", "overflow", "exp overflows"
    ),
    "0 × inf": Case(
        200.0, lambda x: (x.exp() * (~HERE).float()).sum(), "exp", "overflow", "exp overflows"
    ),
    "mean of none": Case(
        0.5, lambda x: x[x > 9].mean(), "mean", "domain", "mean of no elements", None
    ),
    "normalize by hand": Case(
        0.0,
        lambda x: (per_row(x) / per_row(x).norm(dim=1, keepdim=True)).sum(),
        "div",
        "domain",
        "0/0",
    ),
    "cosine by hand": Case(
        0.5,
        lambda x: (
            (per_row(x) * OTHER).sum(1) / (per_row(x).norm(dim=1) * OTHER.norm(dim=1))
        ).sum(),
        "div",
        "domain",
        "0/0 in 1 of 5",
    ),
    "kl": Case(
        0.0, lambda x: F.kl_div(x.log(), OTHER, reduction="batchmean"), "log", "domain", "log of 0"
    ),
    "bce by hand": Case(
        1.0,
        lambda x: -(OTHER * x.log() + (1 - OTHER) * (1 - x).log()).mean(),
        "log",
        "domain",
        "log of 0 in 1",
    ),
    "gaussian likelihood": Case(
        0.5,
        lambda x: F.gaussian_nll_loss(x, OTHER, x * 0 + 1e-42, eps=0),
        "div",
        "overflow",
        "div overflows float32",
        (0, 1, 2, 3, 4),
    ),
    "gumbel": Case(0.0, lambda x: -(-(x.log())).log().sum(), "log", "domain", "log of 0 in 1"),
    "layer_norm": Case(
        0.5, lambda x: F.layer_norm(per_row(x), (3,), eps=0.0).sum(), "layer_norm", "domain", "0/0"
    ),
    "matmul in float16": Case(
        500.0,
        lambda x: (x.half() @ (x.half() * 100).t()).float().sum(),
        "mm",
        "overflow",
        "mm overflows float16 (at most 6.55e+04)",
    ),
    "cast to float16": Case(1e6, lambda x: x.half().float().sum(), "to", "overflow", "1e+06"),
    "cast to bfloat16": Case(
        3.4e38, lambda x: x.bfloat16().sum(), "to", "overflow", "to overflows bfloat16"
    ),
    "mse": Case(
        1e25, lambda x: F.mse_loss(x, OTHER), "mse_loss", "overflow", "mse_loss overflows float32"
    ),
    "det": Case(
        1e20,
        lambda x: torch.linalg.det(x[3].diag() * 1e15),
        "linalg_det",
        "overflow",
        "linalg_det",
        None,
    ),
    "slogdet": Case(
        0.5,
        lambda x: torch.linalg.slogdet(x.t() @ x * 0)[1],
        "linalg_slogdet",
        "domain",
        "log of the determinant of a singular matrix",
        None,
    ),
}

BACKWARD = {
    "sqrt": Case(0.0, lambda x: x.sqrt().sum(), "sqrt", "singular-derivative", "at self = 0 in 1"),
    "pow": Case(0.0, lambda x: (x**0.5).sum(), "pow", "singular-derivative", "at self = 0 in 1"),
    "acos": Case(1.0, lambda x: x.acos().sum(), "acos", "singular-derivative", "at self = 1 in 1"),
    "asin": Case(-1.0, lambda x: x.asin().sum(), "asin", "singular-derivative", "at self = -1"),
    "hypot": Case(
        0.0, lambda x: torch.hypot(x, x).sum(), "hypot", "singular-derivative", "at self = 0 in 1"
    ),
    "entropy": Case(
        0.0, lambda x: torch.special.entr(x).sum(), "entr", "singular-derivative", "at self = 0"
    ),
    "xlogy": Case(
        0.0, lambda x: torch.xlogy(x, x).sum(), "xlogy", "singular-derivative", "at other = 0"
    ),
    "acosh": Case(
        -0.5, lambda x: (x + 1.5).acosh().sum(), "acosh", "singular-derivative", "at self = 1"
    ),
    "svd": Case(
        0.5,
        lambda x: torch.linalg.svd(eye(x))[0].sum(),
        "linalg_svd",
        "singular-derivative",
        "where two values are equal",
        None,
    ),
    "eigh": Case(
        0.5,
        lambda x: torch.linalg.eigh(eye(x))[1].sum(),
        "linalg_eigh",
        "singular-derivative",
        "where two values are equal",
        None,
    ),
    "distance by hand": Case(
        0.5,
        lambda x: ((per_row(x) ** 2).sum(1)).sqrt().sum(),
        "sqrt",
        "singular-derivative",
        "at self = 0 in 1 of 5",
    ),
    "log of small": Case(1e-39, lambda x: x.log().sum(), "log", "overflow", "log overflows in 1"),
    "rsqrt of small": Case(
        1e-30, lambda x: x.rsqrt().sum(), "rsqrt", "overflow", "float64 would hold it"
    ),
    "div by small": Case(
        1e-30, lambda x: ((x + 1).exp() / x).sum(), "div", "overflow", "derivative of div overflows"
    ),
    "where log": Case(
        0.0,
        lambda x: torch.where(x > 0, x.log(), torch.zeros(())).sum(),
        "log",
        "domain",
        "hidden from the loss by where",
    ),
    "where div": Case(
        0.0,
        lambda x: torch.where(x > 0, x.detach() / x, torch.zeros(())).sum(),
        "div",
        "domain",
        "0/0 in 1 of 15 elements; hidden from the loss by where",
    ),
    "where reciprocal": Case(
        0.0,
        lambda x: torch.where(x > 0, 1 / x, torch.zeros(())).sum(),
        "reciprocal",
        "domain",
        "division by 0 in 1",
    ),
    "where exp": Case(
        200.0,
        lambda x: torch.where(x < 9, x.exp(), x).sum(),
        "exp",
        "overflow",
        "hidden from the loss by where",
    ),
    "where rsqrt": Case(
        -1.0, lambda x: torch.where(x > 0, x.rsqrt(), x).sum(), "rsqrt", "domain", "hidden from the"
    ),
    "masked_fill log": Case(
        0.0, lambda x: x.log().masked_fill(x <= 0, 0.0).sum(), "log", "domain", "by masked_fill"
    ),
    "indexed log": Case(0.0, lambda x: x.log()[x > 0].sum(), "log", "domain", "by index"),
    "clamped log": Case(
        0.0, lambda x: x.log().clamp(min=-9).sum(), "log", "domain", "log of 0 in 1"
    ),
    "masked softmax": Case(
        0.5,
        lambda x: torch.where(HERE, 0.0, (x + torch.where(HERE, -INF, 0.0)).softmax(1)).sum(),
        "softmax",
        "domain",
        "softmax of all -inf",
    ),
}

HEALTHY: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
    "plain": (0.5, lambda x: x.log().exp().sqrt().mean()),
    "large but finite": (1e18, lambda x: (x * x).sum()),
    "masked attention": (
        0.5,
        lambda x: x.masked_fill(torch.eye(5, 3).bool(), -INF).softmax(1).log_softmax(0).mean(),
    ),
    "added mask": (0.5, lambda x: (x + torch.eye(5, 3) * -1e30).softmax(1).mean()),
    "log clamped before": (0.0, lambda x: x.clamp(min=1e-6).log().mean()),
    "norm of zeros": (0.5, lambda x: per_row(x).norm(dim=1).sum()),
    "std of constants": (0.5, lambda x: per_row(x).std(1).sum()),
    "normalize of zeros": (0.5, lambda x: F.normalize(per_row(x)).sum()),
    "cosine of zeros": (0.5, lambda x: F.cosine_similarity(per_row(x), OTHER).sum()),
    "atan2 at 0": (0.0, lambda x: torch.atan2(x, x).sum()),
    "bce at 0 and 1": (0.5, lambda x: F.binary_cross_entropy((x > 0.4).float() * x / x, OTHER)),
    "cdist of equal points": (0.5, lambda x: torch.cdist(x, x).sum()),
    "svdvals of equal values": (0.5, lambda x: torch.linalg.svdvals(eye(x)).sum()),
}
