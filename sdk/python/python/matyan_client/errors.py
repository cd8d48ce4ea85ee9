"""Exceptions of requests to a server."""

from __future__ import annotations


class ServerError(Exception):
    """A request that the server refused, or whose answer cannot be used."""

    def __init__(self, message: str, *, status: int | None = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class TransportError(ServerError, ConnectionError):
    """No server was reached, or it did not answer in time."""


class NotFoundError(ServerError, LookupError):
    """A run, experiment, or artifact that does not exist."""


class RunNotFoundError(NotFoundError, KeyError):
    """A run that is only read, and that the server does not have.

    It is a `KeyError`, because the params of such a run cannot be read.
    """

    __str__ = Exception.__str__


class UnsupportedError(ServerError):
    """A call that the server does not have because it is older than this client."""


class QueryError(ServerError, ValueError):
    """A query that the server cannot parse."""


class ParamsUnavailableError(ServerError, KeyError):
    """Params that cannot be read because no server was reached.

    It is a `KeyError`, because scripts for Matyan 0.3 expect a `KeyError`.
    """

    __str__ = Exception.__str__
