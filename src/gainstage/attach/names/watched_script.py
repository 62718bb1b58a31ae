"""What treatments may ask about the script."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.names.parameters import describe, named_modules


class WatchedScript:
    """The script's parameters, modules and optimizers, by name."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self._model = None if model is None else weakref.ref(model)
        self._optimizers: list[weakref.ref[Optimizer]] = []

    def add_optimizer(self, optimizer: Optimizer) -> None:
        """Note an optimizer."""
        if all(known() is not optimizer for known in self._optimizers):
            self._optimizers.append(weakref.ref(optimizer))

    def parameter_names(self, parameters: Sequence[Tensor]) -> list[str]:
        """Return what the parameters are called, as in the record; no two may be the same."""
        # Together with all others, for names that two networks share are told apart by their roots.
        others = [p for each in self.optimizers() for g in each.param_groups for p in g["params"]]
        together = {id(parameter): parameter for parameter in (*others, *parameters)}
        named = describe(list(together.values()), sys._getframe(), self._model_alive())
        names = {id(parameter): info.name for parameter, info in named}
        return [names[id(parameter)] for parameter in parameters]

    def named_modules(self) -> list[tuple[str, Any]]:
        """Return all modules alive, by their name within their root."""
        return list(named_modules(self._model_alive()))

    def optimizers(self) -> list[Any]:
        """Return the optimizers made so far that are alive."""
        return [each for ref in self._optimizers if (each := ref()) is not None]

    def owns(self, keys: Iterable[int]) -> bool:
        """Tell whether optimizers hold all parameters of these ids."""
        groups = [group for each in self.optimizers() for group in each.param_groups]
        return {id(parameter) for group in groups for parameter in group["params"]}.issuperset(keys)

    def _model_alive(self) -> nn.Module | None:
        return None if self._model is None else self._model()
