"""A run that is on disk, sent to another tool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.facts.symptom import Symptom
from gainstage.integrations.sinks import SINKS, SinkSpec, open_sink
from gainstage.store.export import write_parquet
from gainstage.store.reader import StoredRun
from gainstage.store.seen import symptoms_so_far
from gainstage.store.series import SeriesBlock, series_blocks

_PARQUET = "parquet"


def export_names() -> tuple[str, ...]:
    """Return what `--to` takes: every sink, and a file that only a run on disk can be."""
    return (*SINKS, _PARQUET)


def export(
    run: StoredRun, kind: str, out: Path | None = None, *, everything: bool = False, rank: int = 0
) -> Path:
    """Write a run's series as a file or as a run of another tool, and return where.

    Args:
        run: The run.
        kind: One of `export_names()`.
        out: The file, or the tool's folder; None for a place within the run's folder.
        everything: Whether to take all tensors, weights among them.
        rank: The process whose steps to take.

    Raises:
        ConfigError: If there is no such kind or rank, its package is missing, or it fails.
    """
    if kind not in export_names():
        raise ConfigError(f"--to must be one of {', '.join(export_names())}; got {kind!r}")
    if rank not in run.ranks:
        known = ", ".join(map(str, run.ranks)) or "none: no step was recorded"
        raise ConfigError(f"no rank {rank} in {str(run.folder)!r}; there is {known}")
    if kind != _PARQUET:
        SINKS[kind].check_installed()
    default = "export.parquet" if kind == _PARQUET else SINKS[kind].default
    path = run.folder / default if out is None else out
    blocks = _blocks(run, rank, everything=everything)
    try:
        if kind == _PARQUET:
            write_parquet(blocks, path)
        else:
            _send(run, SinkSpec(kind, path.absolute()), blocks, rank)
    except ConfigError:
        raise
    except Exception as error:  # the packages raise what they like
        what = error.strerror if isinstance(error, OSError) else None
        raise ConfigError(
            f"cannot export to {kind} in {str(path)!r}: {what or _first_line(error)}"
        ) from error
    return path if kind == _PARQUET else path / SINKS[kind].subfolder


def _blocks(run: StoredRun, rank: int, *, everything: bool) -> Iterator[SeriesBlock]:
    weights = run.weight_block(rank) if everything else None
    return series_blocks(run.tensors(rank), run.block(rank), weights, everything=everything)


def _send(run: StoredRun, spec: SinkSpec, blocks: Iterator[SeriesBlock], rank: int) -> None:
    sink = open_sink(spec, run.info)
    try:
        block = None
        for block in blocks:
            sink.write(block)
        if block is not None:
            sink.write(_none_of(block), _symptoms(run, rank))
    finally:
        sink.close()


def _symptoms(run: StoredRun, rank: int) -> Sequence[Symptom]:
    """Return the symptoms that were journaled; only where none were, the detectors look again."""
    found = symptoms_so_far(run.folder).get(rank, ())
    return found or run.record(rank).symptoms


def _none_of(block: SeriesBlock) -> SeriesBlock:
    """Return a block without steps, to go with the symptoms of them all."""
    return SeriesBlock(
        block.step[:0], block.time[:0], block.series, block.values[:0], block.given[:0]
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
