"""`gainstage lab …`: each command computes one topic and shows it. Imports no torch by itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from gainstage.errors import ConfigError

if TYPE_CHECKING:
    from gainstage.lab.topic import Topic

app = typer.Typer(
    name="lab",
    help="Learn the exploding gradient problem by running it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Html = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write one HTML page instead of printing.")
]
MaxNorm = Annotated[float, typer.Option("--max-norm", help="Threshold of the clip, above 0.")]
Seed = Annotated[int, typer.Option(help="Seed of weights and data.")]


@app.command()
def chain(
    weight: Annotated[float, typer.Option(help="The w of every layer.")] = 2.0,
    layers: Annotated[int, typer.Option(help="Number of layers, 1 to 5000.")] = 5,
    value: Annotated[float, typer.Option("--input", help="The input x.")] = 1.0,
    lr: Annotated[float, typer.Option(help="Learning rate of the update.")] = 0.1,
    convention: Annotated[
        str, typer.Option(metavar="text|code", help="Which gradient is called δ.")
    ] = "text",
    dtype: Annotated[str, typer.Option(help="float16, bfloat16, float32 or float64.")] = "float32",
    html: Html = None,
) -> None:
    """Run a linear chain forward and backward, layer by layer, in numbers and bits."""
    from gainstage.lab.linear_chain import chain

    _show(lambda: chain(weight, layers, value, lr=lr, convention=convention, dtype=dtype), html)


@app.command()
def crossover(
    layers: Annotated[int, typer.Option(help="Layers of a stack, 2 to 200.")] = 30,
    width: Annotated[int, typer.Option(help="Width of its matrices, 2 to 1024.")] = 96,
    seed: Seed = 0,
    html: Html = None,
) -> None:
    """Find the gain with 0 bits a layer, measured beside theory."""
    from gainstage.lab.slopes import crossover

    with _progress() as progress:
        progress(f"stacks of {layers} layers over the gain")
        _show(lambda: crossover(layers, width, seed=seed), html)


@app.command()
def clip(
    grads: Annotated[
        str, typer.Option(metavar="G1,G2,..", help="Gradient of the example.")
    ] = "16,12,-8",
    max_norm: MaxNorm = 5.0,
    runs: Annotated[
        bool, typer.Option("--runs/--no-runs", help="Train at thresholds 1, 5 and 10 as well.")
    ] = True,
    script: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A script with char_rnn.py's options to train."),
    ] = None,
    html: Html = None,
) -> None:
    """Clip a gradient by all kinds, and a real training at thresholds 1, 5 and 10."""
    from gainstage.lab.clipping import clip

    with _progress() as progress:
        _show(
            lambda: clip(
                _numbers("--grads", grads), max_norm, runs=runs, script=script, progress=progress
            ),
            html,
        )


@app.command()
def recurrent(
    weights: Annotated[
        str, typer.Option(metavar="W1,W2,..", help="Numbers whose powers are taken.")
    ] = "1.01,0.99,1.2,1",
    steps: Annotated[int, typer.Option(help="Time steps, 1 to 5000.")] = 100,
    max_norm: MaxNorm = 1.0,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train RNN, GRU and LSTM as well.")
    ] = True,
    html: Html = None,
) -> None:
    """Follow gradients through time, and see what clipping does not bring back."""
    from gainstage.lab.through_time import recurrent

    with _progress() as progress:
        given = _numbers("--weights", weights)
        _show(
            lambda: recurrent(given, steps, max_norm=max_norm, training=train, progress=progress),
            html,
        )


@app.command()
def init(
    layers: Annotated[int, typer.Option(help="Layers of the deepest stack, 1 to 300.")] = 100,
    width: Annotated[int, typer.Option(help="Width of all layers, 2 to 1024.")] = 128,
    seed: Seed = 0,
    html: Html = None,
) -> None:
    """Compare initial weights by depth, and see where N(0, 1) overflows."""
    from gainstage.lab.initial_scale import init

    with _progress() as progress:
        _show(lambda: init(width, layers, seed=seed, progress=progress), html)


@app.command()
def norm(
    batches: Annotated[
        str, typer.Option(metavar="B1,B2,..", help="Batch sizes, 2 or more.")
    ] = "2,4,8,16,32,64,128,256",
    seed: Seed = 0,
    html: Html = None,
) -> None:
    """Measure the noise of batch norm by batch size and in recurrence, beside layer norm."""
    from gainstage.lab.normalising import norm

    sizes = tuple(_whole("--batches", each) for each in _numbers("--batches", batches))
    with _progress() as progress:
        _show(lambda: norm(sizes, seed=seed, progress=progress), html)


@app.command()
def symptoms(html: Html = None) -> None:
    """Watch a network that learns for three epochs and dies in the fourth."""
    from gainstage.lab.failing_run import symptoms

    with _progress() as progress:
        _show(lambda: symptoms(progress=progress), html)


@app.command()
def exercises(
    answers: Annotated[bool, typer.Option("--answers", help="Print all answers.")] = False,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Mark the answers in a TOML file.")
    ] = None,
    html: Html = None,
) -> None:
    """Answer the five exercises: each answer is checked by computing it."""
    from gainstage.lab.answers_file import read_answers
    from gainstage.lab.questions import exercises

    if answers and check is not None:
        raise ConfigError("--answers prints the answers and --check marks them; give one of both")
    if check is not None:
        _show(lambda: exercises(read_answers(check)), html)
    elif answers:
        with _progress() as progress:
            progress("computing all answers; the last one trains a network")
            _show(exercises, html)
    else:
        _ask()


@app.command("all")
def everything(
    html: Html = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Smaller, and without the longer trainings.")
    ] = False,
) -> None:
    """Compute every topic, a minute or two; with --html, as one page with knobs to turn."""
    from gainstage.lab.lecture import lecture
    from gainstage.lab.terminal import print_topic_page

    with _progress() as progress:
        pages = lecture(quick=quick, progress=progress)
    if html is None:
        for page in pages:
            print_topic_page(page, sys.stdout)
        return
    from gainstage.lab.page import write_page

    write_page(pages, html)
    _wrote(html)


def _show(make: Callable[[], Topic], html: Path | None) -> None:
    page = make().topic_page()
    if html is None:
        from gainstage.lab.terminal import print_topic_page

        print_topic_page(page, sys.stdout)
        return
    from gainstage.lab.page import write_page

    write_page([page], html)
    _wrote(html)


def _wrote(path: Path) -> None:
    typer.echo(f"gainstage: wrote {path} ({path.stat().st_size / 1e3:.0f} kB)", err=True)


@contextmanager
def _progress() -> Generator[Callable[[str], None]]:
    """Say on standard error what is being done: a spinner in a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what: typer.echo(f"gainstage: {what}", err=True)
        return
    from rich.console import Console

    with Console(stderr=True, markup=False, emoji=False).status("starting") as status:
        yield lambda what: status.update(what)


def _ask() -> None:
    from gainstage.lab.questions import QUESTIONS, as_answer, as_text, mark

    right = 0
    for question in QUESTIONS:
        typer.echo(fill(f"{question.key}: {question.text}", 80))
        said = typer.prompt("", prompt_suffix="> ")
        judged = mark(question, as_answer(said))
        right += judged.is_right
        if judged.is_right:
            typer.echo("  right")
        else:
            typer.echo(fill(f"no: {judged.why}", 78, initial_indent="  ", subsequent_indent="  "))
            typer.echo(f"  computed: {as_text(judged.truth)}")
    typer.echo(f"{right} of {len(QUESTIONS)} right")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(",") if each.strip())
    except ValueError:
        raise ConfigError(f"{option} takes numbers between commas, got {text!r}") from None


def _whole(option: str, value: float) -> int:
    if not value.is_integer():
        raise ConfigError(f"{option} takes whole numbers, got {value!r}")
    return int(value)
