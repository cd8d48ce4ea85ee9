"""Checks of the URLs of servers."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_EXAMPLE = "http://localhost:53800"

_CREDENTIALS = re.compile(r"//[^/?#]*@")


def checked(argument: str, url: str) -> str:
    """Returns the URL of a server without slashes at its end.

    Raises `ValueError` for everything that is no such URL, and for one with a password: URLs are
    stored with the data, and printed.
    """
    problem = _problem(url.strip())
    if problem is not None:
        raise ValueError(f"`{argument}`: {shown(url)!r} {problem}")
    return url.strip().rstrip("/")


def shown(url: str) -> str:
    """Returns a URL without user name and password."""
    return _CREDENTIALS.sub("//", url)


def _problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        # Reading it raises an exception if it is no number.
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        has_port, parts = False, urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        return f"is not the URL of a server, such as {_EXAMPLE}"
    if "@" in parts.netloc:
        return "was given with a user name or a password, which servers do not use: leave them out"
    if parts.query or parts.fragment:
        return "has a query or a fragment: leave out what follows the path"
    return None
