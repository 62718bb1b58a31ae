"""Which operand of a node is which: a weight keeps its identity through views of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from gainstage.graph.operations.operation import ONE_SOURCE, Moves
from gainstage.graph.operations.table import operation_named

_COMPUTED_WEIGHTS: Final = 8
"""How many operands that are no parameters are tried as weights, such as a normalised weight."""


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One node of autograd's graph, as the search for recurrence needs it."""

    site: Hashable
    """Equal for nodes that the same line of code made in the same module."""
    op: str
    """Name of the node, such as `TanhBackward0`."""
    sequence: int
    """Its place in forward order, `_sequence_nr()`. Ignored for a parameter."""
    parents: tuple[tuple[int, int] | None, ...] = ()
    """`next_functions`, each node by its place in the list; None where autograd tracks nothing."""
    parameter: str | None = None
    """Name of the leaf, if the node is the one that accumulates a leaf's gradient."""
    part: Hashable = None
    """What a node such as `SelectBackward0` takes: its dimension and index. Without it, two
    selections of one weight count as different weights."""
    module: str | None = None


def rearranges(op: str) -> bool:
    """Tell whether a node only rearranges what others computed: views, casts, copies, joins."""
    moves = operation_named(op).moves
    return moves in ONE_SOURCE or moves == "join"


def parameter_of(identity: Hashable) -> str | None:
    """Return the name of the leaf of which an operand is a view; None if it was computed."""
    while isinstance(identity, tuple):
        identity = identity[0]
    return identity if isinstance(identity, str) else None


class Operands:
    """The graph in forward order, and the identity of every operand."""

    def __init__(self, nodes: Sequence[GraphNode]) -> None:
        self.nodes = nodes
        self.order = sorted(
            (at for at, node in enumerate(nodes) if node.parameter is None),
            key=lambda at: nodes[at].sequence,
        )
        self.place = {at: place for place, at in enumerate(self.order)}
        self._identity: dict[int, Hashable] = {
            at: node.parameter for at, node in enumerate(nodes) if node.parameter is not None
        }
        self._of_parameter = set(self._identity)
        for at in self.order:
            self._identity[at] = self._identify(at)
        self.data = {at: self._data_parents(at) for at in self.order}
        """By node: its inputs that are neither parameters nor views of one, without repetition."""
        self.weights = self._find_weights()

    def identity(self, parent: tuple[int, int]) -> Hashable:
        """Return what an input is, views undone: equal for the same weight at every use."""
        at, output = parent
        known = self._identity.get(at, at)
        return (known, output) if self._moves(at) == "parts" else known

    def users(self) -> dict[Hashable, list[int]]:
        """Return, by weight, the nodes that compute with it, in forward order."""
        found: dict[Hashable, list[int]] = defaultdict(list)
        for at in self.order:
            if self._identity[at] == at:
                for weight in self.entering(at):
                    found[weight].append(at)
        return found

    def users_of_parts(self) -> dict[Hashable, list[int]]:
        """Return, by what was computed, the nodes that compute with parts of it, in forward order.

        Such as `drive[:, t]` in a loop over t. Parts of a parameter are weights, not its parts.
        """
        found: dict[Hashable, list[int]] = defaultdict(list)
        for at in self.order:
            if self._identity[at] == at:
                known = (self.identity(each) for each in self.nodes[at].parents if each is not None)
                wholes = {each[0] for each in known if isinstance(each, tuple)}
                for whole in wholes:
                    if parameter_of(whole) is None:
                        found[whole].append(at)
        return found

    def entering(self, at: int) -> set[Hashable]:
        """Return the weights among a node's inputs."""
        parents = (each for each in self.nodes[at].parents if each is not None)
        return {known for each in parents if (known := self.identity(each)) in self.weights}

    def _moves(self, at: int) -> Moves | None:
        return operation_named(self.nodes[at].op).moves

    def _identify(self, at: int) -> Hashable:
        node = self.nodes[at]
        moves = self._moves(at)
        tracked = [parent for parent in node.parents if parent is not None]
        one_input = len(tracked) == 1 and moves in ONE_SOURCE
        # An input cannot be younger than what was made of it: such an edge is not followed.
        if not one_input or self._is_younger(tracked[0][0], at):
            return at
        if tracked[0][0] in self._of_parameter:
            self._of_parameter.add(at)
        source = self.identity(tracked[0])
        if moves == "part":
            return at if node.part is None else (source, node.op, node.part)
        return source

    def _is_younger(self, parent: int, at: int) -> bool:
        return self.place.get(parent, -1) >= self.place[at]

    def _data_parents(self, at: int) -> list[int]:
        parents = dict.fromkeys(each[0] for each in self.nodes[at].parents if each is not None)
        return [
            parent
            for parent in parents
            if parent not in self._of_parameter and not self._is_younger(parent, at)
        ]

    def _find_weights(self) -> set[Hashable]:
        """Return what counts as a weight: parameters, and the most used operands of products."""
        uses = Counter[Hashable]()
        weights: set[Hashable] = set()
        for at in self.order:
            if at in self._of_parameter:
                continue
            in_product = bool(operation_named(self.nodes[at].op).factors)
            for parent in {each for each in self.nodes[at].parents if each is not None}:
                if parent[0] in self._of_parameter:
                    weights.add(self.identity(parent))
                elif in_product:
                    uses[self.identity(parent)] += 1
        often = uses.most_common(_COMPUTED_WEIGHTS)
        return weights | {known for known, count in often if count > 1}
