"""torch's function names from the names of autograd's nodes."""

from __future__ import annotations

import re

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ENDING = re.compile(r"Backward\d*$")


def op_name(node_name: str) -> str:
    """Return the function that made a node.

    Example:
        >>> op_name("LogSoftmaxBackward0"), op_name("torch::autograd::CopySlices")
        ('log_softmax', 'copy_slices')
    """
    name = _ENDING.sub("", node_name.rpartition("::")[2])
    return _HUMP.sub("_", name).lower()
