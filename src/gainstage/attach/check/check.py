"""`gainstage.check`: the gain ledger of one forward and backward pass, in this very process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.optim import Optimizer

from gainstage.attach.check.measure import named, read_norms, read_sharpness, read_weights
from gainstage.attach.names.columns import Columns
from gainstage.attach.sample.graph_watch import GraphWatch
from gainstage.blackbox.write import FaultTensors
from gainstage.errors import ConfigError
from gainstage.facts.blocks import ProfileBlock, TimeBlock
from gainstage.facts.fault import Fault
from gainstage.facts.observation import Observation, Observed
from gainstage.facts.record import RankRecord
from gainstage.graph.nodes.leaves import leaves_of
from gainstage.graph.sites.site_map import SiteMap
from gainstage.ledger.gain_data import CheckReadings
from gainstage.ledger.gain_ledger import gain_ledger
from gainstage.norms.deferred import fetched_norms
from gainstage.norms.total import gradient_norms
from gainstage.show.gain_profile import GainProfile
from gainstage.store.blocks import to_block, to_weight_block

ReadLater = Callable[[], tuple[ProfileBlock, TimeBlock]]


@dataclass(slots=True)
class _Kept:
    """Where the graph's reading goes."""

    profiles: list[ReadLater] = field(default_factory=list[ReadLater])
    faults: list[Fault] = field(default_factory=list[Fault])

    def on_sites(self, sites: SiteMap) -> None: ...

    def on_profile(self, profile: ReadLater) -> None:
        self.profiles.append(profile)

    def on_fault(self, fault: Fault, tensors: FaultTensors | None) -> None:
        self.faults.append(fault)

    def on_observation(self, observation: Observation[Observed]) -> None: ...


def check(loss_fn: Callable[[], Tensor], optimizer: Optimizer | None = None) -> GainProfile:
    """Return the gain ledger of one call of a loss function and its backward pass.

    `loss_fn` is called once. No `.grad` is filled and no parameter changes; what the call itself
    changes (random states, running statistics of batch norm) is changed. Waits for the device.

    Args:
        loss_fn: Makes the loss, a tensor of one element, from a batch that it knows.
        optimizer: Its learning rate is compared with the sharpness of the loss.

    Raises:
        ConfigError: If `loss_fn` returns something else, or the loss depends on no parameter.

    Example:
        >>> w = torch.eye(2, requires_grad=True)
        >>> profile = check(lambda: (torch.ones(1, 2) @ w).square().sum())
        >>> round(profile.layers[0].delta_bits, 3), round(profile.sharpness.largest, 3)
        (1.0, 4.0)
    """
    kept = _Kept()
    graph = GraphWatch(kept, share=1.0)
    graph.is_thorough = True
    graph.begin()
    try:
        with torch.enable_grad():
            loss = loss_fn()
        return _profile(loss, optimizer, graph, kept)
    finally:
        graph.end()


def _profile(
    loss: Tensor, optimizer: Optimizer | None, graph: GraphWatch, kept: _Kept
) -> GainProfile:
    graph.end_forward()
    leaves = _leaves(loss)
    weights, norms = read_weights([loss]), read_norms([loss])
    sharpness = read_sharpness(loss, 1.0, [] if optimizer is None else [optimizer])
    is_finite = bool(loss.detach().isfinite())
    graph.looks_at(0, None, is_finite=is_finite, accumulates=True)
    graph.before_backward([loss], 0, 1.0, is_finite=is_finite)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    graph.after_backward()
    columns = Columns()
    plan = columns.plan_for(leaves, [len(leaves)])
    totals, total = (gradient_norms if plan.on_cpu else fetched_norms)(list(grads))
    graph.on_step(0, columns, plan.ids, totals, total, None)
    in_columns = totals if plan.columns is None else columns.spread(plan.columns, totals)
    row = (0, time.time(), float(loss.detach()), None, total, None, None, 0, in_columns)
    profile, times = kept.profiles[0]()
    record = RankRecord(
        tensors=tuple(columns.tensors),
        block=to_block([row], len(columns.tensors)),
        weights=to_weight_block([], len(columns.tensors)),
        profiles=profile,
        times=times,
        sites=tuple(graph.sites.sites),
        faults=tuple(kept.faults),
        observations=(),
    )
    readings = CheckReadings(tuple(named(weights, columns.name_of)), tuple(norms), sharpness)
    return GainProfile.of(gain_ledger(record, readings))


def _leaves(loss: object) -> list[Tensor]:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        what = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise ConfigError(f"loss_fn must return a tensor of one element, got {what}")
    leaves = [] if loss.grad_fn is None else leaves_of([loss])
    if not leaves:
        raise ConfigError("the loss of loss_fn depends on no parameter that requires a gradient")
    return leaves
