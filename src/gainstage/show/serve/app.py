"""The dashboard's HTTP application: the page, runs, reports, tiles, and change events."""

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
from gainstage.show.html_page import page_around
from gainstage.show.serve.run_cache import CachedRun, RunCache
from gainstage.show.serve.run_index import RunIndex, Signature, signature

_POLL_EVERY_S = 0.4
_BEAT_EVERY_S = 15.0
T = TypeVar("T")
_BODY = """<noscript>The dashboard needs JavaScript. Without it: gainstage report RUN</noscript>
<main id="report"></main>
<script src="dashboard.js"></script>
"""


def make_app(index: RunIndex) -> Starlette:
    """Return the application over a folder of runs; it writes nothing."""
    cache = RunCache()

    async def page(_: Request) -> Response:
        return HTMLResponse(page_around(_BODY, "gainstage", icon="data:,"))

    async def script(_: Request) -> Response:
        bundle = files("gainstage.show").joinpath("bundle", "dashboard.js")
        return Response(bundle.read_bytes(), media_type="text/javascript; charset=utf-8")

    async def runs(_: Request) -> Response:
        rows = await in_thread(index.rows)
        return _json({"folder": str(index.root), "now": time.time(), "runs": rows})

    async def report(request: Request) -> Response:
        run = await requested_run(request)
        return _json(await in_thread(run.report))

    async def tile(request: Request) -> Response:
        run = await requested_run(request)
        rank = _number(request, "rank") or 0
        first, last = _number(request, "first"), _number(request, "last")
        with_cells = "lines" not in request.query_params
        return _json(await in_thread(lambda: run.tile(rank, first, last, with_cells=with_cells)))

    async def events(_: Request) -> Response:
        return StreamingResponse(_change_events(index), media_type="text/event-stream")

    async def requested_run(request: Request) -> CachedRun:
        folder = await in_thread(lambda: index.folder(request.query_params.get("run", "")))
        if folder is None:
            raise HTTPException(404, "there is no run of that name")
        return cache.get(folder)

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


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a daemon thread and return its result; it does not delay the server's end."""
    done: Future[T] = Future()
    # A client may disconnect meanwhile, but work that has begun cannot be cancelled.
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="gainstage-serve", daemon=True).start()
    return await asyncio.wrap_future(done)


async def _change_events(index: RunIndex) -> AsyncIterator[str]:
    """Yield the names of runs to which something was written, as server-sent events."""
    known: dict[str, Signature] | None = None
    last = time.monotonic()
    yield "retry: 1000\n\n"
    while True:
        began = time.monotonic()
        now = await in_thread(lambda: {n: signature(f) for n, f in index.runs().items()})
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
        # With very many runs, polling itself must not keep a core busy.
        await asyncio.sleep(max(_POLL_EVERY_S, 10 * (time.monotonic() - began)))


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
