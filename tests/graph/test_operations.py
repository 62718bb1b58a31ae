"""The table computes what torch computed, and names what torch calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gainstage.graph.autopsy.values import Values, evaluate
from gainstage.graph.nodes.walk import walk
from gainstage.graph.operations.table import (
    OPERATIONS,
    class_name_of,
    function_name,
    op_of,
    operation_of,
)

Made = Callable[[], Tensor]


def p(*shape: int, shift: float = 0.1) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) + shift).requires_grad_()


def spd() -> Tensor:
    return (torch.eye(3) * 3 + 0.1).requires_grad_()


def conv(**settings: Any) -> Tensor:
    return F.conv2d(p(2, 4, 5, 5), p(4, 4 // settings.get("groups", 1), 3, 3), **settings)


MASK = torch.tensor([[True, False, True], [False, False, True]])
INDEX = torch.tensor([[0, 1, 0], [1, 1, 0]])
LABEL = torch.tensor([2, 0])

RESULTS: dict[str, tuple[str, Made]] = {
    # kind: (op, what makes it)
    "AbsBackward0": ("abs", lambda: p(2, 3).abs()),
    "AcosBackward0": ("acos", lambda: (p(3) / 2).acos()),
    "AcoshBackward0": ("acosh", lambda: p(3, shift=1).acosh()),
    "AsinBackward0": ("asin", lambda: (p(3) / 2).asin()),
    "AsinhBackward0": ("asinh", lambda: p(3).asinh()),
    "AtanBackward0": ("atan", lambda: p(3).atan()),
    "AtanhBackward0": ("atanh", lambda: (p(3) / 2).atanh()),
    "CosBackward0": ("cos", lambda: p(3).cos()),
    "CoshBackward0": ("cosh", lambda: p(3).cosh()),
    "DigammaBackward0": ("digamma", lambda: p(3).digamma()),
    "ErfBackward0": ("erf", lambda: p(3).erf()),
    "ErfcBackward0": ("erfc", lambda: p(3).erfc()),
    "ErfinvBackward0": ("erfinv", lambda: (p(3) / 2).erfinv()),
    "ExpBackward0": ("exp", lambda: p(3).exp()),
    "Exp2Backward0": ("exp2", lambda: p(3).exp2()),
    "Expm1Backward0": ("expm1", lambda: p(3).expm1()),
    "LgammaBackward0": ("lgamma", lambda: p(3).lgamma()),
    "LogBackward0": ("log", lambda: p(3).log()),
    "Log2Backward0": ("log2", lambda: p(3).log2()),
    "Log10Backward0": ("log10", lambda: p(3).log10()),
    "Log1PBackward0": ("log1p", lambda: p(3).log1p()),
    "LogitBackward0": ("logit", lambda: (p(3) / 2).logit()),
    "NegBackward0": ("neg", lambda: -p(3)),
    "ReciprocalBackward0": ("reciprocal", lambda: p(3).reciprocal()),
    "RsqrtBackward0": ("rsqrt", lambda: p(3).rsqrt()),
    "SinBackward0": ("sin", lambda: p(3).sin()),
    "SincBackward0": ("sinc", lambda: p(3).sinc()),
    "SinhBackward0": ("sinh", lambda: p(3).sinh()),
    "SpecialEntrBackward0": ("entr", lambda: torch.special.entr(p(3))),
    "SqrtBackward0": ("sqrt", lambda: p(3).sqrt()),
    "TanBackward0": ("tan", lambda: p(3).tan()),
    "CeluBackward0": ("celu", lambda: F.celu(p(3), 0.5)),
    "EluBackward0": ("elu", lambda: F.elu(p(3, shift=-0.5), 0.5)),
    "GeluBackward0": ("gelu", lambda: F.gelu(p(3), approximate="tanh")),
    "GluBackward0": ("glu", lambda: F.glu(p(3, 4))),
    "HardswishBackward0": ("hardswish", lambda: F.hardswish(p(3))),
    "HardtanhBackward0": ("hardtanh", lambda: F.hardtanh(p(3), -0.3, 0.3)),
    "LeakyReluBackward0": ("leaky_relu", lambda: F.leaky_relu(p(3, shift=-0.5), 0.2)),
    "LogSigmoidBackward0": ("logsigmoid", lambda: F.logsigmoid(p(3))),
    "MishBackward0": ("mish", lambda: F.mish(p(3))),
    "PreluKernelBackward0": ("prelu", lambda: F.prelu(p(3, shift=-0.5), p(1))),
    "ReluBackward0": ("relu", lambda: p(3, shift=-0.5).relu()),
    "SigmoidBackward0": ("sigmoid", lambda: p(3).sigmoid()),
    "SiluBackward0": ("silu", lambda: F.silu(p(3))),
    "SoftplusBackward0": ("softplus", lambda: F.softplus(p(3), 2.0)),
    "TanhBackward0": ("tanh", lambda: p(3).tanh()),
    "AddBackward0": ("add", lambda: torch.add(p(3), p(3).exp(), alpha=2)),
    "SubBackward0": ("sub", lambda: torch.sub(p(3), p(3).exp(), alpha=2)),
    "RsubBackward0": ("rsub", lambda: torch.rsub(p(3), p(3).exp(), alpha=2)),
    "MulBackward0": ("mul", lambda: p(3) * 3.0),
    "DivBackward0": ("div", lambda: p(3) / p(3).exp()),
    "PowBackward0": ("pow", lambda: p(3) ** 2.5),
    "PowBackward1": ("pow", lambda: p(3) ** p(3)),
    "PowBackward2": ("pow", lambda: 2.0 ** p(3)),
    "AddcdivBackward0": ("addcdiv", lambda: torch.addcdiv(p(3), p(3), p(3), value=2)),
    "AddcmulBackward0": ("addcmul", lambda: torch.addcmul(p(3), p(3), p(3), value=2)),
    "Atan2Backward0": ("atan2", lambda: torch.atan2(p(3), p(3))),
    "HypotBackward0": ("hypot", lambda: torch.hypot(p(3), p(3))),
    "LerpBackward0": ("lerp", lambda: torch.lerp(p(3), p(3).exp(), 0.3)),
    "LogaddexpBackward0": ("logaddexp", lambda: torch.logaddexp(p(3), p(3))),
    "MaximumBackward0": ("maximum", lambda: torch.maximum(p(3), p(3).exp())),
    "MinimumBackward0": ("minimum", lambda: torch.minimum(p(3), p(3).exp())),
    "XlogyBackward0": ("xlogy", lambda: torch.xlogy(p(3), p(3))),
    "ClampBackward1": ("clamp", lambda: p(3).clamp(0.2, 0.6)),
    "ClampMinBackward0": ("clamp_min", lambda: p(3).clamp_min(0.4)),
    "ClampMaxBackward0": ("clamp_max", lambda: p(3).clamp_max(0.4)),
    "SumBackward0": ("sum", lambda: p(2, 3).sum()),
    "SumBackward1": ("sum", lambda: p(2, 3).sum(-1, keepdim=True)),
    "NansumBackward0": ("nansum", lambda: p(2, 3).nansum(-1)),
    "MeanBackward0": ("mean", lambda: p(2, 3).mean()),
    "MeanBackward1": ("mean", lambda: p(2, 3).mean((0, 1))),
    "ProdBackward0": ("prod", lambda: p(2, 3).prod()),
    "ProdBackward1": ("prod", lambda: p(2, 3).prod(-1)),
    "CumsumBackward0": ("cumsum", lambda: p(2, 3).cumsum(-1)),
    "CumprodBackward0": ("cumprod", lambda: p(2, 3).cumprod(-1)),
    "LogsumexpBackward0": ("logsumexp", lambda: p(2, 3).logsumexp((-1,), keepdim=True)),
    "LogcumsumexpBackward0": ("logcumsumexp", lambda: p(2, 3).logcumsumexp(-1)),
    "SoftmaxBackward0": ("softmax", lambda: p(2, 3).softmax(-1)),
    "LogSoftmaxBackward0": ("log_softmax", lambda: p(2, 3).log_softmax(-1)),
    "VarBackward0": ("var", lambda: p(2, 3).var(-1, correction=0)),
    "StdBackward0": ("std", lambda: p(2, 3).std()),
    "VarMeanBackward0": ("var_mean", lambda: torch.var_mean(p(2, 3))[0]),
    "StdMeanBackward0": ("std_mean", lambda: torch.std_mean(p(2, 3), -1)[0]),
    "LinalgVectorNormBackward0": (
        "linalg_vector_norm",
        lambda: torch.linalg.vector_norm(p(2, 3), 3, -1),
    ),
    "NormBackward1": ("norm", lambda: F.pairwise_distance(p(2, 3), p(2, 3).exp())),
    "DistBackward0": ("dist", lambda: torch.dist(p(3), p(3).exp(), 3)),
    "CdistBackward0": ("cdist", lambda: torch.cdist(p(2, 3), p(2, 3).exp(), 3)),
    "AmaxBackward0": ("amax", lambda: p(2, 3).amax(-1)),
    "AminBackward0": ("amin", lambda: p(2, 3).amin((0, 1))),
    "MaxBackward0": ("max", lambda: p(2, 3).max(-1)[0]),
    "MinBackward0": ("min", lambda: p(2, 3).min(-1, keepdim=True)[0]),
    "MedianBackward1": ("median", lambda: p(2, 3).median(0)[0]),
    "SortBackward0": ("sort", lambda: p(2, 3).sort(-1)[0]),
    "TopkBackward0": ("topk", lambda: p(2, 3).topk(2, -1)[0]),
    "MaxBackward1": ("max", lambda: p(2, 3).max()),
    "MinBackward1": ("min", lambda: p(2, 3).min()),
    "ViewBackward0": ("view", lambda: p(2, 3).view(3, 2)),
    "UnsafeViewBackward0": ("view", lambda: p(2, 3).t().reshape(-1)),
    "UnsqueezeBackward0": ("unsqueeze", lambda: p(2, 3).unsqueeze(-1)),
    "SqueezeBackward1": ("squeeze", lambda: p(2, 1).squeeze(1)),
    "CloneBackward0": ("clone", lambda: p(2, 3).clone()),
    "TBackward0": ("t", lambda: p(2, 3).t()),
    "TransposeBackward0": ("transpose", lambda: p(2, 3).transpose(-1, 0)),
    "PermuteBackward0": ("permute", lambda: p(2, 3).permute(1, 0)),
    "ExpandBackward0": ("expand", lambda: p(1, 3).expand(4, 3)),
    "RepeatBackward0": ("repeat", lambda: p(1, 3).repeat(4, 1)),
    "FlipBackward0": ("flip", lambda: p(2, 3).flip(-1)),
    "RollBackward0": ("roll", lambda: p(2, 3).roll(-1, 1)),
    "SelectBackward0": ("select", lambda: p(2, 3)[-1]),
    "SliceBackward0": ("slice", lambda: p(4, 3)[-3:-1]),
    "DiagonalBackward0": ("diagonal", lambda: p(3, 3).diagonal(-1)),
    "TrilBackward0": ("tril", lambda: p(3, 3).tril(-1)),
    "TriuBackward0": ("triu", lambda: p(3, 3).triu(1)),
    "UnbindBackward0": ("unbind", lambda: p(2, 3).unbind(-1)[0]),
    "SplitBackward0": ("split", lambda: p(4, 3).split(2)[0]),
    "SplitWithSizesBackward0": ("split", lambda: p(4, 3).split([1, 3])[0]),
    "CatBackward0": ("cat", lambda: torch.cat([p(2, 3), p(1, 3).exp()])),
    "StackBackward0": ("stack", lambda: torch.stack([p(3), p(3).exp(), p(3).neg()], -1)),
    "IndexBackward0": ("index", lambda: p(2, 3)[:, torch.tensor([2, 0])]),
    "IndexSelectBackward0": ("index_select", lambda: p(2, 3).index_select(-1, LABEL)),
    "GatherBackward0": ("gather", lambda: p(2, 3).gather(-1, INDEX)),
    "MaskedSelectBackward0": ("masked_select", lambda: p(2, 3).masked_select(MASK)),
    "EmbeddingBackward0": ("embedding", lambda: F.embedding(INDEX, p(4, 5))),
    "ToCopyBackward0": ("to", lambda: p(3).bfloat16()),
    "WhereBackward0": ("where", lambda: torch.where(MASK, p(2, 3), p(2, 3).exp())),
    "MmBackward0": ("mm", lambda: p(2, 3) @ p(3, 2)),
    "BmmBackward0": ("bmm", lambda: p(2, 2, 3) @ p(2, 3, 2)),
    "MvBackward0": ("mv", lambda: p(2, 3) @ p(3)),
    "DotBackward0": ("dot", lambda: p(3) @ p(3)),
    "AddmmBackward0": ("addmm", lambda: F.linear(p(2, 3), p(4, 3), p(4))),
    "AddmvBackward0": ("addmv", lambda: torch.addmv(p(2), p(2, 3), p(3), alpha=2)),
    "AddrBackward0": ("addr", lambda: torch.addr(p(2, 3), p(2), p(3), beta=3)),
    "AddbmmBackward0": ("addbmm", lambda: torch.addbmm(p(2, 2), p(4, 2, 3), p(4, 3, 2))),
    "BaddbmmBackward0": ("baddbmm", lambda: torch.baddbmm(p(1, 1), p(4, 2, 3), p(4, 3, 2))),
    "LinalgCholeskyExBackward0": ("linalg_cholesky", lambda: torch.linalg.cholesky(spd())),
    "LinalgInvExBackward0": ("linalg_inv", lambda: torch.linalg.inv(spd())),
    "LinalgSolveExBackward0": ("linalg_solve", lambda: torch.linalg.solve(spd(), p(3, 2))),
    "LinalgSvdBackward0": ("linalg_svd", lambda: torch.linalg.svd(p(3, 2))[0]),
    "LinalgEighBackward0": ("linalg_eigh", lambda: torch.linalg.eigh(spd())[0]),
    "LinalgDetBackward0": ("linalg_det", lambda: torch.linalg.det(spd())),
    "LinalgSlogdetBackward0": ("linalg_slogdet", lambda: torch.linalg.slogdet(spd())[1]),
    "ConvolutionBackward0": ("convolution", lambda: conv(stride=2, padding=1, groups=2)),
    "NativeLayerNormBackward0": ("layer_norm", lambda: F.layer_norm(p(2, 3), (3,), p(3), p(3))),
    "NativeBatchNormBackward0": (
        "batch_norm",
        lambda: F.batch_norm(p(4, 3), torch.zeros(3), torch.ones(3), p(3), p(3), training=True),
    ),
    "NativeGroupNormBackward0": ("group_norm", lambda: F.group_norm(p(2, 4), 2, p(4), p(4))),
    "ScaledDotProductFlashAttentionForCpuBackward0": (
        "scaled_dot_product_attention",
        lambda: F.scaled_dot_product_attention(*(p(1, 2, 4, 8) for _ in range(3)), is_causal=True),
    ),
    "NllLossBackward0": ("nll_loss", lambda: F.nll_loss(p(2, 3), LABEL, torch.tensor([1, 2, 3.0]))),
    "NllLoss2DBackward0": ("nll_loss2d", lambda: F.nll_loss(p(2, 3, 2), INDEX[:, :2])),
    "MseLossBackward0": ("mse_loss", lambda: F.mse_loss(p(3), torch.ones(3), reduction="sum")),
    "SmoothL1LossBackward0": ("smooth_l1_loss", lambda: F.smooth_l1_loss(p(3), torch.ones(3))),
    "HuberLossBackward0": ("huber_loss", lambda: F.huber_loss(p(3), torch.ones(3), delta=0.4)),
    "SoftMarginLossBackward0": (
        "soft_margin_loss",
        lambda: F.soft_margin_loss(p(3), torch.ones(3)),
    ),
    "BinaryCrossEntropyBackward0": (
        "binary_cross_entropy",
        lambda: F.binary_cross_entropy(p(3) / 2, torch.ones(3), p(3).detach()),
    ),
    "BinaryCrossEntropyWithLogitsBackward0": (
        "binary_cross_entropy_with_logits",
        lambda: F.binary_cross_entropy_with_logits(p(3), torch.ones(3), pos_weight=p(3).detach()),
    ),
    "CtcLossBackward0": (
        "ctc_loss",
        lambda: F.ctc_loss(
            p(5, 1, 4),
            torch.tensor([[1, 2]]),
            torch.tensor([5]),
            torch.tensor([2]),
            reduction="sum",
        ),
    ),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_an_operation_is_computed_again_bit_for_bit(kind: str) -> None:
    op, make = RESULTS[kind]
    result = make()
    nodes = walk([result])
    found = [node for node in nodes if class_name_of(node) == kind]
    assert found, [class_name_of(node) for node in nodes]
    node = found[-1]
    assert op_of(node) == op
    with torch.no_grad():
        results = evaluate(operation_of(node), Values(nodes).operands(node))
    if node != result.grad_fn:  # it sits inside of a composite function
        assert torch.isfinite(results[0]).all()
        return
    again = results[result.output_nr]
    assert again.dtype == result.dtype
    # Layer norm is put together from the deviation that it saved: other roundings.
    assert torch.allclose(again, result) if op == "layer_norm" else torch.equal(again, result)


def test_the_table_is_as_large_as_promised() -> None:
    assert len(OPERATIONS) >= 60
    assert len(RESULTS) >= 60


@pytest.mark.parametrize(
    ("kind", "op"),
    [
        ("LogBackward0", "log"),
        ("Log1PBackward0", "log1p"),
        ("NllLoss2DBackward0", "nll_loss2d"),
        ("MaxPool2DWithIndicesBackward0", "max_pool2d_with_indices"),
        ("FftC2CBackward0", "fft_c2c"),
        ("LinalgVectorNormBackward0", "linalg_vector_norm"),
        ("SliceBackward0_copy", "slice"),
        ("I0Backward0", "i0"),
        ("CopyBackwards", "copy"),
    ],
)
def test_kinds_that_are_not_in_the_table_are_named_by_rule(kind: str, op: str) -> None:
    assert function_name(kind) == op


def test_every_kind_of_the_table_exists_in_torch_or_is_known_to_be_newer() -> None:
    known = dir(torch._C._functions)
    elsewhere = {"SafeSoftmaxBackward0", "FusedRmsNormBackward0"}
    assert [kind for kind in OPERATIONS if kind not in known and kind not in elsewhere] == []
