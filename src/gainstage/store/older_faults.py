"""Faults of run folders that an earlier version has written, with what is a field now.

Earlier versions put part of what was measured into the sentence alone. It is read out of there by
the whole phrase that they wrote, the operation's name left out.
"""

from __future__ import annotations

import re
from typing import Any, cast

from gainstage.facts.fault import Hazard

_HIDDEN = re.compile(r"; hidden from the loss(?: by (?P<by>\w+))?, yet backward .*")
_OVERFLOWS = re.compile(r" overflows (?P<dtype>float16|bfloat16|float32|float64)\b")
_NO_SECOND_MOMENT = re.compile(r": 0/0, for (?P<state>\w+) is 0 in ")
_LAYERS = {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"}
_NORMALIZES = {*_LAYERS, "native_batch_norm", "native_layer_norm"}
_DEVIATIONS = {"var", "std"}
_NORMS = {"linalg_vector_norm", "norm"}
_BY_HAZARD: dict[Hazard, tuple[str, ...]] = {
    "logarithm": ("log", "log2", "log10", "log1p", "xlogy", "logit", "kl_div"),
    "root": ("sqrt", "rsqrt", "hypot", "cdist", "dist", *_NORMS, *_DEVIATIONS),
    "within-one": ("acos", "asin", "atanh", "erfinv"),
    "from-one": ("acosh",),
    "power": ("pow",),
    "divisor": ("div", "reciprocal", "fmod", "remainder", "cosine_similarity"),
    "exponential": ("exp", "exp2", "expm1", "sinh", "cosh", "softplus"),
    "masked-row": ("softmax", "log_softmax", "logsumexp", "scaled_dot_product_attention"),
    "equal-values": ("svd", "linalg_svd", "linalg_eigh", "eigh"),
    "no-elements": ("mean",),
}
_HAZARDS = {op: hazard for hazard, ops in _BY_HAZARD.items() for op in ops}


def with_fields_of_now(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of faults.jsonl as it is written now; one that is written so is left alone."""
    evidence, message, site = line.get("evidence"), line.get("message"), line.get("site")
    if not (isinstance(evidence, dict) and isinstance(site, dict) and isinstance(message, str)):
        return line
    known, op = cast("dict[str, Any]", evidence), cast("dict[str, Any]", site).get("op")
    if "reason" in known or not isinstance(op, str):
        return line
    return {**line, "evidence": {**known, **_fields(op, message, known)}}


def _fields(op: str, message: str, known: dict[str, Any]) -> dict[str, Any]:
    hidden = _HIDDEN.search(message)
    overflows = _OVERFLOWS.match(message.removeprefix(op))
    zero = _NO_SECOND_MOMENT.search(message)
    fields: dict[str, Any] = {
        "reason": "outside-domain",  # whose sentence is the domain's own words
        "domain": message if hidden is None else message[: hidden.start()],
        "is_hidden": hidden is not None,
        "hidden_by": hidden and hidden["by"],
        "dtype": overflows and overflows["dtype"],
        "second_moment": zero["state"] if zero and op == "addcdiv" else None,
        "hazard": _HAZARDS.get(op),
        "normalizes": op in _NORMALIZES,
        "dispersion": "deviation" if op in _DEVIATIONS else "norm" if op in _NORMS else None,
    }
    if known.get("by_spread"):
        operands: object = known.get("operands")
        makers = cast("dict[str, str]", operands).values() if isinstance(operands, dict) else ()
        fields["divisor"] = "deviation" if _NORMS.isdisjoint(makers) else "norm"
    return fields
