"""Commands that sign in and out: a token is kept for later scripts of the user."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from . import _console, _core, _urls, errors
from .config import SETTINGS

_ROLES = ("ingest", "viewer", "writer", "editor", "owner", "operator", "monitor")
_MOST_DAYS = 90
_DEFAULT_DAYS = 30
_SECONDS_OF_MINUTE = 60
# Limits of the time between two questions, whatever a server says.
_LEAST_INTERVAL = 1
_MOST_INTERVAL = 30
# More than anything that contains a token.
_MOST_CHARACTERS = 64 << 10
_TOKEN = re.compile(r"mtk_\w+", re.ASCII)
_UNAVAILABLE = 503


def add_commands(commands: Any) -> None:
    """Adds `login` and `logout`."""
    login = _console.add_command(
        commands, "login", "get a token for a server by a code that you type in a browser"
    )
    login.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    way = login.add_mutually_exclusive_group()
    way.add_argument("--code", action="store_true", help="show a code; the default on a terminal")
    way.add_argument(
        "--paste",
        action="store_true",
        help="read a token; the default if the input is not a terminal",
    )
    login.add_argument("--project", metavar="NAME", help="with a code: for this project only")
    login.add_argument(
        "--limit", choices=_ROLES, metavar="ROLE", help="with a code: largest role of the token"
    )
    login.add_argument(
        "--days",
        type=_days,
        default=_DEFAULT_DAYS,
        help=f"with a code: days until the token expires, at most {_MOST_DAYS}",
    )
    login.add_argument("--json", action="store_true", help="print JSON")
    login.set_defaults(run=_checked("login", _login))

    logout = _console.add_command(
        commands, "logout", "revoke the tokens that were got by a code, and forget all"
    )
    logout.add_argument("--backend-url", metavar="URL", help="default: MATYAN_BACKEND_URL")
    logout.add_argument("--all", action="store_true", help="the tokens of all servers")
    logout.add_argument(
        "--revoke",
        action="store_true",
        help="also revoke tokens that were pasted, which other programs may use",
    )
    logout.add_argument("--json", action="store_true", help="print a JSON list")
    logout.set_defaults(run=_checked("logout", _logout))


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {_MOST_DAYS}, found {days}")
    return days


def _checked(
    name: str, command: Callable[[argparse.Namespace], int]
) -> Callable[[argparse.Namespace], int]:
    """Returns a command that reports what a server refuses, and exits with status 1."""

    def run(options: argparse.Namespace) -> int:
        try:
            return command(options)
        except (OSError, ValueError, errors.ServerError) as error:
            _console.complain(name, str(error))
            return 1

    return run


def _login(options: argparse.Namespace) -> int:
    url = _urls.checked("--backend-url", options.backend_url or SETTINGS.backend_url)
    if _is_in_clear(url):
        _console.say(
            "the token is sent without TLS, and others on the network can read it: use an "
            "https:// address"
        )
    is_pasted = options.paste or not (options.code or sys.stdin.isatty())
    token = _pasted_token(url) if is_pasted else _token_by_code(url, options)
    principal, place, file = _core.keep_login(url, token)
    if options.json:
        kept = {"principal": principal, "server": place, "file": str(file)}
        _console.show(json.dumps(kept))
    else:
        _console.show(f"signed in to {place} as {principal}; the token is kept in {file}")
    return 0


def _token_by_code(url: str, options: argparse.Namespace) -> str:
    """Returns a token that someone has allowed. Raises `ValueError` if nobody does."""
    label = f"matyan-client login on {socket.gethostname()}"
    token, code, lifetime, interval = _core.begin_login(
        url, label, options.project, options.limit, options.days
    )
    _console.say(f"open {url}/sign-in/code in a browser, and type the code {code}")
    _console.say(f"(it is valid for {lifetime // _SECONDS_OF_MINUTE} minutes; waiting ...)")
    while True:
        time.sleep(min(max(interval, _LEAST_INTERVAL), _MOST_INTERVAL))
        try:
            is_allowed = _core.is_login_allowed(url, token)
        except errors.TransportError:
            # A server that is started again knows the login.
            continue
        except errors.ServerError as error:
            if error.status != _UNAVAILABLE:
                raise
            continue
        if is_allowed:
            return token
        if is_allowed is not None:
            raise ValueError(
                "the code was refused, or nobody has typed it in time: run the command again"
            )


def _pasted_token(url: str) -> str:
    """Returns the token in what is typed or piped, such as the line of an invitation."""
    if sys.stdin.isatty():
        text = getpass.getpass(f"Token for {url}: ")
    else:
        text = sys.stdin.read(_MOST_CHARACTERS)
    found = _TOKEN.search(text)
    if found is None:
        # The text is not repeated: it may be a token with a mistake.
        raise ValueError(
            "this contains no token, so nothing was kept: a token begins with mtk_, and must be "
            "copied completely"
        )
    return found[0]


def _logout(options: argparse.Namespace) -> int:
    url = _urls.checked("--backend-url", options.backend_url or SETTINGS.backend_url)
    ended = _core.end_logins(None if options.all else url, options.revoke)
    for place, _, reason in ended:
        if reason is not None:
            _console.say(f"the token for {place} could not be revoked: {reason}")
    if options.json:
        members = [{"server": place, "revoked": revoked} for place, revoked, _ in ended]
        _console.show(json.dumps(members))
        return 0
    if not ended:
        _console.say(f"no token is kept for {'any server' if options.all else url}")
    for place, revoked, _ in ended:
        what = "revoked and forgotten" if revoked else "forgotten; it stays valid until it expires"
        _console.show(f"the token for {place} is {what}")
    return 0


def _is_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_here = host == "localhost" or host.endswith(".localhost") or _urls.is_loopback_address(host)
    return parts.scheme == "http" and not is_here
