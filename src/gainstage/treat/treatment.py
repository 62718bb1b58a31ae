"""What a treatment is, and how the command line names one: `clip-global-norm:max_norm=1`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gainstage.errors import ConfigError


@dataclass(slots=True)
class Step:
    """One optimizer step with its gradients read and nothing written yet."""

    index: int
    optimizer: Any
    """A `torch.optim.Optimizer`."""
    parameters: Sequence[Any]
    grads: list[Any]
    """One gradient a parameter, None where there is none; as the script has left them."""
    grad_norm: float | None
    """2-norm of `grads` together, None where there is no gradient."""
    max_norm: float | None = None
    coefficient: float | None = None
    """Factor by which treatments have scaled the gradients, None where none has clipped."""
    skipped: bool = False


class Treatment(Protocol):
    """A change to every step of a run. It undoes in `end` what must not outlast the step."""

    remedy: str
    touched: int
    """Steps that it has changed so far."""

    def settings(self) -> dict[str, float]:
        """Return the settings by name."""
        ...

    def begin(self, optimizer: Any) -> None:
        """Change the optimizer before its step."""
        ...

    def treat(self, step: Step) -> None:
        """Change the gradients, when they are all there and nothing has been applied."""
        ...

    def end(self, optimizer: Any) -> None:
        """Undo, after the optimizer's step."""
        ...


@dataclass(frozen=True, slots=True)
class Spec:
    """A treatment by name, as the command line gives it and the record keeps it."""

    remedy: str
    settings: dict[str, float]

    def as_text(self) -> str:
        """Return the spec in the form that `parse` reads."""
        pairs = ",".join(f"{key}={value:g}" for key, value in self.settings.items())
        return f"{self.remedy}:{pairs}" if pairs else self.remedy


def parse(
    text: str, *, option: str = "--treat", known: Mapping[str, tuple[Setting, ...]] | None = None
) -> Spec:
    """Return the treatment that a `--treat` option names. Needs no torch.

    Args:
        text: As it stands on the command line.
        option: What a message calls it.
        known: The remedies there are, with their settings; `SETTINGS` where not given.

    Raises:
        ConfigError: If remedy or setting is unknown, or a value is not one it can have.

    Example:
        >>> parse("clip-global-norm:max_norm=1")
        Spec(remedy='clip-global-norm', settings={'max_norm': 1.0})
    """
    remedies = SETTINGS if known is None else known
    remedy, _, rest = text.partition(":")
    if remedy not in remedies:
        raise ConfigError(
            f"{option} {text!r}: no remedy {remedy!r}; there are {', '.join(remedies)}"
        )
    settings = {setting.name: setting.default for setting in remedies[remedy]}
    for pair in filter(None, rest.split(",")):
        name, equals, value = pair.partition("=")
        if name not in settings:
            has = ", ".join(settings) or "none"
            raise ConfigError(f"{option} {text!r}: {remedy} has no setting {name!r}; it has {has}")
        try:
            number = float(value)
        except ValueError:
            number = None
        if not equals or number is None:
            raise ConfigError(f"{option} {text!r}: {name} must be a number, got {value!r}")
        settings[name] = number
    for setting in remedies[remedy]:
        value = settings[setting.name]
        if setting.is_whole and value % 1 != 0:
            raise ConfigError(
                f"{option} {text!r}: {setting.name} must be a whole number, got {value:g}"
            )
        if not setting.above < value < setting.below:
            raise ConfigError(
                f"{option} {text!r}: {setting.name} must be above {setting.above:g}"
                f"{'' if setting.below == INFINITY else f' and below {setting.below:g}'}, "
                f"got {value:g}"
            )
    return Spec(remedy, settings)


def parse_guard(text: str) -> Spec | None:
    """Return the guard that a `--guard` option names, None for `off`. Needs no torch.

    Raises:
        ConfigError: If guard or setting is unknown, or a value is not one it can have.

    Example:
        >>> parse_guard("rollback:to=20").as_text()
        'rollback:to=20,factor=0.5'
    """
    spec = parse(text, option="--guard", known=GUARDS)
    return None if spec.remedy == "off" else spec


INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Setting:
    """A number that a remedy takes, with its default and the open interval it must lie in."""

    name: str
    default: float
    above: float = 0.0
    below: float = dataclasses.field(default=INFINITY)
    is_whole: bool = False


SETTINGS: dict[str, tuple[Setting, ...]] = {
    "clip-global-norm": (Setting("max_norm", 1.0),),
    "lower-lr": (Setting("factor", 0.1, below=1.0),),
    "skip-nonfinite": (),
}

GUARDS: dict[str, tuple[Setting, ...]] = {
    "off": (),
    "skip": (),
    "stop": (),
    "rollback": (Setting("to", 10.0, is_whole=True), Setting("factor", 0.5, below=1.0)),
}
