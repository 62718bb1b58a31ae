"""`GainProfile`: the gain ledger as `gainstage.check` returns it, which knows how to be shown."""

from __future__ import annotations

import html
from dataclasses import dataclass, fields

from gainstage.ledger.gain_data import GainLedger
from gainstage.show.ledger import ledger_answers, ledger_text, rule_names
from gainstage.show.terminal import safe


@dataclass(frozen=True)
class GainProfile(GainLedger):
    """Levels and gains of one forward and backward pass; printing it prints the ledger."""

    @staticmethod
    def of(ledger: GainLedger) -> GainProfile:
        """Return a ledger as a profile."""
        return GainProfile(**{each.name: getattr(ledger, each.name) for each in fields(ledger)})

    def __str__(self) -> str:
        return ledger_text(self, "loss_fn").plain

    def __repr__(self) -> str:
        """Return the ledger as text, which a notebook without HTML shows."""
        return str(self)

    def _repr_html_(self) -> str:
        """Return the ledger as a notebook shows it; names from the run are escaped."""
        verdict = "trouble" if self.troubles else "healthy"
        said = "".join(
            f"<tr><th>{html.escape(answer.label)}</th><td>{html.escape(safe(answer.text))}</td></tr>"
            for answer in ledger_answers(self)
        )
        rows = "".join(
            "<tr>"
            f"<td>{html.escape(safe(layer.name))}</td><td>{layer.forward_bits:+.1f}</td>"
            f"<td>{layer.forward_gain_bits:+.1f}</td><td>{layer.delta_bits:+.1f}</td>"
            f"<td>{layer.backward_gain_bits:+.1f}</td>"
            f"<td>{html.escape(rule_names(layer.initial)) if layer.initial else ''}</td>"
            "</tr>"
            for layer in self.layers
        )
        head = "".join(
            f"<th>{each}</th>" for each in ("layer", "forward", "gain", "backward", "gain", "found")
        )
        return (
            f"<div><b>gainstage check: {verdict}</b><table>{said}</table>"
            f"<table><tr>{head}</tr>{rows}</table></div>"
        )
