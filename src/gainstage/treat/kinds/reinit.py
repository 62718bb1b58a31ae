"""`reinit`: new initial weights."""

from __future__ import annotations

from gainstage.treat.kind import TreatmentForm, TreatmentKind
from gainstage.treat.model.recipe import SETTINGS
from gainstage.treat.treatment import Treatment


def _make(kind: str, only: str, seed: float, mode: str = "fan_in") -> Treatment:
    from gainstage.treat.model.reinit import Reinit

    return Reinit(kind, mode, only, seed)


REINIT = TreatmentKind(
    id="reinit",
    settings=SETTINGS,
    forms=(
        TreatmentForm(
            make=_make,
            acts="backward",
            does="writes new initial weights, see below",
            source="He 2015, Glorot 2010, Saxe 2014, Le 2015, Mishkin 2016, Radford 2019",
            costs="a walk of the first graph, one step left out",
        ),
    ),
    by_hand="initialise the weights by kind={kind} where the layers are made",
)
