"""Gradients that a script is given, instead of finding them at its parameters.

`torch.autograd.grad` serves many ends: a penalty, an attack on inputs, a Hessian. Which of its
calls is a training's is told by what is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, cast

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, peek_interpreter_stack
from torch.utils._pytree import tree_leaves

from gainstage.attach.boundary import caller_of_ours
from gainstage.attach.names.parameters import user_frames
from gainstage.attach.record.recorder import Recorder

_OPTIONS = ("grad_outputs", "retain_graph", "create_graph", "only_inputs", "allow_unused")


class FunctionalGradients:
    """Makes backward calls, and steps where nothing else makes any, of such gradients."""

    def __init__(self, recorder: Recorder) -> None:
        """Begin with none seen.

        Args:
            recorder: Takes the calls for backward calls, counts them, and writes the rows.
        """
        self._recorder = recorder
        self._known: list[int] = []
        """Ids of parameters that optimizers were found to hold."""

    def may_step(self) -> bool:
        """Tell whether a gradient that is returned makes a step, as nothing else does here."""
        return not (self._is_busy() or self._recorder.has_optimizer)

    def _is_busy(self) -> bool:
        """Tell whether the script is in a backward call, or has made one that was no such call."""
        recorder = self._recorder
        return recorder.in_backward or recorder.backward_calls > recorder.functional_calls

    def before(self, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Take a call of `torch.autograd.grad` for a backward call, if it is that of a training.

        Where the script has optimizers, all inputs must be parameters of theirs. A script that
        calls backward trains by that: what it is given besides is an inner loop's, or a measure.

        Args:
            outputs: As `torch.autograd.grad` takes them, like all others.
            inputs: What is derived by.
            args: The other positional arguments.
            kwargs: The keyword arguments.

        Returns:
            The inputs, if it is: `after` is to follow then. Else None.
        """
        recorder = self._recorder
        if self._is_busy():
            return None
        if not _is_training(outputs, inputs, args, kwargs, caller_of_ours()):
            return None
        if not (self._are_stepped(inputs) if recorder.has_optimizer else self.may_step()):
            return None
        recorder.before_backward(outputs, accumulates=False)
        recorder.functional_calls += 1
        recorder.in_backward = True
        return inputs

    def _are_stepped(self, inputs: Any) -> bool:
        """Tell whether optimizers hold all that is derived by."""
        keys = list(map(id, _as_list(inputs)))
        if keys != self._known and not self._recorder.script.owns(keys):
            return False
        self._known = keys
        return True

    def after(self, inputs: Any, grads: Sequence[Tensor | None]) -> None:
        """Take the gradients of a call that `before` has taken."""
        self._recorder.in_backward = False
        self._recorder.after_backward(accumulates=False)
        if not self._recorder.has_optimizer:
            self._recorder.on_gradients(_as_list(inputs), list(grads))

    def before_transform(
        self, func: Any, argnums: int | Sequence[int], has_aux: bool, args: Any, kwargs: Any
    ) -> tuple[int | Sequence[int], bool, Any] | None:
        """Take a call of `torch.func.grad_and_value`, if it is the outermost and makes a step.

        Returns:
            What `after_transform` needs, None where it is not to follow.
        """
        if not self.may_step() or not _is_outermost():
            return None
        self._recorder.in_backward = True
        return argnums, has_aux, args

    def after_transform(
        self, call: tuple[int | Sequence[int], bool, Sequence[Any]], result: Any
    ) -> None:
        """Take what `torch.func.grad_and_value` has returned; no graph of it is left."""
        self._recorder.in_backward = False
        argnums, has_aux, args = call
        numbers = [argnums] if isinstance(argnums, int) else list(argnums)
        leaves = [leaf for number in numbers for leaf in tree_leaves(args[number])]
        gradients, value = tree_leaves(result[0]), result[1][0] if has_aux else result[1]
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if len(tensors) != len(gradients):
            return
        self._recorder.functional_calls += 1
        self._recorder.add_loss(value)
        self._recorder.on_gradients(tensors, gradients)


def _is_outermost() -> bool:
    """Tell whether no transform of `torch.func` is running."""
    running = cast("object", peek_interpreter_stack())  # None, unlike torch's stub has it
    return running is None


def _is_training(
    outputs: Any,
    inputs: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    frame: FrameType | None,
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
