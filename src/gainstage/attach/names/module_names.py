"""Names of the modules that a forward pass has called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import FrameType

from torch import nn

from gainstage.attach.names.parameters import modules_in_frames


def module_names(
    called: Mapping[int, nn.Module], frame: FrameType | None, model: nn.Module | None = None
) -> dict[int, str]:
    """Return the name of each called module, as in `named_modules()` of the model it is part of.

    Where two models have modules of the same name, names begin with the variable of the model.

    Args:
        called: The modules by their id, those called first first.
        frame: Where to begin looking for the models that variables hold.
        model: Another one to look into.
    """
    roots = modules_in_frames(frame, model)
    known = {id(part) for _, root in roots for part in root.modules()}
    # A model that no variable in sight holds was called as a whole, before its parts.
    for key, module in called.items():
        if key not in known:
            roots.append((type(module).__name__, module))
            known.update(id(part) for part in module.modules())
    named = [
        (id(part), label, name)
        for label, root in roots
        for name, part in root.named_modules()
        if id(part) in called
    ]
    uses = Counter(name for _, _, name in named)
    names: dict[int, str] = {}
    for key, label, name in named:
        names.setdefault(key, f"{label}.{name}" if name and uses[name] > 1 else name)
    return names
