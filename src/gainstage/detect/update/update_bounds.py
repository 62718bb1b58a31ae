"""What an optimizer's updates can do at most, by its kind: to the weights, and to the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gainstage.facts.observation import Observation, Observed, OptimizerMade, OptimizerStepped

_ADAMS = ("Adam", "AdamW", "NAdam")
_BENDS = 4.0
"""A loss without bound falls up to twice as far as to first order, where it multiplies its weights
within some steps; sqrt(n) is more than that in Adam's."""

Series = NDArray[np.float64]


def largest_updates(
    optimizers: Sequence[Observation[Observed]],
    lr: Series,
    norms: Series,
    elements: int,
    momentum: float = 0.0,
) -> tuple[Series, float] | None:
    """Return the largest norm that each step's update can have; None where it is not known.

    Of gradient descent that is the rate times the norms so far, weighted by momentum. Of Adam and
    its kin an element's update is at most lr (1 - b1) / sqrt(1 - b2); see Kingma and Ba (2015),
    section 2.1. Of several optimizers, and of groups with rates of their own, it is not known.

    Args:
        optimizers: Observations of how they were made, and of how one stepped first.
        lr: Rate of each step.
        norms: Of the gradients.
        elements: Of all weights.
        momentum: Largest norm of the momentum buffer before them.

    Returns:
        A norm a step, and the largest norm of the momentum buffer after them.
    """
    made = _made(optimizers)
    if len(made) != 1 or _has_rates(optimizers):
        return None
    settings = made[0].settings
    match made[0].class_name:
        case "SGD" if 0 <= (share := settings.momentum or 0.0) < 1:
            buffers = np.zeros(len(norms))
            for at, norm in enumerate(norms.tolist()):
                buffers[at] = momentum = share * momentum + norm
            with np.errstate(invalid="ignore"):  # a rate of 0 moves nothing, by an inf neither
                return lr * buffers, momentum
        case name if name in _ADAMS and len(betas := settings.betas or ()) == 2:
            first, second = (beta or 0.0 for beta in betas)
            most = max(1.0, (1 - first) / math.sqrt(max(1 - second, 1e-12)))
            return lr * most * math.sqrt(elements), momentum
        case _:
            return None


def usual_updates(
    optimizers: Sequence[Observation[Observed]], lr: Series, elements: Series
) -> Series | None:
    """Return the norm that each step's update of Adam or its kin has about: lr times sqrt(n).

    Whatever the gradient is, an element moves by about the rate; of elements that have no gradient,
    such as rows of an embedding, it is too much. None for other optimizers.
    """
    made = _made(optimizers)
    if len(made) != 1 or made[0].class_name not in _ADAMS:
        return None
    return lr * np.sqrt(elements)


def largest_falls(
    optimizers: Sequence[Observation[Observed]], lr: Series, norms: Series, elements: Series
) -> Series | None:
    """Return by how much each step's update can lower its loss, about; None if unknown.

    To first order that is the product of update and gradient: of gradient descent lr |g|^2, more by
    momentum, and more where a step is so large that the loss bends over it; of Adam and its kin at
    most lr |g|_1, and |g|_1 is at most sqrt(n) |g|. A loss that falls by more is lowered by
    something else, as an actor's by its critic.

    Args:
        optimizers: Observations of how they were made.
        lr: Rate of each step, times what a clip scaled the gradient by.
        norms: Of the gradients.
        elements: Of the weights that each steps.
    """
    made = _made(optimizers)
    kinds = {each.class_name for each in made}
    if _has_rates(optimizers):
        return None
    if kinds == {"SGD"}:
        momenta = [each.settings.momentum or 0.0 for each in made]
        if not 0 <= max(momenta) < 1:
            return None
        with np.errstate(invalid="ignore", over="ignore"):  # of norms that are not finite
            return _BENDS * lr * norms**2 / (1 - max(momenta))
    if kinds and kinds <= set(_ADAMS):
        with np.errstate(invalid="ignore"):
            return lr * norms * np.sqrt(elements)
    return None


def _made(optimizers: Sequence[Observation[Observed]]) -> list[OptimizerMade]:
    return [seen.evidence for seen in optimizers if isinstance(seen.evidence, OptimizerMade)]


def _has_rates(optimizers: Sequence[Observation[Observed]]) -> bool:
    """Tell whether the groups of an optimizer have learning rates of their own."""
    return any(
        isinstance(seen.evidence, OptimizerStepped) and seen.evidence.rates is not None
        for seen in optimizers
    )
