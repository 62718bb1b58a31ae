"""The autopsy changes nothing, runs nobody's hooks, and never raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from gainstage.graph.autopsy.batch import batch_of
from gainstage.graph.autopsy.find import find_forward
from gainstage.graph.autopsy.singular_derivatives import find_backward, hold, singular
from gainstage.graph.nodes.walk import walk
from graph.faults import FORWARD, NAN, SAMPLE, given


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.GELU(), nn.LayerNorm(4))


def tracked(value: float) -> Tensor:
    return given(value) * torch.ones(3, requires_grad=True)


def poisoned(net: nn.Module) -> Tensor:
    return (net(given(0.5)) * torch.tensor([1.0, 1, 1, 0])).log().mean()


def test_gradients_and_generator_are_the_same_bit_for_bit() -> None:
    def run(*, watched: bool) -> tuple[list[Any], Tensor, int]:
        net = model()
        loss = poisoned(net)
        if watched:
            assert find_forward([loss]) is not None
            nodes = walk([loss])
            held = hold(singular(nodes), nodes)
            batch_of(nodes)
        loss.backward()
        if watched:
            find_backward(held, {id(p): False for p in net.parameters()})
        before = torch._C._autograd._get_sequence_nr()
        if watched:
            find_backward(held, {id(p): False for p in net.parameters()})
        assert torch._C._autograd._get_sequence_nr() == before
        grads = [p.grad.numpy().tobytes() for p in net.parameters() if p.grad is not None]
        return grads, torch.get_rng_state(), torch.is_grad_enabled()

    bare, watched = run(watched=False), run(watched=True)
    assert bare[0] == watched[0]
    assert torch.equal(bare[1], watched[1])
    assert bare[2] == watched[2]


def test_no_operation_runs_in_the_thread_that_trains() -> None:
    class Count(TorchDispatchMode):
        calls: list[str] = []  # noqa: RUF012

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.calls.append(str(func))
            return func(*args, **(kwargs or {}))

    loss = poisoned(model())
    with Count():
        assert find_forward([loss]) is not None
    assert not [call for call in Count.calls if "detach" not in call]


def test_packed_tensors_are_not_unpacked() -> None:
    unpacked: list[Tensor] = []

    def unpack(tensor: Tensor) -> Tensor:
        unpacked.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, unpack):
        loss = given(0.0).requires_grad_().log().mean()
    culprit = find_forward([loss])
    nodes = walk([loss])
    hold(singular(nodes), nodes)
    batch_of(nodes)
    assert unpacked == []
    assert culprit is not None
    assert culprit.op == "log"


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_region_is_not_computed_again(reentrant: bool) -> None:
    calls: list[int] = []

    def region(x: Tensor) -> Tensor:
        calls.append(1)
        return x.log()

    x = given(0.0).requires_grad_()
    y = checkpoint(region, x, use_reentrant=reentrant)
    assert isinstance(y, Tensor)
    culprit = find_forward([(y * 2).mean()])
    assert len(calls) == 1
    assert culprit is not None
    assert culprit.op == ("checkpoint" if reentrant else "log")


def test_a_custom_function_is_named() -> None:
    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override,no-untyped-def]
            ctx.save_for_backward(x)
            return x.sqrt()

        @staticmethod
        def backward(ctx, g: Tensor) -> Tensor:  # type: ignore[override,no-untyped-def]
            return g

    x = tracked(-1.0)
    culprit = find_forward([(Root.apply(x) * x).sum()])
    assert culprit is not None
    assert (culprit.op, culprit.kind, culprit.samples) == ("Root", "unknown", (SAMPLE,))
    assert "Root gives NaN for finite arguments" in culprit.text


def test_a_kind_that_is_not_in_the_table_is_named_by_rule() -> None:
    x = given(0.5).requires_grad_()
    y = torch.special.zeta(x, x.detach())  # below its domain
    assert not torch.isfinite(y).all()
    culprit = find_forward([y.sum()])
    assert culprit is None or culprit.op in ("special_zeta", "sum")


def test_freed_graphs_and_values_written_over_are_unknown() -> None:
    x = given(0.0).requires_grad_()
    loss = x.log().exp().log().sum()
    loss.backward()
    assert find_forward([loss]) is not None

    x = given(0.0).requires_grad_() * 1.0
    y = x.log()
    with torch.no_grad():
        x.add_(1)
    culprit = find_forward([y.sum()])
    assert culprit is not None
    assert culprit.op in ("log", "sum")


def test_held_tensors_that_were_written_over_are_not_trusted() -> None:
    x = given(0.0).requires_grad_()
    y = x * 1.0
    loss = y.sqrt().sum()
    nodes = walk([loss])
    held = hold(singular(nodes), nodes)
    loss.backward()
    held.entries[0].operands["result"].add_(1)
    assert find_backward(held, {id(x): False}) is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.complex64])
def test_other_dtypes(dtype: torch.dtype) -> None:
    y = (given(0.0).to(dtype) * torch.ones(3, dtype=dtype, requires_grad=True)).log()
    loss = (y.abs() if dtype.is_complex else y).float().sum()
    culprit = find_forward([loss])
    assert culprit is not None
    assert (culprit.op, culprit.kind, culprit.samples) == ("log", "domain", (SAMPLE,))


def test_sparse_gradients_and_embeddings() -> None:
    table = nn.Embedding(7, 3, sparse=True)
    with torch.no_grad():
        table.weight[2, 0] = 0.0
    index = torch.tensor([[0, 1], [3, 2], [4, 5]])
    loss = table(index).abs().log().mean()
    culprit = find_forward([loss])
    assert culprit is not None
    assert (culprit.op, culprit.samples, culprit.time_step) == ("log", (1,), None)
    weight = torch.eye(3).to_sparse().requires_grad_()
    dense = torch.sparse.mm(weight, given(NAN)[2:].requires_grad_())
    assert find_forward([dense.sum()]) is not None


def test_autocast_of_the_script_does_not_reach_the_autopsy() -> None:
    net = nn.Linear(3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = (net(given(0.5)).float() * 0).log().mean()
        culprit = find_forward([loss])
    assert culprit is not None
    assert (culprit.op, culprit.kind) == ("log", "domain")
    assert torch.isneginf(culprit.result).all()  # type: ignore[arg-type]


def test_views_and_in_place_operations() -> None:
    y = tracked(0.5)
    y[SAMPLE] = y[SAMPLE] * 0
    culprit = find_forward([y.log().sum()])
    assert culprit is not None
    assert (culprit.op, culprit.samples) == ("log", (SAMPLE,))


def test_double_backward_graphs() -> None:
    x = given(0.0).requires_grad_()
    (gradient,) = torch.autograd.grad((x + 1e-30).sqrt().sum(), x, create_graph=True)
    culprit = find_forward([(gradient**4).sum()])
    assert culprit is not None
    assert culprit.kind in ("overflow", "domain")


def test_several_outputs_and_unused_ones() -> None:
    x = given(0.5).requires_grad_()
    first, second = (x * 1.0).split([2, 1], dim=1)
    culprit = find_forward([first.sum() + (second * 0).log().sum()])
    assert culprit is not None
    assert culprit.op == "log"


def test_a_root_without_a_graph_is_no_fault() -> None:
    assert find_forward([torch.tensor(NAN)]) is None
    assert find_forward([]) is None


def test_twenty_thousand_nodes_are_judged() -> None:
    count = 20_000
    y = tracked(0.0).log()
    for _ in range(count // 2):
        y = y * 0.5 + 1.0
    culprit = find_forward([y.sum()])
    assert culprit is not None
    assert (culprit.op, culprit.samples) == ("log", (SAMPLE,))
    assert len(culprit.chain) == 2 * (count // 2) + 2


RECURRENT: list[Callable[..., nn.Module]] = [nn.RNN, nn.GRU, nn.LSTM]


@pytest.mark.parametrize("layer", RECURRENT)
def test_recurrent_layers_pass_on_a_bad_input(layer: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    x = torch.rand(5, 6, 3)
    x[SAMPLE, 4, 0] = NAN
    out = layer(3, 4, batch_first=True)(x)[0]
    culprit = find_forward([F.mse_loss(out[:, -1], torch.rand(5, 4))])
    assert culprit is not None
    assert culprit.kind == "input"
    assert culprit.samples == (SAMPLE,)


def test_the_faults_of_the_table_are_distinct() -> None:
    assert len({id(case.loss) for case in FORWARD.values()}) == len(FORWARD)
