"""Scripts that a test runs in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_NAMESPACES: list[dict[str, Any]] = []


def run_script(path: Path | str) -> None:
    """Run a script; its variables live until the next one runs or the test ends."""
    empty_namespaces()
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    _NAMESPACES.append(namespace)
    exec(compile(Path(path).read_text(), str(path), "exec"), namespace)


def empty_namespaces() -> None:
    """Empty the namespaces of the scripts that have run.

    A `torch.autograd.Function` of a script keeps the script's variables alive for good (through a
    cycle that leads over C++), and a later test would find its model and its optimizer.
    """
    for namespace in _NAMESPACES:
        namespace.clear()
    _NAMESPACES.clear()
