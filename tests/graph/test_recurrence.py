"""Recurrence is found by its weights, and told from depth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from gainstage.analysis.gain import level_bits
from gainstage.graph.levels.fused_rnn import fused_levels
from gainstage.graph.levels.operands import GraphNode
from gainstage.graph.levels.recurrence import find_recurrences
from gainstage.graph.levels.time_profile import (
    TimeProfile,
    fused_profiles,
    profile_of,
    time_profiles,
)
from gainstage.graph.operations.table import operation_of

STEPS, BATCH, INPUTS, HIDDEN = 7, 3, 4, 5


def nodes_of(loss: Tensor, named: dict[str, Tensor]) -> tuple[list[GraphNode], list[Any]]:
    """Return the graph of a loss as the search takes it. A site is only the kind of node."""
    names = {id(tensor): name for name, tensor in named.items()}
    stack, index, order = [loss.grad_fn], {loss.grad_fn: 0}, [loss.grad_fn]
    while stack:
        for parent, _ in stack.pop().next_functions:
            if parent is not None and parent not in index:
                index[parent] = len(order)
                order.append(parent)
                stack.append(parent)
    found = []
    for node in order:
        variable = getattr(node, "variable", None)
        parents = tuple(
            None if parent is None else (index[parent], output)
            for parent, output in node.next_functions
        )
        part = None
        if node.name() == "SelectBackward0":
            part = (node._saved_dim, node._saved_index)
        name = None if variable is None else names.get(id(variable), f"leaf {index[node]}")
        found.append(GraphNode(node.name(), node.name(), node._sequence_nr(), parents, name, part))
    return found, order


def profiles_of(loss: Tensor, named: dict[str, Tensor]) -> list[TimeProfile]:
    """Return the profiles of a real backward."""
    nodes, real = nodes_of(loss, named)
    recurrences = find_recurrences(nodes)
    delta = np.full(len(nodes), np.nan)

    def watch(at: int) -> Callable[[Any], None]:
        return lambda grads: delta.__setitem__(
            at, math.nan if grads[0] is None else level_bits(grads[0])
        )

    handles = [node.register_prehook(watch(at)) for at, node in enumerate(real)]
    loss.backward()
    for handle in handles:
        handle.remove()
    return time_profiles(recurrences, nodes, np.full(len(nodes), np.nan), delta)


def deltas_of(states: list[Tensor]) -> list[float]:
    assert all(state.grad is not None for state in states)
    return [level_bits(state.grad) for state in states if state.grad is not None]


def inputs() -> list[Tensor]:
    return list(torch.randn(STEPS, BATCH, INPUTS))


def test_a_cell_written_by_hand() -> None:
    torch.manual_seed(0)
    w, u, h = torch.randn(HIDDEN, HIDDEN), torch.randn(INPUTS, HIDDEN), torch.zeros(BATCH, HIDDEN)
    w.requires_grad_(), u.requires_grad_()
    states = []
    for x in inputs():
        h = torch.tanh(x @ u + h @ w)
        h.retain_grad()
        states.append(h)
    (profile,) = profiles_of(h.square().sum(), {"w": w, "u": u})
    assert profile.kind == "time"
    assert profile.time_steps == STEPS
    assert profile.site == "TanhBackward0"
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


@pytest.mark.parametrize("by", ["select", "unbind", "constant decay"])
def test_a_state_space_whose_steps_hold_no_weight(by: str) -> None:
    torch.manual_seed(0)
    u, x = torch.randn(INPUTS, HIDDEN, requires_grad=True), torch.stack(inputs())
    drive, decay = x @ u, 1 + (x @ u).sigmoid()
    drives, decays = (drive.unbind(), decay.unbind()) if by == "unbind" else (drive, decay)
    h, states = torch.zeros(BATCH, HIDDEN), []
    for t in range(STEPS):
        h = (2.0 if by == "constant decay" else decays[t]) * h + drives[t]
        h.retain_grad()
        states.append(h)
    loss = torch.stack(states)[-1].square().sum()
    (profile,) = profiles_of(loss, {"u": u})
    assert profile.kind == "time"
    assert profile.slope_bits > 0.3
    if by == "constant decay":  # what is carried is then read from the product
        assert (profile.time_steps, profile.site) == (STEPS - 1, "MulBackward0")
    else:
        assert (profile.time_steps, profile.site) == (STEPS, "AddBackward0")
        np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


def test_losses_that_are_added_up_over_time_are_no_recurrence() -> None:
    u, x = torch.randn(INPUTS, 1, requires_grad=True), torch.stack(inputs())
    out, total = x @ u, torch.zeros(())
    for t in range(STEPS):
        total = total + (out[t] - 1).square().mean()
    assert find_recurrences(nodes_of(total, {"u": u})[0]) == []
    total = torch.zeros(BATCH, 1)
    for t in range(STEPS):
        total = total + out[t]
    assert find_recurrences(nodes_of(total.sum(), {"u": u})[0]) == []


def test_gates_that_are_parts_of_one_tensor_are_no_time_steps() -> None:
    u = torch.randn(INPUTS, 4 * HIDDEN, requires_grad=True)
    a, b, c, d = (torch.randn(BATCH, INPUTS) @ u).chunk(4, dim=1)
    loss = (torch.tanh(torch.tanh(torch.tanh(a) * b) * c) * d).sum()
    assert find_recurrences(nodes_of(loss, {"u": u})[0]) == []


def test_a_loss_at_every_time_step_is_no_recurrence_of_its_own() -> None:
    torch.manual_seed(0)
    cell, head = nn.GRUCell(INPUTS, HIDDEN), nn.Linear(HIDDEN, 2)
    h, total, states = torch.zeros(BATCH, HIDDEN), torch.zeros(()), []
    for x in inputs():
        h = cell(x, h)
        h.retain_grad()
        states.append(h)
        total = total + head(h).square().mean()
    (profile,) = profiles_of(total, dict(cell.named_parameters()) | dict(head.named_parameters()))
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_loops_over_torchs_cells(kind: Any) -> None:
    torch.manual_seed(0)
    cell = kind(INPUTS, HIDDEN)
    state, hidden, memory = None, [], []
    for x in inputs():
        state = cell(x, state)
        parts = state if isinstance(state, tuple) else (state,)
        for part, series in zip(parts, (hidden, memory), strict=False):
            part.retain_grad()
            series.append(part)
    profiles = profiles_of(hidden[-1].square().sum(), dict(cell.named_parameters()))
    assert [p.state for p in profiles] == ["hidden", "cell"][: 2 if memory else 1]
    for profile, series in zip(profiles, (hidden, memory), strict=False):
        assert profile.time_steps == STEPS
        np.testing.assert_allclose(profile.delta_bits, deltas_of(series), atol=1e-6)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_layers_of_small_nodes_are_told_apart(kind: Any, bidirectional: bool, packed: bool) -> None:
    torch.manual_seed(0)
    layer = kind(INPUTS, HIDDEN, 2, bidirectional=bidirectional).double()
    x: Any = torch.randn(STEPS, BATCH, INPUTS).double()
    x = pack_padded_sequence(x, torch.tensor([7, 5, 4])) if packed else x
    out, _ = layer(x)
    out = out.data if packed else out
    nodes, _ = nodes_of(out.square().sum(), dict(layer.named_parameters()))
    found = find_recurrences(nodes)
    assert len(found) == (4 if bidirectional else 2)
    assert {each.kind for each in found} == {"time"}
    assert {len(each.states) for each in found} == {STEPS}
    assert {len(each.carried) for each in found} == {1 if kind is nn.LSTM else 0}
    weights = sorted(name for each in found for name in each.parameters if "weight_hh" in name)
    assert weights == sorted(name for name, _ in layer.named_parameters() if "weight_hh" in name)


def test_small_nodes_and_a_fused_node_give_the_same_profile() -> None:
    torch.manual_seed(0)
    fused = nn.LSTM(INPUTS, HIDDEN)
    x = torch.randn(STEPS, BATCH, INPUTS)
    loss = fused(x)[0][-1].square().sum()
    _, real = nodes_of(loss, {})
    (node,) = (each for each in real if operation_of(each).fused_recurrent)
    found: list[Any] = []
    node.register_prehook(lambda grads: found.append(fused_levels(node, grads)))
    loss.backward()
    one = fused_profiles(found[0], site="rnn", module="rnn")
    small = nn.LSTM(INPUTS, HIDDEN).double()
    small.load_state_dict(fused.state_dict())
    other = profiles_of(small(x.double())[0][-1].square().sum(), dict(small.named_parameters()))
    for ours, theirs in zip(one, other, strict=True):
        assert ours.state == theirs.state
        np.testing.assert_allclose(ours.delta_bits, theirs.delta_bits, atol=2e-5)
        assert ours.slope_bits == pytest.approx(theirs.slope_bits, abs=1e-4)


def test_gates_with_matrices_of_their_own_are_one_recurrence() -> None:
    torch.manual_seed(0)
    w = {name: torch.randn(HIDDEN, HIDDEN, requires_grad=True) for name in "rzn"}
    u = {name: torch.randn(INPUTS, HIDDEN, requires_grad=True) for name in "abc"}
    h, states = torch.zeros(BATCH, HIDDEN), []
    for x in inputs():
        r = torch.sigmoid(x @ u["a"] + h @ w["r"])
        z = torch.sigmoid(x @ u["b"] + h @ w["z"])
        n = torch.tanh(x @ u["c"] + (r * h) @ w["n"])
        h = (1 - z) * n + z * h
        h.retain_grad()
        states.append(h)
    loss = h.square().sum()
    (found,) = find_recurrences(nodes_of(loss, w | u)[0])
    assert found.parameters == {"r", "z", "n"}
    (profile,) = profiles_of(loss, w | u)
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


def test_stacked_cells_in_one_loop_are_two_recurrences() -> None:
    torch.manual_seed(0)
    w = [torch.randn(INPUTS, INPUTS, requires_grad=True) for _ in range(2)]
    h = [torch.zeros(BATCH, INPUTS) for _ in range(2)]
    for x in inputs():
        below = x
        for level in range(2):
            h[level] = torch.tanh(below + h[level] @ w[level])
            below = h[level]
    found = find_recurrences(nodes_of(h[1].sum(), {"w0": w[0], "w1": w[1]})[0])
    assert [each.parameters for each in found] == [{"w0"}, {"w1"}]
    assert [len(each.states) for each in found] == [STEPS, STEPS]


def test_input_and_state_joined_before_one_matrix() -> None:
    torch.manual_seed(0)
    mix = nn.Linear(INPUTS + HIDDEN, HIDDEN)
    h, states = torch.zeros(BATCH, HIDDEN), []
    for x in inputs():
        h = torch.relu(mix(torch.cat([x, h], 1)))
        h.retain_grad()
        states.append(h)
    (profile,) = profiles_of(h.sum(), dict(mix.named_parameters()))
    assert (profile.kind, profile.time_steps) == ("time", STEPS)
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


@pytest.mark.parametrize(("w", "gain"), [(1.01, 2.7048), (0.99, 0.3660)])
def test_a_scalar_over_a_hundred_steps(w: float, gain: float) -> None:
    weight = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    h = torch.ones((), dtype=torch.float64)
    for _ in range(100):
        h = weight * h + torch.randn((), dtype=torch.float64)
    (profile,) = profiles_of(h, {"w": weight})
    assert profile.time_steps == 100
    assert profile.slope_bits == pytest.approx(math.log2(w), rel=1e-9)
    assert 2.0 ** (100 * profile.slope_bits) == pytest.approx(gain, rel=1e-4)
    if w > 1:
        assert profile.memory_horizon == math.inf
        left = 128 - profile.delta_bits.max()
        assert profile.steps_to_overflow["float32"] == pytest.approx(left / math.log2(w), rel=1e-6)
    else:
        assert profile.memory_horizon == pytest.approx(24 / -math.log2(w), rel=1e-9)
        assert profile.steps_to_overflow["float16"] == math.inf


def test_a_deep_net_is_no_recurrence() -> None:
    layers = nn.ModuleList([nn.Linear(HIDDEN, HIDDEN) for _ in range(12)])
    shared = nn.PReLU()
    h = torch.randn(BATCH, HIDDEN)
    for layer in layers:
        h = h + shared(layer(h))
    named = dict(layers.named_parameters()) | dict(shared.named_parameters())
    assert find_recurrences(nodes_of(h.sum(), named)[0]) == []


def test_layers_kept_in_one_tensor_are_no_recurrence() -> None:
    stacked = torch.randn(10, HIDDEN, HIDDEN, requires_grad=True)
    for rows in (stacked, stacked.unbind()):
        h = torch.randn(BATCH, HIDDEN)
        for layer in range(10):
            h = torch.tanh(h @ rows[layer])
        assert find_recurrences(nodes_of(h.sum(), {"w": stacked})[0]) == []
    h = torch.randn(BATCH, HIDDEN)
    for _ in range(10):
        h = torch.tanh(h @ stacked[0])
    (found,) = find_recurrences(nodes_of(h.sum(), {"w": stacked})[0])
    assert found.parameters == {"w"}


def test_a_shared_block_is_a_recurrence_in_depth() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(HIDDEN, 8), nn.ReLU(), nn.Linear(8, HIDDEN), nn.Dropout(0.1))
    h, states = torch.randn(BATCH, HIDDEN), []
    for _ in range(6):
        h = h + block(h)
        h.retain_grad()
        states.append(h)
    (profile,) = profiles_of(h.sum(), dict(block.named_parameters()))
    assert (profile.kind, profile.time_steps) == ("depth", 6)
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


def test_one_net_called_on_several_inputs_is_no_recurrence() -> None:
    net = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    loss = sum((net(x).sum() for x in inputs()), torch.zeros(()))
    assert find_recurrences(nodes_of(loss, dict(net.named_parameters()))[0]) == []


def test_a_weight_computed_once_is_still_the_same_weight() -> None:
    torch.manual_seed(0)
    cell = nn.utils.parametrizations.weight_norm(nn.Linear(HIDDEN, HIDDEN, bias=False))
    h = torch.zeros(BATCH, HIDDEN)
    with nn.utils.parametrize.cached():
        for x in torch.randn(STEPS, BATCH, HIDDEN):
            h = torch.tanh(x + cell(h))
    (found,) = find_recurrences(nodes_of(h.sum(), dict(cell.named_parameters()))[0])
    assert len(found.states) == STEPS


def test_samples_computed_one_by_one_are_sequences_of_their_own() -> None:
    cell = nn.RNNCell(INPUTS, HIDDEN)
    last = []
    for _ in range(3):
        h = torch.zeros(1, HIDDEN)
        for x in torch.randn(4, 1, INPUTS):
            h = cell(x, h)
        last.append(h)
    found = find_recurrences(nodes_of(torch.cat(last).sum(), dict(cell.named_parameters()))[0])
    assert [len(each.states) for each in found] == [4, 4, 4]


def test_a_fused_layer_called_once_a_time_step() -> None:
    layer = nn.LSTM(INPUTS, HIDDEN)
    state = None
    for x in inputs():
        out, state = layer(x.unsqueeze(0), state)
    (found,) = find_recurrences(nodes_of(out.sum(), dict(layer.named_parameters()))[0])
    assert (found.kind, len(found.states)) == ("time", STEPS)


def test_a_cell_with_normalisation_attention_and_a_skip() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict(
        {
            "mix": nn.Linear(INPUTS + 2 * HIDDEN, HIDDEN),
            "norm": nn.LayerNorm(HIDDEN),
            "query": nn.Linear(HIDDEN, HIDDEN),
            "memory": nn.Linear(INPUTS, HIDDEN),
        }
    )
    xs = inputs()
    memory = net["memory"](torch.stack(xs))
    h, states = torch.zeros(BATCH, HIDDEN), []
    for x in xs:
        scores = torch.softmax((net["query"](h) * memory).sum(-1), dim=0)
        context = (scores.unsqueeze(-1) * memory).sum(0)
        h = h + torch.tanh(net["norm"](net["mix"](torch.cat([x, context, h], 1))))
        h.retain_grad()
        states.append(h)
    (profile,) = profiles_of(h.square().sum(), dict(net.named_parameters()))
    assert (profile.kind, profile.time_steps) == ("time", STEPS)
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


def test_a_block_of_attention_applied_again_is_a_recurrence_in_depth() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(HIDDEN * 2, 2, 16, dropout=0.0, batch_first=True)
    h, states = torch.randn(BATCH, STEPS, HIDDEN * 2), []
    for _ in range(5):
        h = block(h)
        h.retain_grad()
        states.append(h)
    (profile,) = profiles_of(h.square().sum(), dict(block.named_parameters()))
    assert (profile.kind, profile.time_steps) == ("depth", 5)
    np.testing.assert_allclose(profile.delta_bits, deltas_of(states), atol=1e-6)


def test_a_stack_of_different_attention_blocks_is_none() -> None:
    block = nn.TransformerEncoderLayer(HIDDEN * 2, 2, 16, batch_first=True)
    net = nn.TransformerEncoder(block, 6, enable_nested_tensor=False)
    out = net(torch.randn(BATCH, STEPS, HIDDEN * 2))
    assert find_recurrences(nodes_of(out.sum(), dict(net.named_parameters()))[0]) == []


def test_the_order_of_the_list_does_not_matter() -> None:
    torch.manual_seed(0)
    layer = nn.GRU(INPUTS, HIDDEN, 2)
    nodes, _ = nodes_of(layer(torch.randn(STEPS, BATCH, INPUTS))[0].sum(), {})
    expected = [[nodes[at] for at in each.states] for each in find_recurrences(nodes)]
    order = np.random.default_rng(0).permutation(len(nodes))
    where = {int(old): new for new, old in enumerate(order)}

    def moved(node: GraphNode) -> GraphNode:
        parents = tuple(None if p is None else (where[p[0]], p[1]) for p in node.parents)
        return GraphNode(node.site, node.op, node.sequence, parents, node.parameter, node.part)

    shuffled = [moved(nodes[int(old)]) for old in order]
    found = [[shuffled[at] for at in each.states] for each in find_recurrences(shuffled)]
    assert [[n.sequence for n in each] for each in found] == [
        [n.sequence for n in each] for each in expected
    ]


def test_a_hundred_thousand_nodes() -> None:
    """A recurrence of 10,000 steps beside as many uses of a head; the answer is what counts."""
    nodes = [GraphNode("leaf", "AccumulateGrad", 0, (), name) for name in "wuv"]
    h = None
    for step in range(10_000):
        first = len(nodes)
        at = (first, 0)
        for op, parents in (
            ("MmBackward0", (None, (1, 0))),
            ("MmBackward0", (h, (0, 0))),
            ("AddBackward0", (at, (first + 1, 0))),
            ("TanhBackward0", ((first + 2, 0),)),
            ("MmBackward0", ((first + 3, 0), (2, 0))),
            ("PowBackward0", ((first + 4, 0),)),
            ("MeanBackward0", ((first + 5, 0),)),
            ("AddBackward0", ((first + 6, 0), (first - 1, 0) if step else None)),
        ):
            nodes.append(GraphNode("line", op, len(nodes), parents))
        h = (first + 3, 0)
    (found,) = find_recurrences(nodes)
    assert len(found.states) == 10_000
    assert {nodes[at].op for at in found.states} == {"TanhBackward0"}


@given(
    st.lists(st.floats(-100, 100), min_size=3, max_size=30),
    st.floats(-50, 50),
    st.floats(-3, 3),
)
def test_a_profile_moves_with_its_levels(levels: list[float], shift: float, tilt: float) -> None:
    delta = np.array(levels)
    one = profile_of(delta, delta, site="s")
    other = profile_of(delta, delta + shift, site="s")
    tilted = profile_of(delta, delta - tilt * np.arange(len(delta)), site="s")
    assert other.slope_bits == pytest.approx(one.slope_bits, abs=1e-9)
    assert tilted.slope_bits == pytest.approx(one.slope_bits + tilt, abs=1e-9)
    turned = profile_of(delta, delta[::-1], site="s")
    assert turned.slope_bits == pytest.approx(-one.slope_bits, abs=1e-9)
    assert math.inf in (one.memory_horizon, one.steps_to_overflow["float32"])
