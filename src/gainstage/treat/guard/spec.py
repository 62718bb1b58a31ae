"""Which guards there are, and how the command line names one: `rollback:to=20`. Needs no torch."""

from __future__ import annotations

from gainstage.errors import ConfigError
from gainstage.treat.settings import Number, Setting, Value, read_pairs
from gainstage.treat.spec import Spec

GUARDS: dict[str, tuple[Setting, ...]] = {
    "off": (),
    "skip": (),
    "stop": (),
    "rollback": (Number("to", 10.0, whole=True), Number("factor", 0.5, below=1.0)),
}


def parse_guard(text: str) -> Spec | None:
    """Return the guard that a `--guard` option names, None for `off`.

    All its settings are in the spec, those not given at their defaults.

    Raises:
        ConfigError: If guard or setting is unknown, or a value is not one it can have.

    Example:
        >>> parse_guard("rollback:to=20").as_text()
        'rollback:to=20,factor=0.5'
    """
    name, _, rest = text.partition(":")
    if name not in GUARDS:
        raise ConfigError(f"--guard {text!r}: no guard {name!r}; there are {', '.join(GUARDS)}")
    settings: dict[str, Value] = {each.name: each.default for each in GUARDS[name]}
    try:
        settings |= read_pairs(rest, GUARDS[name], owner=name)
    except ConfigError as error:
        raise ConfigError(f"--guard {text!r}: {error}") from None
    return None if name == "off" else Spec(name, settings)
