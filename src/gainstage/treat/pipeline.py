"""Several treatments of one run: in which order, for which steps, and how they are undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from gainstage.treat.treatment import Backward, ScriptView, Step, Treatment


class TreatmentPipeline:
    """Treatments in the order in which they were given.

    Going in, the first one acts first: before backward, as the step begins, on the gradients.
    Coming out, after backward and after the step, the last one undoes its change first. Whether a
    step lies between `from` and `until` is decided once for all of it, undoing included.
    """

    def __init__(self, treatments: Sequence[Treatment] = ()) -> None:
        self._all = tuple(treatments)
        self._in_backward: list[Treatment] = []
        self._in_step: list[Treatment] = []
        self._is_stepping = False
        self._go_to(0)

    def __bool__(self) -> bool:
        return bool(self._all)

    def _go_to(self, index: int) -> list[Treatment]:
        for treatment in self._all:
            start, until = treatment.span
            treatment.active = start <= index < until
        return [treatment for treatment in self._all if treatment.active]

    def attach(self, script: ScriptView) -> Callable[[], None]:
        """Let treatments hook into torch.

        Returns:
            What takes all of these hooks out again.
        """
        with ExitStack() as undo:
            for treatment in self._all:
                take_out = treatment.attach(script)
                if take_out is not None:
                    undo.callback(take_out)
            return undo.pop_all().close
        raise AssertionError("unreachable")

    def before_backward(self, backward: Backward) -> None:
        """Let those of this step look at the graph."""
        self._in_backward = []
        for treatment in self._go_to(backward.index):
            if self._is_stepping and treatment.not_in_closure:
                why = f"the optimizer calls a closure, and {treatment.not_in_closure}"
                _note_idle(treatment, why)
                continue
            self._in_backward.append(treatment)
            treatment.before_backward(backward)

    def after_backward(self, backward: Backward) -> None:
        """Let them change what backward has left."""
        while self._in_backward:
            self._in_backward.pop().after_backward(backward)

    def begin(self, optimizer: Any, index: int) -> None:
        """Let those of this step change the optimizer; undoes a step that raised an error."""
        self.end(optimizer, index)
        self._is_stepping = True
        for treatment in self._go_to(index):
            self._in_step.append(treatment)
            treatment.begin(optimizer)

    def treat(self, step: Step) -> None:
        """Let them change the gradients: once a step, or once a closure's call."""
        if step.optimizer is not None:
            for treatment in self._in_step:
                treatment.treat(step)
            return
        for treatment in self._go_to(step.index):
            if not treatment.without_optimizer:
                treatment.treat(step)
            else:
                _note_idle(
                    treatment, f"the script has no optimizer, so {treatment.without_optimizer}"
                )

    def end(self, optimizer: Any, next_index: int) -> None:
        """Let them undo what must not outlast the step, and look ahead to the next one."""
        self._is_stepping = False
        while self._in_step:
            self._in_step.pop().end(optimizer)
        self._go_to(next_index)


def _note_idle(treatment: Treatment, why: str) -> None:
    if not treatment.notes:
        treatment.notes.append(f"{treatment.remedy} changes nothing: {why}")
