"""Every command block of the site's own pages runs, and prints what the page says.

Blocks of a page run in their order, in a folder of the page's own that holds `examples/`: ```python
in one namespace (or into a file, where it has a title), ```sh line by line. A ```text block is what
the block before it printed; numbers may differ, for they depend on torch and on the machine.
Trainings are shortened.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from conftest import environment
from gainstage.cli import app
from script_runs import run_script

pytestmark = pytest.mark.usefixtures("process_observer")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    "tutorial.md",
    "mathematics.md",
    "formats.md",
    *sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("howto/*.md")),
]
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
SHORTER = {"--steps 100": "--steps 8", "--trials 4": "--trials 1", "WORLD = 2": "WORLD = 1"}


@dataclass
class Page:
    """A page as it is run: its namespace, and what its last block printed."""

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: str = ""

    def run(self, kind: str, title: str, body: str) -> None:
        for long, short in SHORTER.items():
            body = body.replace(long, short)
        if title:
            (self.folder / title).write_text(body)
            # The summary shows no line of a file that may have changed since the run began.
            os.utime(self.folder / title, (0, 0))
        elif kind == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(body, "<page>", "exec"), self.names)
            self.printed = out.getvalue()
        elif kind == "sh":
            self.printed = "".join(self.line(line) for line in body.splitlines())
        elif kind == "text":
            missing = [line for line in body.splitlines() if not self.is_printed(line)]
            assert not missing, f"{missing} not in\n{self.printed}"

    def is_printed(self, line: str) -> bool:
        """Tell whether a line was printed; one with … in it has been trimmed or shortened."""
        return "…" in line or plain(line) in {plain(each) for each in self.printed.splitlines()}

    def line(self, line: str) -> str:
        """Run a line of the shell; a comment says the exit code that it has if not 0."""
        command, _, comment = line.partition("  # ")
        code = int(re.sub(r"\D", "", comment) or 0)
        command, _, file = command.partition(" > ")
        first, *words = shlex.split(command)
        if first == "gainstage" and words[0] == "serve":  # it would wait for Ctrl-C
            assert get_command(app).commands["serve"].make_context("serve", words[1:])
            return ""
        if first == "gainstage" and words[0] != "run":  # which replaces its process
            ended, out, err = in_this_process(lambda: get_command(app).main(words))
        elif first == "python":
            ended, out, err = in_this_process(lambda: as_script(words))
        else:
            ended, out, err = in_a_shell(command, self.folder)
        assert ended == code, out + err
        if file:
            (self.folder / file).write_text(out)
        return out + err


def plain(line: str) -> str:
    """Return a line without what may differ: numbers, sparklines, and the width of spaces."""
    return re.sub(r"[\s\d.+−-]+|[▁-█×]+", " ", line).strip()


def in_this_process(call: Any) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            call()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return code, out.getvalue(), err.getvalue()


def as_script(words: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        run_script(words[0])


def in_a_shell(command: str, folder: Path) -> tuple[int, str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment() | {"PATH": path, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("name", PAGES)
def test_every_block_of_a_page_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    blocks = BLOCK.findall((DOCS / name).read_text())
    assert any(kind in ("python", "sh") for kind, _, _ in blocks)
    page = Page(tmp_path)
    for kind, title, body in blocks:
        page.run(kind, title, body)


def test_a_page_that_promises_what_is_not_printed_is_found(tmp_path: Path) -> None:
    page = Page(tmp_path)
    page.run("python", "", "print('norm 3.5')")
    page.run("text", "", "norm 4.25\n")
    with pytest.raises(AssertionError, match="loss"):
        page.run("text", "", "loss 3.5\n")


def nav_pages(items: list[Any]) -> list[str]:
    found: list[str] = []
    for item in items:
        (value,) = item.values() if isinstance(item, dict) else (item,)
        found += nav_pages(value) if isinstance(value, list) else [value]
    return found


def test_the_nav_names_every_page_once_and_no_other() -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text())
    pages = nav_pages(config["project"]["nav"])
    assert sorted(pages) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def without_network() -> list[str]:
    """Return what runs a command without a network, where this machine lets us."""
    words = ["unshare", "--map-root-user", "--net"]
    if shutil.which(words[0]) is None:
        return []
    return words if subprocess.run([*words, "true"], check=False).returncode == 0 else []


def test_the_site_builds_strictly_and_loads_nothing_from_a_network(tmp_path: Path) -> None:
    zensical = Path(sys.executable).with_name("zensical")
    if not zensical.is_file():
        if os.environ.get("CI"):
            pytest.fail("no zensical: the documentation site is not built")
        pytest.skip("NO ZENSICAL: the documentation site is not built; pip install -e '.[docs]'")
    for name in ("docs", "src", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = subprocess.run(
        [*without_network(), str(zensical), "build", "--strict"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.relative_to(tmp_path / "site"): path for path in tmp_path.glob("site/**/*.html")}
    for name in nav_pages(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]):
        text = pages.pop(Path(name).with_suffix(".html")).read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        loaded += re.findall(r'<link\b[^>]*\brel="(?!canonical)[^>]*\bhref="([^"]+)"', text)
        assert loaded
        assert not [each for each in loaded if re.match(r"(?:\w+:)?//", each)], name
    reference = (tmp_path / "site/reference/python.html").read_text()
    for public in (
        "gainstage.watch",
        "gainstage.lab.chain",
        "gainstage.treat.clip.AutoClip",
    ):
        assert f'id="{public}"' in reference
