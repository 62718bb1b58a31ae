"""New initial weights for a script that has made its own already."""

from __future__ import annotations

import fnmatch
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gainstage.graph.activations import Activation
from gainstage.graph.weights import WeightUse, residual_ends, weight_uses
from gainstage.graph.whole import Graph, read_graph
from gainstage.treat.first_pass import FirstPass
from gainstage.treat.initial import (
    automatic_kind,
    draw,
    gain_of,
    input_gates,
    normal_std,
    recurrent,
)
from gainstage.treat.lsuv import UnitVariance
from gainstage.treat.treatment import Backward, Script, Step, Treatment

_GATES = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}


class Reinit(Treatment):
    """Rewrite weights once the first forward pass has shown how the graph uses them.

    The moment: the first backward call reads the graph and runs with the old weights; as it has
    ended, the new ones are written, the gradients of the old ones are set to 0, and the step that
    would follow is left out. With further backward calls before that step (accumulation) the step
    is made of these. A graph that reaches parameters not seen before (the second network of a GAN)
    is treated when it comes. Random numbers come from a generator of its own, so the script draws
    what it would draw without. Biases of rewritten layers become 0; embeddings, norms and biases of
    recurrent layers stay. Running statistics of batch norm are reset, for they describe the old
    weights.
    """

    remedy = "reinit"

    def __init__(
        self, kind: str = "auto", mode: str = "fan_in", only: str = "*", seed: float = 0.0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.mode = mode
        self.only = only
        self.seed = int(seed)
        self.rewritten: dict[str, str] = {}
        """The kind each weight got, by its name."""
        self._pass = FirstPass()
        self._plan: list[Callable[[], None]] = []
        self._measure: list[Tensor] = []
        self._measuring: UnitVariance | None = None
        self._script: Script | None = None

    def attach(self, script: Script) -> Callable[[], None]:
        """Remember whom to ask for names."""
        self._script = script

        def take_out() -> None:
            self._stop_measuring()
            if not self.rewritten:
                self.notes.append(f"reinit rewrote nothing: no weight seen matches {self.only!r}")

        return take_out

    def before_backward(self, backward: Backward) -> None:
        """Read the graph, while there is something new to see, and plan what to write."""
        self._stop_measuring()
        assert self._script is not None
        new = self._pass.begin(backward, self._script)
        if new:
            self._plan_for(read_graph(backward.roots), new, self._script)

    def after_backward(self, backward: Backward) -> None:
        """Write, and let the gradients of the old weights count for nothing."""
        if self._plan:
            with torch.no_grad():
                for write in self._plan:
                    write()
            self._plan = []
            self._pass.void()
            if self._measure:
                self._measuring = UnitVariance(self._measure)
                self._measuring.__enter__()
                self._measure = []
        self._pass.end()

    def treat(self, step: Step) -> None:
        """Leave the step out if it has only gradients of the old weights."""
        self.touched += self._pass.leave_out(step)

    def end(self, optimizer: Any) -> None:
        """Give the script its gradients back: zeros."""
        self._pass.give_back()

    def _stop_measuring(self) -> None:
        if self._measuring is not None:
            self._measuring.__exit__(None, None, None)
            self._measuring = None

    # The plan

    def _plan_for(self, graph: Graph, new: Sequence[Tensor], script: Script) -> None:
        names = dict(zip(map(id, new), script.parameter_names(new), strict=True))
        modules = [module for _, module in script.named_modules()]
        owned = self._plan_recurrent(modules, names)
        uses = [
            use
            for use in weight_uses(graph)
            if id(use.parameter) in names and id(use.parameter) not in owned
        ]
        ends, sums = residual_ends(graph, uses) if self.kind == "residual" else ({}, 0)
        rewritten = False
        for use in uses:
            name = names[id(use.parameter)]
            if not fnmatch.fnmatchcase(name, self.only):
                continue
            kind = automatic_kind(use) if self.kind in ("auto", "residual") else self.kind
            factor = 1.0 / math.sqrt(sums) if id(use.parameter) in ends else 1.0
            self.rewritten[name] = _said(use, kind, factor)
            values = draw(use, kind, self.mode, self._generator(name, use.parameter)).mul_(factor)
            self.details[name] = _recipe(use, kind, self.mode, values, factor)
            self._plan.append(_write(use.parameter, values))
            biases = [] if use.is_recurrent else [b for b in use.biases if id(b) in names]
            self._plan.extend(_write(bias, torch.zeros_like(bias)) for bias in biases)
            self.details |= {names[id(bias)]: {"zeros": True} for bias in biases}
            if kind == "lsuv" and not use.is_recurrent:
                self._measure.append(use.parameter)
            rewritten = True
        if rewritten:
            self._plan.extend(_reset_statistics(modules, names))

    def _plan_recurrent(self, modules: Sequence[nn.Module], names: dict[int, str]) -> set[int]:
        owned: set[int] = set()
        for module in modules:
            if not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
                continue
            gates = _gates_of(module)
            gain = gain_of(Activation(str(getattr(module, "nonlinearity", "tanh"))))
            for own, weight in module.named_parameters(recurse=False):
                name = names.get(id(weight))
                owned.add(id(weight))
                if name is None or "weight" not in own or not fnmatch.fnmatchcase(name, self.only):
                    continue
                generator = self._generator(name, weight)
                if own.startswith("weight_hh"):
                    values = recurrent(weight, self.kind, generator)
                    self.rewritten[name] = "identity" if self.kind == "identity" else "orthogonal"
                    self.details[name] = {self.rewritten[name]: 1.0, "gates": gates}
                elif own.startswith("weight_ih"):
                    values = input_gates(weight, gates, self.kind, gain, generator)
                    self.rewritten[name] = "he" if self.kind == "he" else "xavier"
                    self.details[name] = {"normal": _rms(values)}
                else:
                    continue
                self._plan.append(_write(weight, values))
        return owned

    def _generator(self, name: str, parameter: Tensor) -> torch.Generator:
        """Return a generator whose draws depend on the weight's name, not on what comes before."""
        generator = torch.Generator(parameter.device)
        return generator.manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))


def _write(parameter: Tensor, values: Tensor) -> Callable[[], None]:
    # Through `.data`: a graph that the script has retained must not be told to be out of date.
    def write() -> None:
        parameter.data.copy_(values)

    return write


def _recipe(
    use: WeightUse, kind: str, mode: str, values: Tensor, factor: float
) -> dict[str, float | str]:
    """Return how a script would draw the same: the name of torch's initialiser and its number."""
    if use.is_recurrent:
        return {"identity" if kind == "identity" else "orthogonal": 1.0, "gates": 1}
    std = normal_std(use, kind, mode)
    if std is not None:
        return {"normal": std * factor}
    if kind == "lsuv" or use.parameter.dim() != 2:
        return {"unknown": kind}
    # All that are not 0 of the singular values are the gain.
    gain = float(values.norm()) / math.sqrt(min(values.shape))
    return {"identity" if kind == "identity" else "orthogonal": gain}


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def _said(use: WeightUse, kind: str, factor: float) -> str:
    if use.is_recurrent:
        return "identity" if kind == "identity" else "orthogonal"
    scaled = "" if factor == 1.0 else f" times {factor:.3g}"
    return f"{kind} for {use.activation.name}, fan in {use.fan_in}, out {use.fan_out}{scaled}"


def _gates_of(module: nn.RNNBase | nn.RNNCellBase) -> int:
    return _GATES.get(str(getattr(module, "mode", type(module).__name__)), 1)


def _reset_statistics(
    modules: Sequence[nn.Module], names: dict[int, str]
) -> list[Callable[[], None]]:
    return [
        module.reset_running_stats
        for module in modules
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and any(id(parameter) in names for parameter in module.parameters(recurse=False))
    ]
