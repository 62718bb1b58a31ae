"""What `gainstage run` tells the processes it watches, by one environment variable."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from gainstage.errors import ConfigError

VARIABLE = "GAINSTAGE_RUN"

Observer = Literal["process", "thread"]


OBSERVER_VARIABLE = "GAINSTAGE_OBSERVER"
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def size_bytes(text: str) -> int:
    """Return a size such as `1GB`, `500 MB`, `2.5g` or `0` in bytes; units are powers of 1000.

    Raises:
        ConfigError: If it is none.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", text, re.IGNORECASE)
    if match is None:
        raise ConfigError(f"--blackbox-limit must be a size such as 1GB, 500MB or 0; got {text!r}")
    return round(float(match[1]) * _UNITS[match[2].lower()])


def budget_share(text: str) -> float:
    """Return a share such as `1%` or `0.01` as a fraction.

    Raises:
        ConfigError: If it is none, or not above 0% and at most 100%.
    """
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(f"--budget must be above 0% and at most 100%, such as 1%; got {text!r}")
    return share


def observer_of(text: str | None, environment: Mapping[str, str] = os.environ) -> Observer:
    """Return where the record is to be written.

    Args:
        text: As `--observer` gives it; None for what GAINSTAGE_OBSERVER says, else a process.
        environment: Where the variable is looked up.

    Raises:
        ConfigError: If it is neither.
    """
    text = text or environment.get(OBSERVER_VARIABLE) or "process"
    if text not in ("process", "thread"):
        raise ConfigError(f"--observer must be process or thread, got {text!r}")
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The options of one run, the same for all its processes."""

    folder: Path
    """The run's folder, absolute."""
    main_pid: int
    """The process that runs the script itself; others are its children."""
    treat: tuple[str, ...] = ()
    """Treatments, as `--treat` gives them; checked already."""
    guard: str = "off"
    """What to do about gradients that are not finite, as `--guard` gives it; checked already."""
    sinks: tuple[str, ...] = ()
    """Where the numbers go besides, as `--sink` gives them; checked already, paths absolute."""
    blackbox_limit_bytes: int = 10**9
    """Bytes of a black box at most; 0 for none."""
    budget: float = 0.01
    """Share of the training time that sampled reads may take."""
    fail_on: str | None = None
    """Severity from which on the exit code is 3."""
    live: bool = False
    """Show the live panel on standard error."""
    deep_compiled: bool = False
    """Run compiled code eagerly on sampled steps, to see inside."""
    strict: bool = False
    """Turn a fault of gainstage's own into an error."""
    check_steps: int = 0
    """End the process after so many steps, for `gainstage check`; 0 for never."""

    observer: Observer = "process"
    """Where the record is written: in a process of its own, or in a thread of the script's."""
    channel: Path | None = None
    """Folder of the main process's channel, made before the script starts; None where it makes one
    itself."""

    def as_text(self) -> str:
        """Return the value of the environment variable."""
        return json.dumps(asdict(self), default=str)


def config_from(text: str) -> RunConfig:
    """Return the options that `as_text` made a text of."""
    options = json.loads(text)
    options["folder"] = Path(options["folder"])
    options["channel"] = None if options["channel"] is None else Path(options["channel"])
    options["treat"] = tuple(options["treat"])
    options["sinks"] = tuple(options["sinks"])
    return RunConfig(**options)


def config_of(environment: Mapping[str, str] = os.environ) -> RunConfig | None:
    """Return the options of the run this process belongs to, None outside of one."""
    text = environment.get(VARIABLE)
    return None if text is None else config_from(text)
