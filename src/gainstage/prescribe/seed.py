"""Whether a script takes a seed, told from its source: asking it would mean to run it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path


def with_another_seed(script: Path, arguments: Sequence[str]) -> list[str] | None:
    """Return a script's arguments with another seed, None where it takes none.

    It takes one if its own file has a call `add_argument("--seed", ...)`. The seed is one more than
    what was given or is the default, 1 where that is no number.
    """
    default = _default_seed(script)
    if default is None:
        return None
    changed = list(arguments)
    for at, each in enumerate(changed):
        if each.startswith("--seed="):
            changed[at] = f"--seed={_next(each.removeprefix('--seed='))}"
            return changed
        if each == "--seed" and at + 1 < len(changed):
            changed[at + 1] = _next(changed[at + 1])
            return changed
    return [*changed, "--seed", _next(default)]


def _default_seed(script: Path) -> str | None:
    # `python -m` takes any encoding that the file names; so does ast, from bytes.
    for node in ast.walk(ast.parse(script.read_bytes())):
        if isinstance(node, ast.Call) and any(_is_seed(each) for each in node.args):
            for keyword in node.keywords:
                if keyword.arg == "default" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
            return ""
    return None


def _is_seed(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == "--seed"


def _next(seed: str) -> str:
    return str(int(seed) + 1) if seed.strip().isdigit() else "1"
