"""New initial weights for a script that has made its own already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gainstage.graph.nodes.readers import read_graph
from gainstage.treat.model.first_pass import FirstPass
from gainstage.treat.model.lsuv import UnitVariance
from gainstage.treat.model.recipe import Recipe
from gainstage.treat.model.weight_plan import MEASURED, orthogonal_gain, plan_weights
from gainstage.treat.treatment import Backward, ScriptView, Step, Treatment


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

    def __init__(
        self, kind: str = "auto", mode: str = "fan_in", only: str = "*", seed: float = 0.0
    ) -> None:
        super().__init__()
        self.recipe = Recipe(kind=kind, mode=mode, only=only, seed=int(seed))
        self.rewritten: dict[str, str] = {}
        """The kind each weight got, by its name."""
        self._pass = FirstPass()
        self._plan: list[Callable[[], None]] = []
        self._measure: dict[str, Tensor] = {}
        """By name, weights that are scaled as they are first used."""
        self._measured: dict[str, Tensor] = {}
        self._measuring: UnitVariance | None = None
        self._script: ScriptView | None = None

    def attach(self, script: ScriptView) -> Callable[[], None]:
        """Remember whom to ask for names."""
        self._script = script

        def take_out() -> None:
            self._stop_measuring()
            if not self.rewritten:
                only = self.recipe.only
                self.notes.append(f"reinit rewrote nothing: no weight seen matches {only!r}")

        return take_out

    def before_backward(self, backward: Backward) -> None:
        """Read the graph, while there is something new to see, and plan what to write."""
        self._stop_measuring()
        assert self._script is not None
        new = self._pass.begin(backward, self._script)
        if new:
            names = dict(zip(map(id, new), self._script.parameter_names(new), strict=True))
            modules = [module for _, module in self._script.named_modules()]
            plan = plan_weights(read_graph(backward.roots), names, modules, self.recipe)
            self._plan += plan.writes
            self._measure |= {names[id(weight)]: weight for weight in plan.measured}
            self.rewritten |= plan.rewritten
            self.details |= plan.details

    def after_backward(self, backward: Backward) -> None:
        """Write, and let the gradients of the old weights count for nothing."""
        if self._plan:
            with torch.no_grad():
                for write in self._plan:
                    write()
            self._plan = []
            self._pass.void()
            if self._measure:
                self._measuring = UnitVariance(list(self._measure.values()))
                self._measuring.__enter__()
                self._measured, self._measure = self._measure, {}
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
            for name, weight in self._measured.items():
                if self.details[name] == {"unknown": MEASURED}:
                    self.details[name] = {"orthogonal": orthogonal_gain(weight.detach())}
