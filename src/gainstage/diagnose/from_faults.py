"""Evidence from the autopsy: the first wrong operation."""

from __future__ import annotations

from collections.abc import Iterator

from gainstage.records import Fault, RankRecord

_SPREADS = {"std", "var", "std_mean", "var_mean", "linalg_vector_norm", "norm"}
_NORMALIZATIONS = {
    "batch_norm",
    "layer_norm",
    "group_norm",
    "instance_norm",
    "rms_norm",
    "native_batch_norm",
    "native_layer_norm",
    "var",
    "std",
}
_EXPONENTIALS = {"exp", "expm1", "exp2", "sinh", "cosh", "pow", "softplus"}
_HALF = ("float16", "bfloat16")


def fault_evidence(record: RankRecord) -> Iterator[tuple[str, str]]:
    """Yield rows of the evidence table, with words, from the first fault."""
    fault = record.fault
    if fault is None:
        return
    where = place_of(fault)
    match fault.kind:
        case "domain":
            if _divides_by_spread(fault):
                yield "divided-by-spread", f"{fault.message}, the divisor being a spread{where}"
            elif fault.site.op in _NORMALIZATIONS:
                yield "in-normalization", f"{fault.message}{where}"
            else:
                yield "left-domain", f"{fault.message}{where}"
            if "hidden" in fault.message:
                yield "hidden-nonfinite", "the value is hidden from the loss, not from its gradient"
        case "singular-derivative":
            name = "in-normalization" if fault.site.op in _NORMALIZATIONS else "singular-derivative"
            yield name, f"{fault.message}{where}"
        case "overflow":
            half = next((name for name in _HALF if name in fault.message), None)
            if half is not None:
                yield "half-overflow", f"{fault.message}{where}"
            else:
                yield "overflow", f"{fault.message}{where}"
                if fault.site.op in _EXPONENTIALS:
                    yield "exp-overflow", f"{fault.site.op} overflows for moderate inputs{where}"
        case "input" | "target":
            yield "bad-input", f"{fault.message}{where}"
        case "constant":
            yield "bad-constant", f"{fault.message}{where}"
        case "update":
            divides = fault.site.op == "addcdiv" and "0/0" in fault.message
            yield ("update-divides-by-zero" if divides else "update-nonfinite"), fault.message
        case "parameter" | "unknown":
            return


def place_of(fault: Fault) -> str:
    """Return where a fault is, to stand behind what it is."""
    site = fault.site
    inside = f" in {site.module}" if site.module else ""
    return f"{inside}, line {site.line}" if site.line is not None else inside


def _divides_by_spread(fault: Fault) -> bool:
    operands = fault.evidence.get("operands") or {}
    divisor = operands.get("other" if fault.site.op == "div" else "self")
    return fault.site.op in ("div", "reciprocal", "rsqrt") and divisor in _SPREADS
