"""Access to the REST API of a server."""

from .http import HttpTransport

__all__ = ["HttpTransport"]
