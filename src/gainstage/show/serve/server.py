"""The server's process: its socket, its address, and an end that Ctrl-C reaches at once."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.show.serve.runs import Shelf

HOST = "127.0.0.1"


def serve(root: Path, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve the runs in a folder on this machine until Ctrl-C.

    Args:
        root: A folder of runs, or one run.
        port: 0 for any that is free.
        on_ready: Called with the address once somebody who opens it is answered.

    Raises:
        ConfigError: If the packages of the extra `dashboard` are missing, or the port is taken.
        RunFolderError: If there is no such folder.
    """
    try:
        import uvicorn

        from gainstage.show.serve.app import make_app
        from gainstage.show.serve.door import Door
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the dashboard needs {error.name}, which is not installed: "
            "pip install 'gainstage[dashboard]'"
        ) from error
    shelf = Shelf(root)
    listening = _listen(port)
    token = secrets.token_urlsafe(24)
    server = uvicorn.Server(
        uvicorn.Config(
            Door(make_app(shelf), token),
            log_level="critical",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            # Who waits for news would keep it from ending.
            timeout_graceful_shutdown=0,
        )
    )
    with listening, contextlib.suppress(KeyboardInterrupt):
        # The socket listens already: whoever comes before the server runs waits for it.
        on_ready(f"http://{HOST}:{listening.getsockname()[1]}/{token}/")
        server.run(sockets=[listening])


def _listen(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen(128)
    except (OSError, OverflowError) as error:
        made.close()
        why = "is in use" if getattr(error, "errno", 0) == errno.EADDRINUSE else f"({error})"
        raise ConfigError(
            f"cannot listen on port {port} of {HOST}: it {why}; "
            "name another with --port, or leave it away for one that is free"
        ) from error
    return made
