"""Layer-sequential unit variance (Mishkin & Matas 2016), measured while the script itself runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten: Any = torch.ops.aten
_PRODUCTS = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.mv.default,
    _aten.addmv.default,
    _aten.convolution.default,
}
_ROUNDS = 3
_CLOSE = 0.01


class UnitVariance(TorchDispatchMode):
    """While active, scales each weight as it is first used, so that its product has an rms of 1.

    It sits below autograd: an operation whose weight has been scaled is run again, and the script
    gets the second result, as if the weight had been so from the start. Sequential by nature, in a
    single pass, for modules and bare tensors alike; and the pass is one whose gradients count.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        self._left: dict[int, list[Tensor]] = {}
        """By address of the memory: a weight, then what autocast has made of it."""
        self.scaled = 0
        for weight in weights:
            self._left[weight.untyped_storage().data_ptr()] = [weight.data]

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run the operation, scaling its weight before."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is _aten._to_copy.default:
            self._note_copy(args[0], result)
        elif func in _PRODUCTS and self._left:
            for arg in args:
                tensors = self._of(arg)
                if tensors is not None:
                    return self._scale(tensors, lambda: func(*args, **kwargs), result)
        return result

    def _of(self, arg: Any) -> list[Tensor] | None:
        return self._left.get(arg.untyped_storage().data_ptr()) if isinstance(arg, Tensor) else None

    def _note_copy(self, source: Any, copy: Tensor) -> None:
        tensors = self._of(source)
        if tensors is not None:
            tensors.append(copy)
            self._left[copy.untyped_storage().data_ptr()] = tensors

    def _scale(self, tensors: list[Tensor], again: Callable[[], Tensor], result: Tensor) -> Tensor:
        for key in [key for key, known in self._left.items() if known is tensors]:
            del self._left[key]
        self.scaled += 1
        for _ in range(_ROUNDS):
            rms = float(result.double().square().mean().sqrt())
            if not 0.0 < rms < math.inf or abs(rms - 1.0) < _CLOSE:
                break
            for tensor in tensors:
                tensor.mul_(1.0 / rms)
            result = again()
        return result
