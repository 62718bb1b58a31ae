"""Edits of a source file that leave everything else of it as it is, to the last blank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

Line = cst.SimpleStatementLine
_Node = TypeVar("_Node", bound=cst.CSTNode)


class NoSafeEditError(Exception):
    """There is no edit that surely does what the treatment did; the message says why."""


@dataclass(frozen=True)
class ScriptSource:
    """A file of the user's, parsed."""

    path: Path
    text: str
    tree: MetadataWrapper = field(repr=False)

    @property
    def module(self) -> cst.Module:
        """Return the root of the tree; its nodes are what edits are keyed by."""
        return self.tree.module

    def lines_of(self, node: cst.CSTNode) -> range:
        """Return the numbers of the lines that a node covers."""
        place = self.tree.resolve(PositionProvider)[node]
        return range(place.start.line, place.end.line + 1)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node that holds another."""
        return self.tree.resolve(ParentNodeProvider).get(node)

    def holder(self, node: cst.CSTNode, kind: type[_Node]) -> _Node | None:
        """Return the innermost node of a kind around another."""
        outer = self.parent(node)
        while outer is not None and not isinstance(outer, kind):
            outer = self.parent(outer)
        return outer

    def all(self, kind: type[_Node]) -> Iterator[_Node]:
        """Yield all nodes of a kind, outer ones first."""
        waiting: list[cst.CSTNode] = [self.module]
        while waiting:
            node = waiting.pop(0)
            if isinstance(node, kind):
                yield node
            waiting.extend(node.children)

    def at(self, line: int | None, kind: type[_Node]) -> list[_Node]:
        """Return the nodes of a kind that a line is part of, the innermost first."""
        found = [each for each in self.all(kind) if line in self.lines_of(each)]
        return sorted(found, key=lambda each: len(self.lines_of(each)))

    def code(self, node: cst.CSTNode) -> str:
        """Return a node's own text."""
        return self.module.code_for_node(node)

    def unused(self, *names: str) -> list[str]:
        """Return names for variables that the file does not have, as near to those given."""
        taken = {each.value for each in self.all(cst.Name)}
        found: list[str] = []
        for name in names:
            while name in taken:
                name += "_"
            found.append(name)
        return found

    def same_scope(self, one: cst.CSTNode, other: cst.CSTNode) -> bool:
        """Tell whether what one statement binds is seen by the other."""
        outer = self.holder(one, cst.FunctionDef)
        return outer is None or outer is self.holder(other, cst.FunctionDef)


def read_source(path: Path) -> ScriptSource:
    """Parse a file.

    Raises:
        NoSafeEditError: If it cannot be read or LibCST does not know its syntax.
    """
    try:
        raw = path.read_bytes()
        module = cst.parse_module(raw)
        return ScriptSource(path, raw.decode(module.encoding), MetadataWrapper(module))
    except (OSError, UnicodeDecodeError, cst.ParserSyntaxError) as error:
        raise NoSafeEditError(f"{path.name} cannot be edited: {error}") from error


def grouped(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return an expression that may be a factor, or have an attribute: in brackets where needed."""
    if isinstance(node, cst.Name | cst.Attribute | cst.Call | cst.Subscript) or node.lpar:
        return node
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


@dataclass
class Edits:
    """What to change, by nodes of a `ScriptSource`'s tree."""

    source: ScriptSource
    before: dict[Line, list[str]] = field(default_factory=dict[Line, list[str]])
    """Statements to put before one."""
    after: dict[Line, list[str]] = field(default_factory=dict[Line, list[str]])
    around: dict[Line, str] = field(default_factory=dict[Line, str])
    """The head of a block to put a statement into, without its colon: `if x`, `with y`."""
    removed: list[Line] = field(default_factory=list[Line])
    replaced: dict[cst.BaseExpression, cst.BaseExpression] = field(
        default_factory=dict[cst.BaseExpression, cst.BaseExpression]
    )

    keywords: dict[cst.Call, list[cst.Arg]] = field(default_factory=dict[cst.Call, list[cst.Arg]])
    """Arguments to add to calls."""

    def add_keyword(self, call: cst.Call, name: str, value: cst.BaseExpression) -> None:
        """Add a keyword argument as the last one of a call."""
        blank = cst.SimpleWhitespace("")
        new = cst.Arg(value, cst.Name(name), equal=cst.AssignEqual(blank, blank))
        self.keywords.setdefault(call, []).append(new)

    def put_before(self, line: Line, *code: str) -> None:
        """Put statements before a line, after those put there already."""
        self.before.setdefault(line, []).extend(code)

    def put_after(self, line: Line, *code: str) -> None:
        """Put statements after a line."""
        self.after.setdefault(line, []).extend(code)

    def apply(self) -> str:
        """Return the new text of the file."""
        module = self.source.module.visit(_Apply(self))
        return module.code


class _Apply(cst.CSTTransformer):
    def __init__(self, edits: Edits) -> None:
        super().__init__()
        self._edits = edits

    def on_leave(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, original_node: cst.CSTNode, updated_node: cst.CSTNode
    ) -> cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNode]:
        """Put in what stands for a node."""
        edits = self._edits
        if isinstance(original_node, cst.BaseExpression) and original_node in edits.replaced:
            return edits.replaced[original_node]
        if isinstance(original_node, cst.Call) and original_node in edits.keywords:
            assert isinstance(updated_node, cst.Call)
            return _with_more(updated_node, edits.keywords[original_node])
        if not isinstance(original_node, Line) or not isinstance(updated_node, Line):
            return updated_node
        if original_node in edits.removed:
            instead = self._parsed(edits.before.get(original_node, ()))
            return cst.FlattenSentinel(instead) if instead else cst.RemoveFromParent()
        return self._line(original_node, updated_node)

    def _line(
        self, original: Line, updated: Line
    ) -> cst.CSTNode | cst.FlattenSentinel[cst.CSTNode]:
        edits = self._edits
        before = self._parsed(edits.before.get(original, ()))
        after = self._parsed(edits.after.get(original, ()))
        head = edits.around.get(original)
        if not before and not after and head is None:
            return updated
        comments = updated.leading_lines
        middle: cst.BaseStatement = updated.with_changes(leading_lines=())
        if head is not None:
            (block,) = self._parsed([f"{head}:\n    pass\n"])
            assert isinstance(block, cst.If | cst.With)
            middle = block.with_changes(body=block.body.with_changes(body=[middle]))
        statements: list[cst.CSTNode] = [*before, middle, *after]
        # Comments above the line stay on top: what is put in belongs to the same thought.
        statements[0] = statements[0].with_changes(leading_lines=comments)
        return cst.FlattenSentinel(statements)

    def _parsed(self, code: Iterable[str]) -> list[cst.BaseStatement]:
        config = self._edits.source.module.config_for_parsing
        found: list[cst.BaseStatement] = []
        for each in code:
            found.extend(_statements(each, config))
        return found


def _with_more(call: cst.Call, new: list[cst.Arg]) -> cst.Call:
    """Return a call with more arguments, its trailing comma and line breaks as they were."""
    *first, last = call.args
    closing = last.comma
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    args = [last, *new]
    joined = [each.with_changes(comma=comma) for each in args[:-1]]
    ending = args[-1].with_changes(comma=closing, whitespace_after_arg=last.whitespace_after_arg)
    joined[0] = joined[0].with_changes(whitespace_after_arg=cst.SimpleWhitespace(""))
    return call.with_changes(args=[*first, *joined, ending])


def _statements(code: str, config: cst.PartialParserConfig) -> list[cst.BaseStatement]:
    # The file's own indentation and line ends: what is written here uses four blanks and "\n".
    indent = str(config.default_indent)
    depth_right = "\n".join(
        indent * ((len(line) - len(line.lstrip(" "))) // 4) + line.lstrip(" ")
        for line in code.rstrip("\n").split("\n")
    )
    module = cst.parse_module(depth_right + "\n", config=cst.PartialParserConfig())
    body: list[cst.BaseStatement] = list(module.body)
    if module.header and body:
        first = body[0]
        lines = [*module.header, *getattr(first, "leading_lines", ())]
        body[0] = first.with_changes(leading_lines=lines)
    return body
