"""`dtype-overflow`: the dtype has too little headroom."""

from __future__ import annotations

from collections.abc import Sequence

from gainstage.diagnose.cause_kind import CauseKind
from gainstage.diagnose.code_change import dtype_change
from gainstage.diagnose.place import growth_end, operation_site
from gainstage.diagnose.remedies import SKIP
from gainstage.facts.diagnosis import CauseSite, Remedy, Setting
from gainstage.facts.record import RankRecord


def place(record: RankRecord) -> CauseSite:
    """Return the operation."""
    return operation_site(record) or growth_end(record)


def remedies(record: RankRecord) -> Sequence[Remedy]:
    """Return float32 for the module, for the operation, and a step without that batch."""
    module = None if record.fault is None else record.fault.site.module
    settings: dict[str, Setting] = {"module": module} if module else {}
    return [
        Remedy("fp32-module", settings, "float32 has the headroom"),
        Remedy("code-change", why=dtype_change(record.fault)),
        SKIP,
    ]


KIND = CauseKind(
    id="dtype-overflow",
    words="the dtype has too little headroom",
    signature="float16 or bfloat16 overflows where float32 has plenty of headroom",
    weighs={
        "half-state-overflows": 10.0,
        "half-overflow": 8.0,
        "quiet-before": 1.0,
    },
    place=place,
    remedies=remedies,
    code_changes=("float32",),
)
