"""Lightning, Transformers and Accelerate, training for real: bare, with our argument, under run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from conftest import Ran, finish
from gainstage import Run, load

SCRIPT = str(Path(__file__).with_name("frameworks.py"))
DOCS = str(Path(__file__).parents[2] / "docs" / "integrations.md")
STEPS = {"lightning": 16, "transformers": 12, "accelerate": 8}
LIMITS = {"lightning": 0.5, "transformers": 0.5, "accelerate": 1.0}
PARAMETERS = {"lightning": 4, "transformers": 28, "accelerate": 4}
A_WEIGHT = {
    "lightning": "encoder.weight",
    "transformers": "transformer.h.0.attn.c_attn.weight",
    "accelerate": "0.weight",
}


def both(folder: Path) -> tuple[Ran, Ran]:
    """Run the script bare and under `gainstage run`, at the same time."""
    places = [folder / "bare", folder / "watched"]
    for place in places:
        place.mkdir()
    commands = [[SCRIPT, DOCS], ["-m", "gainstage", "run", "--out", "run", SCRIPT]]
    with ThreadPoolExecutor(2) as pool:
        bare, watched = pool.map(
            lambda each: finish([sys.executable, *each[0]], each[1]),
            zip(commands, places, strict=True),
        )
    return bare, watched


def lines_of(ran: Ran) -> Iterator[tuple[str, bool, str, list[float]]]:
    assert ran.code == 0, ran.err
    for line in ran.out.splitlines():
        name, is_asked, digest, logged = json.loads(line)
        yield name, is_asked, digest, logged


def test_three_frameworks_end_with_the_same_bits_and_each_step_is_seen_once(
    tmp_path: Path,
) -> None:
    bare, watched = both(tmp_path)
    digests: dict[str, set[str]] = {}
    logged: dict[str, list[float]] = {}
    for ran in (bare, watched):
        for name, _, digest, values in lines_of(ran):
            digests.setdefault(name, set()).add(digest)
            logged[name] = values
    assert {name: len(each) for name, each in digests.items()} == dict.fromkeys(STEPS, 1)

    # Without `gainstage run` each argument has watched its training, and told of it once.
    assert bare.err.count("HEALTHY") == 3
    assert "gainstage:" not in bare.err
    for name in STEPS:
        is_as_the_framework_says(load(tmp_path / "bare" / f"watched-{name}"), name, logged[name])

    # Under it the arguments do nothing but say so, and the run has the steps of all trainings.
    assert watched.err.count("adds nothing, for this process is watched already") == 3
    assert not list((tmp_path / "watched").glob("watched-*"))
    run = load(watched.folder)
    assert run.block().step.tolist() == list(range(2 * sum(STEPS.values())))
    assert set(A_WEIGHT.values()) <= {info.name for info in run.tensors()}
    assert run.findings.symptoms == ()
    assert watched.err.count("HEALTHY") == 1
    assert "Warning: invalid" not in watched.err


def is_as_the_framework_says(run: Run, name: str, logged: list[float]) -> None:
    """Check a record against what its framework logged of the norms before it clipped."""
    block = run.block()
    assert block.step.tolist() == list(range(STEPS[name]))
    assert A_WEIGHT[name] in {info.name for info in run.tensors()}
    assert block.has_loss.all()
    assert block.max_norm.tolist() == [LIMITS[name]] * STEPS[name]
    if logged:
        assert block.grad_norm.tolist() == pytest.approx(logged, rel=1e-5)
    before = block.grad_norm
    assert block.clip_coefficient.tolist() == pytest.approx(
        (LIMITS[name] / (before + 1e-6)).clip(max=1.0).tolist(), rel=1e-5
    )
    # Accelerate names no optimizer: one of the training before may have columns, which stay empty.
    assert block.present.sum(1).tolist() == [PARAMETERS[name]] * STEPS[name]
    assert block.grad_norm.tolist() == pytest.approx(
        np.sqrt(np.nansum(block.grad_norms.astype(float) ** 2, axis=1)).tolist(), rel=1e-5
    )
    assert run.findings.symptoms == ()
    assert run.info.ended is not None


def test_the_callback_is_one_of_whichever_lightning_was_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = ModuleType("pytorch_lightning"), ModuleType("lightning.pytorch")
    names: list[Any] = []
    for module in (one, other):
        module.Callback = type("Callback", (), {})  # pyright: ignore[reportAttributeAccessIssue]
        names.append(module.Callback)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", other)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", one)
    sys.modules.pop("gainstage.integrations.lightning", None)
    from gainstage.integrations import lightning

    monkeypatch.delitem(sys.modules, "gainstage.integrations.lightning")
    assert issubclass(lightning.GainstageCallback, tuple(names[:1]))
    assert issubclass(lightning.GainstageCallback, tuple(names[1:]))
    monkeypatch.delitem(sys.modules, "pytorch_lightning")
    assert lightning.callback_bases() == (names[1],)
    monkeypatch.delitem(sys.modules, "lightning.pytorch")
    monkeypatch.setattr(lightning, "_NAMES", ("no_lightning_here",))
    with pytest.raises(ImportError, match=r"pip install 'gainstage\[integrations\]'"):
        lightning.callback_bases()
