"""What is behind an input that is not finite: the data before they were prepared, or a state."""

from __future__ import annotations

from collections.abc import Collection
from types import FrameType

import torch
from torch import Tensor

from gainstage.attach.names.parameters import modules_in_frames, user_frames, variables_in


def finite_twin(
    value: Tensor, frame: FrameType | None, taken: Collection[Tensor] = ()
) -> str | None:
    """Return the variable of a running function that holds a finite tensor of a value's size.

    Where there is one, the script has made the bad input of good data. Waits for a device.

    Args:
        value: What entered the graph.
        frame: Where to begin looking.
        taken: What else entered the graph, such as targets, which no input is made of.
    """
    others = {tensor.data_ptr() for tensor in (value, *taken) if tensor.layout is torch.strided}
    for each in user_frames(frame):
        for name, held in variables_in(each).items():
            if (
                type(held) is Tensor
                and held.numel() == value.numel()
                and held.is_floating_point()
                and not held.requires_grad
                and held.layout is torch.strided
                and held.data_ptr() not in others
                and bool(torch.isfinite(held).all())
            ):
                return name
    return None


def nonfinite_buffer(frame: FrameType | None) -> tuple[str, Tensor] | None:
    """Return a buffer of the script's modules that holds NaN or inf, with its name.

    A script writes what is to outlast a step into buffers: an input made of one is no data's fault.
    The statistics of batch norms are left out, for these follow the data, and so is -inf, of which
    masks are made. Waits for a device.

    Args:
        frame: Where to begin looking for modules.
    """
    for _, root in modules_in_frames(frame):
        for name, buffer in root.named_buffers():
            if name.rpartition(".")[2] in ("running_mean", "running_var"):
                continue
            if not buffer.is_floating_point():
                continue
            if bool((torch.isnan(buffer) | torch.isposinf(buffer)).any()):
                return name, buffer
    return None
