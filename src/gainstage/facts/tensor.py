"""One watched parameter."""

from __future__ import annotations

from dataclasses import dataclass

from gainstage.facts.layout import Layout


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One watched parameter: a column of `grad_norms`."""

    name: str
    """As in `named_parameters()`, or the variable that holds it."""
    module: str | None
    """As in `named_modules()`; None where no module owns the parameter."""
    shape: tuple[int, ...]
    dtype: str
    """torch's name without the prefix, such as `float32`."""
    layout: Layout | None = None
    """How processes hold it together; None where each that has it has all of it."""

    @property
    def numel(self) -> int:
        """Return the number of elements."""
        product = 1
        for size in self.shape:
            product *= size
        return product
