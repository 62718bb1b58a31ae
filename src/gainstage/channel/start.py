"""Starting an observer beside a process, without becoming its parent and without waiting for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gainstage
from gainstage.channel.config import VARIABLE
from gainstage.channel.place import ChannelPlace

_DETACHED = '"$0" "$@" &'
"""What the shell does with its arguments: it starts them and ends, so that the observer is nobody's
child, whom a script that waits for any child (`os.wait`) would meet."""


def start_observer(place: ChannelPlace) -> None:
    """Start the observer of a channel; takes a few milliseconds, its imports run beside.

    Its standard output is closed, for whoever reads the script's would wait for its end too.

    Raises:
        OSError: If no process can be started.
    """
    command = [sys.executable, "-P", "-m", "gainstage.observe", str(place.folder)]
    shell = subprocess.Popen(
        ["/bin/sh", "-c", _DETACHED, *command],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    code = shell.wait()
    if code:
        raise OSError(f"/bin/sh ended with code {code}")


def environment() -> dict[str, str]:
    """Return the environment of a process of ours that is not to be watched itself."""
    kept = {key: value for key, value in os.environ.items() if key != VARIABLE}
    home = str(Path(gainstage.__file__).resolve().parents[1])
    before = filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))
    # Last, as an installed package is; -P keeps out what lies beside the script.
    kept["PYTHONPATH"] = os.pathsep.join([*before, home])
    # One thread of each library: the processors are the training's.
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
