"""The gain ledger in words and as a table, for the terminal and for whoever shows text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.text import Text

from gainstage.ledger.gain_data import (
    DepthLimit,
    GainLedger,
    InitialWeight,
    LayerGain,
    RecurrentGain,
    Sharpness,
)
from gainstage.show.answers import Answer, counted
from gainstage.show.terminal import is_utf, labelled, safe, shortened

_NAMES = {
    "standard_normal": "N(0,1)",
    "standard_uniform": "U(0,1)",
    "torch_linear": "torch default",
    "torch_rnn": "torch RNN default",
    "torch_gru": "torch GRU default",
    "torch_lstm": "torch LSTM default",
}
"""Of rules; others are named by their words: `he_normal` is He normal."""
_RECURRENT = ("torch_rnn", "torch_gru", "torch_lstm")
_PROPER = {"he": "He", "xavier": "Xavier", "lecun": "LeCun"}
_RECTIFIED = ("relu", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus")
_SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_NOTABLE_BITS = 1.0
_MOST_LAYERS = 40
_MOST_REACHED = 10_000
"""Depths above this are reported as unlimited."""


def print_ledger(ledger: GainLedger, script: str, *, file: TextIO) -> None:
    """Print a ledger, as wide as the terminal but at most 120 columns."""
    console = Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
    width = min(console.width, 120) if console.is_terminal else 80
    text = ledger_text(ledger, script, width=width)
    if not is_utf(file):
        encoding = getattr(file, "encoding", None) or "ascii"
        text = Text(text.plain.encode(encoding, "replace").decode(encoding))
    console.print(text)


def ledger_text(ledger: GainLedger, script: str, *, width: int = 80) -> Text:
    """Return the ledger as text whose lines are at most `width` wide."""
    verdict, style = ("TROUBLE", "bold red") if ledger.troubles else ("HEALTHY", "green")
    left = f" gainstage   check {shortened(safe(script), 28)}   {counted(ledger.steps, 'step')}"
    left += "" if ledger.loss is None else f", loss {ledger.loss:.4g}"
    header = Text(left + " " * max(2, width - len(left) - len(verdict) - 1)).append(verdict, style)
    lines = [header]
    lines += [labelled(a.label, a.text, width, a.is_main) for a in ledger_answers(ledger)]
    rows = list(layer_rows(ledger.layers, width))
    if rows:
        lines += [Text(""), Text(rows[0], "dim"), *map(Text, rows[1:])]
    return Text("\n").join(lines)


def ledger_answers(ledger: GainLedger) -> list[Answer]:
    """Return what a ledger says, in the order in which it matters."""
    troubles = [
        Answer("what" if i == 0 else "also", said, is_main=i == 0)
        for i, said in enumerate(ledger.troubles)
    ]
    said = [*troubles, Answer("depth", _depth(ledger))]
    if ledger.layers:
        said.append(Answer("limit", "; ".join(map(_limit, ledger.limits))))
    said += [Answer("time" if not i else "", t) for i, t in enumerate(_times(ledger.recurrences))]
    said += [
        Answer("init" if not i else "", text) for i, text in enumerate(_initial(ledger.weights))
    ]
    said.append(Answer("curve", _curve(ledger.sharpness)))
    said += [Answer("norm" if not i else "", text) for i, text in enumerate(_norms(ledger))]
    return said


def layer_rows(layers: Sequence[LayerGain], width: int) -> Iterator[str]:
    """Yield the table's rows, its head first; the middle of a deep network is left out."""
    if not layers:
        return
    room = width - 39
    names = max(12, min(max(len(each.name) for each in layers), room // 2))
    yield f" {'layer':<{names}} {'forward':>7} {'gain':>6} {'backward':>8} {'gain':>6}  initial"
    half = _MOST_LAYERS // 2
    for place, layer in enumerate(layers):
        if len(layers) > _MOST_LAYERS and place == half:
            yield f" … {len(layers) - _MOST_LAYERS} layers between"
        if len(layers) > _MOST_LAYERS and half <= place < len(layers) - half:
            continue
        row = (
            f" {shortened(safe(layer.name), names):<{names}} {_level(layer.forward_bits):>7} "
            f"{_gain(layer.forward_gain_bits):>6} {_level(layer.delta_bits):>8} "
            f"{_gain(layer.backward_gain_bits):>6}  {_found(layer.initial)}"
        )
        yield row[:width].rstrip()


def rule_names(weight: InitialWeight) -> str:
    """Return how a weight was initialised, by the names people use.

    Where several rules agree for the weight's shape, two are named.
    """
    # Both fans are the same for a square weight, and torch's recurrent layers begin as its linear
    # ones do where the numbers of units agree: one name is enough.
    rules = [r for r in weight.rules if r.removesuffix("_fan_out") not in {*weight.rules} - {r}]
    rules = [r for r in rules if not r.startswith(_RECURRENT)] or rules
    names = [_rule(each) for each in rules[:2]]
    if names:
        return " or ".join(names)
    if weight.distribution in ("normal", "uniform"):
        letter = "N" if weight.distribution == "normal" else "U"
        return f"{letter} of rms {weight.rms:.2g}"
    return {"other": "no known rule", "unknown": "too few to tell"}.get(
        weight.distribution, weight.distribution
    )


def expected_rule(weight: InitialWeight) -> str:
    """Return the rule that suits what follows a weight."""
    if weight.is_recurrent:
        return "orthogonal"
    if weight.activation in _RECTIFIED:
        return "He"
    return "LeCun" if weight.activation == "selu" else "Xavier"


def _depth(ledger: GainLedger) -> str:
    forward, backward = ledger.forward_slope_bits, ledger.backward_slope_bits
    known = counted(len(ledger.layers), "layer")
    if math.isnan(forward) and math.isnan(backward):
        return f"{known}: too few for a slope"
    said = f"forward {_slope(forward)}, backward {_slope(backward)} bits a layer over {known}"
    return f"{said}; scaling all weights by {ledger.crossover:.2g} would make it neutral"


def _limit(limit: DepthLimit) -> str:
    name = _SHORT.get(limit.dtype, limit.dtype)
    if limit.layer is not None:
        return f"{name} overflows in {limit.layer}, layer {limit.layers:.0f} {limit.way}"
    if limit.layers > _MOST_REACHED:
        return f"{name} never"
    return f"{name} at {limit.layers:,.0f} layers {limit.way}"


def _times(recurrences: Sequence[RecurrentGain]) -> Iterator[str]:
    for recurrence in recurrences:
        where = recurrence.module or "recurrence"
        said = (
            f"{where}: {recurrence.slope_bits:+.2f} bits a time step over {recurrence.time_steps}"
        )
        if recurrence.memory_horizon <= _MOST_REACHED:
            yield f"{said}; memory horizon {recurrence.memory_horizon:,.0f} time steps"
            continue
        reached = [
            f"{_SHORT.get(dtype, dtype)} at {steps:,.0f}"
            for dtype, steps in recurrence.time_steps_to_overflow.items()
            if steps <= _MOST_REACHED
        ]
        yield f"{said}; overflows in {', '.join(reached)} time steps" if reached else said


def _initial(weights: Sequence[InitialWeight]) -> Iterator[str]:
    """Yield a line for each way of initialising, the most frequent first."""
    ways = Counter((rule_names(each), each.activation, expected_rule(each)) for each in weights)
    for (rule, activation, expected), count in ways.most_common(4):
        each = next(w for w in weights if (rule_names(w), w.activation) == (rule, activation))
        said = f"{rule} in {count} of {counted(len(weights), 'weight')}"
        if each.excess_bits is None or each.expected_rms is None:
            yield said
        elif abs(each.excess_bits) < _NOTABLE_BITS or not math.isfinite(each.excess_bits):
            yield f"{said} before {activation}: {each.excess_bits:+.1f} bits of {expected}"
        else:
            large = "large" if each.excess_bits > 0 else "small"
            excess = f"{abs(each.excess_bits):.1f} bits too {large}"
            yield (
                f"{said} before {activation}: rms {each.rms:.2g} should be "
                f"{each.expected_rms:.2g} ({expected}), {excess}"
            )


def _curve(sharpness: Sharpness) -> str:
    if sharpness.largest is None:
        return f"sharpness {sharpness.note or 'not measured'}"
    kind = "preconditioned sharpness" if sharpness.is_preconditioned else "sharpness"
    said = f"{kind} {sharpness.largest:.3g} ({counted(sharpness.products, 'product')})"
    if sharpness.max_stable_lr is not None and sharpness.lr is not None:
        said += (
            f"; {sharpness.optimizer} is stable up to lr {sharpness.max_stable_lr:.2g}; "
            f"this run uses {sharpness.lr:.2g}"
        )
    elif sharpness.largest > 0:
        said += f"; gradient descent is stable up to lr {2 / sharpness.largest:.2g}"
    return f"{said}; {sharpness.note}" if sharpness.note else said


def _norms(ledger: GainLedger) -> Iterator[str]:
    seen = Counter((each.batch, each.values) for each in ledger.norms)
    for (batch, values), count in seen.most_common(3):
        small = " (below 8)" if batch < 8 else ""
        yield (
            f"{counted(count, 'batch norm')}: batch {batch}{small}, "
            f"{counted(values, 'value')} a channel"
        )


def _found(weight: InitialWeight | None) -> str:
    if weight is None:
        return ""
    said = rule_names(weight).split(" or ")[0]
    if weight.excess_bits is not None and math.isfinite(weight.excess_bits):
        return f"{said} {weight.excess_bits:+.1f} for {weight.activation}"
    return said


def _rule(rule: str) -> str:
    first, *rest = _NAMES.get(rule, rule.replace("_", " ")).split(" ")
    return " ".join([_PROPER.get(first, first), *rest])


def _slope(bits: float) -> str:
    return f"{bits:+.2f}" if math.isfinite(bits) else "unknown"


def _level(bits: float) -> str:
    if math.isnan(bits):
        return "?"
    return f"{bits:+.1f}" if math.isfinite(bits) else ("inf" if bits > 0 else "0")


def _gain(bits: float) -> str:
    return f"{bits:+.1f}" if math.isfinite(bits) else ""
