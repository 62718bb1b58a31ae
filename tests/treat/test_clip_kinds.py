from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gainstage.errors import ConfigError
from gainstage.treat import clip

entries = st.floats(-1e6, 1e6, width=32)
gradients = st.lists(st.lists(entries, min_size=1, max_size=5), min_size=1, max_size=4)


def with_grads(*values: object) -> list[nn.Parameter]:
    parameters = []
    for value in values:
        grad = torch.tensor(value, dtype=torch.float32)
        parameters.append(nn.Parameter(torch.ones_like(grad)))
        parameters[-1].grad = grad
    return parameters


def grads_of(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad.clone() for p in parameters if p.grad is not None]


# Global norm


def test_the_textbook_gradient_is_scaled_by_its_norm() -> None:
    parameters = with_grads([16.0, 12.0, -8.0])
    assert clip.clip_by_global_norm_(parameters, 5.0) == pytest.approx(21.5407, abs=1e-4)
    assert grads_of(parameters)[0].tolist() == pytest.approx([3.714, 2.786, -1.857], abs=1e-3)


@pytest.mark.parametrize("values", [[3.0, 4.0], [6.0, 8.0]])
def test_gradients_of_one_direction_clip_to_the_same_vector(values: list[float]) -> None:
    parameters = with_grads(values)
    clip.clip_by_global_norm_(parameters, 2.0)
    assert grads_of(parameters)[0].tolist() == pytest.approx([1.2, 1.6], rel=1e-5)


@pytest.mark.parametrize(
    ("norm_type", "norm", "want"),
    [(1.0, 7.0, [3 / 7, 4 / 7]), (3.0, 91 ** (1 / 3), None), (math.inf, 4.0, [0.75, 1.0])],
)
def test_other_norms_than_the_euclidean_one(
    norm_type: float, norm: float, want: list[float] | None
) -> None:
    parameters = with_grads([3.0], [4.0])
    assert clip.clip_by_global_norm_(parameters, 1.0, norm_type=norm_type) == pytest.approx(norm)
    after = torch.cat(grads_of(parameters))
    assert float(torch.linalg.vector_norm(after, norm_type)) == pytest.approx(1.0, rel=1e-5)
    if want is not None:
        assert after.tolist() == pytest.approx(want, rel=1e-5)


@settings(max_examples=25)
@given(gradients, st.floats(1e-3, 1e3), st.sampled_from([1.0, 2.0, 4.0, math.inf]))
def test_clipping_by_global_norm_keeps_direction_and_limit(
    values: list[list[float]], max_norm: float, norm_type: float
) -> None:
    parameters = with_grads(*values)
    before = torch.cat(grads_of(parameters)).double()
    clip.clip_by_global_norm_(parameters, max_norm, norm_type=norm_type)
    once = torch.cat(grads_of(parameters)).double()
    assert float(torch.linalg.vector_norm(once, norm_type)) <= max_norm * (1 + 1e-5)
    cosine = float(before @ once) / max(float(before.norm() * once.norm()), 1e-300)
    assert float(once.norm()) < 1e-30 or cosine == pytest.approx(1.0, abs=1e-4)
    clip.clip_by_global_norm_(parameters, max_norm, norm_type=norm_type)
    torch.testing.assert_close(torch.cat(grads_of(parameters)).double(), once, rtol=2e-3, atol=0)


@settings(max_examples=25)
@given(gradients, st.floats(1e-2, 1e2))
def test_what_is_far_above_the_limit_clips_alike_at_any_scale(
    values: list[list[float]], factor: float
) -> None:
    norm = math.hypot(*(each for row in values for each in row))
    if norm < 1.0:
        return
    one = with_grads(*values)
    other = with_grads(*([each * factor for each in row] for row in values))
    clip.clip_by_global_norm_(one, norm / 10)
    clip.clip_by_global_norm_(other, factor * norm / 10)
    for a, b in zip(grads_of(one), grads_of(other), strict=True):
        torch.testing.assert_close(a * factor, b, rtol=1e-3, atol=1e-6)


def test_a_gradient_beyond_what_torch_can_square_is_clipped_and_not_zeroed() -> None:
    parameters = with_grads([3e25, 4e25])
    assert clip.clip_by_global_norm_(parameters, 1.0) == pytest.approx(5e25)
    assert grads_of(parameters)[0].tolist() == pytest.approx([0.6, 0.8])


Clipper = Callable[[list[nn.Parameter]], object]


@pytest.mark.parametrize(
    "clipper",
    [
        lambda ps: clip.clip_by_global_norm_(ps, 1.0),
        lambda ps: clip.clip_per_parameter_(ps, 1.0),
        lambda ps: clip.clip_adaptive_(ps, 0.01),
        lambda ps: clip.AutoClip().clip_(ps),
        lambda ps: clip.ZClip(max_norm=1.0).clip_(ps),
    ],
)
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_is_left_alone(clipper: Clipper, wrong: float) -> None:
    parameters = with_grads([wrong, 5.0])
    clipper(parameters)
    torch.testing.assert_close(
        grads_of(parameters)[0], torch.tensor([wrong, 5.0]), equal_nan=True, rtol=0, atol=0
    )


# Value, parameter, group


@settings(max_examples=25)
@given(gradients, st.floats(2**-10, 2**10, width=32))
def test_clipping_by_value_is_torchs(values: list[list[float]], value: float) -> None:
    ours, theirs = with_grads(*values), with_grads(*values)
    clip.clip_by_value_(ours, value)
    nn.utils.clip_grad_value_(theirs, value)
    for one, other in zip(grads_of(ours), grads_of(theirs), strict=True):
        assert torch.equal(one, other)


def test_the_small_layer_starves_by_global_norm_and_not_by_its_own() -> None:
    together = with_grads([100.0, 0.0], [0.0, 0.1])
    clip.clip_by_global_norm_(together, 1.0)
    assert torch.cat(grads_of(together)).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.001], rel=1e-4)
    apart = with_grads([100.0, 0.0], [0.0, 0.1])
    assert clip.clip_per_parameter_(apart, 1.0) == pytest.approx([100.0, 0.1])
    assert torch.cat(grads_of(apart)).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.1], rel=1e-4)


def test_groups_are_clipped_by_their_own_norms() -> None:
    first, second, third = with_grads([3.0], [4.0], [0.5])
    sgd = torch.optim.SGD([{"params": [first, second]}, {"params": [third]}], lr=0.1)
    assert clip.clip_per_group_(sgd, 1.0) == pytest.approx([5.0, 0.5])
    want = [[0.6], [0.8], [0.5]]
    for grad, each in zip(grads_of([first, second, third]), want, strict=True):
        assert grad.tolist() == pytest.approx(each, rel=1e-5)


# AGC


def test_agc_limits_each_unit_to_a_share_of_its_weights() -> None:
    weight = nn.Parameter(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    weight.grad = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    bias = nn.Parameter(torch.tensor([3.0, 4.0]))
    bias.grad = torch.tensor([0.003, 0.004])
    # Row 0: limit 0.01 * 5 = 0.05 of norm 1; row 1: 0.01 * eps of norm 1; the bias is below 0.05.
    assert clip.clip_adaptive_([weight, bias], 0.01, eps=1e-3) == 2
    assert weight.grad.flatten().tolist() == pytest.approx([0.03, 0.04, 1e-5, 0.0])
    assert bias.grad.tolist() == pytest.approx([0.003, 0.004])


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.floats(1e-3, 1.0))
def test_agc_holds_its_limit_is_idempotent_and_scales_with_the_weights(
    seed: int, clipping: float
) -> None:
    torch.manual_seed(seed)
    weight = nn.Parameter(torch.randn(4, 3, 2, 2))
    weight.grad = torch.randn(4, 3, 2, 2) * 10
    scaled = nn.Parameter(weight.detach() * 8)
    scaled.grad = weight.grad * 8
    clip.clip_adaptive_(weight, clipping)
    once = weight.grad.clone()
    share = once.flatten(1).norm(dim=1) / weight.detach().flatten(1).norm(dim=1)
    assert (share <= clipping * (1 + 1e-5)).all()
    clip.clip_adaptive_(weight, clipping)
    torch.testing.assert_close(weight.grad, once, rtol=1e-5, atol=0)
    clip.clip_adaptive_(scaled, clipping)
    torch.testing.assert_close(scaled.grad, once * 8, rtol=1e-5, atol=0)


# History


def test_autoclip_takes_the_percentile_of_all_norms_so_far() -> None:
    rule = clip.AutoClip(percentile=10)
    norms: list[float] = []
    torch.manual_seed(0)
    for norm in torch.rand(50).mul(100).tolist():
        norms.append(norm)
        (weight,) = with_grads([norm])
        limit = rule.clip_([weight])
        assert limit == pytest.approx(float(np.percentile(norms, 10)), rel=1e-6)
        assert float(weight.grad) == pytest.approx(min(norm, limit), rel=1e-5)  # type: ignore[arg-type]


def test_zclip_by_hand() -> None:
    rule = clip.ZClip(alpha=0.9, z=2.0, warm_up=2)
    assert rule.limit_of(1.0) == math.inf
    assert rule.limit_of(3.0) == math.inf
    assert (rule.mean, rule.variance) == (2.0, 1.0)
    # z = (6 - 2) / 1 = 4 > 2, so the limit is 2 + 1 * 2²/4 = 3, and 3 is what is remembered.
    assert rule.limit_of(6.0) == pytest.approx(3.0)
    assert rule.mean == pytest.approx(0.9 * 2 + 0.1 * 3)
    assert rule.variance == pytest.approx(0.9 * 1 + 0.1 * (3 - 2) ** 2)
    assert rule.limit_of(2.0) == math.inf
    assert rule.limit_of(math.inf) == math.inf


def test_a_worse_spike_is_cut_deeper_by_zclip() -> None:
    def limit(norm: float) -> float:
        rule = clip.ZClip(warm_up=2)
        rule.limit_of(1.0), rule.limit_of(3.0)
        return rule.limit_of(norm)

    limits = [limit(norm) for norm in (5.0, 10.0, 100.0, 1e6)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("make", [lambda: clip.AutoClip(25), lambda: clip.ZClip(warm_up=4)])
def test_a_history_goes_on_after_save_and_load(
    make: Callable[[], clip.AutoClip | clip.ZClip],
) -> None:
    torch.manual_seed(0)
    norms = torch.rand(20).exp().tolist()
    whole, first, second = make(), make(), make()
    want = [whole.limit_of(norm) for norm in norms]
    got = [first.limit_of(norm) for norm in norms[:7]]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    got += [second.limit_of(norm) for norm in norms[7:]]
    assert got == want


# Updates


def test_an_update_is_shortened_to_an_rms_of_one_learning_rate() -> None:
    weight = nn.Parameter(torch.zeros(2))
    small = nn.Parameter(torch.zeros(2))
    weight.grad, small.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.3, 0.4])
    sgd = torch.optim.SGD([weight, small], lr=0.5)
    rule = clip.UpdateClip()
    rule.before(sgd)
    sgd.step()
    assert rule.clip_(sgd) == 1
    # The rms of [3, 4] is 5/√2: divided by that, times -0.5.
    assert weight.tolist() == pytest.approx([-0.5 * 3 * 2**0.5 / 5, -0.5 * 4 * 2**0.5 / 5])
    assert small.tolist() == pytest.approx([-0.15, -0.2])


def test_adams_update_after_a_jump_of_the_gradient_is_shortened_though_no_gradient_clip_is() -> (
    None
):
    def move(clipped: bool) -> float:
        weight = nn.Parameter(torch.zeros(4))
        adam = torch.optim.Adam([weight], lr=0.1)
        rule = clip.UpdateClip()
        before = weight.detach().clone()
        for step in range(201):
            weight.grad = torch.full((4,), 1e-3 if step < 200 else 0.5)
            before = weight.detach().clone()
            rule.before(adam)
            adam.step()
            if clipped:
                rule.clip_(adam)
        return float((weight.detach() - before).abs().max())

    assert move(clipped=False) > 0.11
    assert move(clipped=True) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: clip.clip_by_global_norm_([], 0.0),
        lambda: clip.clip_by_global_norm_([], 1.0, norm_type=-1.0),
        lambda: clip.clip_by_value_([], math.nan),
        lambda: clip.clip_per_parameter_([], -1.0),
        lambda: clip.clip_adaptive_([], 0.0),
        lambda: clip.clip_adaptive_([], 0.1, eps=0.0),
        lambda: clip.AutoClip(percentile=100.0),
        lambda: clip.ZClip(alpha=1.0),
        lambda: clip.UpdateClip(rms=0.0),
    ],
)
def test_a_limit_that_cannot_be_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="must"):
        call()
