"""`normalization-noise`: a batch norm takes its statistics from too few values to know them.

Of n values the mean has a relative error of 1/sqrt(n), and of one value the spread is 0.
"""

from __future__ import annotations

from gainstage.detect.series.sign import Sign
from gainstage.facts.observation import BatchNormOfFew, Observation, Observed

_FEWEST = 4


def look(seen: Observation[Observed]) -> Sign | None:
    """Return the sign of an observation, None where it is of something else."""
    if not isinstance(seen.evidence, BatchNormOfFew):
        return None
    values, batch = seen.evidence.values, seen.evidence.batch
    return Sign(
        "normalization-noise",
        "level",
        "warning" if values < _FEWEST else "info",
        seen.step,
        f"a batch norm takes its statistics from {values} values a channel (batch {batch}): the "
        "gradient follows their noise; layer norm and group norm do not look at the batch",
        last_step=seen.step,
        evidence={"values": values, "batch": batch},
    )
