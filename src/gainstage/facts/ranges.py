"""Numbers of facts with the range that they have; checked where a fact is decoded."""

from __future__ import annotations

import sys
from typing import Annotated, Final

from msgspec import Meta

Step = Annotated[int, Meta(ge=0)]
"""An optimizer step, from 0."""
Count = Annotated[int, Meta(ge=0)]
Index = Annotated[int, Meta(ge=0)]
AtLeastOne = Annotated[int, Meta(ge=1)]
IndexOrNone = Annotated[int, Meta(ge=-1)]
"""An index; -1 for none."""
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
Seconds = Annotated[float, Meta(ge=0, le=sys.float_info.max)]
Share = Annotated[float, Meta(ge=0, le=1)]

OMIT: Final = {"omit": True}
"""Metadata of a dataclass field that is left out of the JSON where it is None."""
