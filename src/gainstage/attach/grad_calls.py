"""Which calls of `torch.autograd.grad` are a training's, and which ask for something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from gainstage.attach.parameters import user_frames

_OPTIONS = ("grad_outputs", "retain_graph", "create_graph", "only_inputs", "allow_unused")


def is_training(
    outputs: Any,
    inputs: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    frame: FrameType,
) -> bool:
    """Tell whether a call asks for the gradient of one loss by leaves, and for nothing after it.

    Args:
        outputs: As `torch.autograd.grad` takes them, like the next.
        inputs: What is derived by.
        args: The other positional arguments.
        kwargs: The keyword arguments.
        frame: Of the caller: calls by torch, such as those of a Hessian, are part of something.
    """
    options = {**dict(zip(_OPTIONS, args, strict=False)), **kwargs}
    if options.get("grad_outputs") is not None or options.get("is_grads_batched"):
        return False
    if options.get("create_graph") or options.get("retain_graph"):
        return False
    roots, leaves = as_list(outputs), as_list(inputs)
    if len(roots) != 1 or not leaves or next(user_frames(frame), None) is not frame:
        return False
    root = roots[0]
    if not isinstance(root, Tensor) or root.numel() != 1 or is_functorch_wrapped_tensor(root):
        return False
    return all(isinstance(leaf, Tensor) and leaf.is_leaf for leaf in leaves)


def as_list(value: Any) -> list[Any]:
    """Return what `torch.autograd.grad` takes as one tensor or several."""
    return [value] if isinstance(value, Tensor) else list(value)
