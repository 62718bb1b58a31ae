"""A block of series as one line of JSON, for a pipe between two processes of ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from gainstage.detect.symptom_json import symptom_from_json, symptom_json
from gainstage.facts.symptom import Symptom
from gainstage.store.series import Series, SeriesBlock


def block_line(block: SeriesBlock, symptoms: Sequence[Symptom]) -> str:
    """Return a block and its symptoms as a line; null for what is not there."""
    values: list[list[float | None]] = [
        [value if there else None for value, there in zip(*row, strict=True)]
        for row in zip(block.values.tolist(), block.given.tolist(), strict=True)
    ]
    return json.dumps(
        {
            "step": block.step.tolist(),
            "time": block.time.tolist(),
            "series": [[each.quantity, each.tensor] for each in block.series],
            "values": values,
            "symptoms": [symptom_json(symptom) for symptom in symptoms],
        }
    )


def parse_line(line: str) -> tuple[SeriesBlock, list[Symptom]]:
    """Return what `block_line` has made a line of."""
    parsed: dict[str, Any] = json.loads(line)
    series = tuple(Series(*each) for each in parsed["series"])
    shape = (len(parsed["step"]), len(series))
    cells = np.array(parsed["values"], object).reshape(shape)
    present = np.array([[cell is not None for cell in row] for row in cells], np.bool_)
    block = SeriesBlock(
        np.array(parsed["step"], np.int64),
        np.array(parsed["time"], np.float64),
        series,
        np.where(present.reshape(shape), cells, np.nan).astype(np.float64),
        present.reshape(shape),
    )
    return block, [symptom_from_json(each) for each in parsed["symptoms"]]
