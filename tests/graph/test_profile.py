"""Levels of sampled graphs: against what was put out and what came back, computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.graph.autopsy.values import Values
from gainstage.graph.levels.layers import layers_of
from gainstage.graph.levels.measure import level_bits, levels_of
from gainstage.graph.levels.probe import Probe
from gainstage.graph.levels.profile import Profile, blocks_of
from gainstage.graph.levels.time_block import structure_of
from gainstage.graph.nodes.walk import is_leaf, walk


def sampled(root: Tensor, scale: float = 1.0) -> tuple[list[str], ProfileBlock, TimeBlock]:
    """Sample one backward call; sites are the places of the nodes themselves."""
    graph = walk([root])
    nodes = [node for node in graph if not is_leaf(node)]
    names = [node.name() for node in nodes]
    layers = layers_of(nodes)
    values = Values(graph, [root])
    known = {i: v for i, n in enumerate(nodes) if (v := values.known(n, 0)) is not None}
    sites = list(range(len(nodes)))
    probe = Probe(nodes, layers.keys(), known)
    (root * scale).backward()
    weights = {place: number for number, place in enumerate(layers)}
    profile = Profile(
        0, sites, scale, structure_of(graph, sites), probe.finish(), probe.fused, weights
    )
    block, times = blocks_of(profile, 3)
    return names, block, times


def test_deltas_of_a_linear_chain_are_powers_of_its_weight() -> None:
    weights = [torch.full((1, 1), 2.0, requires_grad=True) for _ in range(5)]
    x = torch.ones(1, 1)
    for weight in weights:
        x = x @ weight
    names, block, _ = sampled(x.sum())
    layers = block.weight >= 0
    assert [names[i] for i in block.node[layers]] == ["MmBackward0"] * 5
    assert block.delta_bits[layers].tolist() == [4, 3, 2, 1, 0]
    # What a later layer did not save for its gradient is not known: the last output here.
    assert block.forward_bits[layers].tolist()[:4] == [1, 2, 3, 4]
    assert block.headroom_bits[layers].min() == pytest.approx(128 - 4, abs=0.01)


def test_a_loss_scale_is_taken_out_of_deltas_and_left_in_the_headroom() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    _, plain, _ = sampled((torch.ones(1, 2) @ weight).sum())
    weight.grad = None
    _, scaled, _ = sampled((torch.ones(1, 2) @ weight).sum(), scale=2.0**10)
    assert scaled.delta_bits.tolist() == pytest.approx(plain.delta_bits.tolist(), abs=1e-6)
    # The output, 1 or 2, has 127 bits left or 128; the scaled gradient has 118.
    assert plain.headroom_bits.min() >= 126
    assert scaled.headroom_bits.min() == pytest.approx(118, abs=0.01)


def test_a_hand_written_recurrence_has_a_profile_through_time() -> None:
    torch.manual_seed(0)
    orthogonal = torch.linalg.qr(torch.randn(8, 8))[0]
    weight = (1.5 * orthogonal).requires_grad_()
    state = torch.zeros(2, 8)
    for drive in torch.randn(12, 2, 8):
        state = drive + state @ weight
    _, _, times = sampled((state * torch.randn(2, 8)).sum())
    assert len(times) >= 11  # the first state may have no input that is tracked
    delta = times.delta_bits.astype(float)
    assert (delta[:-1] - delta[1:]).tolist() == pytest.approx(
        [math.log2(1.5)] * (len(times) - 1), abs=1e-4
    )


def test_a_fused_lstm_has_a_profile_through_time() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(3, 4, batch_first=True)
    names, _, times = sampled(lstm(torch.randn(2, 7, 3))[0].sum())
    assert "MkldnnRnnLayerBackward0" in names
    assert set(times.time_step.tolist()) == set(range(7))
    assert times.series.max() == 1  # hidden state and cell
    assert torch.isfinite(torch.from_numpy(times.delta_bits.copy())).all()


@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_a_level_is_log2_of_the_root_mean_square(values: list[float], dtype: torch.dtype) -> None:
    tensor = torch.tensor(values, dtype=dtype)
    levels = levels_of(tensor)
    assert levels is not None
    wide = tensor.double()
    expected = wide.norm().item() / math.sqrt(len(values))
    bits = level_bits([float(levels.norm)], [levels.numel])
    if expected == 0:
        assert bits == -math.inf
    else:
        assert bits == pytest.approx(math.log2(expected), abs=1e-4)
    assert float(levels.largest) == wide.abs().max().item()


def test_what_expand_repeats_is_read_once_and_counted_whole() -> None:
    levels = levels_of(torch.tensor([[3.0], [4.0]]).expand(2, 100))
    assert levels is not None
    assert levels.numel == 200
    assert float(levels.norm) == pytest.approx(50.0)
