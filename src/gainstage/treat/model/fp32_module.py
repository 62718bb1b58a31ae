"""Running a module, or everything, out of autocast."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from gainstage.treat.model.modules import ModuleFinder, matches
from gainstage.treat.treatment import ScriptView, Treatment

_HALF = (torch.float16, torch.bfloat16)


class Fp32Module(Treatment):
    """Switch autocast off within the calls of named modules, whose inputs become float32.

    With `*` no autocast region has any effect, also in code without modules. A module whose
    parameters are themselves of half precision stays as it is, which is said.
    """

    def __init__(self, module: str = "*") -> None:
        super().__init__()
        self.module = module
        self._names: list[str] = []
        self._within: list[tuple[nn.Module, torch.autocast]] = []
        self._used = False

    def attach(self, script: ScriptView) -> Callable[[], None]:
        """Reach autocast itself, or the modules as they appear."""
        if self.module == "*":
            return self._without_autocast()
        finder = ModuleFinder(script, self._found)

        def take_out() -> None:
            finder.close()
            if not self._names:
                self.notes.append(f"fp32-module found no module called {self.module!r}")

        return take_out

    def end(self, optimizer: Any) -> None:
        """Count a step whose forward pass was changed."""
        self.touched += self._used
        self._used = False

    def _without_autocast(self) -> Callable[[], None]:
        autocast: Any = torch.autocast
        enter = autocast.__enter__

        @functools.wraps(enter)
        def without(region: torch.autocast) -> Any:
            entered = enter(region)
            if self.active and torch.is_autocast_enabled(region.device):
                # `__exit__` sets what was before `__enter__`, whatever it is by now.
                torch.set_autocast_enabled(region.device, False)
                self._used = True
            return entered

        autocast.__enter__ = without

        def restore() -> None:
            if autocast.__enter__ is without:
                autocast.__enter__ = enter

        return restore

    def _found(self, name: str, module: nn.Module, undo: ExitStack) -> None:
        if not name or not matches(name, self.module):
            return
        self._names.append(name)
        if any(parameter.dtype in _HALF for parameter in module.parameters()):
            self.notes.append(f"fp32-module leaves {name} as it is: its parameters are not float32")
            return
        before = module.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True)
        after = module.register_forward_hook(self._leave, always_call=True)
        undo.callback(before.remove)
        undo.callback(after.remove)

    def _enter(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, Any] | None:
        device = next((parameter.device.type for parameter in module.parameters()), "cpu")
        if not self.active or not torch.is_autocast_enabled(device):
            return None
        region = torch.autocast(device, enabled=False)
        region.__enter__()
        self._within.append((module, region))
        self._used = True
        return tuple(map(_widened, args)), {key: _widened(each) for key, each in kwargs.items()}

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._within and self._within[-1][0] is module:
            self._within.pop()[1].__exit__(None, None, None)


def _widened(value: Any) -> Any:
    """Return half-precision tensors as float32, also those within lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype in _HALF else value
    if type(value) in (list, tuple):
        return type(value)(_widened(each) for each in value)
    if type(value) is dict:
        return {key: _widened(each) for key, each in value.items()}
    return value
