"""All kinds of treatment, the simplest first.

That is from what takes the fault itself away, over what leaves a healthy step as it is, to what
makes another network of it. To add one, write its descriptor in a file here and put it into `_ALL`:
parsing, help, docs and the trials of `prescribe` follow from the list. Needs no torch.
"""

from __future__ import annotations

from gainstage.treat.kind import TreatmentKind
from gainstage.treat.kinds.clip_adaptive import CLIP_ADAPTIVE
from gainstage.treat.kinds.clip_global_norm import CLIP_GLOBAL_NORM
from gainstage.treat.kinds.clip_value import CLIP_VALUE
from gainstage.treat.kinds.code_change import CODE_CHANGE
from gainstage.treat.kinds.fp32_module import FP32_MODULE
from gainstage.treat.kinds.insert_norm import INSERT_NORM
from gainstage.treat.kinds.lower_lr import LOWER_LR
from gainstage.treat.kinds.raise_eps import RAISE_EPS
from gainstage.treat.kinds.reinit import REINIT
from gainstage.treat.kinds.scale_loss import SCALE_LOSS
from gainstage.treat.kinds.skip_nonfinite import SKIP_NONFINITE
from gainstage.treat.kinds.warm_up import WARM_UP

_ALL = (
    CODE_CHANGE,
    SKIP_NONFINITE,
    CLIP_GLOBAL_NORM,
    CLIP_VALUE,
    RAISE_EPS,
    LOWER_LR,
    WARM_UP,
    SCALE_LOSS,
    CLIP_ADAPTIVE,
    FP32_MODULE,
    REINIT,
    INSERT_NORM,
)
KINDS: dict[str, TreatmentKind] = {kind.id: kind for kind in _ALL}
"""By id; the order is that of simplicity."""
