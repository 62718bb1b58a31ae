"""Starting a script under watch: `python script.py` itself, in this very process."""

from __future__ import annotations

import importlib.machinery
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import gainstage
from gainstage.channel.config import VARIABLE, RunConfig
from gainstage.channel.place import make_channel
from gainstage.channel.start import start_observer
from gainstage.errors import ConfigError
from gainstage.facts.run_info import RunInfo

_BOOTSTRAP = Path(__file__).with_name("bootstrap")
_RUN_CHANGED = Path(__file__).with_name("run_changed.py")


def check_script(target: str, *, is_module: bool) -> Path:
    """Return the file that will run, having made sure that it is there and compiles.

    Args:
        target: A script's path, or a module's dotted name.
        is_module: Whether it is a module, as after `python -m`.

    Raises:
        ConfigError: If there is no such file, it has a syntax error, or this Python cannot watch.
    """
    _check_interpreter()
    path = _module_file(target) if is_module else Path(target)
    if path.is_dir() and (path / "__main__.py").is_file():
        path = path / "__main__.py"
    if not path.is_file():
        raise ConfigError(f"no such script: {target!r} (looked in {os.getcwd()})")
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}; nothing was run") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return path


def _check_interpreter() -> None:
    """Make sure that a script run with this Python's own flags can be watched.

    Raises:
        ConfigError: If it takes nothing from PYTHONPATH, or imports no `sitecustomize`.
    """
    flags = sys.flags
    flag = "-I" if flags.isolated else "-E" if flags.ignore_environment else "-S"
    if flags.ignore_environment or flags.no_site:
        raise ConfigError(
            f"python {flag} does not let gainstage into the script, for it ignores "
            f"{'PYTHONPATH' if flags.ignore_environment else 'sitecustomize'}; "
            f"run it without {flag}"
        )


def _module_file(name: str) -> Path:
    """Find a module's file without importing it, for importing a package runs its code."""
    search: Sequence[str] | None = [os.getcwd(), *sys.path]
    parts = name.split(".")
    for position, part in enumerate(parts):
        full = ".".join(parts[: position + 1])
        # The name in full, for a namespace package checks that it is the one asked for.
        spec = importlib.machinery.PathFinder.find_spec(part if position == 0 else full, search)
        if spec is None:
            raise ConfigError(f"no module named {full!r} (looked from {os.getcwd()})")
        search = spec.submodule_search_locations
        if position == len(parts) - 1:
            if search is not None:
                inner = importlib.machinery.PathFinder.find_spec(f"{name}.__main__", search)
                if inner is None or inner.origin is None:
                    raise ConfigError(f"{name!r} is a package without __main__, so it cannot run")
                return Path(inner.origin)
            if spec.origin and os.path.exists(spec.origin):
                return Path(spec.origin)
        if search is None and position < len(parts) - 1:
            raise ConfigError(f"{full!r} is not a package, so there is no {name!r}")
    raise ConfigError(f"module {name!r} has no file to run")


def run_info(
    script: str, argv: Sequence[str], *, treat: Sequence[str] = (), guard: str = "off"
) -> RunInfo:
    """Return what run.json says when a run begins: enough to repeat it."""
    return RunInfo(
        script=script,
        argv=tuple(argv),
        cwd=os.getcwd(),
        python=platform.python_version(),
        gainstage=gainstage.__version__,
        treat=tuple(treat),
        guard=guard,
        host=socket.gethostname(),
        pid=os.getpid(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def execute(
    config: RunConfig, target: str, arguments: Sequence[str], *, is_module: bool
) -> NoReturn:
    """Replace this process by Python running the script, with gainstage waiting for torch.

    The script gets the very interpreter, process id, terminal and signals it would have without us.
    """
    config = _with_observer(config, target)
    command, environment = command_of(config, target, arguments, is_module=is_module)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # pyright: ignore[reportUnnecessaryComparison] (closed: `2>&-`)
            stream.flush()
    os.execve(sys.executable, command, environment)


def _with_observer(config: RunConfig, target: str) -> RunConfig:
    """Return the options with a channel, and start its observer: it begins while Python does.

    Where no process can be started, a thread of the script's will do its work.
    """
    try:
        place = make_channel(config, is_main=True, script=os.path.basename(target))
    except OSError:
        return replace(config, observer="thread")
    config = replace(config, channel=place.folder)
    if config.observer == "process":
        try:
            start_observer(place)
        except OSError:
            return replace(config, observer="thread")
    return config


def command_of(
    config: RunConfig, target: str, arguments: Sequence[str], *, is_module: bool
) -> tuple[list[str], dict[str, str]]:
    """Return the command that runs a script under watch, and its environment.

    `sitecustomize` in our bootstrap folder lets gainstage in, there and in child processes.
    """
    environment = os.environ.copy()
    environment[VARIABLE] = config.as_text()
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([str(_BOOTSTRAP), *([before] if before else [])])
    flags = subprocess._args_from_interpreter_flags()  # pyright: ignore
    changed = changed_source(config.treat)
    starts = ["-m"] if is_module else []
    if changed is not None:
        starts = [str(_RUN_CHANGED), changed]
    return [sys.executable, *flags, *starts, target, *arguments], environment


def changed_source(treat: Sequence[str]) -> str | None:
    """Return the file that holds the script's text where a treatment is a change of its code."""
    if not treat:
        return None
    from gainstage.treat.spec import parse

    specs = [spec for spec in map(parse, treat) if spec.remedy == "code-change"]
    return str(specs[-1].settings["source"]) if specs else None
