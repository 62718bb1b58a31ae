"""Sites: where each node was made, and the sites of later graphs of the same or another shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gainstage.facts.fault import Site
from gainstage.graph.nodes.walk import is_leaf, walk
from gainstage.graph.sites.recording import SiteRecording, sites_of, users_entry
from gainstage.graph.sites.site_map import UNMATCHED, SiteMap


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.rest = nn.Sequential(nn.Tanh(), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(torch.relu(self.first(x)))


def recorded(
    model: nn.Module, loss: Callable[[], Tensor]
) -> tuple[list[object], list[Site | None]]:
    recording = SiteRecording()
    root = loss()
    recording.stop()
    nodes = [node for node in walk([root]) if not is_leaf(node)]
    names = {id(module): name for name, module in model.named_modules()}
    return nodes, sites_of(nodes, recording.calls, names)


def line_of(function: Callable[..., object], text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def test_a_node_knows_its_operation_module_function_file_and_line() -> None:
    model = Net()

    def loss() -> Tensor:
        return model(torch.ones(2, 3)).log().mean()

    _, sites = recorded(model, loss)
    by_op = {site.op: site for site in sites if site is not None}
    forward, own = line_of(Net.forward, "torch.relu"), line_of(loss, ".log()")
    traits = (False, False)
    assert by_op["relu"] == Site("relu", "", "forward", __file__, forward, *traits)
    assert by_op["tanh"] == Site("tanh", "rest.0", "forward", __file__, forward, *traits)
    assert by_op["log"] == Site("log", None, "loss", __file__, own, *traits)
    assert {s.module for s in sites if s is not None and s.op == "addmm"} == {"first", "rest.1"}


def test_recording_leaves_anomaly_mode_and_hooks_as_they_were() -> None:
    hooks = nn.modules.module._global_forward_pre_hooks
    before = len(hooks)
    recording = SiteRecording()
    assert torch.is_anomaly_enabled()
    assert len(hooks) == before + 1
    recording.stop()
    assert not torch.is_anomaly_enabled()
    assert len(hooks) == before
    torch.set_anomaly_enabled(True, True)
    try:
        SiteRecording().stop()
        assert torch.is_anomaly_enabled()
    finally:
        torch.set_anomaly_enabled(False)


def test_a_graph_of_the_same_shape_matches_exactly() -> None:
    model, sites = Net(), SiteMap()
    nodes, found = recorded(model, lambda: model(torch.ones(2, 3)).mean())
    sites.add(nodes, found)
    later = [n for n in walk([model(torch.ones(5, 3)).mean()]) if not is_leaf(n)]
    match = sites.match(later)
    assert match.exact
    assert [sites.site(number) for number in match.sites] == found


def test_a_longer_loop_is_aligned_and_a_new_operation_is_unmatched() -> None:
    weight = torch.ones(2, 2, requires_grad=True)

    def loop(turns: int, *, extra: bool = False) -> Tensor:
        state = torch.ones(1, 2)
        for _ in range(turns):
            state = torch.tanh(state @ weight)
        if extra:
            state = state.erf()
        return state.sum()

    sites = SiteMap()
    nodes, found = recorded(nn.Module(), lambda: loop(6))
    sites.add(nodes, found)
    later = [n for n in walk([loop(9, extra=True)]) if not is_leaf(n)]
    match = sites.match(later)
    assert not match.exact
    told = {n.name(): number for n, number in zip(later, match.sites, strict=True)}
    assert told["ErfBackward0"] == UNMATCHED
    assert sites.site(told["SumBackward0"]).op == "sum"
    matched = [number for number in match.sites if number != UNMATCHED]
    assert len(matched) >= len(nodes)


class _Named:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    st.lists(st.sampled_from("abcd"), max_size=12),
)
def test_a_matched_node_has_the_operation_of_its_site(known: list[str], other: list[str]) -> None:
    sites = SiteMap()
    nodes = [_Named(name) for name in known]
    sites.add(nodes, [Site(name, line=at) for at, name in enumerate(known)])
    match = sites.match([_Named(name) for name in other])
    assert len(match.sites) == len(other)
    for name, number in zip(other, match.sites, strict=True):
        assert number == UNMATCHED or sites.sites[number].op == name


def test_the_innermost_entry_that_is_the_users_is_told() -> None:
    torchs = f'  File "{torch.__file__}", line 3, in relu\n    x\n'
    users = '  File "/home/user/train.py", line 7, in forward\n    relu(x)\n'
    assert users_entry([users, torchs]) == ("/home/user/train.py", 7, "forward")
    assert users_entry([torchs]) is None
