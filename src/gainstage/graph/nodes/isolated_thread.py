"""Computing without leaving a trace in the thread that trains."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")


def run_isolated(function: Callable[[], Result]) -> Result:
    """Return what the function returns, called in a thread of its own, without gradients.

    Grad mode, autocast, modes, saved-tensor hooks and the count of sequence numbers belong to a
    thread: there, none of the script's are in force and none can be changed.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with torch.no_grad():
                results.append(function())
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    thread = threading.Thread(target=work, name="gainstage-autopsy", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
