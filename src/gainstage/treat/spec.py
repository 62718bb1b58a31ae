"""A treatment as the command line names it: `clip-global-norm:max_norm=1`. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from gainstage.errors import ConfigError
from gainstage.treat.kind import TreatmentKind
from gainstage.treat.kinds import KINDS
from gainstage.treat.settings import SCHEDULE, Value, text_of


@dataclass(frozen=True, slots=True)
class Spec:
    """A treatment by name, as the command line gives it and the record keeps it."""

    remedy: str
    settings: dict[str, Value]
    """Those that were given."""

    @property
    def kind(self) -> TreatmentKind:
        """Return the kind that it names."""
        return KINDS[self.remedy]

    def as_text(self) -> str:
        """Return the spec in the form that `parse` reads."""
        pairs = text_of(self.settings)
        return f"{self.remedy}:{pairs}" if pairs else self.remedy

    def values(self) -> dict[str, Value]:
        """Return all settings that count, those not given at their defaults; no schedule."""
        return self.kind.values(self.settings)

    def schedule(self) -> dict[str, Value]:
        """Return the part of the settings that says which steps are treated."""
        return {
            setting.name: self.settings[setting.name]
            for setting in SCHEDULE
            if setting.name in self.settings
        }

    def span(self) -> tuple[float, float]:
        """Return the first step that is treated, and the first one that no longer is."""
        start, until = (self.settings.get(setting.name, setting.default) for setting in SCHEDULE)
        return float(start), float(until)


def parse(text: str) -> Spec:
    """Return the treatment that a `--treat` option names.

    Raises:
        ConfigError: If kind or setting is unknown, or a value is not one it can have.

    Example:
        >>> parse("clip-global-norm:max_norm=1,until=500")
        Spec(remedy='clip-global-norm', settings={'max_norm': 1.0, 'until': 500.0})
    """
    remedy, _, rest = text.partition(":")
    if remedy not in KINDS:
        raise ConfigError(f"--treat {text!r}: no remedy {remedy!r}; there are {', '.join(KINDS)}")
    try:
        return Spec(remedy, KINDS[remedy].read(rest))
    except ConfigError as error:
        raise ConfigError(f"--treat {text!r}: {error}") from None
