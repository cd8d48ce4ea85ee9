"""Servers that `sync` sends to: whether they accept the data, and which project it is for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from . import _core, _urls, errors
from .config import SETTINGS
from .transport.http import HttpTransport

# Time that a server has to say whether it accepts data, in seconds.
_QUESTION_TIMEOUT = 5.0
# Status of a token that a server refuses.
UNAUTHENTICATED = 401
# Statuses by which a server refuses a token, a role or a project.
_REFUSALS = (UNAUTHENTICATED, 403, 404)
_AGAIN = "then run `matyan-client sync` again; nothing is lost"


class ServerRefusals(NamedTuple):
    """Runs whose server refuses their data."""

    spools: dict[str, list[str]]
    """The directories of their data."""

    reasons: list[str]
    """One line for each server, with the next step."""


def refusals(spools: Iterable[_core.SpoolInfo], gateway_url: str | None) -> ServerRefusals:
    """Asks each server once whether it accepts the data of these spools.

    If a gateway is given, it gets the data of all spools. A server that does not answer refuses
    nothing.
    """
    by_url: dict[str, list[_core.SpoolInfo]] = {}
    for spool in spools:
        by_url.setdefault(gateway_url or spool.gateway_url, []).append(spool)
    found = ServerRefusals({}, [])
    for url, of_server in by_url.items():
        reason = _refusal(url, of_server[0].run_id, is_named=gateway_url is not None)
        if reason is not None:
            found.reasons.append(reason)
            for spool in of_server:
                found.spools.setdefault(spool.run_id, []).append(str(spool.path))
    return found


def other_projects(spools: Iterable[_core.SpoolInfo], gateway_url: str) -> dict[str, str]:
    """Returns the project of each run that was recorded for another project than the URL's."""
    wanted = _urls.project(gateway_url)
    projects = {spool.run_id: _urls.project(spool.gateway_url) for spool in spools}
    return {run: project for run, project in projects.items() if project != wanted}


def _refusal(url: str, run: str, *, is_named: bool) -> str | None:
    """Returns why a server refuses the data of a run, and the next step."""
    try:
        server = HttpTransport(url, timeout=_QUESTION_TIMEOUT)
        # The same right is needed to send values. Nothing is uploaded to the URL.
        server.presign_artifact(url, run, "sync")
    except ValueError:
        # The URL of a gateway that takes batches by gRPC.
        return None
    except errors.ServerError as error:
        if error.status == UNAUTHENTICATED:
            return _token_refusal(url, is_sent=is_named or SETTINGS.is_server(url))
        return f"{url} refuses the data: {error}" if error.status in _REFUSALS else None
    return None


def _token_refusal(url: str, *, is_sent: bool) -> str:
    place = "" if is_sent else f"MATYAN_BACKEND_URL={url}"
    if not os.environ.get("MATYAN_TOKEN", "").strip():
        wanted = f"MATYAN_TOKEN to a token{place and f' and {place}'}"
        return f"{url} is not open to everyone: set {wanted}, {_AGAIN}"
    if not is_sent:
        return (
            f"MATYAN_TOKEN was not sent to {url}: it is only for the server of MATYAN_BACKEND_URL; "
            f"set {place}, {_AGAIN}"
        )
    return f"{url} refuses the token: set MATYAN_TOKEN to a new one, {_AGAIN}"
