"""Checks of the URLs of servers."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from . import _arguments

_EXAMPLE = "http://localhost:53800"
_DEFAULT_PORT = 53800
_SCHEME_PORTS = {"http": 80, "https": 443}

_CREDENTIALS = re.compile(r"//[^/?#]*@")
_PROJECT = re.compile(r"/p/([^/]*)/*$")


def checked(argument: str, url: str) -> str:
    """Returns the URL of a server with its scheme in lower case, without slashes at its end.

    Raises `ValueError` for every other text, and for a URL with a password: URLs are stored with
    the data, and printed.
    """
    url = _arguments.required_text(argument, url).strip()
    problem = _problem(url)
    if problem is not None:
        raise ValueError(f"`{argument}`: {shown(url)!r} {problem}")
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest.rstrip('/')}"


def is_default(url: str) -> bool:
    """Reports whether a server is on this machine, and on the port that servers use by default."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_here = host == "localhost" or is_loopback_address(host)
    return is_here and parts.port == _DEFAULT_PORT and not parts.path


def is_loopback_address(host: str) -> bool:
    """Reports whether a text is an address of this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(url: str) -> str:
    """Returns a URL without user name and password."""
    return _CREDENTIALS.sub("//", url)


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Returns the scheme, the host and the port of the URL of a server."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _SCHEME_PORTS.get(parts.scheme)


def project(url: str) -> str:
    """Returns the name of the project in the URL of a server, or no text for the default one."""
    found = _PROJECT.search(urlsplit(url).path)
    return found[1] if found else ""


def _problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        # Reading it raises an exception if it is no number.
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        has_port = False
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or not has_port:
        return f"is not the URL of a server, such as {_EXAMPLE}"
    if "@" in parts.netloc:
        return "contains a user name or a password, which servers do not use: leave them out"
    if parts.query or parts.fragment:
        return "has a query or a fragment: leave out what follows the path"
    project = _PROJECT.search(parts.path)
    if project and not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", project[1]):
        return (
            "does not end with the name of a project, such as `/p/speech-models`: names have "
            "lowercase letters, digits, `-`, `_` and `.`, and begin with a letter or a digit"
        )
    return None
