"""Where gainstage hooks into torch, and how it lets go again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch._functorch import eager_transforms
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gainstage.attach.record.functional_gradients import FunctionalGradients
from gainstage.attach.record.recorder import Recorder
from gainstage.norms.replace import replacements

_PUBLIC_CLIPPING = {
    "clip_grad_norm_": "clip_grad_norm_",
    "clip_grad_value_": "clip_grad_value_",
    "get_total_norm": "_get_total_norm",
    "clip_grads_with_norm_": "_clip_grads_with_norm_",
}
"""Names in `torch.nn.utils`, and the functions of `clip_grad` behind them."""


def attach(recorder: Recorder) -> Callable[[], None]:
    """Hook a recorder into torch: backward calls, optimizer steps, clipping, loss scaling.

    All that torch calls then is made by the recorder's boundary.

    Returns:
        A function that takes every hook out again and leaves torch as it was. Whoever has kept a
        function of ours has torch's own in it from then on.
    """
    with ExitStack() as undo:
        undo.callback(recorder.boundary.retire)
        _hook_backward(recorder, undo)
        _hook_functional(recorder, undo)
        _hook_optimizers(recorder, undo)
        _hook_clipping(recorder, undo)
        _hook_loss_scaling(recorder, undo)
        _hook_compile(recorder, undo)
        return undo.pop_all().close
    raise AssertionError("unreachable")


def _replace(owner: Any, name: str, new: Any, undo: ExitStack) -> None:
    """Replace an attribute; undo restores it unless someone replaced it again."""
    old = getattr(owner, name)
    setattr(owner, name, new)

    def restore() -> None:
        if getattr(owner, name) is new:
            setattr(owner, name, old)

    undo.callback(restore)


def _hook_backward(recorder: Recorder, undo: ExitStack) -> None:
    def before(tensors: Any, *_: Any, **__: Any) -> bool | None:
        if recorder.in_backward:
            return None
        recorder.in_backward = True
        recorder.before_backward(tensors)
        return True

    def after(note: bool, result: None) -> None:
        recorder.in_backward = False
        recorder.after_backward()

    def on_error() -> None:
        recorder.in_backward = False

    backward = recorder.boundary.around(
        torch.autograd.backward, before=before, after=after, on_error=on_error
    )
    _replace(torch.autograd, "backward", backward, undo)


def _hook_functional(recorder: Recorder, undo: ExitStack) -> None:
    """See gradients that are returned: by `torch.autograd.grad`, and by `torch.func`."""
    functional = FunctionalGradients(recorder)

    def on_error() -> None:
        recorder.in_backward = False

    grad = recorder.boundary.around(
        torch.autograd.grad,
        before=functional.before,
        after=functional.after,
        on_error=on_error,
        prepare=_with_listed_inputs,
    )
    _replace(torch.autograd, "grad", grad, undo)
    torch_transform = getattr(eager_transforms, "grad_and_value_impl", None)
    if torch_transform is None:
        return
    transform = recorder.boundary.around(
        torch_transform,
        before=functional.before_transform,
        after=functional.after_transform,
        on_error=on_error,
    )
    _replace(eager_transforms, "grad_and_value_impl", transform, undo)


def _with_listed_inputs(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """List the inputs of `torch.autograd.grad`: `model.parameters()` can be read once."""
    if len(args) > 1 and isinstance(args[1], Iterator):
        return (args[0], tuple(args[1]), *args[2:])
    return args


def _hook_optimizers(recorder: Recorder, undo: ExitStack) -> None:
    def before_group(optimizer: Optimizer, param_group: Any) -> Optimizer:
        recorder.on_optimizer(optimizer)
        return optimizer

    def after_group(optimizer: Optimizer, result: Any) -> None:
        recorder.on_parameters(optimizer)

    boundary = recorder.boundary
    add_param_group = boundary.around(
        Optimizer.add_param_group, before=before_group, after=after_group
    )
    _replace(Optimizer, "add_param_group", add_param_group, undo)
    before_step = boundary.hook(recorder.before_step)
    after_step = boundary.hook(recorder.after_step, lasts=True)
    undo.callback(register_optimizer_step_pre_hook(before_step).remove)
    undo.callback(register_optimizer_step_post_hook(after_step).remove)


def _hook_clipping(recorder: Recorder, undo: ExitStack) -> None:
    boundary = recorder.boundary
    originals = {name: getattr(clip_grad, name) for name in set(_PUBLIC_CLIPPING.values())}
    ours = replacements(originals, recorder.on_clip, boundary.fault)
    new = {name: boundary.instead(originals[name], ours[name]) for name in originals}
    # The two private ones are looked up when torch's clip_grad_norm_ is called: whoever imported
    # that by name, before us, is reached through them.
    for name, function in new.items():
        _replace(clip_grad, name, function, undo)
    for public, name in _PUBLIC_CLIPPING.items():
        _replace(torch.nn.utils, public, new[name], undo)


def _hook_compile(recorder: Recorder, undo: ExitStack) -> None:
    torch_compile: Callable[..., Any] = torch.compile

    def before(*_: Any, **__: Any) -> None:
        if recorder.graph is not None:
            recorder.graph.on_compile()

    _replace(torch, "compile", recorder.boundary.around(torch_compile, before=before), undo)


def _hook_loss_scaling(recorder: Recorder, undo: ExitStack) -> None:
    around = recorder.boundary.around

    def after_scale(call: tuple[GradScaler, Any], scaled: Any) -> None:
        recorder.loss_scale.on_scale(*call, scaled)

    def after_unscale(optimizer: Optimizer, result: None) -> None:
        recorder.loss_scale.on_unscale(optimizer)

    def after_step(calls_before: int, result: Any) -> None:
        if recorder.step_calls == calls_before:
            recorder.on_skipped()

    def scaling(scaler: GradScaler, outputs: Any) -> tuple[GradScaler, Any]:
        return scaler, outputs

    def unscaling(scaler: GradScaler, optimizer: Optimizer) -> Optimizer:
        return optimizer

    def stepping(*_: Any, **__: Any) -> int:
        return recorder.step_calls

    scale = around(GradScaler.scale, before=scaling, after=after_scale)
    unscale_ = around(GradScaler.unscale_, before=unscaling, after=after_unscale)
    step = around(GradScaler.step, before=stepping, after=after_step)
    _replace(GradScaler, "scale", scale, undo)
    _replace(GradScaler, "unscale_", unscale_, undo)
    _replace(GradScaler, "step", step, undo)
