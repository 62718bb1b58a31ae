"""What a run's graphs tell, as the record keeps it: sites, profiles, observations, faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gainstage
from gainstage.store.reader import StoredRun


def trained(
    folder: Path, model: nn.Module, loss: Callable[[int], Tensor], steps: int, lr: float = 0.01
) -> StoredRun:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with gainstage.watch(model, optimizer, out=folder / "run") as watch:
        for step in range(steps):
            optimizer.zero_grad()
            loss(step).backward()
            optimizer.step()
    return watch.run


def deep(layers: int) -> nn.Sequential:
    torch.manual_seed(0)
    parts = [part for _ in range(layers) for part in (nn.Linear(16, 16), nn.Tanh())]
    return nn.Sequential(*parts, nn.Linear(16, 1))


def test_the_first_steps_are_sampled_and_later_ones_at_growing_distances(tmp_path: Path) -> None:
    model = deep(3)
    run = trained(tmp_path, model, lambda step: model(torch.ones(4, 16)).mean(), 60)
    sampled = np.unique(run.profile_block().step).tolist()
    assert sampled[:4] == [0, 1, 2, 3]
    assert 6 <= len(sampled) < 40
    assert run.profiles.num_rows == len(run.profile_block())


def test_layers_of_a_profile_are_the_weights_of_the_record(tmp_path: Path) -> None:
    model = deep(3)
    run = trained(tmp_path, model, lambda step: model(torch.ones(4, 16)).mean(), 1)
    block, tensors, sites = run.profile_block(), run.tensors(), run.sites()
    layers = block.weight >= 0
    assert [tensors[i].name for i in block.weight[layers]] == [f"{2 * i}.weight" for i in range(4)]
    assert [sites[i].module for i in block.site[layers]] == ["0", "2", "4", "6"]
    assert all(site.file == __file__ for site in sites)


def test_a_deep_network_of_too_large_weights_is_told_at_step_0(tmp_path: Path) -> None:
    model = deep(0)
    model = nn.Sequential(*[nn.Linear(32, 32, bias=False) for _ in range(20)], nn.Linear(32, 1))
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    run = trained(tmp_path, model, lambda step: model(torch.randn(8, 32)).square().mean(), 3)
    symptom = next(s for s in run.findings.symptoms if s.symptom == "depth-gain")
    assert symptom.step == 0
    assert run.findings.diagnosis is not None
    assert run.findings.diagnosis.cause == "init-scale"


def test_the_first_wrong_operation_is_kept_with_its_line_and_sample(tmp_path: Path) -> None:
    model = nn.Linear(4, 1)
    data = torch.rand(6, 4)

    def loss(step: int) -> Tensor:
        x = data if step < 5 else torch.cat([data[:3], torch.zeros(1, 4), data[4:]])
        return (x @ model.weight.T).squeeze(1).abs().log().mean()

    run = trained(tmp_path, model, loss, 8, lr=1e-4)
    fault = run.faults()[0]
    line = loss.__code__.co_firstlineno + 2
    assert (fault.step, fault.kind, fault.site.op, fault.site.line) == (5, "domain", "log", line)
    assert fault.samples == (3,)
    assert fault.phase == "loss"
    found = run.findings.diagnosis
    assert found is not None
    assert found.cause == "numeric-op"
    assert found.site.line == line
    assert found.failure_step == 5


def test_gradients_left_from_the_step_before_are_observed(tmp_path: Path) -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gainstage.watch(model, optimizer, out=tmp_path / "run") as watch:
        for _ in range(4):
            model(torch.ones(2, 4)).mean().backward()
            optimizer.step()
    kinds = [each.evidence.kind for each in watch.run.observations()]
    assert "gradient-not-zeroed" in kinds


def test_a_discriminators_gradients_of_the_generators_loss_are_no_such_thing(
    tmp_path: Path,
) -> None:
    critic, generator = nn.Linear(2, 1), nn.Linear(2, 2)
    of_critic = torch.optim.SGD(critic.parameters(), lr=0.01)
    of_generator = torch.optim.SGD(generator.parameters(), lr=0.01)
    with gainstage.watch(out=tmp_path / "run") as watch:
        for _ in range(6):
            of_critic.zero_grad()
            critic(generator(torch.randn(4, 2)).detach()).mean().backward()
            of_critic.step()
            of_generator.zero_grad()
            critic(generator(torch.randn(4, 2))).mean().neg().backward()
            of_generator.step()
    kinds = [each.evidence.kind for each in watch.run.observations()]
    assert "gradient-not-zeroed" not in kinds
    assert kinds.count("optimizer") <= 2


def test_a_clip_after_the_step_is_observed_and_one_before_it_is_not(tmp_path: Path) -> None:
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with gainstage.watch(model, optimizer, out=tmp_path / "after") as watch:
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(model(torch.ones(2, 4)), torch.ones(2, 1)).backward()
            optimizer.step()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert "clip-after-step" in [each.evidence.kind for each in watch.run.observations()]
    with gainstage.watch(model, optimizer, out=tmp_path / "before") as watch:
        for _ in range(3):
            optimizer.zero_grad()
            F.mse_loss(model(torch.ones(2, 4)), torch.ones(2, 1)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    assert "clip-after-step" not in [each.evidence.kind for each in watch.run.observations()]


def test_a_sampled_step_changes_no_bit(tmp_path: Path) -> None:
    def end(watched: bool) -> list[Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Embedding(8, 12), nn.LSTM(12, 12, batch_first=True))
        head = nn.Linear(12, 8)
        parameters = [*model.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        watch = gainstage.watch(out=tmp_path / "run", budget=1.0) if watched else None
        for _ in range(6):
            tokens = torch.randint(8, (4, 9))
            logits = head(F.dropout(model(tokens)[0], 0.3))
            optimizer.zero_grad()
            F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
            optimizer.step()
        if watch is not None:
            watch.stop()
        return [parameter.detach().clone() for parameter in parameters]

    for bare, watched in zip(end(False), end(True), strict=True):
        assert torch.equal(bare, watched)
