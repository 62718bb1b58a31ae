"""What the dashboard's front end asks for: the page, runs, reports, tiles, and news of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from importlib.resources import files
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from gainstage.facts.codec import to_json
from gainstage.show.serve.opened import OpenRun, OpenRuns
from gainstage.show.serve.runs import Shelf, Signature, signature

_LOOK_EVERY_S = 0.4
_BEAT_EVERY_S = 15.0
T = TypeVar("T")
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>gainstage</title>
</head>
<body>
<noscript>The dashboard needs JavaScript. Without it: gainstage report RUN</noscript>
<main id="report"></main>
<script src="dashboard.js"></script>
</body>
</html>
"""


def make_app(shelf: Shelf) -> Starlette:
    """Return the application over a folder of runs; it writes nothing."""
    opened = OpenRuns()

    async def page(_: Request) -> Response:
        return HTMLResponse(_PAGE)

    async def script(_: Request) -> Response:
        bundle = files("gainstage.show").joinpath("bundle", "dashboard.js")
        return Response(bundle.read_bytes(), media_type="text/javascript; charset=utf-8")

    async def runs(_: Request) -> Response:
        rows = await aside(shelf.rows)
        return _json({"folder": str(shelf.root), "now": time.time(), "runs": rows})

    async def report(request: Request) -> Response:
        run = await asked_for(request)
        return _json(await aside(run.report))

    async def tile(request: Request) -> Response:
        run = await asked_for(request)
        rank = _number(request, "rank") or 0
        first, last = _number(request, "first"), _number(request, "last")
        with_cells = "lines" not in request.query_params
        return _json(await aside(lambda: run.tile(rank, first, last, with_cells=with_cells)))

    async def events(_: Request) -> Response:
        return StreamingResponse(_news(shelf), media_type="text/event-stream")

    async def asked_for(request: Request) -> OpenRun:
        folder = await aside(lambda: shelf.folder(request.query_params.get("run", "")))
        if folder is None:
            raise HTTPException(404, "there is no run of that name")
        return opened.get(folder)

    return Starlette(
        routes=[
            Route("/", page, methods=["GET"]),
            Route("/dashboard.js", script, methods=["GET"]),
            Route("/runs", runs, methods=["GET"]),
            Route("/report", report, methods=["GET"]),
            Route("/tile", tile, methods=["GET"]),
            Route("/events", events, methods=["GET"]),
        ]
    )


async def aside(work: Callable[[], T]) -> T:
    """Return what `work` does in a thread; one that goes on does not hold up the end."""
    done: Future[T] = Future()
    # Whoever waits may go away meanwhile, but what has begun cannot be called off.
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="gainstage-serve", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _news(shelf: Shelf) -> AsyncIterator[str]:
    """Yield the names of runs to which something was written, as server-sent events."""
    known: dict[str, Signature] | None = None
    last = time.monotonic()
    yield "retry: 1000\n\n"
    while True:
        began = time.monotonic()
        now = await aside(lambda: {n: signature(f) for n, f in shelf.runs().items()})
        if known is not None:
            changed = [
                name for name in now.keys() | known.keys() if now.get(name) != known.get(name)
            ]
            if changed:
                yield f"event: changed\ndata: {to_json(sorted(changed))}\n\n"
                last = began
        known = now
        if began - last > _BEAT_EVERY_S:
            yield ": still here\n\n"
            last = began
        # Of very many runs the looking itself must not keep a core busy.
        await asyncio.sleep(max(_LOOK_EVERY_S, 10 * (time.monotonic() - began)))


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**62:
        raise HTTPException(400, f"{name} must be a number of at least 0")
    return number


def _json(data: dict[str, Any]) -> Response:
    return Response(to_json(data), media_type="application/json")
