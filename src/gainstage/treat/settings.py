"""The settings that a treatment or a guard takes: numbers and words. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gainstage.errors import ConfigError

Value: TypeAlias = float | str


@dataclass(frozen=True, kw_only=True, slots=True)
class When:
    """A setting counts only while another one of the same treatment has one of these values."""

    name: str
    among: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number that a treatment takes, with its default and the interval it must lie in."""

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
    """A word that a treatment takes: one of some, or any where there are no choices."""

    name: str
    default: str
    choices: tuple[str, ...] = ()
    when: When | None = field(default=None, kw_only=True)
    stands_for: str = field(default="", kw_only=True)
    """What to write in its place where it has no default: `FILE`."""

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return not self.default

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

SCHEDULE: tuple[Setting, ...] = (
    Number("from", 0.0, above=-1.0, whole=True),
    Number("until", math.inf, whole=True, or_inf=True),
)
"""The first step that is treated, and the first one that no longer is."""


def read_pairs(text: str, settings: Sequence[Setting], *, owner: str) -> dict[str, Value]:
    """Return the settings that a text such as `max_norm=1,until=500` gives.

    Args:
        text: What stands behind the colon of an option.
        settings: Those that there are.
        owner: Whose they are, for messages.

    Raises:
        ConfigError: If one is unknown or has a value that it cannot have.
    """
    known = {setting.name: setting for setting in settings}
    values: dict[str, Value] = {}
    for pair in filter(None, text.split(",")):
        name, equals, value = pair.partition("=")
        if name not in known:
            has = ", ".join(known) or "none"
            raise ConfigError(f"{owner} has no setting {name!r}; it has {has}")
        values[name] = known[name].read(value if equals else "")
    return values


def with_defaults(settings: Sequence[Setting], given: Mapping[str, Value]) -> dict[str, Value]:
    """Return all settings that count, those not given at their defaults."""
    values: dict[str, Value] = {}
    for setting in settings:
        when = setting.when
        if when is None or _value_of(settings, when.name, given) in when.among:
            values[setting.name] = given.get(setting.name, setting.default)
    return values


def check_together(settings: Sequence[Setting], given: Mapping[str, Value], *, owner: str) -> None:
    """Make sure that settings read one by one go together.

    Args:
        settings: Those that there are.
        given: Values by name, the schedule's among them.
        owner: Whose they are, for messages.

    Raises:
        ConfigError: If one of them means nothing beside another or is missing, or `until` is not
            after `from`.
    """
    values = with_defaults(settings, given)
    for setting in settings:
        if isinstance(setting, Word) and setting.is_required and setting.name not in given:
            raise ConfigError(f"{owner} needs {setting.name}={setting.stands_for}")
        if setting.name in given and setting.name not in values:
            assert setting.when is not None
            when, now = setting.when, _value_of(settings, setting.when.name, given)
            needed = " or ".join(f"{when.name}={word}" for word in when.among)
            has = ", ".join(values) or "none"
            raise ConfigError(
                f"{setting.name} goes with {needed}, not with {when.name}={now}, which has {has}"
            )
    start, until = given.get("from", 0.0), given.get("until", math.inf)
    if float(until) <= float(start):
        raise ConfigError(f"until must be above from={start:g}, got {until:g}")


def text_of(settings: Mapping[str, Value]) -> str:
    """Return settings in the form that `read_pairs` reads."""
    return ",".join(f"{name}={_text(value)}" for name, value in settings.items())


def _text(value: Value) -> str:
    return value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


def _value_of(settings: Sequence[Setting], name: str, given: Mapping[str, Value]) -> Value:
    default = next(setting.default for setting in settings if setting.name == name)
    return given.get(name, default)
