"""Parameters that get gradients but are in no optimizer: they were created after it.

A head that is replaced once the optimizer exists, a layer made in the first forward pass: the
optimizer holds what was there before. Parameters that were there and are left out are left out on
purpose, such as those of a body whose head alone is trained.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from gainstage.attach.names.parameters import root_modules, user_frames
from gainstage.facts.observation import Observation, Observed, ParametersUnstepped

_STEPS = 8
"""For which they must be left out: a script may hand new parameters over a little later."""
_NAMED = 3


class UnheldParameters:
    """Looks at the leaves of sampled graphs. One a process, in the training thread."""

    def __init__(self, observe: Callable[[Observation[Observed]], None]) -> None:
        """Begin with no optimizer.

        Args:
            observe: Takes the one observation.
        """
        self._observe = observe
        self._before: dict[int, weakref.ref[Tensor]] = {}
        """Parameters that were there when the first optimizer was made, by id."""
        self._optimizers: list[weakref.ref[Optimizer]] = []
        self._missed: dict[int, tuple[int, weakref.ref[Tensor]]] = {}
        """Those that came later and are in no optimizer, by id: since which step."""
        self._is_told = False

    def on_optimizer(self, optimizer: Optimizer) -> None:
        """Note an optimizer; at the first, which parameters there are. Some tens of ms."""
        if not self._optimizers:
            alive = (each for each in gc.get_objects() if issubclass(type(each), nn.Parameter))
            self._before = {id(each): weakref.ref(each) for each in alive}
        if all(known() is not optimizer for known in self._optimizers):
            self._optimizers.append(weakref.ref(optimizer))

    def look(self, step: int, leaves: Sequence[Tensor], model: nn.Module | None) -> None:
        """Look at the leaves whose gradients a backward call adds to.

        Args:
            step: The step to come.
            leaves: Of a sampled graph.
            model: A module to look into besides those that variables hold.
        """
        if self._is_told or not self._optimizers:
            return
        alive = [each for ref in self._optimizers if (each := ref()) is not None]
        held = [p for each in alive for group in each.param_groups for p in group["params"]]
        known = {id(each) for each in held}
        late = [leaf for leaf in leaves if id(leaf) not in known and self._is_late(leaf)]
        before, self._missed = self._missed, {}
        for leaf in late:
            since, ref = before.get(id(leaf), (step, weakref.ref(leaf)))
            self._missed[id(leaf)] = (since if ref() is leaf else step, weakref.ref(leaf))
        missed = {key for key, (since, _) in self._missed.items() if step - since >= _STEPS}
        if missed:
            self._tell(step, missed, held, late, model)

    def _is_late(self, leaf: Tensor) -> bool:
        if not issubclass(type(leaf), nn.Parameter):
            return False
        there = self._before.get(id(leaf))
        return there is None or there() is not leaf

    def _tell(
        self,
        step: int,
        missed: set[int],
        held: Sequence[Tensor],
        late: Sequence[Tensor],
        model: nn.Module | None,
    ) -> None:
        """Tell of a network of which a part is stepped and a part is not."""
        stepped = {id(each) for each in held}
        frame = sys._getframe()
        for _, root in root_modules([*held, *late], frame, model):
            named = {id(each): name for name, each in root.named_parameters()}
            names = [name for key, name in named.items() if key in missed]
            if not names or stepped.isdisjoint(named):
                continue
            self._is_told = True
            user = next(user_frames(frame), None)
            place = (None, None) if user is None else (user.f_code.co_filename, user.f_lineno)
            observed = ParametersUnstepped(
                tensors=len(names), of=len(named), names=tuple(names[:_NAMED])
            )
            self._observe(Observation(observed, step, *place))
            return
