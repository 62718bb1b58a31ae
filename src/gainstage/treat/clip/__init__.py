"""Ways to clip gradients, for any training loop: call one after backward and before the step.

    from gainstage.treat import clip

    clip.clip_by_global_norm_(model.parameters(), max_norm=1.0)

All write in place, read each gradient exactly over the whole range of its dtype, wait for an
accelerator once, and leave alone what is not finite: no factor mends an inf, and scaling by 0 would
turn one inf into zeros everywhere else. Gradients must be unscaled (`scaler.unscale_`) before.
Those that remember earlier steps are `AutoClip` and `ZClip`; `UpdateClip` acts on what the
optimizer writes.
"""

from gainstage.treat.clip.functions import (
    clip_adaptive_,
    clip_by_global_norm_,
    clip_by_value_,
    clip_per_group_,
    clip_per_parameter_,
)
from gainstage.treat.clip.history import AutoClip, ZClip
from gainstage.treat.clip.update import UpdateClip

__all__ = [
    "AutoClip",
    "UpdateClip",
    "ZClip",
    "clip_adaptive_",
    "clip_by_global_norm_",
    "clip_by_value_",
    "clip_per_group_",
    "clip_per_parameter_",
]
