"""Normalisation inserted after modules of a script that has none there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gainstage.graph.autopsy.path import above
from gainstage.graph.nodes.walk import Consumers, consumers_of, walk
from gainstage.graph.operations.operation import OperationKind
from gainstage.graph.operations.table import operation_of
from gainstage.treat.model.first_pass import FirstPass
from gainstage.treat.model.modules import ModuleFinder, matches
from gainstage.treat.model.norm_after import NormAfter, features_of
from gainstage.treat.treatment import Backward, ScriptView, Step, Treatment

SMALLEST_BATCH = 8
"""Below it the statistics of a batch are mostly noise."""
_GROWTH_BITS = 1.0
"""A module whose output level stands so far above its input's is a site where growth shows."""


@dataclass(slots=True)
class _Site:
    """A module after which a norm may be inserted, and what its first forward pass showed."""

    name: str
    module: nn.Module
    calls: int = 0
    order: int = -1
    gain_bits: float = 0.0
    output: torch.Size | None = None
    is_odd: bool = False
    """Its output is no tensor, nor a tuple that begins with one."""
    is_tuple: bool = False
    node: Any = None
    """Of autograd's graph, that the first output came from; until the choice is made."""
    norm: NormAfter | None = None
    decided: bool = False


class InsertNorm(Treatment):
    """Normalise what named modules return: LayerNorm, RMSNorm or BatchNorm.

    The first forward pass only shows sizes, levels and how often a module is called; then the norms
    are made, their parameters join the optimizer's group that holds the module's, and the gradients
    of that first pass count for nothing (see `FirstPass`). With `at=growth` it is every module with
    weights of its own whose output stands 1 bit or more above its input, the last one excepted,
    which reads out; where there is none, every one that ends a branch of a residual stream, for
    there the sum grows. Batch norm is refused where the batch is below 8 or the module is part of a
    recurrence: its statistics would be noise, or mix time steps.
    """

    def __init__(self, kind: str = "layer", at: str = "growth", eps: float = 1e-5) -> None:
        super().__init__()
        self.kind = kind
        self.at = at
        self.eps = eps
        self._sites: list[_Site] = []
        self._called = 0
        self._pass = FirstPass()
        self._script: ScriptView | None = None
        self._chosen: list[_Site] = []

    def attach(self, script: ScriptView) -> Callable[[], None]:
        """Hook the modules that may be sites, as they appear."""
        self._script = script
        finder = ModuleFinder(script, self._found)

        def take_out() -> None:
            finder.close()
            for site in self._sites:
                if site.norm is not None:
                    site.norm.remove(script.optimizers())
            self._say_what_was_not_found()

        return take_out

    def _found(self, name: str, module: nn.Module, undo: ExitStack) -> None:
        if self.at == "growth":
            own = module.parameters(recurse=False)
            is_site = bool(name) and any(weight.dim() > 1 for weight in own)
            is_site = is_site and not isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        else:
            is_site = bool(name) and matches(name, self.at)
        if is_site:
            site = _Site(name, module)
            self._sites.append(site)
            undo.callback(module.register_forward_hook(functools.partial(self._after, site)).remove)

    def _after(self, site: _Site, module: nn.Module, args: Any, output: Any) -> Any:
        if site.norm is not None:
            return _with_first(output, site.norm.of(_first(output))) if self.active else None
        if self.active and not site.decided and torch.is_grad_enabled():
            site.is_tuple = type(output) is tuple
            self._look(site, _first(args), _first(output))
        return None

    def _look(self, site: _Site, given: Any, output: Any) -> None:
        site.calls += 1
        site.order = self._called = self._called + 1
        if not isinstance(output, Tensor) or output.dim() < 2:
            site.is_odd = True
        elif site.calls == 1:
            site.output, site.node = output.shape, output.grad_fn
            if isinstance(given, Tensor) and given.is_floating_point():
                gain = _level_bits(output) - _level_bits(given)
                site.gain_bits = gain if math.isfinite(gain) else math.inf

    def before_backward(self, backward: Backward) -> None:
        """Choose among the modules that the pass just done has called."""
        assert self._script is not None
        self._pass.begin(backward, self._script)
        seen = [site for site in self._sites if site.calls and not site.decided]
        last = max(seen, key=lambda site: site.order, default=None)
        wanted = seen
        if self.at == "growth":
            wanted = [s for s in seen if s.gain_bits >= _GROWTH_BITS and s is not last]
            wanted = wanted or _ends_of_branches(seen, backward.roots)
        for site in seen:
            site.decided, site.node = True, None
            if site in wanted:
                why_not = self._why_not(site)
                if why_not:
                    self.notes.append(f"insert-norm left out {site.name}: {why_not}")
                else:
                    self._chosen.append(site)

    def _why_not(self, site: _Site) -> str | None:
        if site.is_odd or site.output is None:
            return "it does not return a tensor of two dimensions or more"
        if self.kind != "batch":
            return None
        if site.output[0] < SMALLEST_BATCH:
            return (
                f"its batch of {site.output[0]} is below {SMALLEST_BATCH}, so batch statistics "
                "would be noise; kind=layer does without"
            )
        if site.calls > 1 or any(isinstance(part, nn.RNNBase) for part in site.module.modules()):
            return "it is part of a recurrence, where batch statistics mix time steps; kind=layer"
        return None

    def after_backward(self, backward: Backward) -> None:
        """Insert, and let the gradients of the pass without norms count for nothing."""
        assert self._script is not None
        for site in self._chosen:
            assert site.output is not None
            axis, width = features_of(site.module, site.output)
            site.norm = NormAfter(site.module, self.kind, axis, width, self.eps)
            self.details[site.name] = {
                "dims": len(site.output),
                "axis": axis,
                "width": width,
                "is_tuple": site.is_tuple,
            }
            if not site.norm.join(self._script.optimizers()):
                self.notes.append(f"insert-norm after {site.name} will not learn: no optimizer")
        if self._chosen:
            self._pass.void()
            self._chosen = []
        self._pass.end()

    def treat(self, step: Step) -> None:
        """Leave out the step whose gradients are those of the network without norms."""
        self._pass.leave_out(step)
        self.touched += any(site.norm is not None for site in self._sites)

    def end(self, optimizer: Any) -> None:
        """Give the script its gradients back."""
        self._pass.give_back()

    def inserted(self) -> list[str]:
        """Return the names of the modules that are normalised."""
        return [site.name for site in self._sites if site.norm is not None]

    def _say_what_was_not_found(self) -> None:
        if not self._sites:
            self.notes.append(f"insert-norm found no module called {self.at!r}")
        elif not self.inserted() and not self.notes:
            grows = "no output stands 1 bit above its input, nor is added to what it was made from"
            why = grows if self.at == "growth" else "none ran"
            self.notes.append(f"insert-norm inserted nothing: {why}")


def _ends_of_branches(sites: list[_Site], roots: Iterable[Any]) -> list[_Site]:
    """Return the sites whose output is added to something that it was itself computed from."""
    consumers = consumers_of(walk(root for root in roots if isinstance(root, Tensor)))
    return [s for s in sites if s.node is not None and _is_added_back(s.node, consumers)]


def _is_added_back(node: Any, consumers: Consumers) -> bool:
    made_from = above(node)
    while len(users := consumers.get(node, ())) == 1:
        ((user, edge, _),) = users
        if operation_of(user).adds == "sum":
            others = [p for e, (p, _) in enumerate(user.next_functions) if e != edge]
            return any(other in made_from for other in others)
        if not _keeps_branch(operation_of(user)):
            return False
        node = user
    return False


def _keeps_branch(kind: OperationKind) -> bool:
    """Tell whether what comes out is still the branch: scaled, thinned out or reshaped."""
    return bool(kind.scales) or kind.is_dropout or kind.moves == "whole"


def _first(value: Any) -> Any:
    return value[0] if type(value) is tuple and value else value


def _with_first(output: Any, first: Tensor) -> Any:
    return (first, *output[1:]) if type(output) is tuple else first


def _level_bits(tensor: Tensor) -> float:
    """Return log2 of the rms, -inf for zeros."""
    wide = torch.float32 if tensor.device.type == "mps" else torch.float64
    mean_square = float(tensor.detach().to(wide).square().mean())
    return 0.5 * math.log2(mean_square) if mean_square > 0 else -math.inf
