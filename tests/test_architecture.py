"""The rooms import each other one way only, and what needs no torch does not import it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gainstage
from imports import SOURCE, circle, import_graph, module_files

ALLOWED = {
    "facts": set[str](),
    "errors": set[str](),
    "bits": set[str](),
    "readable": {"facts"},
    "norms": {"errors", "readable"},
    "analysis": {"facts", "errors", "bits"},
    "graph": {"facts", "errors", "bits", "analysis", "readable"},
    "detect": {"facts", "bits"},
    "ledger": {"facts", "bits", "detect"},
    "diagnose": {"facts", "bits", "detect"},
    "store": {"facts", "errors", "detect", "diagnose", "ledger"},
    "treat": {"facts", "errors", "norms", "graph"},
    "blackbox": {"facts", "errors", "norms", "graph", "store", "readable"},
    "prescribe": {"facts", "errors", "diagnose", "store", "treat"},
    "show": {"facts", "errors", "detect", "diagnose", "ledger", "store"},
    "channel": {"facts", "errors"},
    "observe": {"facts", "errors", "channel", "detect", "store", "show"},
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
        "readable",
        "analysis",
        "graph",
        "detect",
        "ledger",
        "store",
        "treat",
        "blackbox",
        "channel",
        "observe",
        "show",
    },
    "integrations": {
        "facts",
        "errors",
        "detect",
        "attach",
        "channel",
        "store",
        "show",
        "treat",
    },
    "cli": {
        "facts",
        "errors",
        "attach",
        "channel",
        "observe",
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
SUB_ROOMS = {
    "attach": {
        ".": {"check", "fault", "record", "sample", "startup"},
        "audit": {"names"},
        "check": {"fault", "names", "record", "sample", "startup"},
        "fault": {"names"},
        "names": set[str](),
        "record": {".", "fault", "names", "sample"},
        "sample": {"audit", "fault", "names"},
        "startup": set[str](),
        "startup.bootstrap": {"."},
    },
    "cli": {".": set[str]()},
    "detect": {
        ".": {"gradient", "kind", "level", "loss", "series", "update"},
        "gradient": {"kind", "series"},
        "kind": {"series"},
        "level": {"kind", "series"},
        "loss": {"kind", "series"},
        "series": set[str](),
        "update": {"kind", "series"},
    },
    "diagnose": {
        ".": {"causes", "evidence"},
        "causes": {".", "evidence"},
        "evidence": set[str](),
    },
    "graph": {
        "autopsy": {"levels", "nodes", "operations"},
        "levels": {"nodes", "operations"},
        "nodes": set[str](),
        "operations": {"nodes"},
        "sites": {"operations"},
        "weights": {"nodes", "operations"},
    },
    "integrations": {".": {"sinks"}, "sinks": set[str]()},
    "prescribe": {".": {"patch"}, "patch": set[str]()},
    "show": {".": set[str](), "serve": {"."}},
    "store": {".": set[str](), "foreign": {"."}},
    "treat": {
        ".": {"kinds"},
        "kinds": {".", "clip", "model", "optimizer"},
        "clip": {".", "optimizer"},
        "guard": {".", "optimizer"},
        "model": {".", "optimizer"},
        "optimizer": {"."},
    },
}
"""Which folders of a room a folder of it may import; `.` are the files of the room itself. A folder
may import `.` only where that has no circle: files of a room that list its kinds import them all,
and the kinds only files that import none."""
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


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(import_graph()) == []


def test_a_circle_of_imports_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d", "b"}, "d": set()}) == ["b", "c"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def sub_room_of(path: Path) -> str:
    return ".".join(path.parent.relative_to(SOURCE).parts[1:]) or "."


def test_parts_of_a_room_import_only_those_they_may() -> None:
    files = module_files()
    for module, imported in import_graph().items():
        path = files[module]
        room = room_of(path)
        for name in imported:
            other = files[name]
            if room_of(other) == room and sub_room_of(other) != sub_room_of(path):
                allowed = SUB_ROOMS[room][sub_room_of(path)]
                assert sub_room_of(other) in allowed, f"{module} imports {name}"


@pytest.mark.parametrize("room", SUB_ROOMS)
def test_parts_of_a_room_import_each_other_one_way(room: str) -> None:
    parts = {part: allowed - {"."} for part, allowed in SUB_ROOMS[room].items() if part != "."}
    assert circle(parts) == []


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
