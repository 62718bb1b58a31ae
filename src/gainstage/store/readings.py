"""readings.json: what `gainstage check` reads of live tensors, beside the record of the run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from gainstage.errors import RunFolderError
from gainstage.ledger.gain_data import CheckReadings
from gainstage.store.journal import write_json

_NAME = "readings.json"


def write_readings(folder: Path, readings: CheckReadings) -> None:
    """Write what a check read.

    Raises:
        OSError: If it cannot be written.
    """
    write_json(folder / _NAME, asdict(readings))


def read_readings(folder: Path) -> CheckReadings | None:
    """Return what a check read; None where it came to no step.

    Raises:
        RunFolderError: If the file is damaged.
    """
    try:
        return CheckReadings.of_json(json.loads((folder / _NAME).read_bytes()))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunFolderError(f"{str(folder / _NAME)!r} is damaged: {error!r}") from error
