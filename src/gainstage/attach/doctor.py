"""`gainstage doctor`: what a report of a bug should say, each point tried out, not assumed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import gainstage
from gainstage.store.folder import RUNS_FOLDER

_STEPS = 5
_READ_ELEMENTS = 1_000_000
_EXTRA = re.compile(r"^([\w.-]+)[^;]*;.*extra\s*==\s*[\"'](\w+)[\"']")
_NOT_FOR_USERS = ("all", "dev")
INTERNALS = (
    "torch.autograd:backward",
    "torch.autograd:grad",
    "torch._C._autograd:_get_sequence_nr",
    "torch._functorch.eager_transforms:grad_and_value_impl",
    "torch.amp.grad_scaler:GradScaler.step",
    "torch.amp.grad_scaler:GradScaler.unscale_",
    "torch.nn.utils.clip_grad:_clip_grads_with_norm_",
    "torch.nn.utils.clip_grad:_get_total_norm",
    "torch.nn.utils.clip_grad:clip_grad_norm_",
    "torch.optim:Optimizer.add_param_group",
    "torch.optim.optimizer:register_optimizer_step_post_hook",
    "torch.optim.optimizer:register_optimizer_step_pre_hook",
    "torch:_foreach_norm",
)
"""What gainstage replaces in torch or asks of it, beyond what torch documents."""


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """One point of the report."""

    name: str
    said: str
    advice: str | None = None
    """What to do; None where all is well."""

    @property
    def is_ok(self) -> bool:
        """Tell whether there is nothing to do."""
        return self.advice is None


def examine(internals: tuple[str, ...] = INTERNALS) -> Iterator[DoctorCheck]:
    """Yield the points, one after the other: some take a second.

    Args:
        internals: Names of torch's, as `module:attribute`.
    """
    yield DoctorCheck("gainstage", f"{gainstage.__version__}, Python {platform.python_version()}")
    yield DoctorCheck("system", f"{platform.platform()}, {os.cpu_count()} processors")
    try:
        torch: Any = import_module("torch")
    except Exception as error:
        said = f"cannot be imported: {type(error).__name__}: {error}"
        yield DoctorCheck("torch", said, "install torch into this environment: https://pytorch.org")
        return
    devices = f"{torch.cuda.device_count()} accelerators" if torch.cuda.is_available() else "CPU"
    yield DoctorCheck("torch", f"{torch.__version__}, {torch.get_num_threads()} threads, {devices}")
    yield DoctorCheck("packages", ", ".join(_versions(("numpy", "pyarrow", "rich", "safetensors"))))
    yield _internals(internals)
    yield _guarded("hooks", _hooks, "report this with the text above: watching does not work here")
    yield _guarded("overhead", _overhead, "report this with the text above")
    yield _runs_folder(Path(RUNS_FOLDER))
    for extra, packages in sorted(_extras().items()):
        known = _versions(packages)
        missing = len(packages) - len(known)
        said = ", ".join(known) or "none"
        if missing:
            said += f" ({missing} not installed: pip install 'gainstage[{extra}]')"
        yield DoctorCheck(extra, said)


def _guarded(name: str, check: Callable[[], str], advice: str) -> DoctorCheck:
    try:
        return DoctorCheck(name, check())
    except Exception as error:
        return DoctorCheck(name, f"{type(error).__name__}: {error}", advice)


def _internals(names: tuple[str, ...]) -> DoctorCheck:
    missing = [name for name in names if not _is_there(name)]
    if not missing:
        return DoctorCheck("internals", f"torch has all {len(names)} that gainstage uses")
    return DoctorCheck(
        "internals",
        f"this torch lacks {', '.join(missing)}",
        "use a torch that gainstage was tested with (2.6 to 2.13), and report this",
    )


def _is_there(name: str) -> bool:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module) if module != "torch._C._autograd" else _C_autograd()
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def _C_autograd() -> Any:  # noqa: N802
    """Return a part of torch's extension that is no module that can be imported."""
    return import_module("torch")._C._autograd


def _hooks() -> str:
    """Watch a training of a few steps, and make sure that it is recorded and torch as before."""
    import torch
    from torch.nn.utils import clip_grad

    def hooked() -> list[Any]:
        return [torch.autograd.backward, clip_grad._get_total_norm, clip_grad.clip_grad_norm_]

    before = hooked()
    weight = torch.nn.Parameter(torch.ones(4))
    sgd = torch.optim.SGD([weight], lr=0.1)
    with tempfile.TemporaryDirectory() as folder:
        with gainstage.watch(optimizer=sgd, out=Path(folder) / "run", strict=True) as watch:
            if hooked() == before:
                raise RuntimeError("torch's functions could not be replaced")
            for _ in range(_STEPS):
                sgd.zero_grad()
                weight.square().sum().backward()
                torch.nn.utils.clip_grad_norm_([weight], 1.0)
                sgd.step()
        recorded = len(watch.run.block())
    if hooked() != before:
        raise RuntimeError("torch's functions were not given back")
    if recorded != _STEPS:
        raise RuntimeError(f"{recorded} of {_STEPS} steps were recorded")
    return f"attach, record {_STEPS} of {_STEPS} steps, and detach"


def _overhead() -> str:
    import torch

    from gainstage.norms.total import gradient_norms

    grads: list[torch.Tensor | None] = [torch.ones(_READ_ELEMENTS)]
    took: list[float] = []
    for _ in range(7):
        began = time.perf_counter()
        gradient_norms(grads)
        took.append(time.perf_counter() - began)
    return f"a read of {_READ_ELEMENTS:,} gradients takes {1e3 * statistics.median(took):.2f} ms"


def _runs_folder(folder: Path) -> DoctorCheck:
    where = folder if folder.exists() else Path()
    try:
        with tempfile.TemporaryFile(dir=where):
            pass
    except OSError as error:
        return DoctorCheck(
            "runs folder",
            f"{folder.absolute()} cannot be written: {error.strerror or error}",
            "run elsewhere, or name a folder with --out DIR",
        )
    return DoctorCheck("runs folder", f"{folder.absolute()} can be written")


def _extras() -> dict[str, tuple[str, ...]]:
    """Return the packages of each extra, as the installed distribution declares them."""
    try:
        required = importlib.metadata.requires("gainstage") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for each in required:
        match = _EXTRA.match(each)
        if match is not None and match[2] not in _NOT_FOR_USERS:
            found[match[2]] = (*found.get(match[2], ()), match[1])
    return found


def _versions(packages: tuple[str, ...]) -> list[str]:
    known: list[str] = []
    for name in packages:
        try:
            known.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return known
