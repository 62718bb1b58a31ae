"""All families, and the cases of a split."""

from __future__ import annotations

from benchmarks.corpus import gain_faults, healthy, number_faults, setting_faults
from benchmarks.corpus.case import Case, Family

FAULTY: dict[str, Family] = {
    "init-scale": gain_faults.init_scale,
    "recurrent-gain": gain_faults.recurrent_gain,
    "learning-rate": gain_faults.learning_rate,
    "residual-growth": gain_faults.residual_growth,
    "loss-reduction": gain_faults.loss_reduction,
    "grad-accumulation": gain_faults.grad_accumulation,
    "bad-data": number_faults.bad_data,
    "numeric-op": number_faults.numeric_op,
    "dtype-overflow": number_faults.dtype_overflow,
    "normalization": number_faults.normalization,
    "clip-misuse": setting_faults.clip_misuse,
    "unbounded-objective": setting_faults.unbounded_objective,
    "optimizer-config": setting_faults.optimizer_config,
}
"""By cause. Each has a control, which is healthy."""

HEALTHY: dict[str, Family] = {
    "gan": healthy.gan,
    "vae": healthy.vae,
    "reinforce": healthy.reinforce,
    "flow": healthy.flow,
    "cyclic": healthy.cyclic,
    "warm-up": healthy.warm_up,
    "curriculum": healthy.curriculum,
    "label-noise": healthy.label_noise,
    "fine-tuning": healthy.fine_tuning,
    "heavy-tails": healthy.heavy_tails,
    "small-batches": healthy.small_batches,
    "clipped": healthy.clipped,
}

FIRST_SEED = {"dev": 1_000, "test": 1_000_000}


def cases(split: str, each: int) -> list[Case]:
    """Return the cases of a split, `each` a family and as many controls of the faulty ones."""
    seeds = range(FIRST_SEED[split], FIRST_SEED[split] + each)
    faulty = [
        Case(name, name, seed, control)
        for name in FAULTY
        for seed in seeds
        for control in (False, True)
    ]
    return [*faulty, *(Case(name, None, seed) for name in HEALTHY for seed in seeds)]


def family_of(case: Case) -> Family:
    """Return the function that draws a case's training."""
    return FAULTY[case.family] if case.cause else HEALTHY[case.family]
