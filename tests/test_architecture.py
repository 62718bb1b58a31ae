"""The rooms import each other one way only, and what needs no torch does not import it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gainstage

SOURCE = Path(gainstage.__file__).parent
ALLOWED = {
    "facts": set[str](),
    "errors": set[str](),
    "bits": set[str](),
    "norms": {"errors"},
    "analysis": {"facts", "errors", "bits"},
    "graph": {"facts", "errors", "bits", "analysis"},
    "detect": {"facts", "bits"},
    "ledger": {"facts", "bits", "detect"},
    "diagnose": {"facts", "bits", "detect"},
    "store": {"facts", "errors", "detect", "diagnose", "ledger"},
    "treat": {"facts", "errors", "norms", "graph"},
    "blackbox": {"facts", "errors", "norms", "graph", "store"},
    "prescribe": {"facts", "errors", "diagnose", "store", "treat"},
    "show": {"facts", "errors", "detect", "ledger", "store"},
    "lab": {
        "facts",
        "errors",
        "bits",
        "norms",
        "graph",
        "detect",
        "analysis",
        "treat",
        "store",
        "show",
    },
    "attach": {
        "facts",
        "errors",
        "norms",
        "analysis",
        "graph",
        "detect",
        "ledger",
        "store",
        "treat",
        "blackbox",
        "show",
    },
    "integrations": {"facts", "errors", "detect", "attach", "store", "show", "treat"},
    "cli": {
        "errors",
        "attach",
        "store",
        "show",
        "treat",
        "blackbox",
        "prescribe",
        "lab",
        "integrations",
    },
    "__main__": {"cli"},
}
WITHOUT_TORCH = [
    "facts.record",
    "errors",
    "bits",
    "detect.scan",
    "store.reader",
    "show.terminal",
    "show.prescription",
    "prescribe.prescribe",
    "attach.check.check_run",
    "integrations.export",
    "store.query",
    "lab.commands",
    "integrations.mcp",
    "cli",
]


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_go_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "gainstage" and len(parts) > 1 and parts[1] != room:
                assert parts[1] in ALLOWED[room], f"{path.name} of {room} imports {name}"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_torch_is_not_imported_where_it_is_not_needed(module: str) -> None:
    code = f"import sys, gainstage, gainstage.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_names_are_these() -> None:
    assert gainstage.__all__ == [
        "ConfigError",
        "GainProfile",
        "GainstageError",
        "Run",
        "RunFolderError",
        "Watch",
        "check",
        "clip_grad_norm_",
        "load",
        "watch",
    ]
    for name in gainstage.__all__:
        assert getattr(gainstage, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'clip'"):
        gainstage.clip  # noqa: B018
