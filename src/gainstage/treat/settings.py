"""Which remedies there are and what settings each takes. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gainstage.errors import ConfigError

Value: TypeAlias = float | str


@dataclass(frozen=True, kw_only=True, slots=True)
class When:
    """A setting counts only while another one of the same remedy has one of these values."""

    name: str
    among: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number that a remedy takes, with its default and the interval it must lie in."""

    name: str
    default: float
    above: float = field(default=0.0, kw_only=True)
    below: float = field(default=math.inf, kw_only=True)
    """Not reached, except that inf itself is fine where `or_inf`."""
    or_inf: bool = field(default=False, kw_only=True)
    whole: bool = field(default=False, kw_only=True)
    when: When | None = field(default=None, kw_only=True)

    def read(self, text: str) -> float:
        """Return the number that a text means.

        Raises:
            ConfigError: If it means none, or one out of range; the message lacks the context.
        """
        try:
            value = float(text)
        except ValueError:
            raise ConfigError(f"{self.name} must be a number, got {text!r}") from None
        inside = self.above < value < self.below or (self.or_inf and value == math.inf)
        if not inside or (self.whole and value != math.inf and value != int(value)):
            kind = "a whole number " if self.whole else ""
            end = "" if self.below == math.inf else f" and below {self.below:g}"
            raise ConfigError(f"{self.name} must be {kind}above {self.above:g}{end}, got {value:g}")
        return value


@dataclass(frozen=True, slots=True)
class Word:
    """A word that a remedy takes: one of some, or any where there are no choices."""

    name: str
    default: str
    choices: tuple[str, ...] = ()
    when: When | None = field(default=None, kw_only=True)

    def read(self, text: str) -> str:
        """Return the word.

        Raises:
            ConfigError: If it is not one of the choices, or empty.
        """
        if self.choices and text not in self.choices:
            raise ConfigError(f"{self.name} must be one of {', '.join(self.choices)}, got {text!r}")
        if not text:
            raise ConfigError(f"{self.name} needs a value")
        return text


Setting: TypeAlias = Number | Word


def _of_kind(*kinds: str) -> When:
    return When(name="kind", among=kinds)


_AFTER_SPIKE = When(name="after", among=("spike",))

SETTINGS: dict[str, tuple[Setting, ...]] = {
    "clip-global-norm": (
        Number("max_norm", 1.0),
        Number("norm_type", 2.0, or_inf=True),
        Word("per", "all", ("all", "parameter", "group")),
    ),
    "clip-value": (Number("value", 1.0),),
    "clip-adaptive": (
        Word("kind", "agc", ("agc", "autoclip", "zclip", "update")),
        Number("clipping", 0.01, when=_of_kind("agc")),
        Number("eps", 1e-3, when=_of_kind("agc")),
        Number("percentile", 10.0, below=100.0, when=_of_kind("autoclip")),
        Number("alpha", 0.97, below=1.0, when=_of_kind("zclip")),
        Number("z", 2.5, when=_of_kind("zclip")),
        Number("warm_up", 25.0, above=1.0, whole=True, when=_of_kind("zclip")),
        Number("max_norm", math.inf, or_inf=True, when=_of_kind("zclip")),
        Number("rms", 1.0, when=_of_kind("update")),
    ),
    "lower-lr": (
        Number("factor", 0.1, below=1.0),
        Word("after", "start", ("start", "spike")),
        Number("for", 50.0, whole=True, when=_AFTER_SPIKE),
        Number("z", 6.0, when=_AFTER_SPIKE),
    ),
    "warm-up": (Number("steps", 100.0, whole=True),),
    "reinit": (
        Word(
            "kind",
            "auto",
            ("auto", "he", "xavier", "orthogonal", "identity", "residual", "lsuv"),
        ),
        Word("mode", "fan_in", ("fan_in", "fan_out"), when=_of_kind("auto", "he", "residual")),
        Word("only", "*"),
        Number("seed", 0.0, above=-1.0, whole=True),
    ),
    "insert-norm": (
        Word("kind", "layer", ("layer", "rms", "batch")),
        Word("at", "growth"),
        Number("eps", 1e-5),
    ),
    "skip-nonfinite": (),
    "raise-eps": (Number("eps", 1e-8),),
    "fp32-module": (Word("module", "*"),),
    "scale-loss": (Number("factor", 1024.0),),
    "code-change": (Word("source", ""),),
}
"""By remedy. All take `from` and `until` besides."""

SCHEDULE: tuple[Setting, ...] = (
    Number("from", 0.0, above=-1.0, whole=True),
    Number("until", math.inf, whole=True, or_inf=True),
)
"""The first step that is treated, and the first one that is not any more."""


def check(remedy: str, given: Mapping[str, Value]) -> None:
    """Make sure that settings read one by one go together.

    Raises:
        ConfigError: If one of them means nothing beside another or is missing, or `until` is not
            after `from`.
    """
    if remedy == "code-change" and set(given) != {"source"}:
        raise ConfigError("code-change takes source=FILE, the script's changed text, and no more")
    values = with_defaults(remedy, given)
    for setting in SETTINGS[remedy]:
        if setting.name in given and setting.name not in values:
            assert setting.when is not None
            when, now = setting.when, _value_of(remedy, setting.when.name, given)
            needed = " or ".join(f"{when.name}={each}" for each in when.among)
            has = ", ".join(values) or "none"
            raise ConfigError(
                f"{setting.name} goes with {needed}, not with {when.name}={now}, which has {has}"
            )
    start, until = given.get("from", 0.0), given.get("until", math.inf)
    if float(until) <= float(start):
        raise ConfigError(f"until must be above from={start:g}, got {until:g}")


def with_defaults(remedy: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return all settings of a remedy that count, those not given at their defaults."""
    values: dict[str, Value] = {}
    for setting in SETTINGS[remedy]:
        when = setting.when
        if when is None or _value_of(remedy, when.name, given) in when.among:
            values[setting.name] = given.get(setting.name, setting.default)
    return values


def _value_of(remedy: str, name: str, given: Mapping[str, Value]) -> Value:
    default = next(each.default for each in SETTINGS[remedy] if each.name == name)
    return given.get(name, default)
