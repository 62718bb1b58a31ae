"""What a kind of treatment declares about itself, once: one descriptor a file in `treat/kinds`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gainstage.treat.settings import (
    SCHEDULE,
    Setting,
    Value,
    check_together,
    read_pairs,
    with_defaults,
)
from gainstage.treat.treatment import Treatment

Moment = Literal[
    "start",  # before the script begins: its text is another one
    "forward",  # while the model computes
    "backward",  # as the gradients are computed
    "gradients",  # between backward and the optimizer's step
    "step",  # the optimizer's own settings, for the time of its step
    "update",  # what the optimizer has written
]


@dataclass(frozen=True, kw_only=True, slots=True)
class TreatmentForm:
    """One way in which a kind goes about it: what makes it, and its row in the docs.

    Most kinds have one form. `clip-adaptive` has four, chosen by its setting `kind`.
    """

    make: Callable[..., Treatment]
    """Takes the settings by name, those that choose the form left out; imports torch inside."""
    does: str
    """In half a sentence, for help and docs."""
    acts: Moment
    """When it changes something."""
    chosen_by: Mapping[str, str] = field(default_factory=dict[str, str])
    """The settings' values that ask for this form; none for the only one, or for the default."""
    source: str = ""
    """Of the method: authors and year."""
    costs: str = "nothing"
    without_optimizer: str = ""
    """Why it changes nothing where a script steps by hand; empty where it can act there."""
    not_in_closure: str = ""
    """Why it changes nothing where backward runs within the step, as LBFGS wants it; else empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TreatmentKind:
    """A kind of treatment: its name, its settings, its forms, and how to do the same by hand."""

    id: str
    """As `--treat`, records and findings name it."""
    settings: tuple[Setting, ...] = ()
    has_schedule: bool = True
    """Whether it takes `from` and `until` as well."""
    forms: tuple[TreatmentForm, ...]
    by_hand: str
    """What a person does in the script instead, with settings in braces: `eps={eps}`."""
    why_no_edit: str = ""
    """Why `prescribe` cannot write it into the source; empty where it has an edit for it."""

    @property
    def changes_source(self) -> bool:
        """Whether it is another text of the script, and needs no edit to be one."""
        return all(form.acts == "start" for form in self.forms)

    def all_settings(self) -> tuple[Setting, ...]:
        """Return the settings that a spec may give, the schedule among them."""
        return (*self.settings, *SCHEDULE) if self.has_schedule else self.settings

    def read(self, text: str) -> dict[str, Value]:
        """Return the settings that a text such as `max_norm=1,until=500` gives.

        Raises:
            ConfigError: If they are none of this kind's, or do not go together.
        """
        given = read_pairs(text, self.all_settings(), owner=self.id)
        check_together(self.settings, given, owner=self.id)
        return given

    def values(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """Return all settings that count, those not given at their defaults; no schedule."""
        return with_defaults(self.settings, given)

    def form(self, values: Mapping[str, Value]) -> TreatmentForm:
        """Return the form that settings ask for."""
        chosen = [
            form
            for form in self.forms
            if all(values.get(name) == word for name, word in form.chosen_by.items())
        ]
        return max(chosen, key=lambda form: len(form.chosen_by))

    def choosing(self) -> set[str]:
        """Return the names of the settings that choose the form."""
        return {name for form in self.forms for name in form.chosen_by}
