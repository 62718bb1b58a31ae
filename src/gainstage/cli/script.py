"""Verbs that run a training script under watch: `run` and `check`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gainstage.cli.options import IsModule, ScriptArguments
from gainstage.errors import ConfigError

EXIT_FINDINGS = 3

OutFolder = Annotated[
    Path | None,
    typer.Option(help="The run's folder. [default: gainstage-runs/<time>-<script>]"),
]
Treatments = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID[:k=v,..]",
        help="Treat every step from outside: clip-global-norm:max_norm=1, "
        "lower-lr:factor=0.1, skip-nonfinite. May be given several times.",
    ),
]
Guard = Annotated[
    str,
    typer.Option(
        metavar="off|skip|stop|rollback[:to=N,factor=F]",
        help="What to do when a gradient that is not finite is about to reach the optimizer.",
    ),
]
Sinks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND:PATH",
        help="Also send the numbers to another tool while the script runs: tensorboard:DIR, "
        "csv:FILE, wandb:DIR (offline), mlflow:DIR, openmetrics:FILE. May be given several times.",
    ),
]
BlackBoxLimit = Annotated[
    str,
    typer.Option(metavar="SIZE", help="Largest black box that a failure may leave; 0 for none."),
]
Budget = Annotated[
    str, typer.Option(help="Share of the training time that sampled measurements may take.")
]
FailOn = Annotated[
    str | None,
    typer.Option(
        metavar="warning|critical", help="Exit with 3 if a symptom is at least this severe."
    ),
]
Live = Annotated[
    bool, typer.Option("--live", help="Show a live panel below the script's own output.")
]
DeepCompiled = Annotated[
    bool,
    typer.Option(
        "--deep-compiled",
        help="Run compiled code eagerly on sampled steps, to see inside; changes rounding.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Turn a fault inside gainstage into an error.")
]

Observer = Annotated[
    str | None,
    typer.Option(
        metavar="process|thread",
        help="Where the record is written; a thread where no second process may run.",
    ),
]


def run(
    target: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Script to run; with -m, a module's name.")
    ],
    arguments: ScriptArguments = None,
    module: IsModule = False,
    out: OutFolder = None,
    treat: Treatments = None,
    guard: Guard = "off",
    sink: Sinks = None,
    blackbox_limit: BlackBoxLimit = "1GB",
    budget: Budget = "1%",
    fail_on: FailOn = None,
    live: Live = False,
    deep_compiled: DeepCompiled = False,
    strict: Strict = False,
    observer: Observer = None,
) -> None:
    """Run a training script unchanged and watch its gradients.

    The script behaves as under `python SCRIPT ARGS`: same output, same bits, same exit code.
    """
    from gainstage.attach.startup.launch import execute
    from gainstage.channel.config import RunConfig, budget_share, observer_of, size_bytes

    if fail_on not in (None, "warning", "critical"):
        raise ConfigError(f"--fail-on must be warning or critical, got {fail_on!r}")
    budget_fraction = budget_share(budget)
    treatments, guard, sinks = _treatments_of(treat), _guard_of(guard), _sinks_of(sink)
    limit_bytes = size_bytes(blackbox_limit)
    _check_target(target, module, treatments)
    command = [target, *(arguments or [])]
    config = RunConfig(
        folder=_new_folder(out, command, is_module=module, treatments=treatments, guard=guard),
        main_pid=os.getpid(),
        treat=treatments,
        guard=guard,
        sinks=sinks,
        blackbox_limit_bytes=limit_bytes,
        budget=budget_fraction,
        fail_on=fail_on,
        live=live and _live_panel_fits(),
        deep_compiled=deep_compiled,
        strict=strict,
        observer=observer_of(observer),
    )
    execute(config, target, command[1:], is_module=module)


def check(
    target: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Script to check; with -m, a module's name.")
    ],
    arguments: ScriptArguments = None,
    module: IsModule = False,
    steps: Annotated[int, typer.Option(min=1, help="Stop at this optimizer step.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; the script prints on standard error.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Keep the run's folder here. [default: not kept]")
    ] = None,
) -> None:
    """Run a script up to its first optimizer step, stop it, and say what will happen.

    Exit code 0 if all is well, 3 if trouble is foretold, the script's own if it fails before.
    """
    from gainstage.attach.check.check_run import checked
    from gainstage.facts.codec import to_json
    from gainstage.show.ledger import print_ledger

    done = checked(
        target, arguments or [], is_module=module, steps=steps, out=out, output_on_stderr=as_json
    )
    if done.ledger is None and done.code == 0:
        raise ConfigError(
            f"{done.name} ended without an optimizer step or backward call: nothing to check"
        )
    if done.ledger is not None and as_json:
        typer.echo(to_json(done.ledger.as_json(), indent=2))
    elif done.ledger is not None:
        print_ledger(done.ledger, done.name, file=sys.stdout)
    raise typer.Exit(done.code or (EXIT_FINDINGS if done.ledger and done.ledger.troubles else 0))


# What a run does not ask for is not imported: every run would begin a tenth of a second later.


def _treatments_of(texts: list[str] | None) -> tuple[str, ...]:
    """Return treatments with all their settings.

    Raises:
        ConfigError: If one is unknown, or a value is not one it can have.
    """
    if not texts:
        return ()
    from gainstage.treat.spec import parse

    return tuple(parse(text).as_text() for text in texts)


def _guard_of(text: str) -> str:
    """Return a guard with all its settings, or `off`; raises as for treatments."""
    if text == "off":
        return text
    from gainstage.treat.guard.spec import parse_guard

    spec = parse_guard(text)
    return "off" if spec is None else spec.as_text()


def _sinks_of(texts: list[str] | None) -> tuple[str, ...]:
    """Return sinks with all their settings; raises as for treatments."""
    if not texts:
        return ()
    from gainstage.integrations.sinks import parse_sink

    return tuple(parse_sink(text).as_text() for text in texts)


def _check_target(target: str, is_module: bool, treatments: tuple[str, ...]) -> None:
    """Make sure that the script, and what `code-change` runs in its place, are there."""
    from gainstage.attach.startup.launch import changed_source, check_script

    path = check_script(target, is_module=is_module)
    changed = changed_source(treatments)
    if changed is None:
        return
    if is_module or path != Path(target):
        raise ConfigError("--treat code-change: only a script of one file can be changed")
    check_script(changed, is_module=False)


def _new_folder(
    out: Path | None,
    command: list[str],
    *,
    is_module: bool,
    treatments: tuple[str, ...],
    guard: str,
) -> Path:
    """Create the run's folder with its run.json, and return its absolute path."""
    from gainstage.attach.startup.launch import run_info
    from gainstage.store.folder import create_run_folder

    name = command[0] if is_module else os.path.basename(command[0])
    argv = [*(["-m"] if is_module else []), *command]
    info = run_info(name, argv, treat=treatments, guard=guard)
    return create_run_folder(out, info).resolve()


def _live_panel_fits() -> bool:
    from gainstage.observe.live_panel import can_show

    if can_show(sys.stderr):
        return True
    typer.echo(
        "gainstage: no live panel: standard error is no terminal, or one of too few lines", err=True
    )
    return False
