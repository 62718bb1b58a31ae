"""What a treatment is, and the moments at which it may act. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gainstage.treat.settings import Value


@dataclass(slots=True)
class Step:
    """One optimizer step with its gradients read and nothing written yet."""

    index: int
    optimizer: Any
    """A `torch.optim.Optimizer`; None where the script steps by hand."""
    parameters: Sequence[Any]
    grads: list[Any]
    """One gradient a parameter, None where there is none; as the script has left them."""
    grad_norm: float | None
    """2-norm of the unscaled `grads` together, None where there is no gradient."""
    scale: float = 1.0
    """Factor still in `grads`, which a fused optimizer will divide by (see `unscale_`)."""
    max_norm: float | None = None
    coefficient: float | None = None
    """Factor by which treatments have scaled the gradients, None where none has clipped."""
    skipped: bool = False

    def present(self) -> list[Any]:
        """Return the gradients that are there."""
        return [grad for grad in self.grads if grad is not None]

    def group_sizes(self) -> list[int]:
        """Return how many of the parameters each of the optimizer's groups holds."""
        if self.optimizer is None:
            return [len(self.parameters)]
        return [len(group["params"]) for group in self.optimizer.param_groups]

    def note_clip(self, coefficient: float, max_norm: float | None = None) -> None:
        """Tell the record that the gradients' norm has been scaled by a factor."""
        known = 1.0 if self.coefficient is None else self.coefficient
        self.coefficient, self.max_norm = known * coefficient, max_norm
        if self.grad_norm is not None:
            self.grad_norm *= coefficient


@dataclass(frozen=True, slots=True)
class Backward:
    """One outermost call of `backward` by the script, before or after it ran."""

    index: int
    """Of the step that it is made for."""
    roots: Sequence[Any]
    """The tensors it begins at, usually one loss."""


class ScriptView(Protocol):
    """What a treatment may ask about the script that it treats."""

    def parameter_names(self, parameters: Sequence[Any]) -> list[str]:
        """Return what the parameters are called, as in the record."""
        ...

    def named_modules(self) -> list[tuple[str, Any]]:
        """Return all modules alive, by their name within their root. Takes tens of ms."""
        ...

    def optimizers(self) -> list[Any]:
        """Return the optimizers made so far."""
        ...


class Treatment:
    """A change to a run from outside, called at every moment at which one can be made.

    Each moment does nothing unless a treatment says so. In which order several are called, and for
    which steps, is `TreatmentPipeline`'s to decide.
    """

    def __init__(self) -> None:
        self.remedy = ""
        """The id of its kind."""
        self.values: dict[str, Value] = {}
        """All its settings by name, defaults and schedule included."""
        self.span = (0.0, math.inf)
        """The first step that is treated, and the first one that no longer is."""
        self.without_optimizer = ""
        """Why it changes nothing where a script steps by hand; empty where it can act there."""
        self.not_in_closure = ""
        """Why it changes nothing where backward runs within the step; else empty."""
        self.active = True
        """Whether the step in progress, its forward pass included, is to be treated."""
        self.touched = 0
        """Steps that it has changed so far."""
        self.notes: list[str] = []
        """What the user must know, one sentence each, such as why it could not act."""
        self.details: dict[str, Any] = {}
        """What exactly was done, in JSON types, for who wants to do it in the script itself."""

    def settings(self) -> dict[str, Value]:
        """Return all settings by name, defaults and schedule included."""
        return dict(self.values)

    def attach(self, script: ScriptView) -> Callable[[], None] | None:
        """Hook into torch, where gradients alone do not do; return what takes the hooks out."""

    def before_backward(self, backward: Backward) -> None:
        """Look at the graph, which is whole now."""

    def after_backward(self, backward: Backward) -> None:
        """Change what backward has left."""

    def begin(self, optimizer: Any) -> None:
        """Change the optimizer before its step."""

    def treat(self, step: Step) -> None:
        """Change the gradients, when they are all there and nothing has been applied."""

    def end(self, optimizer: Any) -> None:
        """Undo, after the optimizer's step, what must not outlast it."""

    def state_dict(self) -> dict[str, Any]:
        """Return what belongs into a checkpoint, in JSON types: empty for most."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` returned."""
