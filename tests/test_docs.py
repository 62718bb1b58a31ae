"""What the README promises is there: its commands parse, its options and pictures exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from gainstage.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^(gainstage (?:run|report) [^#\n]+)", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    _, verb, *arguments = shlex.split(line)
    command = get_command(app).commands[verb]  # pyright: ignore[reportAttributeAccessIssue]
    assert command.make_context(verb, arguments)


def test_every_option_is_documented() -> None:
    said = README + (ROOT / "docs" / "cli.md").read_text()
    commands = dict(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
    lab = commands["lab"].commands
    commands |= {f"lab {topic}": command for topic, command in lab.items()}
    for verb, command in commands.items():
        assert f"gainstage {verb}" in said
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("-"):
                    assert f"`{option}" in said, f"{verb} {option}"


def test_every_make_target_of_the_readme_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert target in targets


def test_links_and_pictures_of_the_readme_are_committed() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
