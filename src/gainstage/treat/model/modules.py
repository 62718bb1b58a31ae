"""Finding the script's modules as they appear, by hooks that leave no trace."""

from __future__ import annotations

import fnmatch
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gainstage.treat.treatment import ScriptView

Found = Callable[[str, nn.Module, ExitStack], None]


class ModuleFinder:
    """Calls back once for every module of the script, at the latest as it is first called."""

    def __init__(self, script: ScriptView, found: Found) -> None:
        """Begin to look.

        Args:
            script: Tells the modules alive and their names.
            found: Called with a module's name, the module, and where to leave what undoes hooks.
        """
        self._script = script
        self._found = found
        self._seen: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._undo = ExitStack()
        self._undo.callback(register_module_forward_pre_hook(self._before_forward).remove)
        self.look()

    def look(self) -> None:
        """Report the modules alive that are new."""
        for name, module in self._script.named_modules():
            if module not in self._seen:
                self._seen.add(module)
                self._found(name, module, self._undo)

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        # One without parameters may be made anew on every call, like `nn.ReLU()(x)`.
        if module in self._seen or next(module.parameters(), None) is None:
            return
        self.look()
        self._seen.add(module)

    def close(self) -> None:
        """Take all hooks out."""
        self._undo.close()


def matches(name: str, patterns: str) -> bool:
    """Tell whether a dotted name is one of `a+b.*`: names or shell patterns, joined by plus."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split("+"))
