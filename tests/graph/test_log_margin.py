"""How close a logarithm's smallest argument is to 0, and what keeps it from there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gainstage.graph.autopsy.log_margin import log_margins
from gainstage.graph.nodes.walk import is_leaf, walk


def margins(loss: Tensor) -> list[tuple[float, float]]:
    nodes = [node for node in walk([loss]) if not is_leaf(node)]
    return [(each.bits, each.limit_bits) for each in log_margins(nodes)]


@given(st.floats(1.0, 100.0))
def test_the_margin_is_log2_of_the_smallest_argument(bits: float) -> None:
    scale = torch.tensor([0.5, 2.0**-bits], requires_grad=True)
    (found,) = margins((scale * torch.ones(2)).log().sum())
    assert found[0] == pytest.approx(bits, abs=1e-3)
    assert found[1] == 149.0


@pytest.mark.parametrize(
    ("dtype", "limits"),
    [
        (torch.float32, [24.0, 149.0]),
        (torch.float64, [53.0, 1074.0]),
        (torch.bfloat16, [8.0, 133.0]),
    ],
)
def test_one_minus_p_has_half_an_epsilon_to_go_and_p_the_whole_range(
    dtype: torch.dtype, limits: list[float]
) -> None:
    logit = torch.tensor([0.0, 3.0], dtype=dtype, requires_grad=True)
    p = torch.sigmoid(logit)
    found = sorted(limit for _, limit in margins((p.log() + (1 - p)[None].log()).sum()))
    assert found == limits
    least = torch.tensor(2.0 ** -limits[0], dtype=dtype)
    one = torch.ones((), dtype=dtype)
    assert one - (one - least) == least  # the smallest difference that is not 0
    assert one - (one - least / 2) == 0


GUARDED: dict[str, Callable[[Tensor], Tensor]] = {
    "an eps": lambda p: (p + 1e-8).log(),
    "a clamp": lambda p: p.clamp(min=1e-8).log(),
    "a clamp before 1 - p": lambda p: (1 - p.clamp(1e-7, 1 - 1e-7)).log(),
    "log_softmax": lambda p: p.log_softmax(0),
}


@pytest.mark.parametrize("guard", GUARDED)
def test_what_is_kept_from_0_has_no_margin_to_lose(guard: str) -> None:
    p = torch.sigmoid(torch.tensor([0.0, -9.0, 9.0], requires_grad=True))
    assert margins(GUARDED[guard](p).sum()) == []
