"""On random graphs the named node is the first wrong one that brute force finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gainstage.graph.autopsy.find import find_forward

# None of these turns an inf into a finite number: what is wrong anywhere reaches the loss.
ONE: list[Callable[[Tensor], Tensor]] = [
    torch.log,
    torch.sqrt,
    torch.neg,
    torch.abs,
    torch.cosh,
    torch.square,
    torch.lgamma,
    lambda x: x / 2,
    lambda x: x * 1e10,
    lambda x: x.t().contiguous().t(),
    lambda x: x.reshape(12).view(4, 3),
]
TWO: list[Callable[[Tensor, Tensor], Tensor]] = [
    torch.add,
    torch.sub,
    torch.mul,
    lambda x, y: x * 2 - y,
]
BAD = [0.0, -1.0, 1.0, 200.0, 1e30, float("nan"), float("inf"), -float("inf")]


@dataclass
class Made:
    """One value of a random graph, kept for brute force."""

    value: Tensor
    parents: list[Made]

    def has(self, what: str) -> bool:
        value = self.value.detach()
        return bool((torch.isnan if what == "nan" else torch.isinf)(value).any())

    def above(self) -> list[Made]:
        found = [self]
        for parent in self.parents:
            found += [each for each in parent.above() if each not in found]
        return found

    def __eq__(self, other: object) -> bool:
        return self is other


def number(made: Made) -> int:
    assert made.value.grad_fn is not None
    return made.value.grad_fn._sequence_nr()


def makers(of: Made, what: str) -> list[Made]:
    """Return the values above that hold NaN (inf) although none of their parents does."""
    return [m for m in of.above() if m.has(what) and not any(p.has(what) for p in m.parents)]


def brute_force(root: Made) -> Made:
    """Return the first wrong value: a NaN that was made of an inf is traced to that inf."""
    if not root.has("nan"):
        return min(makers(root, "inf"), key=number)
    culprits: list[Made] = []
    for maker in makers(root, "nan"):
        infinite = [p for p in maker.parents if p.has("inf")]
        origins = [origin for p in infinite for origin in makers(p, "inf")]
        culprits.append(min(origins, key=number) if origins else maker)
    return min(culprits, key=number)


step = st.tuples(st.integers(0, len(ONE) + len(TWO) - 1), st.integers(0, 30), st.integers(0, 30))


@settings(max_examples=150)
@given(
    steps=st.lists(step, min_size=1, max_size=12),
    value=st.sampled_from(BAD),
    place=st.tuples(st.integers(0, 3), st.integers(0, 2)),
)
def test_the_first_wrong_node_is_named(
    steps: list[tuple[int, int, int]], value: float, place: tuple[int, int]
) -> None:
    data = torch.linspace(0.3, 0.9, 12).view(4, 3).clone()
    data[place] = value
    weight = torch.ones(3, requires_grad=True)
    made = [Made(data * weight, [])]
    for kind, first, second in steps:
        a, b = made[first % len(made)], made[second % len(made)]
        if kind < len(ONE):
            made.append(Made(ONE[kind](a.value), [a]))
        else:
            made.append(Made(TWO[kind - len(ONE)](a.value, b.value), [a, b]))
    loss = made[-1].value.sum()
    root = Made(loss, [made[-1]])
    culprit = find_forward([loss])
    if torch.isfinite(loss):
        assert culprit is None
        return
    expected = brute_force(root)
    assert culprit is not None
    assert expected.value.grad_fn is not None
    inside = walked_back(expected)
    assert culprit.node in inside, (culprit.op, culprit.text, expected.value.grad_fn)


def walked_back(made: Made) -> list[object]:
    """Return the nodes that one step of the graph made: some functions make several."""
    stop = [p.value.grad_fn for p in made.parents]
    found, queue = [], [made.value.grad_fn]
    while queue:
        node = queue.pop()
        if node is None or node in stop or node in found:
            continue
        found.append(node)
        queue.extend(parent for parent, _ in node.next_functions)
    return found
