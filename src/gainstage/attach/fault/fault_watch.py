"""The first wrong operation of a step: found while the graph is whole, told when it does harm.

A loss that is not finite is looked into as backward begins. Gradients that are not finite, of a
loss that was, are looked into before the optimizer steps, with what the few nodes had saved whose
derivative can be infinite. A step that a loss scaler leaves out does no harm.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from gainstage.attach.fault.bad_input_source import finite_twin, nonfinite_buffer
from gainstage.blackbox.write import FaultTensors
from gainstage.facts.fault import Fault, FaultEvidence, Phase, Site
from gainstage.graph.autopsy.backward_overflow import SampledGradients, find_backward_overflow
from gainstage.graph.autopsy.batch import batch_of, entering
from gainstage.graph.autopsy.blame import untracked
from gainstage.graph.autopsy.custom import CustomGradients, is_custom
from gainstage.graph.autopsy.dispersion import divisor_of
from gainstage.graph.autopsy.find import Culprit, find_forward
from gainstage.graph.autopsy.singular_derivatives import (
    SavedOperands,
    find_backward,
    hold,
    singular,
)
from gainstage.graph.nodes.finite import dtype_name
from gainstage.graph.nodes.walk import is_leaf
from gainstage.graph.operations.table import op_of, operation_of, source_of
from gainstage.graph.sites.site_map import Match, SiteMap, shape_of

_MOST_FAULTS = 8
"""Told in one run: where bad steps are left out, it may go on with others."""
_MOST_SHAPES = 64
_MOST_HELD = 8
"""Backward calls of one step whose suspects are held, the latest."""
_CHAIN = 12
_PARTIAL = 3


@dataclass(frozen=True, slots=True)
class _Located:
    """A culprit, with the sites of the graph it lies in."""

    culprit: Culprit
    site: Site
    chain: tuple[Site, ...]
    batch: Mapping[str, Tensor]
    """The data that entered the graph, where it was whole when looked at."""


@dataclass(frozen=True, slots=True)
class JudgedFault:
    """The fault of a step, and where it was found the culprit itself, with all its tensors."""

    fault: Fault
    culprit: Culprit | None
    batch: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Suspects:
    """What of graphs of one shape is held, by place among the nodes without leaves."""

    places: list[int]
    """Nodes whose derivative can be infinite."""
    entrances: list[int]
    """Nodes at which the batch enters."""
    custom: list[int]
    """Those of the script's own autograd functions."""


class FaultWatch:
    """Looks for the culprit. One a process, in the training thread."""

    def __init__(self, sites: SiteMap) -> None:
        """Begin with nothing found.

        Args:
            sites: The sites of the run, which grow while it goes on.
        """
        self.faults = 0
        self._sites = sites
        self._singular: dict[tuple[str, ...], _Suspects] = {}
        self._has_suspects = False
        self._loss: _Located | None = None
        self._held: list[tuple[SavedOperands, Match, list[Any]]] = []
        self._custom: list[tuple[CustomGradients, Match, list[Any]]] = []
        self.most_bytes_held = 0
        """The most that was kept from a backward call until its step was judged."""
        self.is_loss_bad = False
        """Whether a backward call since the last step began with a loss that is not finite."""
        self.is_last = False
        """Whether the script stopped at that loss, without a backward call."""

    @property
    def holds(self) -> bool:
        """Tell whether the graphs of this run have nodes that are held until a step is judged."""
        return self._has_suspects

    @property
    def bytes_held(self) -> int:
        """Bytes kept from backward until the step is judged, as of now."""
        return sum(each.bytes for each, _, _ in (*self._held, *self._custom))

    def on_shape(self, nodes: Sequence[Any]) -> None:
        """Note which nodes of a graph can have an infinite derivative; a shape is looked at once.

        Args:
            nodes: Those of the graph without leaves, in forward order.
        """
        self._suspects_of(nodes)

    def on_bad_loss(self, roots: Sequence[Tensor], nodes: Sequence[Any]) -> None:
        """Find what made the loss not finite; call it as backward begins."""
        self.is_loss_bad = True
        if self._loss is not None or self.faults >= _MOST_FAULTS:
            return
        culprit = find_forward(roots)
        if culprit is None:
            return
        batch = batch_of(nodes)
        if culprit.kind == "input":
            culprit = replace(culprit, evidence=_with_source(culprit, batch))
        self._loss = self._place(culprit, nodes, self._sites.match(nodes), batch)

    def keep(self, nodes: Sequence[Any], graph: Sequence[Any]) -> None:
        """Keep what the suspects among the nodes have saved, until the step is judged.

        Args:
            nodes: Without leaves.
            graph: With them.
        """
        if self.faults >= _MOST_FAULTS:
            return
        suspects = self._suspects_of(nodes)
        if not (suspects.places or suspects.custom):
            return
        entrances = [nodes[place] for place in suspects.entrances]
        match = self._sites.match(nodes)
        if suspects.places:
            held = hold([nodes[place] for place in suspects.places], graph, entrances)
            self.most_bytes_held = max(self.most_bytes_held, self.bytes_held + held.bytes)
            self._held = [*self._held[1 - _MOST_HELD :], (held, match, list(nodes))]
        if suspects.custom:
            own = [nodes[place] for place in suspects.custom]
            self._custom.append((CustomGradients(own, nodes, entrances), match, list(nodes)))
            while len(self._custom) > _MOST_HELD:
                self._custom.pop(0)[0].release()

    def _suspects_of(self, nodes: Sequence[Any]) -> _Suspects:
        """Return the suspects of a graph's shape, which is looked at once."""
        shape = shape_of(nodes)
        known = self._singular.get(shape)
        if known is None:
            places = {node: place for place, node in enumerate(nodes)}
            known = _Suspects(
                [places[node] for node in singular(nodes)],
                list(dict.fromkeys(places[node] for node, _ in entering(nodes))),
                [place for place, node in enumerate(nodes) if is_custom(node)],
            )
            if len(self._singular) < _MOST_SHAPES:
                self._singular[shape] = known
            self._has_suspects |= bool(known.places or known.custom)
        return known

    def judge(
        self,
        step: int,
        norms: Mapping[int, float | None],
        names: Callable[[int], str | None],
        read: Sequence[SampledGradients] = (),
    ) -> JudgedFault | None:
        """Return the fault of a step whose loss or gradients are not finite, None if none is told.

        Args:
            step: The step that is about to be taken.
            norms: The norm of each parameter's gradient by the parameter's `id`, before clipping.
            names: Names a parameter by its `id`.
            read: The levels of the step's backward calls, where all of them were sampled.
        """
        held, loss, was_bad = self._held, self._loss, self.is_loss_bad
        is_last = self.is_last
        bad = {key: n for key, n in norms.items() if n is not None and not math.isfinite(n)}
        if (not bad and not was_bad) or self.faults >= _MOST_FAULTS:
            self.forget()
            return None
        found = loss if was_bad else self._backward(held, norms)
        if found is None and not was_bad:
            found = self._in_custom(bad) or self._backward_overflow(read, bad)
        self.forget()
        if found is not None and found.culprit.kind == "parameter" and self.faults:
            # What an earlier fault has left behind: of weights that are gone no later step tells
            # more, and looking into each would take as long as the step itself.
            self.faults = _MOST_FAULTS
            return None
        self.faults += 1
        parameter = next((name for key in bad if (name := names(key))), None)
        if found is None:
            unexplained = _unexplained(step, parameter, len(bad), len(norms), in_loss=was_bad)
            return JudgedFault(unexplained, None, {})
        fault = _fault(step, found, parameter, no_backward=is_last)
        return JudgedFault(fault, found.culprit, found.batch)

    def forget(self) -> None:
        """Drop what was found and held: the step is left out."""
        if self._held or self.is_loss_bad:
            self._held, self._loss, self.is_loss_bad, self.is_last = [], None, False, False
        for custom, _, _ in self._custom:
            custom.release()
        self._custom = []

    def _backward(
        self,
        held: Sequence[tuple[SavedOperands, Match, list[Any]]],
        norms: Mapping[int, float | None],
    ) -> _Located | None:
        finite = {key: math.isfinite(norm) for key, norm in norms.items() if norm is not None}
        for each, match, nodes in held:
            culprit = find_backward(each, finite)
            if culprit is not None:
                return self._place(culprit, nodes, match, {})
        return None

    def _in_custom(self, bad: Mapping[int, float]) -> _Located | None:
        for custom, match, nodes in self._custom:
            culprit = custom.find(bad)
            if culprit is not None:
                return self._place(culprit, nodes, match, {})
        return None

    def _backward_overflow(
        self, read: Sequence[SampledGradients], bad: Mapping[int, float]
    ) -> _Located | None:
        for each in read:
            culprit = find_backward_overflow(each, bad)
            if culprit is not None:
                return self._place(culprit, each.nodes, self._sites.match(each.nodes), {})
        return None

    def _place(
        self, culprit: Culprit, nodes: Sequence[Any], match: Match, batch: Mapping[str, Tensor]
    ) -> _Located:
        places = {node: place for place, node in enumerate(nodes)}

        def site_of(node: Any, op: str | None = None) -> Site | None:
            place = places.get(node)
            site = None if place is None else self._sites.site(match.sites[place])
            if site is None or op is None:
                return site
            return replace(site, op=op)

        chain = [site_of(node) for node in culprit.chain]
        known = [site for site in chain if site is not None]
        if len(known) > _CHAIN:
            known = [*known[: _CHAIN - _PARTIAL], *known[-_PARTIAL:]]
        site = site_of(culprit.node, culprit.op) or Site(culprit.op)
        return _Located(replace(culprit, evidence=_with_traits(culprit)), site, tuple(known), batch)


def tensors_of(culprit: Culprit, batch: Mapping[str, Tensor]) -> FaultTensors:
    """Return what a black box keeps of a culprit."""
    settings = {name: value for name, value in culprit.settings.items() if name != "kind"}
    return FaultTensors(str(culprit.settings["kind"]), culprit.inputs, settings, batch)


def _with_source(culprit: Culprit, batch: Mapping[str, Tensor]) -> FaultEvidence:
    """Return the evidence of a bad input, with what the script may have made it of."""
    # Of operations that save nothing, such as `cat`, the value is gone.
    value = dict(untracked(culprit.node)).get(culprit.evidence.operand or "")
    frame = sys._getframe()
    raw = None if value is None else finite_twin(value, frame, batch.values())
    state = nonfinite_buffer(frame)
    return replace(
        culprit.evidence,
        raw=raw,
        state=None if state is None else state[0],
        state_dtype=None if state is None else dtype_name(state[1].dtype),
    )


def _with_traits(culprit: Culprit) -> FaultEvidence:
    """Return the evidence with what is known of the kind of operation, and of its operands."""
    operation = operation_of(culprit.node)
    return replace(
        culprit.evidence,
        operands=_makers(culprit.node) or None,
        divisor=divisor_of(culprit.node),
        normalizes=operation.normalizes,
        dispersion=operation.dispersion,
        hazard=operation.hazard,
        clamp=operation.clamp,
    )


def _makers(node: Any) -> dict[str, str]:
    """Return what made the operands of a node: by argument, the operation behind any view."""
    operation = operation_of(node)
    makers: dict[str, str] = {}
    for edge, (parent, _) in enumerate(node.next_functions):
        source = source_of(parent)
        if source is not None and not is_leaf(source):
            makers[operation.edge_name(edge)] = op_of(source)
    return makers


def _fault(step: int, found: _Located, parameter: str | None, *, no_backward: bool) -> Fault:
    culprit = found.culprit
    phase: Phase = "forward"
    if culprit.kind in ("input", "target"):
        phase = "input"
    elif culprit.kind == "parameter":
        phase = "optimizer"
    elif culprit.is_backward:
        phase = "backward"
    elif culprit.after_last_parameter:
        phase = "loss"
    return Fault(
        step=step,
        kind=culprit.kind,
        phase=phase,
        site=found.site,
        evidence=replace(culprit.evidence, no_backward=no_backward),
        parameter=parameter if phase == "backward" else None,
        time_step=culprit.time_step,
        samples=culprit.samples,
        chain=found.chain,
    )


def _unexplained(step: int, parameter: str | None, bad: int, of: int, *, in_loss: bool) -> Fault:
    if in_loss:
        evidence = FaultEvidence(reason="unexplained-loss")
    else:
        evidence = FaultEvidence(
            reason="unexplained-gradient", nonfinite_gradients=bad, gradients=of
        )
    return Fault(
        step=step,
        kind="unknown",
        phase="loss" if in_loss else "backward",
        site=Site(op=""),
        evidence=evidence,
        parameter=parameter,
    )
