"""Finding recurrence in a graph of small nodes: what was done again and again with the same weight.

Time steps are told from layers by two things that a graph shows: each step depends on the one
before, and the very same weights enter on the way from one to the next. A loop over layers repeats
the line of code, but not the weights. Where no weight enters at all, as in a state space whose
decay is computed for all time steps before, it is the parts of one tensor that do, one a step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from gainstage.graph.levels.operands import GraphNode, Operands, parameter_of, rearranges
from gainstage.graph.operations.operation import OperationKind
from gainstage.graph.operations.table import operation_named

MIN_STEPS: Final = 3
"""Fewer repetitions are no series."""
_FEWEST_PARTS: Final = 6
"""Fewer parts of one tensor may be gates."""
Role = tuple[Hashable, str, int]
"""Site, op, and how many of the same kind come before it within the step."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A state that was carried through repeated use of the same weights."""

    kind: Literal["time", "depth"]
    """`time` if each step takes an input of its own, `depth` if a block was only applied again."""
    parameters: frozenset[str]
    """Names of the leaves that enter on the way from each state to the next."""
    states: tuple[int, ...]
    """Where in the list of nodes the state of each step stands, in the order of computation."""
    carried: tuple[tuple[int, ...], ...] = ()
    """Further states that cross from each step to the next, such as an LSTM's memory."""


@dataclass(frozen=True, slots=True)
class _Found:
    recurrence: Recurrence
    anchors: frozenset[int]
    path: frozenset[int]


def find_recurrences(nodes: Sequence[GraphNode]) -> list[Recurrence]:
    """Return the recurrences of a graph, in forward order of their last states.

    Looks at structure only, so that the answer holds for every step whose graph has the same shape.
    Sequences that were computed one by one with the same weights are recurrences of their own.

    Args:
        nodes: The whole graph, in any order; nodes of parameters included.
    """
    operands = Operands(nodes)
    by_weight = _merged(_found_by(operands.users().values(), operands, MIN_STEPS), operands)
    by_part = _found_by(operands.users_of_parts().values(), operands, _FEWEST_PARTS)
    # Where weights tell the states, they tell them better.
    others = [each for each in by_part if not any(_is_same(each, known) for known in by_weight)]
    return _in_order([*by_weight, *_merged(others, operands)], operands)


def _found_by(groups: Iterable[list[int]], operands: Operands, fewest: int) -> list[_Found]:
    """Return what groups of nodes show, each of which uses one weight, or parts of one tensor."""
    found: list[_Found] = []
    large = list(dict.fromkeys(tuple(users) for users in groups if len(users) >= fewest))
    for anchors in _descending(large, operands):
        steps = _Steps(operands, anchors)
        for chain in steps.chains():
            found.extend(steps.recurrences(chain))
    return found


def _descending(groups: list[tuple[int, ...]], operands: Operands) -> Iterator[list[int]]:
    """Yield the groups of which enough nodes descend from another."""
    if not groups:
        return
    own: dict[int, int] = defaultdict(int)
    for index, users in enumerate(groups):
        for at in users:
            own[at] |= 1 << index
    # One pass answers for all groups at once: bit i says that a user of group i is an ancestor.
    above: dict[int, int] = {}
    for at in operands.order:
        bits = 0
        for parent in operands.data[at]:
            bits |= above[parent] | own.get(parent, 0)
        above[at] = bits
    for index, users in enumerate(groups):
        if sum(above[at] >> index & 1 for at in users) >= MIN_STEPS - 1:
            yield list(users)


class _Steps:
    """One group of anchors, and to which of them every node of the graph belongs."""

    def __init__(self, operands: Operands, anchors: list[int]) -> None:
        self.operands = operands
        self.anchors = anchors
        self._members = frozenset(anchors)
        self._owner: dict[int, int] = {}
        """By node: its latest ancestor among the anchors."""
        self._role: dict[int, Role] = {}
        self._at_role: dict[tuple[int, Role], int] = {}
        """By anchor and role: the node that plays it in the anchor's step."""
        counts: dict[tuple[int, Hashable, str], int] = defaultdict(int)
        for at in operands.order[operands.place[anchors[0]] :]:
            owners = [
                parent if parent in self._members else self._owner[parent]
                for parent in operands.data[at]
                if parent in self._members or parent in self._owner
            ]
            if not owners:
                continue
            owner = self._owner[at] = max(owners, key=operands.place.__getitem__)
            node = operands.nodes[at]
            counted = (owner, node.site, node.op)
            role = self._role[at] = (node.site, node.op, counts[counted])
            counts[counted] += 1
            self._at_role[owner, role] = at

    def chains(self) -> list[list[int]]:
        """Return series of anchors in which each is the nearest ancestor of the next."""
        found: list[list[int]] = []
        seen: set[int] = set()
        for last in reversed(self.anchors):
            chain: list[int] = []
            at: int | None = last
            while at is not None and at not in seen:
                seen.add(at)
                chain.append(at)
                at = self._owner.get(at)
            if len(chain) >= MIN_STEPS:
                found.append(chain[::-1])
        return found

    def recurrences(self, chain: list[int]) -> Iterator[_Found]:
        """Yield the stretches of a chain over which the same weights enter every step."""
        paths = [self._path(first, then) for first, then in pairwise(chain)]
        weights = self._entering(paths)
        start = 0
        for end in range(1, len(paths) + 1):
            if end < len(paths) and weights[end] == weights[start]:
                continue
            only_adds = not weights[start] and all(map(self._only_adds, paths[start:end]))
            if end - start >= MIN_STEPS - 1 and not only_adds:
                yield self._recurrence(chain[start : end + 1], paths[start:end], weights[start])
            start = end

    def _path(self, first: int, then: int) -> list[int]:
        """Return the nodes between two anchors in forward order: without the first, with `then`."""
        path = {then}
        queue = [then]
        while queue:
            for parent in self.operands.data[queue.pop()]:
                within = parent not in self._members and self._owner.get(parent) == first
                if within and parent not in path:
                    path.add(parent)
                    queue.append(parent)
        return sorted(path, key=self.operands.place.__getitem__)

    def _only_adds(self, path: list[int]) -> bool:
        """Tell whether nothing happens to the state on a path but that something is added."""
        ops = [self.operands.nodes[at].op for at in path]
        return all(operation_named(op).adds or rearranges(op) for op in ops)

    def _entering(self, paths: list[list[int]]) -> list[frozenset[Hashable]]:
        """Return the weights that enter on each path.

        What was computed counts only if it enters on several, and never if it descends from an
        anchor: then it is a state.
        """
        found = [
            {each for at in path for each in self.operands.entering(at) if not self._descends(each)}
            for path in paths
        ]
        often = Counter(each for weights in found for each in weights)
        return [
            frozenset(
                each
                for each in weights
                if parameter_of(each) is not None or often[each] >= MIN_STEPS - 1
            )
            for weights in found
        ]

    def _descends(self, at: Hashable) -> bool:
        return at in self._owner or at in self._members

    def _recurrence(
        self, chain: list[int], paths: list[list[int]], weights: frozenset[Hashable]
    ) -> _Found:
        nodes = set(chain).union(*paths)
        states = [self._state(first, path) for first, path in zip(chain, paths, strict=False)]
        last = self._last(chain, states)
        kind = "time" if all(self._takes_input(path, weights) for path in paths) else "depth"
        recurrence = Recurrence(
            kind,
            frozenset(name for each in weights if (name := parameter_of(each)) is not None),
            tuple(states if last is None else [*states, last]),
            tuple(self._carried(chain, paths, states)),
        )
        return _Found(recurrence, frozenset(chain), frozenset(nodes))

    def _state(self, first: int, path: list[int]) -> int:
        """Return what the next anchor reads: the state that the step has come to."""
        at, on_path = path[-1], {first, *path}
        while True:
            parents = [each for each in self.operands.data[at] if each in on_path]
            at = max(parents, key=self.operands.place.__getitem__)
            moved = rearranges(self.operands.nodes[at].op)
            if at == first or not moved:
                return at

    def _last(self, chain: list[int], states: list[int]) -> int | None:
        """Return the state after the last anchor: the node that plays the same role there."""
        if all(state == anchor for state, anchor in zip(states, chain, strict=False)):
            return chain[-1]
        roles = {self._role.get(state) for state in states}
        role = roles.pop()
        return None if roles or role is None else self._at_role.get((chain[-1], role))

    def _carried(
        self, chain: list[int], paths: list[list[int]], states: list[int]
    ) -> Iterator[tuple[int, ...]]:
        """Yield, by role, what else a step reads from the step before."""
        crossing: dict[Role, int] = defaultdict(int)
        for before, path, state in zip(paths, paths[1:], states, strict=False):
            made = set(before[:-1])
            reads = {parent for at in path for parent in self.operands.data[at]}
            for at in {self._source(each) for each in reads} & made - {state}:
                crossing[self._role[at]] += 1
        for role, count in crossing.items():
            series = [self._at_role.get((anchor, role)) for anchor in chain]
            whole = tuple(at for at in series if at is not None)
            if count == len(paths) - 1 and len(whole) >= len(paths):
                yield whole

    def _source(self, at: int) -> int:
        """Return the node of which another is only a view."""
        while rearranges(self.operands.nodes[at].op) and len(self.operands.data[at]) == 1:
            at = self.operands.data[at][0]
        return at

    def _takes_input(self, path: list[int], weights: frozenset[Hashable]) -> bool:
        """Tell whether a step reads something that is neither its state nor a weight."""
        for at in path:
            node = self.operands.nodes[at]
            for parent in node.parents:
                if parent is None:
                    if _takes_inputs(operation_named(node.op)):
                        return True
                elif (
                    not self._descends(parent[0]) and self.operands.identity(parent) not in weights
                ):
                    return True
        return False


def _takes_inputs(kind: OperationKind) -> bool:
    """Tell whether an untracked operand is an input, rather than a mask or a factor."""
    return bool(kind.adds or kind.fused_recurrent) or kind.moves == "join"


def _merged(found: list[_Found], operands: Operands) -> list[_Found]:
    """Return one recurrence for all that were found by several weights of the same step."""
    last_first = sorted(found, key=lambda f: operands.place[f.recurrence.states[-1]], reverse=True)
    kept: list[_Found] = []
    for each in last_first:
        same = next((other for other in kept if _is_same(each, other)), None)
        if same is None:
            kept.append(each)
            continue
        parameters = same.recurrence.parameters | each.recurrence.parameters
        kept[kept.index(same)] = replace(
            same,
            recurrence=replace(same.recurrence, parameters=parameters),
            path=same.path | each.path,
        )
    return kept


def _in_order(found: list[_Found], operands: Operands) -> list[Recurrence]:
    """Return recurrences in forward order of their last states."""
    recurrences = [each.recurrence for each in found]
    return sorted(recurrences, key=lambda each: operands.place[each.states[-1]])


def _is_same(one: _Found, other: _Found) -> bool:
    """Tell whether the states are the same, or one lies on the way of the other."""
    shared = set(one.recurrence.states[:-1]) & set(other.recurrence.states[:-1])
    return bool(shared or one.anchors & other.path or other.anchors & one.path)
