"""The server of the Model Context Protocol, asked by the protocol's own client."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import environment
from gainstage import ConfigError, RunFolderError
from gainstage.cli import main
from gainstage.integrations.mcp import MOST_STEPS, MOST_TENSORS, RunsFolder
from gainstage.store.folder import update_run_info
from recorded import large_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    large_run(folder / "one", 60, 40, 2)
    update_run_info(folder / "one", started="2026-01-01", script="a\x1b[2J.py")
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_assistant_reads_runs_over_standard_input_and_output(runs: Path) -> None:
    import anyio
    from mcp import Client, StdioServerParameters

    server = StdioServerParameters(
        command=sys.executable, args=["-m", "gainstage", "mcp", str(runs)], env=environment()
    )

    async def ask() -> dict[str, Any]:
        async with Client(server) as client:
            tools = (await client.list_tools()).tools
            asked = {
                "list_runs": {},
                "findings": {"run": "one"},
                "report": {"run": "one"},
                "steps": {"run": "one", "first": 38, "count": 9},
                "gradients": {"run": "one", "first": 0, "count": 1, "name": "layers.7."},
                "picture": {"run": "one"},
                "query": {"run": "one", "sql": "select max(step) as last from steps"},
            }
            answers: dict[str, Any] = {"tools": tools}
            for name, arguments in asked.items():
                answers[name] = await client.call_tool(name, arguments)
            answers["outside"] = await client.call_tool("report", {"run": "../../etc"})
            return answers

    said = anyio.run(ask)
    assert {tool.name for tool in said["tools"]} == {
        "list_runs",
        "findings",
        "report",
        "steps",
        "gradients",
        "query",
        "picture",
    }
    assert all(tool.annotations.read_only_hint for tool in said["tools"])
    drawn, legend = said["picture"].content
    assert drawn.mime_type == "image/png"
    assert base64.b64decode(drawn.data).startswith(b"\x89PNG")
    assert json.loads(legend.text)["rows"][7] == "model.encoder.layers.7.attention.weight"
    kept = said.keys() - {"tools", "picture"}
    text = {name: said[name].content[0].text for name in kept}
    assert json.loads(text["list_runs"])["run"] == "one"
    assert json.loads(text["findings"])["schema"] == "gainstage.findings/1"
    assert "HEALTHY" in text["report"]
    assert "\x1b" not in text["report"]
    steps = json.loads(text["steps"])
    assert steps["of"] == 40
    assert [each["step"] for each in steps["steps"]] == [38, 39]
    assert steps["steps"][0]["max_norm"] is None
    gradients = json.loads(text["gradients"])
    assert gradients["tensors"] == ["model.encoder.layers.7.attention.weight"]
    assert gradients["step"] == [0]
    assert json.loads(text["query"]) == {"of": 1, "columns": ["last"], "rows": [{"last": 39}]}
    assert said["outside"].is_error
    assert "is not the name of a run" in text["outside"]


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "one/steps", "link", "a\0b"])
def test_no_name_leads_out_of_the_folder(runs: Path, tmp_path: Path, name: str) -> None:
    large_run(tmp_path / "secret", 2, 4, 1)
    (runs / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigError, match="is not the name of a run"):
        RunsFolder(runs).findings(name)


def test_answers_are_bounded_and_mistakes_are_told(runs: Path, tmp_path: Path) -> None:
    folder = RunsFolder(runs)
    gradients = folder.gradients("one", count=10**9)
    assert len(gradients["tensors"]) == MOST_TENSORS
    assert gradients["left_out"] == 10
    large_run(runs / "long", 1, MOST_STEPS + 10, 1)
    assert len(folder.steps("long", first=-5, count=10**9)["steps"]) == MOST_STEPS
    assert folder.steps("long", first=10**9)["steps"] == []
    with pytest.raises(ConfigError, match="no rank 3; there are"):
        folder.steps("one", rank=3)
    with pytest.raises(RunFolderError, match="does not exist"):
        folder.report("two")
    with pytest.raises(RunFolderError, match="is no folder"):
        RunsFolder(tmp_path / "none")
    assert len(folder.list_runs(limit=-1)) == 0


def test_without_the_package_one_line_names_the_extra(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(SystemExit) as left:
        main(["mcp", str(runs)])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "pip install 'gainstage[mcp]'" in said
    assert said.count("\n") == 1
