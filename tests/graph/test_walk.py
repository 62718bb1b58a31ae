"""Walking the graph: order, consumers, and reading what nodes saved."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from gainstage.graph.nodes.leaves import leaves_of
from gainstage.graph.nodes.release import sweep
from gainstage.graph.nodes.saved import read, saved, saved_tensors
from gainstage.graph.nodes.walk import consumers_of, forward_number, is_leaf, leaves_above, walk


def test_nodes_come_in_forward_order_leaves_first() -> None:
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    c = a.exp()
    d = (c * b).sum()
    nodes = walk([d])
    names = [type(node).__name__ for node in nodes]
    assert names[:2] == ["AccumulateGrad"] * 2
    assert names[2:] == ["ExpBackward0", "MulBackward0", "SumBackward0"]
    assert [forward_number(n) for n in nodes] == sorted(forward_number(n) for n in nodes)
    assert {id(n.variable) for n in nodes if is_leaf(n)} == {id(a), id(b)}


def test_several_roots_are_one_graph() -> None:
    a = torch.ones(2, requires_grad=True)
    shared = a.exp()
    assert len(walk([shared.sum(), shared.mean(), a, torch.ones(1)])) == 4


def test_nodes_are_the_same_key_though_their_python_objects_die() -> None:
    y = torch.ones(2, requires_grad=True).exp().log().sum()
    nodes = walk([y])
    consumers = consumers_of(nodes)
    del nodes
    gc.collect()
    again = y.grad_fn.next_functions[0][0]  # type: ignore[union-attr]
    assert consumers[again] == [(y.grad_fn, 0, 0)]


def test_consumers_tell_edge_and_output() -> None:
    a = torch.ones(4, 2, requires_grad=True)
    first, second = a.split(2)
    loss = (first - second).sum()
    consumers = consumers_of(walk([loss]))
    split = first.grad_fn
    assert [(edge, output) for _, edge, output in consumers[split]] == [(0, 0), (1, 1)]
    assert loss.grad_fn not in consumers


def test_leaves_above_one_edge_only() -> None:
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    y = a.exp() / b
    assert {id(n.variable) for n in leaves_above(y.grad_fn, [1])} == {id(b)}
    assert len(leaves_above(y.grad_fn)) == 2


def deep(count: int) -> Tensor:
    y = torch.ones(1, requires_grad=True)
    for _ in range(count):
        y = y + 1
    return y


def test_a_deep_graph_that_was_walked_is_freed_without_a_crash() -> None:
    y = deep(100_000)  # torch alone overflows the stack here
    assert len(walk([y])) == 100_001
    assert len(walk([y])) == 100_001  # a second look must not look like a second owner
    kept = y.grad_fn
    assert sweep() == 100_001  # the script still owns it
    del y
    assert sweep() == 100_001
    del kept
    assert sweep() == 0


def test_leaves_of_a_deep_graph_are_found_without_a_crash() -> None:
    y = deep(10_000)
    assert len(leaves_of([y])) == 1
    del y
    assert sweep() == 0


def test_small_graphs_are_not_kept() -> None:
    y = deep(10)
    assert len(walk([y])) == 11
    assert sweep() == 0


def test_negative_dimensions_are_read_as_such() -> None:
    y = torch.ones(2, 3, requires_grad=True).sum(-1, keepdim=True).softmax(-1)
    assert saved(y.grad_fn, "dim") == -1
    assert saved(y.grad_fn.next_functions[0][0], "dim") == (-1,)  # type: ignore[union-attr]


def test_what_a_custom_function_saved_is_read() -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override,no-untyped-def]
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g: Tensor) -> Tensor:  # type: ignore[override,no-untyped-def]
            return g * 2

    y = Twice.apply(torch.ones(2, requires_grad=True).exp())
    ((name, tensor),) = saved_tensors(y.grad_fn)
    assert name == "saved0"
    assert tensor.grad_fn == y.grad_fn.next_functions[0][0]


def test_what_cannot_be_read_is_not_there() -> None:
    x = torch.ones(2, requires_grad=True).exp()
    y = x.log()
    assert saved(y.grad_fn, "self") is x
    with torch.no_grad():
        x.mul_(2)
    assert saved(y.grad_fn, "self") is None
    with pytest.raises(LookupError, match="nothing"):
        read(y.grad_fn, "nothing")
