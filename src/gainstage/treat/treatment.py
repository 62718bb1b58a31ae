"""What a treatment is, and how the command line names one: `clip-global-norm:max_norm=1`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gainstage.errors import ConfigError
from gainstage.treat.settings import SCHEDULE, SETTINGS, Value, check, with_defaults


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


@dataclass(frozen=True, slots=True)
class Spec:
    """A treatment by name, as the command line gives it and the record keeps it."""

    remedy: str
    settings: dict[str, Value]
    """Those that were given."""

    def as_text(self) -> str:
        """Return the spec in the form that `parse` reads."""
        pairs = ",".join(f"{key}={_text_of(value)}" for key, value in self.settings.items())
        return f"{self.remedy}:{pairs}" if pairs else self.remedy

    def values(self) -> dict[str, Value]:
        """Return all settings that count, those not given at their defaults; no schedule."""
        return with_defaults(self.remedy, self.settings)

    def span(self) -> tuple[float, float]:
        """Return the first step that is treated, and the first one that is not any more."""
        start, until = (self.settings.get(each.name, each.default) for each in SCHEDULE)
        return float(start), float(until)


class Treatment:
    """A change to a run from outside, called at every moment at which one can be made.

    Each moment does nothing unless a treatment says so. In which order several are called, and for
    which steps, is `TreatmentPipeline`'s to decide.
    """

    remedy: str

    def __init__(self) -> None:
        self.spec = Spec(self.remedy, {})
        """What it was made from."""
        self.active = True
        """Whether the step in progress, its forward pass included, is to be treated."""
        self.touched = 0
        """Steps that it has changed so far."""
        self.notes: list[str] = []
        """What must be told, one sentence each, such as why it could not be done."""
        self.details: dict[str, Any] = {}
        """What exactly was done, in JSON types, for who wants to do it in the script itself."""

    def settings(self) -> dict[str, Value]:
        """Return all settings by name, defaults and schedule included."""
        given = self.spec.settings
        schedule = {each.name: given[each.name] for each in SCHEDULE if each.name in given}
        return self.spec.values() | schedule

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


def parse(text: str) -> Spec:
    """Return the treatment that a `--treat` option names. Needs no torch.

    Raises:
        ConfigError: If remedy or setting is unknown, or a value is not one it can have.

    Example:
        >>> parse("clip-global-norm:max_norm=1,until=500")
        Spec(remedy='clip-global-norm', settings={'max_norm': 1.0, 'until': 500.0})
    """
    remedy, _, rest = text.partition(":")
    if remedy not in SETTINGS:
        raise ConfigError(
            f"--treat {text!r}: no remedy {remedy!r}; there are {', '.join(SETTINGS)}"
        )
    known = {setting.name: setting for setting in (*SETTINGS[remedy], *SCHEDULE)}
    settings: dict[str, Value] = {}
    try:
        for pair in filter(None, rest.split(",")):
            name, equals, value = pair.partition("=")
            if name not in known:
                raise ConfigError(f"{remedy} has no setting {name!r}; it has {', '.join(known)}")
            settings[name] = known[name].read(value if equals else "")
        check(remedy, settings)
    except ConfigError as error:
        raise ConfigError(f"--treat {text!r}: {error}") from None
    return Spec(remedy, settings)


def _text_of(value: Value) -> str:
    return value if isinstance(value, str) else repr(float(value)).removesuffix(".0")
