"""A fault in one sentence, made of its fields. Only people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gainstage.facts.fault import FaultEvidence, NonfiniteValue, Share


def fault_text(op: str, evidence: FaultEvidence, parameter: str | None = None) -> str:
    """Return what went wrong in one operation, with the values in it.

    Args:
        op: torch's name of the operation.
        evidence: What was measured.
        parameter: The weight that the optimizer wrote, where it did.
    """
    text = _what(op, evidence, parameter)
    if evidence.argument_unsaved:
        text += "; inferred from the result, its argument was not saved"
    if evidence.is_hidden:
        by = "" if evidence.hidden_by is None else f" by {evidence.hidden_by}"
        text += f"; hidden from the loss{by}, yet backward multiplies its 0 by the infinite "
        text += "derivative"
    return text


def _what(op: str, known: FaultEvidence, parameter: str | None) -> str:
    share = _share(known.share)
    match known.reason:
        case "outside-domain":
            return f"{known.domain or f'{op} left its domain'}{share}{_smallest(known)}"
        case "masked-to-inf":
            return f"{op} of values that a mask had set to inf{share}"
        case "nan-of-inf":
            return f"{op} makes NaN of an inf{share}"
        case "overflow":
            return f"{op} overflows {_dtype(known)}{share}{_growth(known)}"
        case "overflow-inside":
            return f"{op} overflows inside: inf - inf{share}{_growth(known)}"
        case "nan":
            return f"{op} gives NaN{share}"
        case "opaque":
            what = _name(known.value)
            return (
                f"{op} gives {what} for finite arguments; what it does inside is not in the graph"
            )
        case "nonfinite-operand":
            return _of_operand(op, known, share)
        case "nonfinite-parameter":
            return f"a parameter was not finite before the step{share}"
        case "update":
            return _of_update(known, parameter)
        case "unexplained-loss":
            return "the loss is not finite, and no operation of its graph shows why"
        case _:
            return _of_gradient(op, known, share)


def _of_gradient(op: str, known: FaultEvidence, share: str) -> str:
    match known.reason:
        case "derivative-infinite":
            return f"the derivative of {op} is not finite{_place(known)}{share}"
        case "derivative-of-equal-values":
            return f"the derivative of {op} is not finite where two values are equal{share}"
        case "derivative-overflow":
            return f"the derivative of {op} overflows{share}; float64 would hold it"
        case "custom-backward":
            what = _name(known.value)
            return f"the backward pass of {op} makes {what} of a finite gradient{share}"
        case "gradient-overflow":
            return (
                f"the gradient overflows {_dtype(known)} on its way back through {op}; "
                f"largest magnitude before 2^{known.largest_gradient_bits:.1f}"
            )
        case "gradient-nan":
            bits = known.largest_gradient_bits
            return f"{op} makes NaN of a finite gradient of magnitude 2^{bits:.1f} at most"
        case "unexplained-gradient":
            return (
                f"{known.nonfinite_gradients} of {known.gradients} gradients are not finite, of a "
                "finite loss; no operation with an infinite derivative explains it, so a product "
                "overflowed on the way back"
            )
        case _:
            return f"{op} is not finite{share}"


def _of_operand(op: str, known: FaultEvidence, share: str) -> str:
    if known.operand_shape is None:
        what = f"operand `{known.operand}` of {op}"
        return f"{what}, which autograd does not track, is not finite{share}"
    shape = "×".join(str(size) for size in known.operand_shape) or "scalar"
    what = f"operand `{known.operand}` ({shape}) of {op} holds {_name(known.operand_value)}"
    return f"{what}{share} as it enters the graph"


def _of_update(known: FaultEvidence, parameter: str | None) -> str:
    share = "" if known.share is None else f"{known.share.count} of {known.share.elements} "
    text = f"the update made {share}elements of {parameter or 'a weight'} NaN or inf"
    if known.second_moment is not None:
        zeros = f"{known.second_moment} is 0 in {known.zero_second_moments} of them"
        text += f": 0/0, for {zeros} and eps adds nothing"
    return text


def _share(share: Share | None) -> str:
    return "" if share is None else f" in {share.count} of {share.elements} elements"


def _smallest(known: FaultEvidence) -> str:
    if known.smallest_positive is None:
        return ""
    return f"; smallest positive value elsewhere {known.smallest_positive:.2g}"


def _growth(known: FaultEvidence) -> str:
    text = ""
    if known.largest_input:
        name, value = max(known.largest_input.items(), key=lambda item: item[1])
        text = f"; largest input magnitude {value:.3g} (`{name}`)"
    if known.float64_finite:
        text += f"; in float64 the result reaches {known.largest_float64:.3g}"
    elif known.float64_finite is False:
        text += "; float64 overflows too"
    return text


def _dtype(known: FaultEvidence) -> str:
    if known.dtype is None:
        return "its dtype"
    if known.largest_finite is None:
        return known.dtype
    return f"{known.dtype} (at most {known.largest_finite:.3g})"


def _place(known: FaultEvidence) -> str:
    if known.at is None:
        return ""
    value = known.at if known.at_imaginary is None else complex(known.at, known.at_imaginary)
    return f" at {known.argument} = {value:.3g}"


def _name(value: NonfiniteValue | None) -> str:
    return "inf" if value == "inf" else "NaN"
