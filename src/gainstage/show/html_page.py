"""What the HTML pages have in common: the head, the policy for their one script, and writing."""

from __future__ import annotations

import base64
import hashlib
import html
from pathlib import Path

from gainstage.errors import ConfigError
from gainstage.store.journal import write_text

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
"""
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'\">\n"
)


def page_around(body: str, title: str, *, style: str = "", icon: str | None = None) -> str:
    """Return a page: a head with a title, and a body that is markup already."""
    link = "" if icon is None else f'<link rel="icon" href="{html.escape(icon)}">\n'
    return f"{_HEAD}{link}{_title_and_body(body, title, style)}"


def page_with_script(body: str, title: str, *, data: str, script: str, style: str = "") -> str:
    """Return a page of one file: its policy allows the script in it, and no network.

    Args:
        body: Markup.
        title: Plain text.
        data: JSON, which the script reads from the element `data`; nothing in it is markup.
        script: JavaScript.
        style: CSS.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = (
        f'<script type="application/json" id="data">{_inert(data)}</script>\n'
        f"<script>{script}</script>\n"
    )
    return f"{_HEAD}{_POLICY.format(digest=digest)}{_title_and_body(body + scripts, title, style)}"


def write_page(text: str, path: Path, what: str) -> None:
    """Write a page to a file; a file that is there stays whole until it is replaced.

    Raises:
        ConfigError: If the file cannot be written; `what` names the page in the message.
    """
    if path.is_dir():
        raise ConfigError(f"cannot write the {what} to {str(path)!r}: a folder; name a file in it")
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(
            f"cannot write the {what} to {str(path)!r}: {error.strerror or error}; "
            "name a file in a folder that exists and can be written"
        ) from error


def _title_and_body(body: str, title: str, style: str) -> str:
    styles = f"<style>{style}</style>\n" if style else ""
    return f"<title>{html.escape(title)}</title>\n{styles}</head>\n<body>\n{body}</body>\n</html>\n"


def _inert(text: str) -> str:
    """Return JSON that cannot end the script it stands in."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
