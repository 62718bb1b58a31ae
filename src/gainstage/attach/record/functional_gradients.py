"""Gradients that a script is given, instead of finding them at its parameters.

`torch.autograd.grad` serves many ends: a penalty, an attack on inputs, a Hessian. Which of its
calls is a training's is told by what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils._pytree import tree_leaves

from gainstage.attach.names.parameters import user_frames

if TYPE_CHECKING:
    from gainstage.attach.record.recorder import Recorder

_OPTIONS = ("grad_outputs", "retain_graph", "create_graph", "only_inputs", "allow_unused")


class FunctionalGradients:
    """Makes backward calls, and steps where nothing else makes any, of such gradients."""

    def __init__(self, recorder: Recorder) -> None:
        """Begin with none seen.

        Args:
            recorder: Takes the calls for backward calls, and writes the rows.
        """
        self._recorder = recorder
        self._steps = 0
        self._known: list[int] = []
        """Ids of parameters that optimizers were found to hold."""

    def may_step(self) -> bool:
        """Tell whether a gradient that is returned makes a step, as nothing else does here."""
        recorder = self._recorder
        is_busy = recorder.is_dead or recorder.in_backward
        return not (is_busy or recorder.has_optimizer or recorder.backward_calls > self._steps)

    def before(
        self,
        outputs: Any,
        inputs: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        frame: FrameType,
    ) -> bool:
        """Take a call of `torch.autograd.grad` for a backward call, if it is that of a training.

        Where the script has optimizers, all inputs must be parameters of theirs. A script that
        calls backward trains by that: what it is given besides is an inner loop's, or a measure.

        Args:
            outputs: As `torch.autograd.grad` takes them, like the next.
            inputs: What is derived by.
            args: The other positional arguments.
            kwargs: The keyword arguments.
            frame: Of the caller.

        Returns:
            Whether it is; `after` is to follow then.
        """
        recorder = self._recorder
        if recorder.is_dead or recorder.in_backward or recorder.backward_calls > self._steps:
            return False
        try:
            if not _is_training(outputs, inputs, args, kwargs, frame):
                return False
            if not (self._are_stepped(inputs) if recorder.has_optimizer else self.may_step()):
                return False
        except Exception as error:
            recorder.fault(error)
            return False
        recorder.before_backward(outputs, accumulates=False)
        self._steps += 1
        recorder.in_backward = True
        return True

    def _are_stepped(self, inputs: Any) -> bool:
        """Tell whether optimizers hold all that is derived by."""
        keys = list(map(id, _as_list(inputs)))
        if keys != self._known and not self._recorder.script.owns(keys):
            return False
        self._known = keys
        return True

    def after(self, inputs: Any, grads: Sequence[Tensor | None]) -> None:
        """Take the gradients of a call that `before` has taken."""
        self._recorder.after_backward(accumulates=False)
        if not self._recorder.has_optimizer:
            self._recorder.on_gradients(_as_list(inputs), list(grads))

    def after_functional(
        self, argnums: int | Sequence[int], has_aux: bool, args: Sequence[Any], result: Any
    ) -> None:
        """Take what `torch.func.grad_and_value` has returned; no graph of it is left."""
        try:
            numbers = [argnums] if isinstance(argnums, int) else list(argnums)
            given = [each for number in numbers for each in tree_leaves(args[number])]
            grads, value = result[0], result[1][0] if has_aux else result[1]
            found = tree_leaves(grads)
            tensors = [each for each in given if isinstance(each, Tensor)]
            if len(tensors) != len(found):
                return
            self._steps += 1
            self._recorder.add_loss(value)
        except Exception as error:
            self._recorder.fault(error)
            return
        self._recorder.on_gradients(tensors, found)


def _is_training(
    outputs: Any,
    inputs: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    frame: FrameType,
) -> bool:
    """Tell whether a call asks for the gradient of one loss by leaves, and for nothing after it.

    Calls by torch, such as those of a Hessian, are part of something else.
    """
    options = {**dict(zip(_OPTIONS, args, strict=False)), **kwargs}
    if options.get("grad_outputs") is not None or options.get("is_grads_batched"):
        return False
    if options.get("create_graph") or options.get("retain_graph"):
        return False
    if not all(isinstance(each, (Tensor, list, tuple)) for each in (outputs, inputs)):
        return False
    roots, leaves = _as_list(outputs), _as_list(inputs)
    if len(roots) != 1 or not leaves or next(user_frames(frame), None) is not frame:
        return False
    root = roots[0]
    if not isinstance(root, Tensor) or root.numel() != 1 or is_functorch_wrapped_tensor(root):
        return False
    return all(isinstance(leaf, Tensor) and leaf.is_leaf for leaf in leaves)


def _as_list(value: Any) -> list[Any]:
    """Return what `torch.autograd.grad` takes as one tensor or several."""
    return [value] if isinstance(value, Tensor) else list(value)
