"""What the graphs of a run tell: their sites once, levels on sampled steps, the first fault.

In between it costs a comparison a backward call.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.audit.script_audit import ScriptAudit
from gainstage.attach.audit.unstepped_parameters import UnheldParameters
from gainstage.attach.fault.fault_watch import FaultWatch, tensors_of
from gainstage.attach.fault.update_fault import update_fault
from gainstage.attach.names.columns import Columns
from gainstage.attach.sample.deep_compiled import EagerForwards, has_compiled
from gainstage.attach.sample.graph_sampler import GraphSampler, Sample
from gainstage.attach.sample.graph_sink import GraphSink
from gainstage.attach.sample.sample_schedule import FIRST_STEPS, SampleSchedule
from gainstage.attach.sample.site_taker import SiteTaker
from gainstage.facts.observation import Observation, SamplingRateChanged
from gainstage.graph.autopsy.log_margin import log_margins
from gainstage.graph.levels.profile import blocks_of
from gainstage.graph.nodes.release import KEPT, sweep
from gainstage.graph.nodes.walk import is_leaf, walk
from gainstage.graph.sites.site_map import SiteMap
from gainstage.norms.deferred import Number
from gainstage.readable import is_capturing

_MANY_CALLS = 3
"""Backward calls for one step from which on it accumulates gradients: two losses make two."""


@dataclass(slots=True)
class _Step:
    """What was read since the last optimizer step."""

    calls: int = 0
    adding: int = 0
    """Of these, those whose gradients are added to the ones that are there."""
    samples: list[Sample] = field(default_factory=list[Sample])


class GraphWatch:
    """Reads the graphs that backward calls run over. One a process, in the training thread."""

    def __init__(
        self,
        sink: GraphSink,
        *,
        share: float,
        model: nn.Module | None = None,
        deep_compiled: bool = False,
    ) -> None:
        """Prepare; `begin` starts to look.

        Args:
            sink: Where what was read goes.
            share: Part of the training time that sampled steps may take.
            model: Searched for the names of modules, besides what variables hold.
            deep_compiled: Whether compiled code is to run eagerly on sampled steps.
        """
        self.sites = SiteMap()
        self.faults = FaultWatch(self.sites)
        self.audit = ScriptAudit(sink.on_observation)
        self.unheld = UnheldParameters(sink.on_observation)
        self._sink = sink
        self.schedule = SampleSchedule(share, on_change=self._on_graphs_rarer)
        self._taker = SiteTaker(self.sites, sink, model)
        self._taker.with_modules = not has_compiled()
        self._eager = EagerForwards() if deep_compiled else None
        self._sampler = GraphSampler()
        self._step = _Step()
        self._next = 0
        self._is_compiled_known = False
        self._judged = -1
        self._is_sampled = False
        self._has_read = False
        self.is_thorough = False
        """Whether levels are read where the loss is not finite, too, and computed where nothing
        saved what a layer put out."""

    def begin(self) -> None:
        """Record the sites of the forward pass to come."""
        self._taker.begin()

    def end_forward(self) -> None:
        """Record no further sites; those of the graph at hand are taken as backward begins."""
        self._taker.end_forward()

    def end(self) -> None:
        """Let go of torch."""
        if self._eager is not None:
            self._eager.end()
        self._taker.end()

    def retire(self) -> None:
        """Let go of all that is the script's; what was counted can still be asked."""
        self.end()
        self.faults.forget()
        self._sampler.retire()
        self._taker.retire()
        self._step = _Step()

    def on_compile(self) -> None:
        """Keep module hooks away from code that is about to be compiled."""
        self._taker.leave_modules()
        self._is_compiled_known = False
        self._choose_forward(self._next)

    def on_danger(self, step: int) -> None:
        """Sample every step for a while. Another thread may call it."""
        self.schedule.on_danger(step)

    def _on_graphs_rarer(self, step: int, before: int, interval: int) -> None:
        change = SamplingRateChanged(what="graphs", interval=interval, before=before)
        self._sink.on_observation(Observation(change, step))

    def on_weights_rarer(self, step: int, before: int, interval: int) -> None:
        """Note that weights have to be read more rarely."""
        change = SamplingRateChanged(what="weights", interval=interval, before=before)
        self._sink.on_observation(Observation(change, step))

    # Backward

    def looks_at(self, step: int, loss: Number, *, is_finite: bool, accumulates: bool) -> bool:
        """Count a backward call; True where `before_backward` is to be called for it, as for few.

        Args:
            step: The optimizer step to come.
            loss: Of the step so far; its value counts where that needs no waiting for a device.
            is_finite: Whether it is, as far as that is known without waiting for a device.
            accumulates: Whether gradients are added to those that are there; else returned.
        """
        current = self._step
        current.calls += 1
        current.adding += accumulates
        if current.calls == 1:
            self.audit.left = None
            if type(loss) is float:
                self.schedule.on_loss(loss, step)
        self._is_sampled = is_due = self._is_due(step)
        return (
            is_due
            or not is_finite
            or self._taker.recording is not None
            or self.faults.holds
            or (current.adding == _MANY_CALLS and accumulates)
        )

    def before_backward(
        self,
        roots: Sequence[Any],
        step: int,
        scale: float | Tensor,
        *,
        is_finite: bool,
        accumulates: bool = True,
    ) -> None:
        """Take sites, begin to sample, look into a bad loss. Runs while the graph is whole.

        Args:
            roots: What backward is called on.
            step: The optimizer step to come.
            scale: The loss scale that will be in the gradients.
            is_finite: Whether the loss is, as far as that is known without waiting for a device.
            accumulates: Whether gradients are added to those that are there; else returned.
        """
        if accumulates and self._step.adding == _MANY_CALLS:
            self.audit.on_accumulation(step, _MANY_CALLS, [r for r in roots if type(r) is Tensor])
        is_due = self._is_sampled
        is_recorded = self._taker.recording is not None
        if not (is_recorded or is_due or self.faults.holds) and is_finite:
            return
        if is_capturing():
            return
        self._has_read = True
        began = time.perf_counter()
        tensors = [r for r in roots if isinstance(r, Tensor) and r.grad_fn is not None]
        graph = walk(tensors)
        nodes = [node for node in graph if not is_leaf(node)]
        self._taker.take(nodes, self._next, self.schedule.cadence)
        if is_recorded or is_due:
            self._audit_graph(step, tensors, graph, nodes, accumulates=accumulates)
        if not is_finite:
            self.faults.on_bad_loss(tensors, nodes)
        elif self.faults.holds:
            self.faults.keep(nodes, graph)
        if is_due and nodes and (is_finite or self.is_thorough):
            self._sample(tensors, graph, nodes, scale, began)

    def _is_due(self, step: int) -> bool:
        """Tell whether the backward call at hand is sampled."""
        calls = self._step.calls
        if self._eager is not None and not self._taker.with_modules and calls == 1:
            self.schedule.is_due(step, calls)
            is_due = self._eager.is_on
            self._eager.end()
            return is_due
        return self.schedule.is_due(step, calls)

    def _audit_graph(
        self,
        step: int,
        roots: Sequence[Tensor],
        graph: Sequence[Any],
        nodes: Sequence[Any],
        *,
        accumulates: bool,
    ) -> None:
        """Look at what a graph tells of the script."""
        self.faults.on_shape(nodes)
        self.audit.on_backward(step, roots)
        self.audit.on_norms(step, nodes)
        if self._step.calls == 1 and accumulates:
            leaves = [node.variable for node in graph if is_leaf(node)]
            self.audit.on_fresh_graph(step, leaves)
            self.unheld.look(step, leaves, self._taker.model())

    def look_at(self, losses: Sequence[Tensor], step: int) -> None:
        """Look into losses, not finite, that no backward call was made on, as a run ends.

        Where a fault was told before, they are what it has left behind.
        """
        if not losses or self.faults.faults or self.faults.is_loss_bad:
            return
        nodes = [node for node in walk(losses) if not is_leaf(node)]
        self._has_read = True
        self._taker.take(nodes, self._next, self.schedule.cadence)
        self.audit.on_backward(step, losses)
        self.faults.on_bad_loss(losses, nodes)
        self.faults.is_last = True

    def _sample(
        self,
        roots: Sequence[Tensor],
        graph: Sequence[Any],
        nodes: Sequence[Any],
        scale: float | Tensor,
        began: float,
    ) -> None:
        match = self.sites.match(nodes)
        self._taker.is_wanted |= not match.exact
        for margin in log_margins(nodes):
            self.audit.on_log(self._next, self.sites.site(match.sites[margin.place]), margin)
            self.schedule.is_close |= margin.bits >= margin.limit_bits / 2
        self._sampler.begin(
            roots,
            graph,
            nodes,
            match,
            scale=scale,
            call=self._step.calls - 1,
            began=began,
            is_thorough=self.is_thorough,
        )

    def after_backward(self) -> None:
        """End a sampled call; record the sites of the next forward pass where it is time."""
        sample = self._sampler.end() if self._sampler.is_running else None
        if sample is not None:
            self._step.samples.append(sample)
            self.schedule.on_cost(sample.cost_s)
        if self._taker.is_wanted:
            self._taker.begin_where_wanted(self._next)

    # Steps

    def on_step(
        self,
        step: int,
        columns: Columns,
        ids: Sequence[int],
        norms: Sequence[float | None],
        total: float | None,
        optimizer: Optimizer | None,
    ) -> None:
        """Hand over what was read for a step that is about to be taken, and judge a bad one.

        Args:
            step: Its index.
            columns: Which parameter has which column in the record.
            ids: Of the parameters that are stepped.
            norms: Of their gradients before clipping.
            total: Of all together; None where there is none.
            optimizer: That will step, None where the script does it by hand.
        """
        if step <= FIRST_STEPS or self.audit.left is not None or self.audit.has_clipped_nothing:
            there = [key for key, norm in zip(ids, norms, strict=True) if norm is not None]
            self.audit.on_step(step, there, optimizer)
        if self.faults.is_loss_bad or not (total is None or total < math.inf):
            self.judge(step, columns, ids, norms, optimizer)
        self._step.calls = self._step.adding = 0
        if self._has_read:
            self._has_read = False
            self.faults.forget()
        self.schedule.on_step(step, total)
        if self._step.samples:
            self._hand_over(step, columns.by_id)
        if self._taker.unrestored is not None:
            self._taker.restore_anomaly_mode()
        self._next = step + 1
        if self._eager is not None:
            self._choose_forward(self._next)
        if KEPT:
            sweep()

    def judge(
        self,
        step: int,
        columns: Columns,
        ids: Sequence[int],
        norms: Sequence[float | None],
        optimizer: Optimizer | None,
    ) -> None:
        """Tell the fault of a step whose loss or gradients are not finite, once a step.

        Args:
            step: The step that is about to be taken.
            columns: Which parameter has which column in the record.
            ids: Of the parameters that would be stepped.
            norms: Of their gradients before clipping.
            optimizer: That would step.
        """
        if self._judged == step:
            return
        self._judged = step
        by_id = dict(zip(ids, norms, strict=True))
        samples = self._step.samples if len(self._step.samples) == self._step.calls else []
        read = [sample.gradients for sample in samples]
        found = self.faults.judge(step, by_id, columns.name_of, read)
        if found is None:
            return
        fault, culprit, batch = found.fault, found.culprit, found.batch
        if fault.kind == "parameter" and culprit is not None:
            weight = getattr(culprit.node, "variable", None)
            fault = update_fault(fault, weight, optimizer, columns, self.audit.step_site)
        self._sink.on_fault(fault, None if culprit is None else tensors_of(culprit, batch))

    def _hand_over(self, step: int, by_id: Mapping[int, int]) -> None:
        samples, self._step.samples = self._step.samples, []
        for sample in samples:
            layers = sample.layers.items()
            weights = {place: by_id.get(id(weight), -1) for place, weight in layers}
            named = replace(sample.profile, weights=weights)
            self._sink.on_profile(functools.partial(blocks_of, named, step))

    def on_skipped(self) -> None:
        """Forget what was read for a step that a loss scaler left out."""
        self._step = _Step()
        self.faults.forget()

    def _choose_forward(self, step: int) -> None:
        """Have compiled code run eagerly up to the next backward call, where that is to be read."""
        if self._eager is None or self._taker.with_modules:
            return
        if self.schedule.is_expected(step):
            self._eager.begin()
        elif not self._is_compiled_known:
            self._is_compiled_known = True
            self.begin()  # its graph has another shape
