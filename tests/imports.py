"""Which module of gainstage imports which, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import gainstage

SOURCE = Path(gainstage.__file__).parent


def module_files() -> dict[str, Path]:
    """Return each module's file by its dotted name."""
    files: dict[str, Path] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    return files


def imports_of(path: Path, known: Mapping[str, Path]) -> set[str]:
    """Return the modules that a file imports, also inside functions, but not for types alone."""
    names: set[str] = set()
    for node in _nodes_at_run_time(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (submodules & known.keys()) or {node.module}
    return names & known.keys()


def import_graph() -> dict[str, set[str]]:
    """Return what each module imports of gainstage."""
    files = module_files()
    return {name: imports_of(path, files) - {name} for name, path in files.items()}


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return modules of which each imports the next and the last the first; none if none do.

    Example:
        >>> circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
        ['b', 'c']
    """
    done: set[str] = set()
    for start in graph:
        found = _circle_from(start, graph, done, [])
        if found:
            return found
    return []


def _circle_from(
    module: str, graph: Mapping[str, set[str]], done: set[str], path: list[str]
) -> list[str]:
    if module in path:
        return path[path.index(module) :]
    if module in done:
        return []
    for imported in sorted(graph.get(module, ())):
        found = _circle_from(imported, graph, done, [*path, module])
        if found:
            return found
    done.add(module)
    return []


def _nodes_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree without what stands below `if TYPE_CHECKING`."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        else:
            pending += ast.iter_child_nodes(node)
