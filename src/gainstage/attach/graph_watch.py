"""What the graphs of a run tell: their sites once, their levels on sampled steps.

In between it costs a comparison a backward call.
"""

from __future__ import annotations

import functools
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor, nn

from gainstage.attach.module_names import module_names
from gainstage.graph.layers import is_leaf, layers_of
from gainstage.graph.probe import Probe
from gainstage.graph.profile import Profile, profile_block
from gainstage.graph.site_map import SiteMap
from gainstage.graph.sites import SiteRecording, sites_of
from gainstage.graph.values import outputs_of
from gainstage.graph.walk import walk
from gainstage.norms.late import is_capturing
from gainstage.records import ProfileBlock

_FIRST_STEPS = 2
"""Steps that are always sampled: what is wrong from the start shows there."""
_MOST_CALLS = 8
"""Backward calls of one step that are sampled."""
_SHAPES_AT_ONCE = 4
"""Shapes of graphs whose sites are taken without regard to the budget."""
_NODE_S = 0.2e-3
"""What taking the site of a node costs, about."""
_DANGER_STEPS = 32
_MOST_DANGER_STEPS = 256


class GraphSink(Protocol):
    """Where what was read goes."""

    def on_sites(self, sites: SiteMap) -> None:
        """Take the sites anew: a graph of another shape was seen."""
        ...

    def on_profile(self, profile: Callable[[], ProfileBlock]) -> None:
        """Take the levels of a sampled backward call; what computes them may wait for a device."""
        ...


@dataclass(slots=True)
class _Sampling:
    """A sampled backward call that is running."""

    probe: Probe
    profile: Profile
    layers: dict[int, Tensor]
    cost_s: float


@dataclass(slots=True)
class _Step:
    """What was read since the last optimizer step."""

    calls: int = 0
    sampled: list[tuple[Profile, dict[int, Tensor]]] = field(
        default_factory=list[tuple[Profile, dict[int, Tensor]]]
    )


class GraphWatch:
    """Reads the graphs that backward calls run over. One a process, in the training thread."""

    def __init__(self, sink: GraphSink, *, share: float, model: nn.Module | None = None) -> None:
        """Prepare; `begin` starts to look.

        Args:
            sink: Where what was read goes.
            share: Part of the training time that sampled steps may take.
            model: Searched for the names of modules, besides what variables hold.
        """
        self.sites = SiteMap()
        self._sink = sink
        self._share = max(share, 1e-6)
        self._model = None if model is None else weakref.ref(model)
        self._recording: SiteRecording | None = None
        self._is_compiled = "torch._dynamo" in sys.modules
        self._wants_sites = False
        self._sites_due = 0.0
        self._sample_due = 0.0
        self._sampling: _Sampling | None = None
        self._step = _Step()
        self._danger_until = -1
        self._danger_left = _MOST_DANGER_STEPS

    def begin(self) -> None:
        """Record the sites of the forward pass to come."""
        if self._recording is None:
            self._recording = SiteRecording(with_modules=not self._is_compiled)

    def end(self) -> None:
        """Let go of torch."""
        if self._recording is not None:
            self._recording.stop()
            self._recording = None

    def on_compile(self) -> None:
        """Keep module hooks away from code that is about to be compiled."""
        self._is_compiled = True
        if self._recording is not None:
            self._recording.let_go_of_modules()

    def on_danger(self, step: int) -> None:
        """Sample every step for a while. Another thread may call it."""
        self._danger_until = step + _DANGER_STEPS

    # Backward

    def before_backward(self, roots: Sequence[Any], step: int, scale: float | Tensor) -> None:
        """Take sites and begin to sample, where it is time. Runs while the graph is whole.

        Args:
            roots: What backward is called on.
            step: The optimizer step to come.
            scale: The loss scale that will be in the gradients.
        """
        self._step.calls += 1
        is_due = self._is_due(step)
        if self._recording is None and not is_due:
            return
        if is_capturing():
            return
        began = time.perf_counter()
        nodes = [node for node in walk(_tensors(roots)) if not is_leaf(node)]
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.stop()
            self._take_sites(nodes, recording)
        if is_due and nodes:
            match = self.sites.match(nodes)
            self._wants_sites |= not match.exact
            layers = layers_of(nodes)
            profile = Profile(self._step.calls - 1, match.sites, scale, ())
            probe = Probe(nodes, layers.keys(), outputs_of(nodes))
            self._sampling = _Sampling(probe, profile, layers, time.perf_counter() - began)

    def after_backward(self) -> None:
        """End a sampled call; record the sites of the next forward pass where it is time."""
        sampling, self._sampling = self._sampling, None
        if sampling is not None:
            began = time.perf_counter()
            profile = replace(sampling.profile, readings=sampling.probe.finish())
            self._step.sampled.append((profile, sampling.layers))
            now = time.perf_counter()
            cost_s = sampling.cost_s + sampling.probe.cost_s + now - began
            self._sample_due = now + cost_s / self._share
        if self._wants_sites and (
            len(self.sites) <= _SHAPES_AT_ONCE or time.perf_counter() >= self._sites_due
        ):
            self._wants_sites = False
            self.begin()

    # Steps

    def on_step(self, step: int, columns: Mapping[int, int]) -> None:
        """Hand over what was read for a step that is about to be taken.

        Args:
            step: Its index.
            columns: By the id of a parameter, its column in the record.
        """
        done, self._step = self._step, _Step()
        if step <= self._danger_until:
            self._danger_left -= 1
        for profile, layers in done.sampled:
            weights = {place: columns.get(id(weight), -1) for place, weight in layers.items()}
            named = replace(profile, weights=weights)
            self._sink.on_profile(functools.partial(profile_block, named, step))

    def on_skipped(self) -> None:
        """Forget what was read for a step that a loss scaler left out."""
        self._step = _Step()

    def _is_due(self, step: int) -> bool:
        if self._step.calls > _MOST_CALLS:
            return False
        if step < _FIRST_STEPS or (step <= self._danger_until and self._danger_left > 0):
            return True
        return self._step.calls == 1 and time.perf_counter() >= self._sample_due

    def _take_sites(self, nodes: Sequence[Any], recording: SiteRecording) -> None:
        """Take in the sites of a recorded graph. Another graph may follow a new one: see to it."""
        model = None if self._model is None else self._model()
        names = module_names(recording.modules, sys._getframe(), model)
        known = len(self.sites)
        self.sites.add(nodes, sites_of(nodes, recording.calls, names))
        if len(self.sites) > known:
            self._wants_sites = True
            self._sites_due = time.perf_counter() + _NODE_S * len(nodes) / self._share
            self._sink.on_sites(self.sites)


def _tensors(roots: Sequence[Any]) -> list[Tensor]:
    return [root for root in roots if isinstance(root, Tensor) and root.grad_fn is not None]
