"""The evidence table: how many bits of log-odds each piece of evidence adds to each cause.

A row is one observation on the record, made in `evidence`; a number is log2 of how much more likely
it is under that cause than under the others. Causes not named in a row are not touched by it. Bits
add up, and `rank` turns the sums into confidences. All that is weighed is in this table.
"""

from __future__ import annotations

from typing import Literal

Cause = Literal[
    "init-scale",
    "recurrent-gain",
    "learning-rate",
    "residual-growth",
    "bad-data",
    "numeric-op",
    "dtype-overflow",
    "clip-misuse",
    "loss-reduction",
    "grad-accumulation",
    "normalization",
    "unbounded-objective",
    "optimizer-config",
]

CAUSES: tuple[Cause, ...] = (
    "init-scale",
    "recurrent-gain",
    "learning-rate",
    "residual-growth",
    "bad-data",
    "numeric-op",
    "dtype-overflow",
    "clip-misuse",
    "loss-reduction",
    "grad-accumulation",
    "normalization",
    "unbounded-objective",
    "optimizer-config",
)

PRIOR: dict[Cause, float] = {
    "learning-rate": 1.0,  # the most frequent cause, and the one that leaves no trace of its own
    "residual-growth": -0.5,
}

WEIGHTS: dict[str, dict[Cause, float]] = {
    # What the autopsy found.
    "left-domain": {
        "numeric-op": 6.0,
        "learning-rate": -2.0,
        "init-scale": -2.0,
        "clip-misuse": -3.0,
    },
    "singular-derivative": {
        "numeric-op": 7.0,
        "learning-rate": -2.0,
        "init-scale": -2.0,
        "clip-misuse": -3.0,
    },
    "hidden-nonfinite": {"numeric-op": 4.0},
    "divided-by-spread": {"normalization": 8.0, "numeric-op": -1.0},
    "divided-by-norm": {"numeric-op": 7.0, "normalization": 5.0, "learning-rate": -2.0},
    "in-normalization": {"normalization": 7.0},
    "half-overflow": {"dtype-overflow": 8.0, "numeric-op": -2.0},
    "half-overflow-after-growth": {"learning-rate": 1.0, "recurrent-gain": 1.0},
    "overflow": {
        "learning-rate": 1.0,
        "init-scale": 1.0,
        "recurrent-gain": 1.0,
        "residual-growth": 1.0,
        "grad-accumulation": 1.0,
        "clip-misuse": 1.0,
        "bad-data": -1.0,
    },
    "overflow-in-recurrence": {"recurrent-gain": 6.0},
    "huge-data": {"bad-data": 7.0, "numeric-op": -1.0, "learning-rate": -2.0},
    "exp-overflow": {"numeric-op": 3.0},
    "bad-input": {
        "bad-data": 8.0,
        "normalization": 4.0,
        "numeric-op": 2.0,
        "learning-rate": -2.0,
        "clip-misuse": -4.0,
    },
    "bad-elements": {"bad-data": 2.0, "normalization": -2.0},
    "bad-features": {"normalization": 5.0, "bad-data": -1.0},
    "bad-samples": {"normalization": 2.0},  # a whole row may be missing from the data as well
    "raw-data-is-finite": {"normalization": 3.0, "numeric-op": 2.0, "bad-data": -4.0},
    "half-state-overflows": {"dtype-overflow": 10.0, "bad-data": -6.0},
    "state-is-not-finite": {"numeric-op": 4.0, "recurrent-gain": 2.0, "bad-data": -6.0},
    "of-a-finite-loss": {"numeric-op": 1.0, "bad-data": -1.5},
    "bad-constant": {"bad-data": 3.0, "numeric-op": 2.0},
    "update-divides-by-zero": {"optimizer-config": 10.0},
    "update-nonfinite": {"optimizer-config": 2.0, "learning-rate": 2.0},
    # What the gradient did before it failed.
    "quiet-before": {
        "numeric-op": 1.5,
        "bad-data": 1.5,
        "dtype-overflow": 1.0,
        "normalization": 0.5,
        "learning-rate": -1.5,
        "recurrent-gain": -1.0,
        "init-scale": -2.0,
        "residual-growth": -1.0,
        "clip-misuse": -3.0,
        "loss-reduction": -2.0,
        "grad-accumulation": -2.0,
    },
    "grew-before": {
        "learning-rate": 1.0,
        "recurrent-gain": 0.5,
        "residual-growth": 1.0,
        "grad-accumulation": 0.5,
        "numeric-op": -1.5,
        "bad-data": -1.0,
    },
    "huge-at-first-step": {"init-scale": 3.0, "recurrent-gain": 2.0, "learning-rate": -1.0},
    "moderate-at-first-step": {"init-scale": -2.0},
    "leapt-from-calm": {
        "bad-data": 5.0,
        "learning-rate": -2.0,
        "residual-growth": -2.0,
        "grad-accumulation": -2.0,
        "optimizer-config": -2.0,
    },
    "input-leapt": {"bad-data": 5.0},
    "only-the-loss-leapt": {"bad-data": 3.0, "learning-rate": -0.5},
    "input-usual-at-the-leap": {
        "bad-data": -7.0,
        "residual-growth": 2.0,
        "learning-rate": 3.0,
    },
    "stream-leapt": {"bad-data": -7.0, "residual-growth": 5.5, "learning-rate": 1.5},
    "grew-step-by-step": {"bad-data": -3.0, "numeric-op": -1.0},
    # Profiles.
    "depth-grows-at-first-step": {
        "init-scale": 5.0,
        "learning-rate": -1.5,
        "residual-growth": -1.0,
    },
    "depth-fades-at-first-step": {"init-scale": 5.0, "learning-rate": -1.5},
    "depth-flat-at-first-step": {"init-scale": -2.5},
    "time-grows-at-first-step": {"recurrent-gain": 6.0, "learning-rate": -1.0, "init-scale": 0.5},
    "time-flat-at-first-step": {"recurrent-gain": -3.0},
    "time-grows-later": {"recurrent-gain": 6.0, "learning-rate": -0.5},
    "no-recurrence": {"recurrent-gain": -8.0},
    "depth-grows-later": {
        "learning-rate": 1.0,
        "loss-reduction": 1.0,
        "grad-accumulation": 1.0,
        "residual-growth": 0.5,
    },
    "depth-grows-later-along-a-residual-stream": {"residual-growth": 4.0},
    "stream-grows-at-first-step": {"residual-growth": 5.0, "learning-rate": -1.5},
    "levels-climb-along-a-residual-stream": {"residual-growth": 5.0},
    "levels-climb": {"residual-growth": 1.0, "learning-rate": 0.5},
    "state-climbs": {
        "recurrent-gain": 7.0,
        "learning-rate": -2.0,
        "bad-data": -3.0,
        "numeric-op": -1.0,
    },
    # Steps.
    "update-large-against-weights": {
        "learning-rate": 2.5,
        "loss-reduction": 1.0,
        "grad-accumulation": 0.5,
    },
    "loss-rose-after-updates": {"learning-rate": 2.0, "loss-reduction": 1.0},
    "gradients-died": {"learning-rate": 2.5, "loss-reduction": 1.0},
    "rate-jumped": {"learning-rate": 4.0},
    "all-weights-grow-alike": {"optimizer-config": 6.0, "learning-rate": -1.0},
    "weights-moved-beyond-updates": {"optimizer-config": 7.0, "learning-rate": -2.0},
    # What the script does.
    "clips-after-step": {"clip-misuse": 9.0},
    "clips-scaled-gradients": {"clip-misuse": 8.0},
    "clips-part": {"clip-misuse": 9.0},
    "clips-nothing": {"clip-misuse": 9.0},
    "clip-far-out-of-reach": {"clip-misuse": 7.0},
    "gradients-not-zeroed": {"grad-accumulation": 10.0},
    "accumulates-undivided": {"grad-accumulation": 7.0, "learning-rate": -1.0},
    "loss-is-a-sum": {"loss-reduction": 6.0, "learning-rate": -1.0},
    "loss-is-a-mean": {"loss-reduction": -6.0},
    "parameters-unheld": {"optimizer-config": 9.0},
    "eps-is-zero": {"optimizer-config": 3.0},
    "settings-out-of-range": {"optimizer-config": 9.0},
    "batch-too-small-for-statistics": {"normalization": 3.0},
    "loss-falls-without-bound": {
        "unbounded-objective": 8.0,
        "learning-rate": -2.0,
        "residual-growth": -4.0,  # these raise the loss
        "recurrent-gain": -4.0,
        "init-scale": -4.0,
    },
    "loss-fell-below-zero": {"unbounded-objective": 3.5, "learning-rate": -0.5},
    "density-without-bound": {"unbounded-objective": 3.0},
    "loss-stays-bounded-below": {"unbounded-objective": -4.0},
}
