"""An extension of griffe, for the site: `Example:` opens a section of doctests.

Google's guide has both forms, griffe knows the plural only and would set the other as quotations.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExampleSections(griffe.Extension):
    """Reads the singular as the plural."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the heading in the docstring of an object."""
        if obj.docstring is not None:
            heading = re.compile(r"^( *)Example:$", re.MULTILINE)
            obj.docstring.value = heading.sub(r"\1Examples:", obj.docstring.value)
