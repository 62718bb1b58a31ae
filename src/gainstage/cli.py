"""The command line. Each verb is a few lines that call one room."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gainstage import __version__
from gainstage.errors import ConfigError, GainstageError
from gainstage.lab.commands import app as lab_app

if TYPE_CHECKING:
    from gainstage.store.reader import Run

EXIT_USER = 2
EXIT_FINDINGS = 3

app = typer.Typer(
    name="gainstage",
    help="Find out why a network's training blew up, while it trains, and fix it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(lab_app, name="lab")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"gainstage {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Take the options that stand before the verb."""


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    options_metavar="[OPTIONS]",
)
def run(
    target: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Script to run; with -m, a module's name.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="The script's own arguments.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module, as `python -m` does.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder. [default: gainstage-runs/<time>-<script>]"),
    ] = None,
    treat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID[:k=v,..]",
            help="Treat every step from outside: clip-global-norm:max_norm=1, "
            "lower-lr:factor=0.1, skip-nonfinite. May be given several times.",
        ),
    ] = None,
    guard: Annotated[
        str,
        typer.Option(
            metavar="off|skip|stop|rollback[:to=N,factor=F]",
            help="What to do when a gradient that is not finite is about to reach the optimizer.",
        ),
    ] = "off",
    sink: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:PATH",
            help="Send the numbers there, too, while it runs: tensorboard:DIR, csv:FILE, "
            "wandb:DIR (offline), mlflow:DIR, openmetrics:FILE. May be given several times.",
        ),
    ] = None,
    blackbox_limit: Annotated[
        str,
        typer.Option(metavar="SIZE", help="Largest black box of a failure; 0 for none."),
    ] = "1GB",
    budget: Annotated[
        str, typer.Option(help="Share of the time that sampled measurements may take.")
    ] = "1%",
    fail_on: Annotated[
        str | None,
        typer.Option(
            metavar="warning|critical", help="Exit with 3 if a symptom is as bad as this."
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option("--live", help="Show a live panel below the script's own output."),
    ] = False,
    deep_compiled: Annotated[
        bool,
        typer.Option(
            "--deep-compiled",
            help="Run compiled code eagerly on sampled steps, to see inside; changes rounding.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Make a fault of gainstage's own an error.")
    ] = False,
) -> None:
    """Run a training script unchanged and watch its gradients.

    The script behaves as under `python SCRIPT ARGS`: same output, same bits, same exit code.
    """
    from gainstage.attach.startup.config import RunConfig, size_bytes
    from gainstage.attach.startup.launch import changed_source, check_script, execute, run_info
    from gainstage.integrations.sinks import parse_sink
    from gainstage.store.folder import create_run_folder
    from gainstage.treat.guard.spec import parse_guard
    from gainstage.treat.treatment import parse

    share = _share(budget)
    if fail_on not in (None, "warning", "critical"):
        raise ConfigError(f"--fail-on must be warning or critical, got {fail_on!r}")
    specs = tuple(parse(text).as_text() for text in treat or ())
    guard_spec = parse_guard(guard)
    guard = "off" if guard_spec is None else guard_spec.as_text()
    sinks = tuple(parse_sink(text).as_text() for text in sink or ())
    limit_bytes = size_bytes(blackbox_limit)
    path = check_script(target, is_module=module)
    changed = changed_source(specs)
    if changed is not None:
        if module or path != Path(target):
            raise ConfigError("--treat code-change: only a script of one file can be changed")
        check_script(changed, is_module=False)
    given = arguments or []
    name = target if module else os.path.basename(target)
    info = run_info(name, [*(["-m"] if module else []), target, *given], treat=specs, guard=guard)
    folder = create_run_folder(out, name, info=info)
    config = RunConfig(
        folder=folder.resolve(),
        main_pid=os.getpid(),
        treat=specs,
        guard=guard,
        sinks=sinks,
        blackbox_limit_bytes=limit_bytes,
        budget=share,
        fail_on=fail_on,
        live=live and _has_room(),
        deep_compiled=deep_compiled,
        strict=strict,
    )
    execute(config, target, given, is_module=module)


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    options_metavar="[OPTIONS]",
)
def check(
    target: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Script to check; with -m, a module's name.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="The script's own arguments.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module, as `python -m` does.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps to go to.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; the script prints on standard error.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Keep the run's folder. [default: no]")] = None,
) -> None:
    """Run a script up to its first optimizer step, stop it, and say what will happen.

    Exit code 0 if all is well, 3 if trouble is foretold, the script's own if it fails before.
    """
    from gainstage.attach.check.check_run import checked
    from gainstage.show.ledger import print_ledger
    from gainstage.store.journal import to_json

    done = checked(
        target, arguments or [], is_module=module, steps=steps, out=out, output_on_stderr=as_json
    )
    if done.ledger is not None and as_json:
        typer.echo(to_json(done.ledger.as_json(), indent=2))
    elif done.ledger is not None:
        print_ledger(done.ledger, done.name, file=sys.stdout)
    if done.ledger is None and done.code == 0:
        raise ConfigError(
            f"{done.name} ended without an optimizer step or backward call: nothing to check"
        )
    raise typer.Exit(done.code or (EXIT_FINDINGS if done.ledger and done.ledger.troubles else 0))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report with its pictures to one HTML file."),
    ] = None,
    open_it: Annotated[
        bool,
        typer.Option(
            "--open", help="Show the report in the browser. [file: report.html in RUN, or --html]"
        ),
    ] = False,
) -> None:
    """Say what a run's record shows, also while it runs or after it was killed."""
    from gainstage.show.terminal import print_summary
    from gainstage.store.journal import to_json

    run = _loaded(folder)
    findings = run.findings
    if as_json:
        typer.echo(to_json(findings.as_json(), indent=2))
    elif html is None and not open_it:
        print_summary(run, findings, file=sys.stdout)
    if html is not None or open_it:
        _write_html(run, html or folder / "report.html", open_it=open_it)


@app.command(
    context_settings={"allow_interspersed_args": False, "ignore_unknown_options": False},
    options_metavar="[OPTIONS]",
)
def prescribe(
    target: Annotated[
        str, typer.Argument(metavar="SCRIPT", help="Script to repair; with -m, a module's name.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="The script's own arguments.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module, as `python -m` does.")] = False,
    trials: Annotated[int, typer.Option(help="Treated runs of the script at most.")] = 12,
    executor: Annotated[
        str, typer.Option(metavar="local|ray", help="Where the trials run.")
    ] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print the repair as a diff, the rest on stderr.")
    ] = False,
) -> None:
    """Find out by trials which treatment repairs a script, which stays unmodified.

    `--json` and `--diff` stand before SCRIPT or after it.
    """
    from gainstage.attach.startup.launch import check_script
    from gainstage.prescribe.executor import LocalExecutor
    from gainstage.prescribe.prescribe import PrescribeRequest
    from gainstage.prescribe.prescribe import prescribe as find
    from gainstage.show.prescription import TrialBoard, print_prescription
    from gainstage.store.journal import to_json

    own, given = _own_options(arguments or [])
    as_json, diff = as_json or "--json" in own, diff or "--diff" in own
    if executor not in ("local", "ray"):
        raise ConfigError(f"--executor must be local or ray, got {executor!r}")
    path = check_script(target, is_module=module)
    where: Any = LocalExecutor()
    if executor == "ray":
        from gainstage.prescribe.executor_ray import RayExecutor

        where = RayExecutor()
    with TrialBoard(sys.stderr) as board:
        found = find(
            PrescribeRequest(
                target=target,
                path=path,
                arguments=tuple(given),
                is_module=module,
                trials=trials,
                executor=where,
                workers=None if executor == "local" else where.workers,
                on_change=board.update,
            )
        )
    quiet = as_json or diff
    print_prescription(found, file=sys.stderr if quiet else sys.stdout)
    if as_json:
        typer.echo(to_json(found.as_json(), indent=2))
    elif found.diff is not None:
        typer.echo(found.diff, nl=False)
    if found.is_interrupted:
        raise typer.Exit(130)


@app.command()
def diagnose(
    log: Annotated[
        Path,
        typer.Argument(
            metavar="LOG",
            help="TensorBoard event file or folder, CSV, JSON lines, trainer_state.json, .wandb.",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    loss: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the loss.")] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the gradient norm.")
    ] = None,
    lr: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of the learning rate.")
    ] = None,
    step: Annotated[str | None, typer.Option(metavar="NAME", help="Column of the step.")] = None,
) -> None:
    """Say what the detectors see in a log that another tool wrote, and what they cannot see."""
    from gainstage.show.answers import Shown
    from gainstage.show.terminal import print_shown, safe
    from gainstage.store.foreign.log import read_log
    from gainstage.store.foreign.names import Names
    from gainstage.store.journal import to_json

    read = read_log(log, Names(loss=loss, norm=norm, lr=lr, step=step))
    findings = read.findings
    if as_json:
        for note in read.notes:
            typer.echo(safe(f"gainstage: {note}"), err=True)
        typer.echo(to_json(findings.as_json(), indent=2))
        return
    shown = Shown({"script": log.name}, read.record.tensors, read.record.block, findings)
    print_shown(shown, (f"{read.format} log", *read.notes), file=sys.stdout)


@app.command()
def serve(
    runs: Annotated[
        Path, typer.Argument(metavar="[RUNS]", help="A folder of runs, or one run.")
    ] = Path("gainstage-runs"),
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for a free one.")] = 0,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Show runs in the browser, while they go on. Ctrl-C ends it; nothing is ever written."""
    from gainstage.show.serve.server import serve as serve_runs

    def ready(address: str) -> None:
        typer.echo(f"gainstage: runs in {runs} at {address}   (Ctrl-C ends it)")
        if open_it and typer.launch(address) != 0:
            typer.echo("gainstage: no browser was found here; open that address in one", err=True)

    serve_runs(runs, port, ready)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    once: Annotated[bool, typer.Option("--once", help="Print one frame and leave.")] = False,
    every: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Between two looks. [default: 1; 10 for plain lines]"
        ),
    ] = None,
) -> None:
    """Follow a run from another terminal while it goes on, until it ends or Ctrl-C."""
    from gainstage.show.watch import follow

    try:
        follow(folder, sys.stdout, once=once, every_s=every)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def mcp(
    folder: Annotated[
        Path, typer.Argument(metavar="RUNS", help="The folder that holds runs.")
    ] = Path("gainstage-runs"),
) -> None:
    """Let an assistant read runs: a server of the Model Context Protocol on standard input."""
    from gainstage.integrations.mcp import serve

    serve(folder)


@app.command()
def doctor() -> None:
    """Say whether gainstage works here, and what a report of a bug should hold.

    Exit code 0 if all is well, 1 if there is something to do, which is said.
    """
    from gainstage.attach.doctor import examine
    from gainstage.show.terminal import safe

    troubles = 0
    for each in examine():
        troubles += not each.is_ok
        typer.echo(safe(f"{'ok  ' if each.is_ok else 'FAIL'}  {each.name:<13} {each.said}"))
        if each.advice is not None:
            typer.echo(safe(f"      {'':<13} {each.advice}"))
    raise typer.Exit(1 if troubles else 0)


@app.command()
def rescue(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The checkpoint. [default: rescue.pt in RUN]"),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(help="Whose black box. [default: the first there is]")
    ] = None,
) -> None:
    """Make a checkpoint of the weights as they were before a run failed."""
    from gainstage.blackbox.rescue import rescue as write
    from gainstage.show.terminal import safe

    made = write(folder, out, rank)
    typer.echo(f"wrote {made.path}: the training before step {made.step}, all weights finite")
    for note in made.notes:
        typer.echo(safe(f"note: {note}"))
    typer.echo("load it with")
    for line in made.lines:
        typer.echo(safe(f"    {line}"))


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    rank: Annotated[
        int | None, typer.Option(help="Whose black box. [default: the first there is]")
    ] = None,
) -> None:
    """Compute the operation that failed again, from the inputs in the black box."""
    from gainstage.blackbox.replay import replay as compute
    from gainstage.show.terminal import safe

    replayed = compute(folder, rank)
    for line in replayed.lines:
        typer.echo(safe(line))
    if not replayed.is_reproduced:
        raise typer.Exit(1)


@app.command()
def query(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    sql: Annotated[
        str,
        typer.Argument(
            metavar="SQL",
            help="One SELECT over steps, gradients, weights, profiles, times, symptoms, tensors.",
        ),
    ],
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: null is empty; nan, inf and -inf are words.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print JSON: null, and "nan", "inf", "-inf" as strings.'),
    ] = False,
) -> None:
    """Ask a run's files by SQL, through DuckDB. It reads the run, and nothing else.

    Such as: gainstage query RUN "select step, loss from steps where not isfinite(loss)"
    """
    from gainstage.show.query_result import print_csv, print_found, print_json

    found = _loaded(folder).query(sql)
    show = print_csv if as_csv else print_json if as_json else print_found
    show(found, file=sys.stdout)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="KIND", help="csv, parquet, tensorboard, wandb (offline), mlflow, openmetrics."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The file or folder. [default: one within RUN]"),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="All tensors, weights too; otherwise 12 that tell most."),
    ] = False,
    rank: Annotated[int, typer.Option(help="The process whose steps to take.")] = 0,
) -> None:
    """Write a run for another tool: losses, norms, and the tensors that tell most."""
    from gainstage.integrations.export import export as write

    run = _loaded(folder)
    path = write(run, to, out, everything=everything, rank=rank)
    several = len(run.ranks) > 1
    left = f"; the run has ranks {', '.join(map(str, run.ranks))}" if several else ""
    typer.echo(f"gainstage: wrote {to} of {len(run.block(rank))} steps to {path}{left}", err=True)


@app.command()
def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Which; otherwise all are listed.")
    ] = None,
) -> None:
    """Print the JSON Schema of something that gainstage writes, or list them."""
    import json

    from gainstage.store.json_schemas import schema_names, schema_text

    if name is not None:
        typer.echo(schema_text(name), nl=False)
        return
    for each in schema_names():
        typer.echo(f"{each:<14}{json.loads(schema_text(each))['title']}")


def _loaded(folder: Path) -> Run:
    from gainstage.store.reader import load

    run = load(folder)
    for damage in run.damage:
        typer.echo(f"gainstage: {damage}", err=True)
    return run


def _own_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return which of the last arguments are ours, and those of the script before them."""
    own: list[str] = []
    while arguments and arguments[-1] in ("--json", "--diff"):
        *arguments, last = arguments
        own.append(last)
    return own, arguments


def _has_room() -> bool:
    from gainstage.show.live import can_show

    if can_show(sys.stderr):
        return True
    typer.echo(
        "gainstage: no live panel: standard error is no terminal, or one of too few lines", err=True
    )
    return False


def _write_html(run: Run, path: Path, *, open_it: bool) -> None:
    from gainstage.show.html import write_report

    write_report(run, path)
    typer.echo(f"gainstage: wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", err=True)
    if open_it and typer.launch(path.resolve().as_uri()) != 0:
        typer.echo("gainstage: no browser was found here; open that file in one", err=True)


def _share(text: str) -> float:
    """Return a share such as `1%` or `0.01` as a fraction."""
    number = text.removesuffix("%")
    try:
        share = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ConfigError(f"--budget must be above 0% and at most 100%, such as 1%; got {text!r}")
    return share


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    try:
        return app(arguments, prog_name="gainstage")
    except GainstageError as error:
        print(f"gainstage: {error}", file=sys.stderr)
        sys.exit(EXIT_USER)
