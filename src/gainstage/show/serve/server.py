"""The server: its socket, its address, and a prompt end on Ctrl-C."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.show.serve.run_index import RunIndex

HOST = "127.0.0.1"


def serve(root: Path, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve the runs in a folder on this machine until Ctrl-C.

    Args:
        root: A folder of runs, or one run.
        port: 0 for any that is free.
        on_ready: Called with the address once requests to it are answered.

    Raises:
        ConfigError: If the packages of the extra `dashboard` are missing, or the port is taken.
        RunFolderError: If there is no such folder.
    """
    try:
        import uvicorn

        from gainstage.show.serve.access_guard import AccessGuard
        from gainstage.show.serve.app import make_app
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard needs {error.name}, which is not installed: "
            "pip install 'gainstage[dashboard]'"
        ) from error
    index = RunIndex(root)
    listening = _listen(port)
    token = secrets.token_urlsafe(24)
    server = uvicorn.Server(
        uvicorn.Config(
            AccessGuard(make_app(index), token),
            log_level="critical",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            # An open event stream would keep the server from ending.
            timeout_graceful_shutdown=0,
        )
    )
    with listening, contextlib.suppress(KeyboardInterrupt):
        # The socket listens already: requests before the server runs wait for it.
        on_ready(f"http://{HOST}:{listening.getsockname()[1]}/{token}/")
        server.run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        why = "is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else f"({error})"
        raise ConfigError(
            f"cannot listen on port {port} of {HOST}: it {why}; "
            "choose another with --port, or leave --port out for a free one"
        ) from error
    return listening
