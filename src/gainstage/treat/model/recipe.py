"""What initial weights are to be: the settings of `reinit`. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from gainstage.errors import ConfigError
from gainstage.treat.settings import Number, Setting, When, Word

SETTINGS: tuple[Setting, ...] = (
    Word("kind", "auto", ("auto", "he", "xavier", "orthogonal", "identity", "residual", "lsuv")),
    Word(
        "mode",
        "fan_in",
        ("fan_in", "fan_out"),
        when=When(name="kind", among=("auto", "he", "residual")),
    ),
    Word("only", "*"),
    Number("seed", 0.0, above=-1.0, whole=True),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How weights are to be drawn."""

    kind: str = "auto"
    """`auto`, `he`, `xavier`, `orthogonal`, `identity`, `residual` or `lsuv`."""
    mode: str = "fan_in"
    """`fan_in` keeps the forward level, `fan_out` the backward one; for `he`."""
    only: str = "*"
    """A pattern of parameter names."""
    seed: int = 0

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            if setting.name != "seed":
                setting.read(getattr(self, setting.name))
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed!r}")
