"""Scaling the loss for the time of backward, so that half-precision deltas fit their dtype."""

from __future__ import annotations

from typing import Any

import torch

from gainstage.graph.nodes.leaves import leaves_of
from gainstage.treat.treatment import Backward, Treatment


class ScaleLoss(Treatment):
    """Multiply the gradient that backward begins with, and divide what it leaves in the leaves.

    For what flows within a graph of half precision: a factor above 1 keeps small deltas from
    sinking below float16's smallest number, one below 1 keeps large ones from overflowing. The
    script, its clipping and its optimizer see gradients of the right size (Micikevicius et al.
    2018, without the search for the factor that `GradScaler` does). Powers of 2 change no bit of a
    gradient that needs no help. What hooks on tensors see within backward is scaled.
    """

    def __init__(self, factor: float = 1024.0) -> None:
        super().__init__()
        self.factor = factor
        self._handles: list[Any] = []
        self._leaves: list[Any] = []

    def before_backward(self, backward: Backward) -> None:
        """Hook the roots, and scale what earlier backward calls have left in the leaves."""
        self._let_go()
        roots = [root for root in backward.roots if getattr(root, "grad_fn", None) is not None]
        self._leaves = leaves_of(roots)
        self._scale_leaves(self.factor)
        self._handles = [root.register_hook(self._scaled) for root in roots]

    def after_backward(self, backward: Backward) -> None:
        """Divide the gradients back."""
        self._scale_leaves(1.0 / self.factor)
        self._leaves = []
        self.touched += bool(self._handles)
        self._let_go()

    def _scaled(self, grad: Any) -> Any:
        return grad * self.factor

    def _scale_leaves(self, factor: float) -> None:
        with torch.no_grad():
            for leaf in self._leaves:
                if leaf.grad is not None:
                    leaf.grad.mul_(factor)

    def _let_go(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
