"""What the graph tells about weights: fans, layout, the activation that follows, recurrence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gainstage.graph.nodes.readers import read_graph
from gainstage.graph.weights.activations import Activation
from gainstage.graph.weights.uses import WeightUse, residual_ends, weight_uses


def uses_of(root: Tensor) -> list[WeightUse]:
    return weight_uses(read_graph([root]))


def only_use(root: Tensor) -> WeightUse:
    (use,) = uses_of(root)
    return use


ACTIVATIONS: list[tuple[Callable[[Tensor], Tensor], Activation]] = [
    (torch.relu, Activation("relu")),
    (lambda x: x.clamp(min=0), Activation("relu")),
    (lambda x: torch.clamp_min(x, 0), Activation("relu")),
    (lambda x: torch.maximum(x, torch.zeros(3)), Activation("relu")),
    (lambda x: x.clamp(min=-1).sum(), Activation("linear")),
    (lambda x: F.leaky_relu(x, 0.2), Activation("leaky_relu", 0.2)),
    (F.gelu, Activation("gelu")),
    (F.silu, Activation("silu")),
    (F.elu, Activation("elu")),
    (F.selu, Activation("selu")),
    (torch.tanh, Activation("tanh")),
    (torch.sigmoid, Activation("sigmoid")),
    (lambda x: torch.tanh(F.layer_norm(x, (3,)) + 1), Activation("tanh")),
    (lambda x: F.relu(F.dropout(x, 0.5)), Activation("relu")),
    (lambda x: x, Activation("linear")),
    (lambda x: torch.relu(x @ torch.randn(3, 3)), Activation("linear")),
]


@pytest.mark.parametrize(("function", "want"), ACTIVATIONS)
@pytest.mark.parametrize("own", [False, True])
def test_the_activation_after_a_layer_is_read_from_the_graph(
    function: Callable[[Tensor], Tensor], want: Activation, own: bool
) -> None:
    x = torch.randn(5, 7)
    if own:
        weight = torch.randn(7, 3, requires_grad=True)
        out = function(x @ weight + torch.zeros(3, requires_grad=True))
    else:
        layer = nn.Linear(7, 3)
        out = function(layer(x))
    assert only_use(out.sum()).activation == want


@pytest.mark.parametrize("batch", [(5,), (2, 5)])
def test_fans_follow_from_what_the_weight_multiplies_and_not_from_its_shape(
    batch: tuple[int, ...],
) -> None:
    x = torch.randn(*batch, 7)
    layer = only_use(nn.Linear(7, 3)(x))
    assert (layer.fan_in, layer.fan_out, layer.inputs_first) == (7, 3, False)
    own = only_use(x @ torch.randn(7, 3, requires_grad=True))
    assert (own.fan_in, own.fan_out, own.inputs_first) == (7, 3, True)
    turned = only_use(x @ torch.randn(3, 7, requires_grad=True).T)
    assert (turned.fan_in, turned.fan_out, turned.inputs_first) == (7, 3, False)


def test_the_layout_of_a_square_weight_is_read_from_its_transpositions() -> None:
    x, weight = torch.randn(5, 4), torch.randn(4, 4, requires_grad=True)
    assert only_use(x @ weight).inputs_first
    assert not only_use(x @ weight.T).inputs_first
    assert not only_use(F.linear(x, weight)).inputs_first
    assert not only_use(weight @ x.T).inputs_first


def test_fans_of_convolutions() -> None:
    x = torch.randn(2, 6, 8, 8)
    plain = only_use(nn.Conv2d(6, 4, 3)(x))
    assert (plain.fan_in, plain.fan_out) == (54, 36)
    grouped = only_use(nn.Conv2d(6, 4, 3, groups=2)(x))
    assert (grouped.fan_in, grouped.fan_out) == (27, 18)
    # Each output of a transposed convolution with stride 2 sums over a quarter of 6 * 4 * 4.
    turned = only_use(nn.ConvTranspose2d(6, 4, 4, stride=2)(x))
    assert (turned.fan_in, turned.fan_out) == (24, 64)


def test_weights_are_found_through_casts_and_einsum() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        use = only_use(torch.relu(nn.Linear(7, 3)(torch.randn(5, 7))))
    assert (use.fan_in, use.fan_out, use.activation.name) == (7, 3, "relu")
    heads = torch.randn(4, 7, 3, requires_grad=True)
    assert only_use(torch.einsum("bi,hio->bho", torch.randn(5, 7), heads)).fan_in == 7


def test_biases_are_those_that_are_added_to_the_product() -> None:
    x, bias = torch.randn(2, 5, 7), torch.zeros(3, requires_grad=True)
    layer = nn.Linear(7, 3)
    assert only_use(layer(x)).biases == (layer.bias,)
    assert only_use(x @ torch.randn(7, 3, requires_grad=True) + bias).biases == (bias,)
    assert only_use(nn.Linear(7, 3, bias=False)(x)).biases == ()


def test_a_weight_whose_own_product_comes_back_to_it_is_recurrent() -> None:
    into, within = torch.randn(4, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    state = torch.zeros(2, 4)
    for _ in range(3):
        state = torch.tanh(torch.randn(2, 4) @ into + state @ within)
    by_weight = {id(use.parameter): use for use in uses_of(state.sum())}
    assert by_weight[id(within)].is_recurrent
    assert not by_weight[id(into)].is_recurrent
    twice = torch.randn(2, 4) @ into + torch.randn(2, 4) @ into
    assert not only_use(twice).is_recurrent


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4)
        self.up = nn.Linear(4, 8)
        self.down = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


def test_residual_branches_end_at_the_weight_before_the_sum() -> None:
    into, blocks, out = nn.Linear(3, 4), nn.Sequential(Block(), Block(), Block()), nn.Linear(4, 2)
    root = out(blocks(into(torch.randn(5, 3)))).sum()
    graph = read_graph([root])
    ends, sums = residual_ends(graph, weight_uses(graph))
    assert sums == 3
    assert set(ends) == {id(block.down.weight) for block in blocks}  # type: ignore[union-attr]
    chain = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))(torch.randn(5, 3))
    graph = read_graph([chain.sum()])
    assert residual_ends(graph, weight_uses(graph)) == ({}, 0)


def test_embeddings_and_entrywise_weights_are_no_factors() -> None:
    table, scale = nn.Embedding(5, 4), torch.ones(4, requires_grad=True)
    out = table(torch.tensor([1, 2])) * scale
    assert uses_of(out.sum()) == []
