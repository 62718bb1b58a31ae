"""Where gainstage hooks into torch, and how it lets go again."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch._C._functorch import peek_interpreter_stack
from torch._functorch import eager_transforms
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad
from torch.optim import Optimizer
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

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

    Returns:
        A function that takes every hook out again and leaves torch as it was.
    """
    with ExitStack() as undo:
        _hook_autograd(recorder, undo)
        _hook_functional(recorder, undo)
        _hook_optimizers(recorder, undo)
        _hook_clipping(recorder, undo)
        _hook_loss_scaling(recorder, undo)
        _hook_compile(recorder, undo)
        return undo.pop_all().close
    raise AssertionError("unreachable")


def without_our_frames(error: BaseException) -> None:
    """Take the first entry, ours, out of a traceback that is about to be raised again.

    Python notes a frame when an error first passes through it, not when it is raised again.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


def _replace(owner: Any, name: str, new: Any, undo: ExitStack) -> None:
    """Set an attribute until the undo, which leaves what somebody else has put there since."""
    old = getattr(owner, name)
    setattr(owner, name, new)

    def restore() -> None:
        if getattr(owner, name) is new:
            setattr(owner, name, old)

    undo.callback(restore)


def _hook_autograd(recorder: Recorder, undo: ExitStack) -> None:
    torch_backward = torch.autograd.backward
    torch_grad = torch.autograd.grad

    @functools.wraps(torch_backward)
    def backward(tensors: Any, *args: Any, **kwargs: Any) -> None:
        if recorder.in_backward:
            return torch_backward(tensors, *args, **kwargs)
        recorder.in_backward = True
        try:
            recorder.before_backward(tensors)
            torch_backward(tensors, *args, **kwargs)
        except BaseException as error:
            without_our_frames(error)
            raise
        finally:
            recorder.in_backward = False
        recorder.after_backward()

    @functools.wraps(torch_grad)
    def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(inputs, Iterator):
            inputs = tuple(inputs)  # as torch does: `model.parameters()` can be read once
        is_step = recorder.returned.before(outputs, inputs, args, kwargs, sys._getframe(1))
        try:
            grads = torch_grad(outputs, inputs, *args, **kwargs)
        except BaseException as error:
            without_our_frames(error)
            raise
        finally:
            recorder.in_backward = recorder.in_backward and not is_step
        if is_step:
            recorder.returned.after(inputs, grads)
        return grads

    _replace(torch.autograd, "backward", backward, undo)
    _replace(torch.autograd, "grad", grad, undo)


def _hook_functional(recorder: Recorder, undo: ExitStack) -> None:
    """See the gradients of `torch.func`: those of the outermost transform, if that is `grad`."""
    torch_impl = getattr(eager_transforms, "grad_and_value_impl", None)
    if torch_impl is None:
        return

    @functools.wraps(torch_impl)
    def grad_and_value_impl(func: Any, argnums: Any, has_aux: Any, args: Any, kwargs: Any) -> Any:
        depth = peek_interpreter_stack()
        is_step = recorder.returned.may_step() and depth is None  # pyright: ignore
        recorder.in_backward = recorder.in_backward or is_step
        try:
            result = torch_impl(func, argnums, has_aux, args, kwargs)
        except BaseException as error:
            without_our_frames(error)
            raise
        finally:
            recorder.in_backward = recorder.in_backward and not is_step
        if is_step:
            recorder.returned.after_functional(argnums, has_aux, args, result)
        return result

    _replace(eager_transforms, "grad_and_value_impl", grad_and_value_impl, undo)


def _hook_optimizers(recorder: Recorder, undo: ExitStack) -> None:
    torch_add_param_group = Optimizer.add_param_group

    @functools.wraps(torch_add_param_group)
    def add_param_group(self: Optimizer, param_group: Any) -> Any:
        recorder.on_optimizer(self)
        try:
            result = torch_add_param_group(self, param_group)
        except BaseException as error:
            without_our_frames(error)
            raise
        recorder.on_parameters(self)
        return result

    _replace(Optimizer, "add_param_group", add_param_group, undo)
    undo.callback(register_optimizer_step_pre_hook(recorder.before_step).remove)
    undo.callback(register_optimizer_step_post_hook(recorder.after_step).remove)


def _hook_clipping(recorder: Recorder, undo: ExitStack) -> None:
    originals = {name: getattr(clip_grad, name) for name in set(_PUBLIC_CLIPPING.values())}
    new = replacements(originals, recorder.on_clip)
    # The two private ones are looked up when torch's clip_grad_norm_ is called: whoever imported
    # that by name, before us, is reached through them.
    for name, function in new.items():
        _replace(clip_grad, name, function, undo)
    for public, name in _PUBLIC_CLIPPING.items():
        _replace(torch.nn.utils, public, new[name], undo)


def _hook_compile(recorder: Recorder, undo: ExitStack) -> None:
    torch_compile: Callable[..., Any] = torch.compile

    @functools.wraps(torch_compile)
    def compile_(*args: Any, **kwargs: Any) -> Any:
        if recorder.graph is not None:
            recorder.graph.on_compile()
        return torch_compile(*args, **kwargs)

    _replace(torch, "compile", compile_, undo)


def _hook_loss_scaling(recorder: Recorder, undo: ExitStack) -> None:
    torch_scale, torch_unscale, torch_step = GradScaler.scale, GradScaler.unscale_, GradScaler.step

    @functools.wraps(torch_scale)
    def scale(self: GradScaler, outputs: Any) -> Any:
        try:
            scaled = torch_scale(self, outputs)
        except BaseException as error:
            without_our_frames(error)
            raise
        recorder.loss_scale.on_scale(self, outputs, scaled)
        return scaled

    @functools.wraps(torch_unscale)
    def unscale_(self: GradScaler, optimizer: Optimizer) -> None:
        try:
            torch_unscale(self, optimizer)
        except BaseException as error:
            without_our_frames(error)
            raise
        recorder.loss_scale.on_unscale(optimizer)

    @functools.wraps(torch_step)
    def step(self: GradScaler, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        before = recorder.step_calls
        try:
            result = torch_step(self, optimizer, *args, **kwargs)
        except BaseException as error:
            without_our_frames(error)
            raise
        if recorder.step_calls == before:
            recorder.on_skipped()
        return result

    _replace(GradScaler, "scale", scale, undo)
    _replace(GradScaler, "unscale_", unscale_, undo)
    _replace(GradScaler, "step", step, undo)
