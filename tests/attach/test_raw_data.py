"""Bad inputs that the script has made of good data."""

from __future__ import annotations

import sys

import torch

from gainstage.attach.raw_data import finite_twin


def test_a_finite_tensor_of_the_same_size_is_the_raw_data() -> None:
    raw = torch.ones(4, 3)
    scaled = raw / raw.std(1, keepdim=True)  # 1/0
    assert not scaled.isfinite().all()
    assert finite_twin(scaled, sys._getframe()) == "raw"


def test_targets_and_parameters_are_none() -> None:
    target, weight = torch.ones(4, 3), torch.ones(4, 3, requires_grad=True)
    bad = torch.full((4, 3), torch.nan)
    assert weight.requires_grad
    assert finite_twin(bad, sys._getframe(), [target]) is None
