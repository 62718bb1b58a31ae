"""Which edit of the source does what a treatment did: one function a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gainstage.facts.record import RankRecord
from gainstage.prescribe.patch.edits import Edits, NoSafeEditError
from gainstage.prescribe.patch.models import fp32_module, insert_norm, reinit
from gainstage.prescribe.patch.optimizers import Made, Stepped, optimizers_of, steps_of
from gainstage.prescribe.patch.rates import lower_lr, raise_eps
from gainstage.prescribe.patch.steps import clip, skip_nonfinite, warm_up
from gainstage.treat.settings import Value
from gainstage.treat.spec import Spec


@dataclass(frozen=True, slots=True)
class Treated:
    """What an edit may know: where the script does things, and what the treatment did."""

    edits: Edits
    """Take the change."""
    record: RankRecord
    """Of the untreated run, which knows the lines."""
    details: Mapping[str, Any]
    """What the treated trial's journal says that the treatment has done."""

    @property
    def optimizers(self) -> list[Made]:
        """Return the places where the script makes its optimizers."""
        return optimizers_of(self.edits.source, self.record)

    def steps_of(self, optimizers: list[Made]) -> list[Stepped]:
        """Return the lines that step these optimizers."""
        return steps_of(self.edits.source, self.record, optimizers)


EditOf = Callable[[Treated, Mapping[str, Value]], None]
"""Takes the settings that count, by name."""


def edit(edits: Edits, spec: Spec, record: RankRecord, details: Mapping[str, Any]) -> None:
    """Make the edit that does what a treatment did.

    Raises:
        NoSafeEditError: If there is none that surely does.
    """
    if spec.schedule():
        raise NoSafeEditError("the treatment was for some steps only")
    if spec.remedy not in EDITS:
        raise NoSafeEditError(f"{spec.remedy}: {spec.kind.why_no_edit}")
    EDITS[spec.remedy](Treated(edits, record, details), spec.values())


def _clip_global_norm(treated: Treated, values: Mapping[str, Value]) -> None:
    if values["per"] != "all":
        raise NoSafeEditError("torch clips all gradients together, not part by part")
    norm_type = _float(values, "norm_type")
    kind = "" if norm_type == 2.0 else f", norm_type={norm_type}"
    _clip(treated, f"clip_grad_norm_({{}}, max_norm={_float(values, 'max_norm')!r}{kind})")


def _clip_value(treated: Treated, values: Mapping[str, Value]) -> None:
    _clip(treated, f"clip_grad_value_({{}}, {_float(values, 'value')!r})")


def _clip(treated: Treated, call: str) -> None:
    made = treated.optimizers
    clip(treated.edits, treated.record, made, treated.steps_of(made), call)


def _skip_nonfinite(treated: Treated, values: Mapping[str, Value]) -> None:
    made = treated.optimizers
    skip_nonfinite(treated.edits, made, treated.steps_of(made))


def _lower_lr(treated: Treated, values: Mapping[str, Value]) -> None:
    if values["after"] != "start":
        raise NoSafeEditError("what a spike is would have to be measured while the script runs")
    lower_lr(treated.edits, treated.optimizers, _float(values, "factor"))


def _warm_up(treated: Treated, values: Mapping[str, Value]) -> None:
    made = treated.optimizers
    warm_up(treated.edits, made, treated.steps_of(made), int(_float(values, "steps")))


def _raise_eps(treated: Treated, values: Mapping[str, Value]) -> None:
    raise_eps(treated.edits, treated.optimizers, _float(values, "eps"))


def _reinit(treated: Treated, values: Mapping[str, Value]) -> None:
    seed = int(_float(values, "seed"))
    reinit(treated.edits, treated.record, treated.optimizers, treated.details, seed)


def _insert_norm(treated: Treated, values: Mapping[str, Value]) -> None:
    kind, eps = str(values["kind"]), _float(values, "eps")
    insert_norm(treated.edits, treated.optimizers, treated.details, kind, eps)


def _fp32_module(treated: Treated, values: Mapping[str, Value]) -> None:
    fp32_module(treated.edits, str(values["module"]))


def _float(values: Mapping[str, Value], name: str) -> float:
    return float(values[name])


EDITS: dict[str, EditOf] = {
    "skip-nonfinite": _skip_nonfinite,
    "clip-global-norm": _clip_global_norm,
    "clip-value": _clip_value,
    "raise-eps": _raise_eps,
    "lower-lr": _lower_lr,
    "warm-up": _warm_up,
    "fp32-module": _fp32_module,
    "reinit": _reinit,
    "insert-norm": _insert_norm,
}
"""By kind. One without an edit says in its descriptor why: the diff is an instruction then."""
