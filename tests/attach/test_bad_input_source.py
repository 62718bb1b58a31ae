"""Bad inputs that the script has made of good data."""

from __future__ import annotations

import sys

import torch
from torch import nn

from gainstage.attach.fault.bad_input_source import finite_twin, nonfinite_buffer


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


def test_a_buffer_that_is_not_finite_is_named_and_statistics_of_batches_are_not() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
    model[0].running_mean.fill_(torch.nan)
    model[1].register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    assert nonfinite_buffer(sys._getframe()) is None
    model[1].register_buffer("table", torch.full((2,), torch.inf, dtype=torch.half))
    found = nonfinite_buffer(sys._getframe())
    assert found is not None
    assert (found[0], found[1].dtype) == ("1.table", torch.half)
