"""Lets in only the person who has the address, from this machine, and only to read.

A page of some other site that the same browser shows must learn nothing. It does not know the
token; a name of its own that leads here is not a name of this machine (DNS rebinding); and what
its scripts ask for carries its origin.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; "
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


class AccessGuard:
    """Middleware that refuses requests without the token, and removes it from the path."""

    def __init__(self, app: App, token: str) -> None:
        self._app = app
        self._prefix = f"/{token}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        inner = {**scope, "path": scope["path"][len(self._prefix) :], "raw_path": b""}
        await self._app(inner, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if host_name(host) not in _LOOPBACK:
            return 421, "this server answers to names of this machine only"
        origin = headers.get(b"origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "a page of another origin may not read this"
        if headers.get(b"sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "a page of another site may not read this"
        start = scope["path"][: len(self._prefix) + 1].encode()
        if not secrets.compare_digest(start, f"{self._prefix}/".encode()):
            return 403, "open the address that gainstage serve has printed: it holds a token"
        if scope["method"] != "GET":
            return 405, "only GET is answered: nothing can be changed here"
        return None


def host_name(host: str) -> str:
    """Return a Host header without its port.

    Example:
        >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("127.0.0.1")
        ('localhost', '[::1]', '127.0.0.1')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return sending


async def _refuse(send: Send, status: int, why: str) -> None:
    answer = _with_headers(send)
    kind = [(b"content-type", b"text/plain; charset=utf-8")]
    kind += [(b"allow", b"GET")] if status == 405 else []
    await answer({"type": "http.response.start", "status": status, "headers": kind})
    await answer({"type": "http.response.body", "body": f"{why}\n".encode()})
