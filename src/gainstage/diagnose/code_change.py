"""What to change in the code where an operation left its domain or its dtype."""

from __future__ import annotations

from gainstage.facts.fault import Fault, Hazard
from gainstage.facts.observation import (
    ClipAfterStep,
    ClipNothing,
    ClipPartial,
    ClipScaled,
    Observation,
    Observed,
    OptimizerMade,
    OptimizerSettings,
    ParametersUnstepped,
)
from gainstage.facts.record import RankRecord

_BY_HAZARD: dict[Hazard, str] = {
    "logarithm": "clamp its argument from below, x.clamp(min=1e-8); of a probability take the "
    "logits instead: log_softmax, logsigmoid, binary_cross_entropy_with_logits",
    "root": "add an eps within the root, (x + 1e-8).sqrt(): at 0 its derivative is infinite",
    "within-one": "clamp its argument within the domain, x.clamp(-1 + 1e-6, 1 - 1e-6)",
    "from-one": "clamp its argument from below, x.clamp(min=1 + 1e-6)",
    "power": "clamp the base from below, x.clamp(min=1e-8), unless the exponent is a whole number",
    "divisor": "keep the divisor away from 0: add an eps, or clamp it from below",
    "exponential": "bound its argument from above, or work with logarithms: logsumexp, "
    "log_softmax, softplus",
    "masked-row": "a row that is masked as a whole has nothing left to weigh: leave one place of "
    "it open, or mask by a large finite number, such as torch.finfo(x.dtype).min",
    "equal-values": "its derivative is infinite where singular values or eigenvalues coincide: "
    "add a small multiple of the identity, or take the norm of the matrix",
    "no-elements": "there is nothing to take the mean of: leave such a batch out",
}
_ANY_HAZARD = "keep the operation inside its domain"


def domain_change(fault: Fault | None) -> str:
    """Return how to keep a faulty operation inside its domain, with its line where known."""
    if fault is None:
        return _ANY_HAZARD
    hazard = fault.evidence.hazard
    advice = _ANY_HAZARD if hazard is None else _BY_HAZARD[hazard]
    return f"{_where(fault)}: {advice}"


def dtype_change(fault: Fault | None) -> str:
    """Return how to give an operation that overflows float16 or bfloat16 the range of float32."""
    if fault is None:
        return "compute in float32 what overflows"
    return f"{_where(fault)}: compute it in float32, with .float() on what goes in"


_CLIPS: dict[type[Observed], str] = {
    ClipNothing: "clip a list of the parameters: an iterator can be read once",
    ClipScaled: "take the loss scale out before, by scaler.unscale_(optimizer)",
    ClipAfterStep: "clip between backward and the step",
    ClipPartial: "clip all parameters that are stepped, in one call",
}


def clip_changes(record: RankRecord) -> list[str]:
    """Return how to set right what a script's clip does wrong, with its line where known."""
    seen = [(record.first(kind), change) for kind, change in _CLIPS.items()]
    return [
        change if each.line is None else f"line {each.line}: {change}"
        for each, change in seen
        if each is not None
    ]


def settings_change(made: Observation[OptimizerMade] | None) -> str:
    """Return which of an optimizer's settings let weights grow without end, and usual ones."""
    settings = OptimizerSettings() if made is None else made.evidence.settings
    momentum, decay = settings.momentum or 0.0, settings.weight_decay or 0.0
    betas = [beta for beta in settings.betas or () if beta is not None]
    advice = [
        "momentum below 1, such as 0.9" if momentum >= 1 else "",
        "betas below 1, such as (0.9, 0.999)" if max(betas, default=0.0) >= 1 else "",
        "maximize=False" if settings.maximize else "",
        f"weight_decay={-decay:g}, of the other sign" if decay < 0 else "",
    ]
    said = ", ".join(filter(None, advice))
    if made is None or not said:
        return "take out what changes weights besides the optimizer's update, or bound it"
    return f"{made.evidence.class_name}, line {made.line}: {said}"


def unheld_change(
    unheld: Observation[ParametersUnstepped], made: Observation[OptimizerMade] | None
) -> str:
    """Return how parameters that came after the optimizer get into it."""
    names = ", ".join(unheld.evidence.names)
    line = "" if made is None or made.line is None else f", line {made.line},"
    return (
        f"make the optimizer{line} once all layers are there, or call add_param_group when a layer "
        f"is added: {names}"
    )


def _where(fault: Fault) -> str:
    line = "" if fault.site.line is None else f", line {fault.site.line}"
    return f"{fault.site.op}{line}"
